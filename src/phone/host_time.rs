//! How much of the machine its hypervisor withholds, to be put beside measured times.

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
