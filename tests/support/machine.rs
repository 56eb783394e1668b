//! A Debian that boots with systemd as PID 1 in namespaces of its own, for what only a booted machine can show.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Nothing may take longer; a hang is a failure with a name.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Where the packaged configuration answers.
const SIP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5060);

/// What a boot has to say, in its working folder.
const SAID: &str = "said";

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// Machines are measured: one at a time, and nothing heavy beside them.
static ALONE: Mutex<()> = Mutex::new(());

/// For as long as it is kept no machine runs. What is made once, root and packages, is to be made before: whoever has a machine waits for
/// nothing.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("appliance");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a script of ours prints; it must end well.
fn script(name: &str, arguments: &[&Path], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(Path::new(SOURCE).join(name));
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The Debian that the appliance is installed into. Made once, which needs a mirror.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = folder().join("root");
        script("tests/appliance/base-root", &[&root], &[]);
        root
    })
}

/// The architecture of this machine, by Debian's name: what is built here is for it.
fn architecture() -> String {
    let output = Command::new("dpkg").arg("--print-architecture").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The package of the program of this build, in two versions.
pub fn packages() -> &'static [PathBuf; 2] {
    static PACKAGES: OnceLock<[PathBuf; 2]> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let (program, out, architecture) = (Path::new(env!("CARGO_BIN_EXE_offhook")), folder(), architecture());
        ["0.1.0-1", "0.1.0-2"].map(|version| {
            let arguments = [Path::new(&architecture), program, &out];
            PathBuf::from(script("packaging/deb", &arguments, &[("VERSION", version), ("QUICKLY", "yes")]))
        })
    })
}

/// A machine that runs. It is gone, with all that ran on it, when this is dropped.
pub struct Machine {
    boot: Child,
    init: u32,
    work: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    /// Boots one, until systemd says that it is up, with the packages in its `/root`.
    pub fn boot() -> Self {
        let (root, packages) = (root(), packages());
        let machine = Self::boot_from(root);
        for package in packages {
            std::fs::copy(package, machine.path("/root").join(package.file_name().unwrap())).unwrap();
        }
        machine
    }

    /// Boots one from a root of one's own, until systemd says that it is up.
    pub fn boot_from(root: &Path) -> Self {
        let alone = alone();
        let work = tempfile::tempdir_in(folder()).unwrap();
        let said = std::fs::File::create(work.path().join(SAID)).unwrap();
        let boot = Command::new(Path::new(SOURCE).join("tests/appliance/boot"))
            .args([root, work.path()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        let mut machine = Self { boot, init: 0, work, _alone: alone };
        let until = Instant::now() + PATIENCE;
        let children = format!("/proc/{0}/task/{0}/children", machine.boot.id());
        let is_init = |process: &u32| {
            std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "systemd")
        };
        while machine.init == 0 {
            machine.must_live();
            assert!(Instant::now() < until, "systemd does not start");
            let started = std::fs::read_to_string(&children).unwrap_or_default();
            machine.init = started.split(' ').filter_map(|word| word.parse().ok()).find(is_init).unwrap_or(0);
            std::thread::sleep(Duration::from_millis(5));
        }
        loop {
            let state = machine.try_run("systemctl is-system-running");
            match String::from_utf8_lossy(&state.stdout).trim() {
                "running" => break,
                "degraded" => panic!("{}", machine.run("systemctl --failed --no-pager")),
                _ if Instant::now() < until => machine.must_live(),
                _ => panic!("{state:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        machine
    }

    /// A boot that has ended, as without the right to mount or to make a control group, is a failure with its own words.
    fn must_live(&mut self) {
        if let Some(status) = self.boot.try_wait().unwrap() {
            let said = std::fs::read_to_string(self.work.path().join(SAID)).unwrap_or_default();
            panic!(
                "no machine boots here, which needs root, its right to mount, and a cgroup2 that can be written ({status}): {said}"
            );
        }
    }

    /// A path on the machine as it is seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// A command line on the machine.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-a", "env", "-i"]);
        command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]);
        command.args(["sh", "-c", line]).stdin(Stdio::null());
        command
    }

    /// How it ends.
    pub fn try_run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What it prints; it must end well.
    pub fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A property of the service.
    pub fn property(&self, name: &str) -> String {
        self.run(&format!("systemctl show offhook --value -p {name}"))
    }

    /// Whether the service runs.
    pub fn is_active(&self) -> bool {
        self.try_run("systemctl is-active --quiet offhook").status.success()
    }

    /// Puts a key where the service looks for it; nobody is asked with it.
    pub fn give_key(&self) {
        self.run("install -d -m 0700 /etc/offhook/secrets.d && printf %s AIzaNotAKey-0123456789abcdefghijklmnop >/etc/offhook/secrets.d/gemini.key");
    }

    /// Does something on a thread that is in the machine's network.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A socket in the machine's network.
    pub fn socket(&self) -> UdpSocket {
        self.in_network(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.boot.kill();
        let _ = self.boot.wait();
        // Its groups are empty as soon as the kernel has taken its processes down.
        let group = format!("offhook-test-{}", self.boot.id());
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let tree = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
        for tree in tree.filter_map(|line| line.split(' ').nth(1)) {
            let remove = format!("find {tree}/{group} -depth -type d -exec rmdir {{}} +");
            let until = Instant::now() + Duration::from_secs(5);
            while Path::new(tree).join(&group).exists() && Instant::now() < until {
                let _ = Command::new("sh").args(["-c", &remove]).stderr(Stdio::null()).status();
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Asks with OPTIONS until somebody answers.
pub fn answers(socket: &UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 2048];
    // What was meant for those before is not taken for an answer.
    let tag = fastrand::u64(..);
    for number in 0.. {
        assert!(Instant::now() < until, "nobody answers OPTIONS");
        let options = format!(
            "OPTIONS sip:offhook@{SIP} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{tag:x}{number};rport\r\n\
             From: <sip:probe@127.0.0.1>;tag={tag:x}\r\nTo: <sip:offhook@{SIP}>\r\nCall-ID: {tag:x}-{number}\r\n\
             CSeq: {number} OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        let _ = socket.send_to(options.as_bytes(), SIP);
        if let Ok(length) = socket.recv(&mut buffer) {
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if answer.starts_with("SIP/2.0 200") && answer.contains(&format!("{tag:x}-")) {
                return;
            }
        } else {
            // Nobody listens there yet: that is told at once.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
