//! Whether this box knows what time it is: a wrong clock makes good certificates bad.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Check;
use super::nat::View;

/// A server's Date may be off by so much: it is written in whole seconds, and servers' clocks are not perfect.
const DIFFERENCE: Duration = Duration::from_secs(60);
const REMEDY: &str = "let the box reach a time server (timedatectl status), or set the clock: timedatectl set-time";

/// Compares the clock with the files around it, which cannot be from the future, and asks systemd whether it was set by a server.
pub(super) fn check(config: &Path) -> Option<Check> {
    let now = SystemTime::now();
    let written = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let program = std::env::current_exe().ok();
    let newest = program.as_deref().into_iter().chain([config]).filter_map(written).max();
    let shown = utc(now);
    if let Some(newest) = newest.filter(|newest| *newest > now + DIFFERENCE) {
        let finding = format!("{shown}, but a file here was written on {}: the clock is wrong", utc(newest));
        return Some(Check::ok("clock", "time", finding).failure(REMEDY));
    }
    // systemd-timesyncd leaves this mark; where another program sets the clock there is no folder either.
    let timesync = Path::new("/run/systemd/timesync");
    if timesync.is_dir() && !timesync.join("synchronized").exists() {
        let finding = format!("{shown}; not set by a time server since the start");
        return Some(Check::ok("clock", "time", finding).warning(REMEDY));
    }
    Some(Check::ok("clock", "time", shown))
}

/// Compares the clock with what SIP servers say (RFC 3261 §20.17).
pub(super) fn against_servers(views: &[View]) -> Option<Check> {
    let (server, said, at) =
        views.iter().find_map(|view| Some((view.target, from_header(view.date.as_deref()?)?, view.at)))?;
    let off = at.duration_since(said).or_else(|error| Ok::<_, ()>(error.duration())).unwrap_or_default();
    if off <= DIFFERENCE {
        return Some(Check::ok("clock", "against a server", format!("within {} s of {server}", off.as_secs().max(1))));
    }
    let finding = format!("{server} says {}, this box {}: one of them is wrong", utc(said), utc(at));
    Some(Check::ok("clock", "against a server", finding).warning(REMEDY))
}

/// Reads the Date of SIP, as in `Sat, 13 Nov 2010 23:29:00 GMT`.
fn from_header(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(',')?.1.split_whitespace();
    let day = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))? as u64 + 1;
    let year = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    from_civil(year, month, day, [time.next()??, time.next()??, time.next()??])
}

/// A moment in UTC; `None` when there is no such day or time, or it lies before 1970.
fn from_civil(year: u64, month: u64, day: u64, [hour, minute, second]: [u64; 3]) -> Option<SystemTime> {
    let good = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !good || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years that begin in March have their odd day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // 1 March of the year 0 is 719,468 days before 1970.
    let seconds = (days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// As in `2026-11-22 13:20 UTC`.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let in_era = days % 146_097;
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + next;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_counts_them() {
        for (text, seconds) in [
            ("Sat, 13 Nov 2010 23:29:00 GMT", 1_289_690_940),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 29 Feb 2024 12:00:01 GMT", 1_709_208_001),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
        ] {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(from_header(text), Some(moment), "{text}");
        }
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(1_709_208_001)), "2024-02-29 12:00 UTC");
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(1_289_690_940)), "2010-11-13 23:29 UTC");
        assert_eq!(utc(UNIX_EPOCH), "1970-01-01 00:00 UTC");
        for text in ["", "yesterday", "Sat, 13 Nov", "Sat, 32 Nov 2010 23:29:00 GMT", "Sat, 13 Nov 1 1:1:1 GMT"] {
            assert_eq!(from_header(text), None, "{text}");
        }
    }
}
