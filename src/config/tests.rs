use std::collections::BTreeMap;

use super::load::{known_keys, literal};
use super::*;

fn problems(text: &str) -> Vec<String> {
    parse(text).expect_err("refused").0.iter().map(Problem::to_string).collect()
}

/// The only problem of a text.
fn problem(text: &str) -> String {
    let all = problems(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

#[test]
fn an_empty_file_is_the_default_and_the_default_is_valid() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert!(validate::complaints(&Config::default()).is_empty());
}

#[test]
fn a_key_changes_what_it_names() {
    let config =
        parse("[hearing]\nsoft_end_ms = 200\n[sip]\nallowed_peers = [\"10.0.0.7\", \"192.168.0.0/16\", \"::1\"]\n")
            .unwrap();
    assert_eq!(config.hearing.soft_end, Duration::from_millis(200));
    assert_eq!(config.hearing.hard_end, Duration::from_millis(750));
    let peers: Vec<String> = config.sip.allowed_peers.iter().map(IpNet::to_string).collect();
    assert_eq!(peers, ["10.0.0.7/32", "192.168.0.0/16", "::1/128"]);
}

#[test]
fn a_text_that_is_not_toml_is_located() {
    assert_eq!(
        problem("[sip]\nmax_calls = 4\n[rtp]\nport_min\n"),
        "4: [rtp] not TOML: key with no value, expected `=`; write `key = value`, with text in double quotes"
    );
    assert!(problem("[gemini]\nbase_url = https://x\n").starts_with("2: [gemini] not TOML: "));
    assert!(problem("[sip]\nmax_calls = 1\nmax_calls = 2\n").starts_with("3: [sip] not TOML: duplicate key"));
}

#[test]
fn an_unknown_name_gets_a_suggestion() {
    assert_eq!(problem("[sip]\n\nmax_cals = 4\n"), "3: [sip] key max_cals: unknown; did you mean max_calls?");
    assert_eq!(problem("[hering]\nsoft_end_ms = 4\n"), "1: unknown section [hering]; did you mean [hearing]?");
    assert_eq!(problem("[sip]\nport_min = 4000\n"), "2: [sip] key port_min: unknown; it belongs under [rtp]");
    assert_eq!(problem("max_calls = 4\n"), "1: key max_calls: outside of any section; it belongs under [sip]");
    assert_eq!(
        problem("[log]\nzebra = 1\n"),
        "2: [log] key zebra: unknown; the keys here are calls_file, calls_file_mb, calls_file_numbers, timeline_file"
    );
    assert!(problem("[zebra]\n").starts_with("1: unknown section [zebra]; the sections are ["));
    assert_eq!(
        problem("sip = 5060\n"),
        "1: sip: this is a section; write [sip] on a line of its own and its keys below"
    );
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let text = "[gemini]\napi_key = \"AIza-very-secret\"\nbase_url = \"https://x.example/?key=AIza-very-secret\"\n";
    let all = problems(text).join("\n") + &problems(&text.replace("api_key =", "api_key_file =")).join("\n");
    assert!(all.contains("did you mean api_key_file?") && all.contains("a key belongs into api_key_file"), "{all}");
    assert!(!all.contains("AIza"), "{all}");
}

#[test]
fn a_wrong_type_says_what_would_be_right() {
    assert_eq!(
        problem("[hearing]\n# half a second\nsoft_end_ms = \"500\"\n"),
        "3: [hearing] key soft_end_ms: invalid type: string \"500\", expected a whole number, not negative; the default is soft_end_ms = 240"
    );
    assert!(problem("[rtp]\nport_min = 70000\n").starts_with(
        "2: [rtp] key port_min: invalid value: integer `70000`, expected a whole number from 0 to 65535; "
    ));
    assert!(problem("[sip]\nlisten = \"here\"\n").starts_with("2: [sip] key listen: invalid socket address"));
    assert_eq!(
        problem("[sip]\nallowed_peers = [\n  \"10.0.0.1\",\n  \"10.0.0.0/99\",\n]\n"),
        "2: [sip] key allowed_peers: \"10.0.0.0/99\" is neither an address nor a network such as 192.168.1.0/24; \
         the default is allowed_peers = [\"127.0.0.1\"]"
    );
    assert!(
        problem("[conversation]\nlanguage = \"fr\"\n")
            .contains("unknown variant `fr`, expected one of `en`, `he`, `ru`")
    );
    assert!(problem("[placeholder]\nclip = 3\n").ends_with("write clip = \"…\" or leave the line out"));
}

#[test]
fn every_problem_is_told_at_once_from_top_to_bottom() {
    let text = "[sip]\nmax_cals = 4\nmax_calls = \"four\"\n[hearing]\nvad_threshold = true\n[zoo]\n";
    let lines: Vec<String> =
        problems(text).iter().map(|problem| problem.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["2:", "3:", "5:", "6:"]);
    let text = "[sip]\nmax_calls = 0\n[hearing]\nvad_threshold = 1.0\nhard_end_ms = 200\n";
    let lines: Vec<String> =
        problems(text).iter().map(|problem| problem.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["2:", "4:", "5:"]);
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    for (section, lines, complaint) in [
        ("sip", "max_calls = 257", "2: [sip] key max_calls: 257 is out of range; take 1 to 256"),
        ("sip", "allowed_peers = []", "2: [sip] key allowed_peers: empty, so nobody could call"),
        ("sip", "public_address = \"0.0.0.0\"", "2: [sip] key public_address: an unspecified address"),
        (
            "sip",
            "max_calls = 64\n[rtp]\nport_max = 16400",
            "4: [rtp] key port_max: ports 16384 to 16400 are enough for 8 calls and max_calls is 64; take at least 16511",
        ),
        ("rtp", "port_min = 20000", "1: [rtp] key port_max: 16639 is not above port_min (20000)"),
        ("rtp", "port_min = 80\nport_max = 200", "2: [rtp] key port_min: 80 needs privileges"),
        (
            "rtp",
            "port_min = 20001\nport_max = 20016",
            "3: [rtp] key port_max: ports 20001 to 20016 are enough for 7 calls",
        ),
        ("rtp", "jitter_ms = 201", "2: [rtp] key jitter_ms: 201 ms is out of range; take 0 to 200"),
        ("rtp", "media_timeout_ms = 15", "2: [rtp] key media_timeout_ms: 15 ms"),
        (
            "hearing",
            "soft_end_ms = 800",
            "1: [hearing] key hard_end_ms: not longer than soft_end_ms (800); take more, usually 1300",
        ),
        ("hearing", "soft_end_ms = 3", "2: [hearing] key soft_end_ms: 3 ms is out of range; take 60 to 3000"),
        ("hearing", "soft_end_min_ms = 59", "2: [hearing] key soft_end_min_ms: 59 ms"),
        ("hearing", "soft_end_max_ms = 3001", "2: [hearing] key soft_end_max_ms: 3001 ms"),
        ("hearing", "hard_end_ms = 5001", "2: [hearing] key hard_end_ms: 5001 ms"),
        ("hearing", "hard_end_min_ms = 59", "2: [hearing] key hard_end_min_ms: 59 ms"),
        ("hearing", "hard_end_max_ms = 5001", "2: [hearing] key hard_end_max_ms: 5001 ms"),
        ("hearing", "minimum_speech_ms = 1001", "2: [hearing] key minimum_speech_ms: 1001 ms"),
        ("hearing", "pre_roll_ms = 1001", "2: [hearing] key pre_roll_ms: 1001 ms"),
        ("hearing", "max_utterance_ms = 30", "2: [hearing] key max_utterance_ms: 30 ms"),
        ("hearing", "vad_threshold = 0.0", "2: [hearing] key vad_threshold: 0 is not between 0 and 1"),
        ("hearing", "vad_threshold = nan", "2: [hearing] key vad_threshold: NaN is not between 0 and 1"),
        ("placeholder", "grace_ms = 461", "2: [placeholder] key grace_ms: 461 ms"),
        ("placeholder", "second_after_ms = 20001", "2: [placeholder] key second_after_ms: 20001 ms"),
        ("gemini", "base_url = \"generativelanguage.googleapis.com\"", "2: [gemini] key base_url: not a URL"),
        (
            "gemini",
            "base_url = \"http://10.0.0.1:8080\"",
            "2: [gemini] key base_url: plain http to 10.0.0.1 would send the key",
        ),
        ("gemini", "base_url = \"http://localhost.example\"", "2: [gemini] key base_url: plain http"),
        ("gemini", "base_url = \"ftp://127.0.0.1\"", "2: [gemini] key base_url: ftp is not a scheme"),
        ("gemini", "models = []", "2: [gemini] key models: empty"),
        ("gemini", "models = [\"models/x\"]", "2: [gemini] key models: \"models/x\" is not a model's name"),
        (
            "gemini",
            "thinking_level = \"max\"",
            "2: [gemini] key thinking_level: \"max\" is none of minimal, low, medium, high",
        ),
        ("gemini", "service_tier = \"gold\"", "2: [gemini] key service_tier: \"gold\" is none of"),
        ("gemini", "api = \"live\"", "2: [gemini] key api: "),
        ("gemini", "cache = true\napi = \"interactions\"", "2: [gemini] key cache: api = \"interactions\" has nothing"),
        ("gemini", "max_output_tokens = 0", "2: [gemini] key max_output_tokens: 0"),
        ("gemini", "history_audio_turns = 33", "2: [gemini] key history_audio_turns: 33"),
        ("gemini", "connect_ms = 8", "2: [gemini] key connect_ms: 8 ms"),
        ("gemini", "first_token_ms = 4", "2: [gemini] key first_token_ms: 4 ms"),
        ("gemini", "between_tokens_ms = 3", "2: [gemini] key between_tokens_ms: 3 ms"),
        ("gemini", "first_token_ms = 30000", "1: [gemini] key whole_answer_ms: shorter than first_token_ms (30000)"),
        ("voice", "command = []", "2: [voice] key command: empty; name a program"),
        ("voice", "en = \"\"", "2: [voice] key en: \"\" is not a voice's name"),
        ("voice", "ru = \"-v\"", "2: [voice] key ru: \"-v\" is not"),
        ("voice", "level_dbfs = 20.0", "2: [voice] key level_dbfs: 20 is out of range"),
        ("voice", "pause_after_clause_ms = 2001", "2: [voice] key pause_after_clause_ms: 2001 ms"),
        ("voice", "pause_after_sentence_ms = 2001", "2: [voice] key pause_after_sentence_ms: 2001 ms"),
        ("voice", "first_audio_ms = 1", "2: [voice] key first_audio_ms: 1 ms"),
        ("voice", "stall_ms = 1", "2: [voice] key stall_ms: 1 ms"),
        ("voice", "command_answer = \"mp3\"", "2: [voice] key command_answer: \"mp3\" is no way to write sound"),
        ("voice", "cache_mb = 10241", "2: [voice] key cache_mb: 10241 is too much"),
        ("network_voice", "preset = \"custom\"", "1: [network_voice] key url: this preset has no address"),
        (
            "network_voice",
            "body = \"{{txt}}\"",
            "2: [network_voice] key body: {{txt}} is unknown; did you mean {{text}}",
        ),
        ("network_voice", "headers = [\"no header\"]", "2: [network_voice] key headers: not all are headers"),
        ("network_voice", "answer = \"mp3\"", "2: [network_voice] key answer: \"mp3\" is no way"),
        ("network_voice", "region = \"a/b\"", "2: [network_voice] key region: not the name of a region"),
        ("network_voice", "parallel = 0", "2: [network_voice] key parallel: 0 is out of range"),
        ("network_voice", "first_audio_ms = 1", "2: [network_voice] key first_audio_ms: 1 ms"),
        ("network_voice", "stall_ms = 1", "2: [network_voice] key stall_ms: 1 ms"),
        ("network_voice", "rest_ms = 1", "2: [network_voice] key rest_ms: 1 ms"),
        ("ladder", "apologies = 0", "2: [ladder] key apologies: 0 is out of range"),
        ("ladder", "remedies = [\"goodbye\", \"goodbye\"]", "2: [ladder] key remedies: names one of them twice"),
        ("voicemail", "always = true", "2: [voicemail] key always: needs enabled = true"),
        ("voicemail", "longest_s = 1", "2: [voicemail] key longest_s: 1000 ms"),
        ("voicemail", "silence_end_ms = 1", "2: [voicemail] key silence_end_ms: 1 ms"),
        ("voicemail", "keep_messages = 0", "2: [voicemail] key keep_messages: 0"),
        ("voicemail", "keep_megabytes = 1", "2: [voicemail] key keep_megabytes: 1"),
        ("voicemail", "webhook_url = \"http://192.0.2.1\"", "2: [voicemail] key webhook_url: plain http"),
        ("limits", "longest_call_s = 3", "2: [limits] key longest_call_s: 3000 ms"),
        ("limits", "longest_answer_s = 1", "2: [limits] key longest_answer_s: 1000 ms"),
        ("limits", "side_effects_per_call = 101", "2: [limits] key side_effects_per_call: 101"),
        ("limits", "money_per_day = 1.0", "2: [limits] key money_per_day: nothing has a price"),
        (
            "price",
            "input_per_million = 1.0\n[limits]\nmoney_per_call = -1",
            "4: [limits] key money_per_call: -1 is out",
        ),
        ("price", "recogniser_per_hour = -0.1", "2: [price] key recogniser_per_hour: -0.1 is out of range"),
        ("limits", "guarded_words = 2", "2: [limits] key guarded_words: 2"),
        ("functions", "transfer_targets = { sales = \"reception\" }", "2: [functions] key transfer_targets"),
        ("conversation", "history_exchanges = 201", "2: [conversation] key history_exchanges: 201"),
        ("conversation", "transfer_key = \"x\"", "2: [conversation] key transfer_key: 'x' is no key of a telephone"),
        (
            "conversation",
            "transfer_to = \"reception\"",
            "2: [conversation] key transfer_to: neither a number nor a SIP",
        ),
        ("conversation", "transfer_to = \"sip:620@\"", "2: [conversation] key transfer_to: neither a number nor a SIP"),
        ("conversation", "transfer_to = \"+972 3\"", "2: [conversation] key transfer_to: a number is called through"),
    ] {
        let told = problem(&format!("[{section}]\n{lines}\n"));
        assert!(told.starts_with(complaint) && told.contains("; "), "{told}");
    }
}

#[test]
fn plain_http_is_for_this_machine() {
    for url in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:9/v", "https://proxy.example/gemini"] {
        parse(&format!("[gemini]\nbase_url = \"{url}\"\n")).unwrap();
    }
}

#[test]
fn a_file_is_named_with_each_of_its_problems() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("offhook.toml");
    std::fs::write(&path, "[sip]\nmax_calls = 0\n[log]\nfile = 1\ntimeline_file = 2\n").unwrap();
    let shown = path.display();
    let told = load(&path).unwrap_err().to_string();
    let starts: Vec<&str> = told.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(starts, [format!("{shown}:4"), format!("{shown}:5")]);

    std::fs::write(&path, [b'#', 0xff, b'\n']).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("UTF-8"));
    std::fs::write(&path, vec![b'\n'; (1 << 20) + 1]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("larger than 1048576 bytes"));
    assert!(load(&folder.path().join("none")).unwrap_err().to_string().contains("none: "));
}

#[test]
fn garbage_is_refused_and_harms_nobody() {
    for text in [
        "\u{0}",
        "[",
        "[[sip]]\n",
        "[sip.listen]\nx = 1\n",
        "sip = {max_calls = {}}\n",
        "= = =",
        "\"",
        "[sip]\nlisten = \"\"\"",
        "a.b.c = 1",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
    let mut state = fastrand::Rng::with_seed(2);
    let whole = include_str!("../../firmware-config/offhook.toml");
    for _ in 0..500 {
        let mut bytes = whole.as_bytes().to_vec();
        bytes.truncate(state.usize(..bytes.len()));
        for _ in 0..3 {
            if !bytes.is_empty() {
                let at = state.usize(..bytes.len());
                bytes[at] = state.u8(..);
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(Problems(problems)) = parse(&text) {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|problem| (1..=text.lines().count() + 1).contains(&problem.line)));
        }
    }
}

#[test]
fn trunks_are_named_by_the_installer_and_checked_like_every_section() {
    let text = "[trunk.pbx]\nmode = \"pbx-extension\"\ndomain = \"192.168.1.1\"\nuser = \"620\"\n[trunk.out]\ndomain = \"sip.example.com\"\nuser = \"a\"\n";
    let config = parse(text).unwrap();
    assert_eq!(config.trunk.keys().collect::<Vec<_>>(), ["out", "pbx"]);
    assert_eq!(config.trunk["pbx"].mode, TrunkMode::PbxExtension);
    let fault = |change: &str| problem(&format!("[trunk.a]\ndomain = \"sip.example.com\"\nuser = \"620\"\n{change}\n"));
    assert_eq!(fault("expires = 60"), "4: [trunk.a] key expires: unknown; did you mean expires_s?");
    assert_eq!(fault("jitter_ms = 60"), "4: [trunk.a] key jitter_ms: unknown; it belongs under [rtp]");
    assert!(fault("mode = \"registered\"").starts_with("4: [trunk.a] key mode: unknown variant `registered`"));
    assert!(fault("keepalive_s = \"25\"").starts_with("4: [trunk.a] key keepalive_s: invalid type"));
    assert!(problem("[trunk]\ndomain = \"x\"\n").contains("a trunk needs a name; write [trunk.NAME]"));
    assert!(problem("trunk = 3\n").contains("write [trunk.NAME] on a line of its own"));
    assert!(problem("[trunk.\"Bad Name\"]\ndomain = \"x\"\n").contains("1 to 32 lower-case letters"));
    let password = fault("password = \"hunter2\"");
    assert!(password.contains("write password_file") && !password.contains("hunter2"), "{password}");
}

#[test]
fn a_trunk_that_cannot_work_is_refused_with_a_remedy() {
    let cases = [
        ("domain = \"sip:x.example\"", "without sip:"),
        ("domain = \"\"", "from the provider's sheet"),
        ("user = \"\"", "a trunk that registers needs the user name"),
        ("user = \"620@pbx\"", "only what stands before the @"),
        ("from_user = \"a b\"", "write the bare name"),
        ("registrar = \"a.example:0\"", "1 to 65535"),
        ("outbound_proxy = \"2001:db8::1:5060\"", "brackets"),
        ("servers = [\"a.example;weigth=1\"]", "priority=N"),
        ("expires_s = 5", "60 to 86400"),
        ("keepalive_s = 1", "5 to 3600"),
        ("session_expires_s = 90000", "90 to 86400"),
        ("session_minimum_s = 3600", "longer than session_expires_s"),
        ("ring_ms = 90000", "longer than a minute"),
        ("max_calls = 0", "1 to 256"),
        ("country = \"XX\"", "two capital letters"),
        ("identity_headers = []", "no caller would be known"),
        ("public_address = \"0.0.0.0\"", "reaches nobody"),
        ("srtp = \"required\"", "the keys would travel in the clear"),
        ("tls_ca_file = \"/ca\"", "no effect without transport"),
        ("transport = \"tls\"\ntls_key_file = \"/k\"", "go together"),
    ];
    for (change, remedy) in cases {
        let key = change.split(" =").next().unwrap();
        let basics = ["domain = \"sip.example.com\"", "user = \"620\""];
        let kept: Vec<&str> = basics.into_iter().filter(|line| !line.starts_with(key)).collect();
        let problem = problem(&format!("[trunk.a]\n{}\n{change}\n", kept.join("\n")));
        assert!(problem.contains(remedy) && problem.contains("[trunk.a] key "), "{change}: {problem}");
    }
}

/// Keys with their defaults (`None`: absent), as a document shows them.
type Shown = BTreeMap<(String, String), Option<String>>;

fn real_keys() -> Shown {
    let keys = known_keys().into_iter().flat_map(|(section, keys)| {
        keys.into_iter()
            .map(move |(key, default)| ((section.clone(), key), (!default.is_null()).then(|| literal(&default))))
    });
    keys.collect()
}

#[test]
fn the_documentation_has_every_key_with_its_default() {
    let mut shown = Shown::new();
    let mut section = "";
    for line in include_str!("../../docs/configuration.md").lines() {
        if let Some(name) = line.strip_prefix("## [").and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert_eq!(cells.len(), 4, "{line}");
            let default = cells[1].strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            assert!(default.is_some() || cells[1] == "none", "{line}");
            shown.insert((section.into(), cells[0].trim_end_matches('`').into()), default.map(str::to_owned));
        }
    }
    assert_eq!(same_spacing(shown), same_spacing(real_keys()));
}

/// A list is the same with and without a space after its commas.
fn same_spacing(shown: Shown) -> Shown {
    shown.into_iter().map(|(key, default)| (key, default.map(|default| default.replace(", ", ",")))).collect()
}

#[test]
fn the_shipped_file_is_the_default_and_shows_every_key() {
    let shipped = include_str!("../../firmware-config/offhook.toml");
    assert_eq!(parse(shipped).unwrap(), Config::default());
    let mut shown = Shown::new();
    let mut section = "";
    let mut uncommented = String::new();
    for line in shipped.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let optional =
            line.strip_prefix("# ").filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')));
        let setting = optional.unwrap_or(line);
        if let Some((key, value)) = setting.split_once(" = ").filter(|_| optional.is_some() || !line.starts_with('#')) {
            shown.insert((section.into(), key.into()), optional.is_none().then(|| value.to_owned()));
        }
        uncommented.push_str(setting);
        uncommented.push('\n');
    }
    // The sections of trunks are in firmware-config/trunks/, one for each provider and PBX.
    let real = real_keys().into_iter().filter(|((section, _), _)| !section.ends_with(".NAME")).collect();
    assert_eq!(same_spacing(shown), same_spacing(real));
    // The examples of keys without a default are usable, too.
    // Customers are looked up in one place, and something is told of them.
    let uncommented = uncommented.replace("\ncsv_file =", "\n# ").replace("\nsqlite_file =", "\n# ");
    let config = parse(&uncommented.replace("\nfields = {}", "\nfields = { name = \"/name\" }")).unwrap();
    assert!(config.sip.public_address.is_some() && config.log.timeline_file.is_some());
}

#[test]
fn each_trunk_profile_is_usable_and_has_its_section_in_the_documentation() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-config/trunks");
    let interoperability = include_str!("../../docs/interoperability.md");
    let mut profiles: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    profiles.sort();
    assert_eq!(profiles.len(), 10, "{profiles:?}");
    for path in profiles {
        let text = std::fs::read_to_string(&path).unwrap();
        let config = parse(&text).unwrap_or_else(|problems| panic!("{}: {problems}", path.display()));
        assert_eq!(config.trunk.len(), 1, "{}", path.display());
        let section = text.split('"').nth(1).unwrap();
        assert!(interoperability.contains(&format!("\n## {section}\n")), "{}: no section {section}", path.display());
        let file = path.file_name().unwrap().to_str().unwrap();
        assert!(interoperability.contains(file), "{file}");
    }
}
