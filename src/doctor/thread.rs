//! Whether a running offhook was granted what its media thread asks for: real-time priority, and memory that stays.

use std::path::Path;

use super::Check;

/// The media thread's name as the kernel has it: 15 characters.
const THREAD: &str = "offhook-media";
/// SCHED_FIFO, as in sched(7).
const FIFO: &str = "1";

/// Looks at the process whose media thread is found first; nothing is said when none runs, or none can be seen.
pub(super) fn check() -> Option<Check> {
    let granted = find(Path::new("/proc"))?;
    let said = |is: bool| if is { "" } else { "no " };
    let finding = format!("{}real-time priority, {}locked memory", said(granted.realtime), said(granted.locked));
    let check = Check::ok("media thread", "granted", finding);
    Some(match granted {
        Granted { realtime: true, locked: true } => check,
        _ => check.warning("set LimitRTPRIO=60 and LimitMEMLOCK=infinity in the unit, and restart; without them calls may stutter under load"),
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Granted {
    realtime: bool,
    locked: bool,
}

/// By proc(5): fields 2 (name) and 41 (policy) of a thread's `stat`, and `VmLck` in its process's `status`.
fn find(proc: &Path) -> Option<Granted> {
    let folders = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    folders(proc).find_map(|process| {
        let policy = folders(&process.join("task")).find_map(|thread| {
            let stat = std::fs::read_to_string(thread.join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            (name == THREAD).then(|| rest.split(' ').nth(41 - 3).map(str::to_owned))
        })??;
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")?.trim().strip_suffix(" kB"));
        Some(Granted { realtime: policy == FIFO, locked: locked.is_some_and(|kb| kb != "0") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(policy: &str, locked: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        let thread = |process: &str, name: &str, policy: &str| {
            let folder = proc.path().join(process).join("task").join(process);
            std::fs::create_dir_all(&folder).unwrap();
            let between = ["0"; 37].join(" ");
            std::fs::write(folder.join("stat"), format!("{process} ({name}) S {between} {policy} 0 0\n")).unwrap();
        };
        thread("7", "a ) b", "1");
        thread("8", THREAD, policy);
        std::fs::write(proc.path().join("8/status"), format!("Name:\toffhook\nVmLck:\t{locked} kB\n")).unwrap();
        proc
    }

    #[test]
    fn what_a_running_media_thread_was_granted_is_seen() {
        assert_eq!(find(machine("1", "    5120").path()), Some(Granted { realtime: true, locked: true }));
        assert_eq!(find(machine("0", "       0").path()), Some(Granted { realtime: false, locked: false }));
        assert_eq!(find(tempfile::tempdir().unwrap().path()), None);
    }
}
