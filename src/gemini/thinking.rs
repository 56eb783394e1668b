//! How long a model may think, in the words that it understands: levels from Gemini 3 on, a number of tokens before.

use serde::Serialize;

use crate::config;

/// `thinkingConfig`; one field only, or the interface refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Thinking<'a> {
    ThinkingLevel(&'a str),
    ThinkingBudget(i32),
}

/// What a model is told; `None` when nothing is configured, which leaves it its own default.
pub(super) fn wanted<'a>(config: &'a config::Gemini, model: &str) -> Option<Thinking<'a>> {
    let level = configured(config, model)?;
    Some(match version(model) {
        Some((..3, _)) => Thinking::ThinkingBudget(budget(level, model.contains("pro"))),
        _ if is_replaced(level, model) => Thinking::ThinkingLevel("low"),
        _ => Thinking::ThinkingLevel(level),
    })
}

/// The same where only levels are taken, from the first model on.
pub(super) fn level<'a>(config: &'a config::Gemini, model: &str) -> Option<&'a str> {
    let level = configured(config, model)?;
    Some(if is_replaced(level, model) { "low" } else { level })
}

/// What somebody should know of a configuration that can be used: which level is not sent as it stands there.
pub fn remarks(config: &config::Gemini) -> Vec<String> {
    let replaced = |model: &&String| configured(config, model).is_some_and(|level| is_replaced(level, model));
    let remark = |model: &String| {
        format!("[gemini] key thinking_level: {model} has no \"minimal\" and would refuse it; it gets \"low\"")
    };
    config.models.iter().filter(replaced).map(remark).collect()
}

fn configured<'a>(config: &'a config::Gemini, model: &str) -> Option<&'a str> {
    config.thinking_levels.get(model).or(config.thinking_level.as_ref()).map(String::as_str)
}

/// Flash models from 3.7 on, and the name that always means the newest, refuse the lowest level.
fn is_replaced(level: &str, model: &str) -> bool {
    let thinks = !model.contains("lite") && version(model).is_none_or(|version| version >= (3, 7));
    level == "minimal" && thinks
}

/// Tokens for a level, as the interface's own mapping has them; the larger models cannot be kept from thinking.
fn budget(level: &str, pro: bool) -> i32 {
    match level {
        "minimal" if pro => 128,
        "minimal" => 0,
        "low" => 1024,
        "medium" => 8192,
        _ => 24_576,
    }
}

/// `gemini-3.5-flash-lite` is 3.5; a name without a number has none.
fn version(model: &str) -> Option<(u32, u32)> {
    let number = model.strip_prefix("gemini-")?.split('-').next()?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(level: Option<&str>, single: &[(&str, &str)]) -> config::Gemini {
        config::Gemini {
            thinking_level: level.map(str::to_owned),
            thinking_levels: single.iter().map(|&(model, level)| (model.to_owned(), level.to_owned())).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn nothing_is_sent_unless_something_is_configured() {
        let config = config(None, &[("gemini-3.8-flash", "low")]);
        assert_eq!(wanted(&config, "gemini-3.5-flash-lite"), None);
        assert_eq!(wanted(&config, "gemini-3.8-flash"), Some(Thinking::ThinkingLevel("low")));
    }

    #[test]
    fn a_models_own_level_goes_before_the_one_for_all() {
        let config = config(Some("low"), &[("gemini-3.8-flash", "high")]);
        assert_eq!(wanted(&config, "gemini-3.8-flash"), Some(Thinking::ThinkingLevel("high")));
        assert_eq!(wanted(&config, "gemini-3.6-flash"), Some(Thinking::ThinkingLevel("low")));
    }

    #[test]
    fn minimal_becomes_low_where_a_model_has_no_less() {
        let config = config(Some("minimal"), &[]);
        for (model, level) in [
            ("gemini-3.5-flash-lite", "minimal"),
            ("gemini-3.6-flash", "minimal"),
            ("gemini-3.7-flash", "low"),
            ("gemini-3.8-flash", "low"),
            ("gemini-4-flash", "low"),
            ("gemini-flash-latest", "low"),
            ("gemini-flash-lite-latest", "minimal"),
        ] {
            assert_eq!(wanted(&config, model), Some(Thinking::ThinkingLevel(level)), "{model}");
        }
    }

    #[test]
    fn a_replaced_level_is_remarked_upon() {
        let mut config = config(Some("minimal"), &[]);
        assert!(remarks(&config).is_empty());
        config.models.push("gemini-3.8-flash".into());
        assert!(remarks(&config)[0].contains("gemini-3.8-flash has no"), "{:?}", remarks(&config));
    }

    #[test]
    fn older_models_get_a_number_of_tokens() {
        let sent = |level, model| serde_json::to_value(wanted(&config(Some(level), &[]), model)).unwrap();
        assert_eq!(sent("minimal", "gemini-2.5-flash"), serde_json::json!({"thinkingBudget": 0}));
        assert_eq!(sent("minimal", "gemini-2.5-pro"), serde_json::json!({"thinkingBudget": 128}));
        assert_eq!(sent("high", "gemini-2.5-flash"), serde_json::json!({"thinkingBudget": 24_576}));
        assert_eq!(sent("high", "gemini-3.5-flash"), serde_json::json!({"thinkingLevel": "high"}));
    }
}
