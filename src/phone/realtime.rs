//! Real-time scheduling for the phone's media thread (SCHED_FIFO, sched(7)), and how much of the machine its hypervisor withholds.
#![allow(unsafe_code)]

use std::io;

/// Above the appliance's media thread, so that a phone on the same machine measures it without being disturbed by it.
const PRIORITY: libc::c_int = 60;

/// Asks for SCHED_FIFO for the calling thread.
pub fn request() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: 0 is the calling thread, and the pointer is to a sched_param of ours that outlives the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Processor time since boot, as in the first line of `/proc/stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostTime {
    total: u64,
    steal: u64,
}

impl HostTime {
    /// The present count; all zero where there is no `/proc/stat`.
    pub fn now() -> Self {
        std::fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time behind them is counted in user already.
        let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        Self { total: fields.iter().sum(), steal: fields.get(7).copied().unwrap_or(0) }
    }

    /// Share that was withheld since `before`, in percent.
    pub fn steal_percent_since(self, before: Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        if total == 0 { 0.0 } else { self.steal.saturating_sub(before.steal) as f64 / total as f64 * 100.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_field() {
        let before = HostTime::parse("cpu  100 0 100 700 0 0 0 100 5 5\ncpu0 1 2 3\n");
        let after = HostTime::parse("cpu  200 0 200 1480 0 0 0 120 9 9\n");
        assert_eq!(after.steal_percent_since(before), 2.0);
        assert_eq!(after.steal_percent_since(after), 0.0);
        assert_eq!(HostTime::parse("nonsense"), HostTime::default());
    }
}
