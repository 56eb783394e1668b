//! The installer's tools, as far as no request is made.

use super::*;
use crate::config;

fn http() -> Http {
    Http::new(std::time::Duration::from_millis(800)).unwrap()
}

/// A configuration with one tool of these lines.
fn tool(lines: &str) -> Result<Toolbox, String> {
    let text = format!("[tools.orders]\ndescription = \"the state of an order\"\n{lines}\n");
    let config = config::parse(&text).map_err(|problems| problems.to_string())?;
    Toolbox::new(&config, &http(), None, None).map_err(|error| error.to_string())
}

fn names(toolbox: &Toolbox) -> Vec<String> {
    toolbox.functions().iter().map(|function| function.name.to_string()).collect()
}

#[test]
fn only_what_is_set_up_is_offered() {
    assert_eq!(names(&Toolbox::new(&Config::default(), &http(), None, None).unwrap()), ["end_call"]);
    let mut config = Config::default();
    config.conversation.transfer_to = Some("sip:620@192.0.2.1".into());
    config.functions.transfer_targets.insert("sales".into(), "sip:621@192.0.2.1".into());
    let search: Search = Arc::new(|_| Vec::new());
    let toolbox = Toolbox::new(&config, &http(), None, Some(search)).unwrap();
    assert_eq!(names(&toolbox), ["end_call", "transfer", "look_up"]);
    // The model knows names, never numbers.
    let told = format!("{:?}", toolbox.functions());
    assert!(told.contains("person") && told.contains("sales") && !told.contains("192.0.2.1"), "{told}");
    config.functions.transfer = false;
    config.conversation.end_call = false;
    assert!(names(&Toolbox::new(&config, &http(), None, None).unwrap()).is_empty());
}

#[test]
fn a_tool_that_cannot_work_is_refused_with_its_key() {
    let good = "url = \"https://h.example/orders/{{order}}?q={{caller}}\"\nparameters = { type = \"object\", properties = { order = { type = \"string\" } } }";
    let toolbox = tool(good).unwrap();
    assert_eq!(names(&toolbox), ["end_call", "orders"]);
    let parameters = toolbox.functions()[1].parameters.clone().unwrap();
    assert_eq!(parameters["properties"]["order"]["type"], "string");
    for (lines, complaint) in [
        ("url = \"https://{{order}}.example/\"", "key url: an argument may stand in path and query only"),
        ("url = \"http://192.0.2.1/orders\"", "key url: "),
        ("url = \"https://u:p@h.example/\"", "secret_header_files"),
        ("url = \"https://h.example/{{id}}\"", "{{id}} is not among the properties"),
        ("url = \"https://h.example/\"\nbody = \"{\\\"a\\\": \\\"{{id}}\\\"}\"", "key body: {{id}} is not among"),
        ("url = \"https://h.example/\"\nbody = \"{a}\"", "key body: not JSON"),
        ("url = \"https://h.example/\"\nheaders = { \"X Y\" = \"1\" }", "key headers"),
        ("url = \"https://h.example/\"\nresult = \"order\"", "key result: a JSON pointer begins with a slash"),
        ("url = \"https://h.example/\"\nmethod = \"TRACE\"", "key method"),
        ("url = \"https://h.example/\"\ntimeout_ms = 60000", "key timeout_ms: 60000 ms is out of range"),
        ("url = \"https://h.example/\"\nside_effects = false\nconfirm = true", "key confirm"),
        ("url = \"https://h.example/\"\nsecret_header_files = { Authorization = \"/nonexistent\" }", "/nonexistent"),
        (
            "url = \"https://h.example/\"\nparameters = { type = \"object\", properties = { caller = { type = \"string\" } } }",
            "not for the model to say",
        ),
        ("url = \"https://h.example/\"\ntimeout = 3", "timeout_ms"),
    ] {
        let told = tool(lines).err().unwrap_or_else(|| panic!("taken: {lines}"));
        assert!(told.contains(complaint), "{told}");
    }
    let text = "[tools.end_call]\ndescription = \"x\"\nurl = \"https://h.example/\"\n";
    let taken = Toolbox::new(&config::parse(text).unwrap(), &http(), None, None).err().unwrap();
    assert!(taken.to_string().contains("take another"));
}

#[test]
fn a_result_is_cut_between_characters() {
    assert_eq!((cut("אב", 3), cut("abc", 9), cut("", 0)), ("א", "abc", ""));
}

#[test]
fn the_key_of_a_doing_is_the_same_only_for_the_same_doing_in_the_same_call() {
    let key = |call: &str, args: Value| http::idempotency_key(call, "book", &args);
    let monday = json!({"day": "monday", "people": 2});
    assert_eq!(key("a", monday.clone()), key("a", json!({"people": 2, "day": "monday"})));
    assert!(key("a", monday.clone()) != key("b", monday.clone()) && key("a", monday) != key("a", json!({})));
}
