//! Whether callers and questions can be looked up.

use super::Check;
use crate::config::Config;
use crate::context::Sources;
use crate::crm::Answer;
use crate::http::Http;

pub(super) async fn checks(config: Config) -> Vec<Check> {
    if config.knowledge.folder.is_none() && !config.crm.is_configured() {
        return Vec::new();
    }
    let sources = match Http::new(config.gemini.connect) {
        Ok(http) => Sources::open(&config, &http).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let sources = match sources {
        Ok(sources) => sources,
        Err(error) => return vec![Check::ok("context", "set-up", error).failure("put it right in [crm]")],
    };
    let mut checks = Vec::new();
    if let Some(folder) = &config.knowledge.folder {
        let index = sources.knowledge().index();
        let languages: Vec<String> =
            index.languages().iter().map(|(language, count)| format!("{count} {language}")).collect();
        let finding = format!("{}: {} passages ({})", folder.display(), index.passages().len(), languages.join(", "));
        checks.push(match index.passages().len() {
            0 => Check::ok("context", "knowledge", format!("{}: no passage", folder.display()))
                .warning("put texts (.md, .txt, .pdf) into it, and let the service read them"),
            _ => Check::ok("context", "knowledge", finding),
        });
    }
    if sources.has_crm() {
        checks.push(crm(&sources).await);
    }
    checks
}

async fn crm(sources: &Sources) -> Check {
    let check = |finding: String| Check::ok("context", "CRM", finding);
    match sources.try_crm().await {
        None => check("not asked: there is no test_number".into())
            .warning("write the number of a known customer, or your own, into [crm] test_number"),
        Some(Ok(Answer::Known(customer))) => {
            let names: Vec<&str> = customer.fields.iter().map(|(name, _)| name.as_str()).collect();
            check(format!("knows test_number, with {}", names.join(", ")))
        }
        Some(Ok(Answer::Unknown)) => check("answers, and does not know test_number, or has none of the fields".into())
            .warning("take the number of a known customer; if it is one, look at fields and at the form of the number"),
        Some(Ok(Answer::Unsure)) => check("has no single customer with test_number".into())
            .warning("say in [crm] matches where the list of customers is, and in number_field where the number"),
        Some(Err(fault)) => check(fault.to_string()).warning("calls go on without it; callers are not known by name"),
    }
}
