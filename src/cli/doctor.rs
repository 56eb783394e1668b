//! `offhook doctor`: what stands between this box and a caller, and what to do about it.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::doctor::{Check, State, examine, worst};

use super::{Exit, Failure};

/// What the user typed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is changed: what is registered stays registered, and a running service goes on. It takes 20 seconds at most.

Exit status: 0 everything is as it should be, 1 something should be looked at, 2 calls will not come or not be served.")]
pub struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON instead of a list
    #[arg(long)]
    json: bool,
}

/// Looks at everything and says what was found.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let checks = examine(&arguments.config).await;
    let state = worst(&checks);
    if arguments.json {
        let report = serde_json::json!({ "state": state, "checks": checks });
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::new(Exit::Software, error))?;
        println!("{text}");
    } else {
        print!("{}", list(&checks));
    }
    Ok(ExitCode::from(state as u8))
}

/// One line a check, and its remedy below it.
fn list(checks: &[Check]) -> String {
    let width = |text: fn(&Check) -> &str| checks.iter().map(|check| text(check).chars().count()).max().unwrap_or(0);
    let (area, what) = (width(|check| &check.area), width(|check| &check.what));
    let mut text = String::new();
    for check in checks {
        text +=
            &format!("{:<7}  {:<area$}  {:<what$}  {}\n", check.state.name(), check.area, check.what, check.finding);
        if let Some(remedy) = &check.remedy {
            text += &format!("{:>indent$}→ {remedy}\n", "", indent = 7 + 2 + area + 2 + what + 2);
        }
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let (failures, warnings) = (count(State::Failure), count(State::Warning));
    text + &match (failures, warnings) {
        (0, 0) => "everything is as it should be\n".to_owned(),
        (failures, warnings) => format!("failures: {failures}, warnings: {warnings}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_aligned_and_a_remedy_is_on_the_next_line() {
        let checks = [
            Check::ok("clock", "time", "right"),
            Check::ok("trunk a", "reachable", "no answer").failure("look at the firewall"),
        ];
        let wanted = "ok       clock    time       right\n\
                      failure  trunk a  reachable  no answer\n\
                      \x20                            → look at the firewall\n\
                      failures: 1, warnings: 0\n";
        assert_eq!(list(&checks), wanted);
        assert_eq!(worst(&checks), State::Failure);
        assert!(list(&checks[..1]).ends_with("everything is as it should be\n"));
    }
}
