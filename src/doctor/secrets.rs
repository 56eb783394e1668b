//! Whether the secrets are there, and are nobody else's to read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Check;
use crate::config::{Config, Engine, SecretError};
use crate::context;
use crate::gemini;
use crate::privacy::Secret;
use crate::recogniser;

/// The permission of everybody on the machine to read.
const WORLD_READABLE: u32 = 0o004;

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, trunk) in &config.trunk {
        if trunk.registers() || trunk.password_file.is_some() {
            let remedy = format!(
                "write it into a file and name that in password_file, or into the credential trunk.{name}.password"
            );
            let place = format!("password of trunk {name}");
            checks.push(one(place, trunk.password(name), trunk.password_file.as_deref(), remedy, trunk.registers()));
        }
        if let Some(file) = &trunk.tls_key_file {
            checks.push(file_only(format!("TLS key of trunk {name}"), file));
        }
    }
    if let Some(file) = &config.sip.tls_key_file {
        checks.push(file_only("TLS key of listen_tls".into(), file));
    }
    if let Some(file) = &config.sip.inbound_users_file {
        checks.push(file_only("inbound users".into(), file));
    }
    let by_phone = &config.greeting_by_phone;
    if by_phone.number.is_some() {
        let remedy =
            "write it into a file and name that in [greeting_by_phone] pin_file, or into the credential greeting.pin";
        checks.push(one("greeting PIN".into(), by_phone.pin(), by_phone.pin_file.as_deref(), remedy.into(), true));
    }
    let needed = !config.gemini.base_url.starts_with("http:");
    let remedy =
        "write it into a file and name that in [gemini] api_key_file, or into the credential gemini.key".to_owned();
    let key = gemini::key(&config.gemini);
    checks.push(one("gemini key".into(), key, config.gemini.api_key_file.as_deref(), remedy, needed));
    if config.crm.url.is_some() {
        let remedy = "write it into a file and name that in [crm] key_file, or into the credential crm.key".to_owned();
        let texts = config.crm.headers.values().chain(&config.crm.url).chain(&config.crm.body);
        let needed = texts.into_iter().any(|text| text.contains("{{key}}"));
        checks.push(one("CRM key".into(), context::key(&config.crm), config.crm.key_file.as_deref(), remedy, needed));
    }
    if let Some(file) = &config.network_voice.api_key_file {
        checks.push(file_only("voice key".into(), file));
    }
    let section = &config.recogniser;
    if matches!(section.engine, Engine::Deepgram | Engine::Openai) {
        let needed = !section.base_url.as_deref().unwrap_or_default().starts_with("http:");
        let remedy =
            "write it into a file and name that in [recogniser] api_key_file, or into the credential recogniser.key";
        let key = recogniser::own_key(section);
        checks.push(one("recogniser key".into(), key, section.api_key_file.as_deref(), remedy.into(), needed));
    }
    checks
}

fn one(
    what: String,
    found: Result<Option<Secret>, SecretError>,
    file: Option<&Path>,
    remedy: String,
    needed: bool,
) -> Check {
    match (found, file) {
        (Err(error), _) => Check::ok("secrets", what, error.to_string()).failure(remedy),
        (Ok(Some(_)), Some(file)) => file_only(what, file),
        (Ok(Some(_)), None) => Check::ok("secrets", what, "there, as a credential or in the environment"),
        (Ok(None), _) if needed => {
            let finding = "not found from here (a systemd credential is seen by the service alone)";
            Check::ok("secrets", what, finding).failure(remedy)
        }
        (Ok(None), _) => Check::ok("secrets", what, "none, and none is needed"),
    }
}

/// A file that only its owner and its group may read.
fn file_only(what: String, file: &Path) -> Check {
    let shown = file.display();
    match std::fs::metadata(file) {
        Err(error) => {
            Check::ok("secrets", what, format!("{shown}: {error}")).failure("check the path in the configuration")
        }
        Ok(found) if found.permissions().mode() & WORLD_READABLE != 0 => {
            let check = Check::ok("secrets", what, format!("{shown} can be read by everybody on this machine"));
            check.warning(format!("chmod 600 {shown}"))
        }
        Ok(_) => Check::ok("secrets", what, format!("there, in {shown}")),
    }
}
