//! What a trunk must mean.

use std::time::Duration;

use super::{Complaints, MAX_CALLS};
use crate::config::{HostPort, Policy, ServerEntry, Transport, Trunk, TrunkMode};
use crate::number::Country;

/// The most trunks that one box has.
const MAX_TRUNKS: usize = 16;

pub(super) fn trunks<'t>(found: &mut Complaints, trunks: impl ExactSizeIterator<Item = (&'t String, &'t Trunk)>) {
    let count = trunks.len();
    for (index, (name, trunk)) in trunks.enumerate() {
        let section = format!("trunk.{name}");
        if index == MAX_TRUNKS {
            found.unless(false, section.clone(), "mode", || {
                format!("{count} trunks are too many; take at most {MAX_TRUNKS}")
            });
        }
        one(&mut InSection { found, section }, trunk);
    }
}

struct InSection<'f> {
    found: &'f mut Complaints,
    section: String,
}

impl InSection<'_> {
    fn unless(&mut self, good: bool, key: &'static str, message: impl FnOnce() -> String) {
        self.found.unless(good, self.section.clone(), key, message);
    }

    fn seconds(&mut self, key: &'static str, value: Duration, range: std::ops::RangeInclusive<u64>) {
        self.unless(range.contains(&value.as_secs()), key, || {
            format!("{} s is out of range; take {} to {} (seconds)", value.as_secs(), range.start(), range.end())
        });
    }
}

fn one(found: &mut InSection<'_>, trunk: &Trunk) {
    let has_peer = trunk.registrar.is_some() || !trunk.servers.is_empty() || trunk.outbound_proxy.is_some();
    found.unless(!trunk.domain.is_empty() || (!trunk.registers() && has_peer), "domain", || {
        "missing; write the SIP domain from the provider's sheet, or the PBX's address".into()
    });
    let domain = trunk.domain.parse::<HostPort>();
    found.unless(trunk.domain.is_empty() || domain.is_ok_and(|domain| domain.port.is_none()), "domain", || {
        format!("{:?} is not a host name or address; write it without sip: and without a port", trunk.domain)
    });
    for (key, value) in [("registrar", &trunk.registrar), ("outbound_proxy", &trunk.outbound_proxy)] {
        if let Some(Err(complaint)) = value.as_deref().map(str::parse::<HostPort>) {
            found.unless(false, key, || complaint.to_string());
        }
    }
    for server in &trunk.servers {
        if let Err(complaint) = server.parse::<ServerEntry>() {
            found.unless(false, "servers", || complaint.to_string());
        }
    }
    found.unless(!trunk.registers() || !trunk.user.is_empty(), "user", || {
        "missing; a trunk that registers needs the user name or extension from the provider's sheet".into()
    });
    let users = [
        ("user", Some(&trunk.user)),
        ("auth_id", trunk.auth_id.as_ref()),
        ("contact_user", trunk.contact_user.as_ref()),
        ("from_user", trunk.from_user.as_ref()),
    ];
    for (key, value) in users {
        let good = value.is_none_or(|value| !value.contains(|c: char| c.is_control() || " \"<>".contains(c)));
        found.unless(good, key, || "has blanks, quotes or brackets in it; write the bare name".into());
    }
    // RFC 3261 §25.1: what stands before the @ of a URI.
    let in_uri = |value: &String| !value.contains('@');
    for (key, value) in [
        ("user", Some(&trunk.user)),
        ("contact_user", trunk.contact_user.as_ref()),
        ("from_user", trunk.from_user.as_ref()),
    ] {
        found.unless(value.is_none_or(in_uri), key, || {
            "is only what stands before the @; the rest belongs into domain (a name with @ for the password goes into auth_id)".into()
        });
    }
    found.seconds("expires_s", trunk.expires, 60..=86_400);
    found.seconds("keepalive_s", trunk.keepalive_interval, 5..=3600);
    let expires = trunk.session_expires.as_secs();
    found.unless(expires == 0 || (90..=86_400).contains(&expires), "session_expires_s", || {
        format!("{expires} s is out of range; take 90 to 86400, or 0 for none of our own (RFC 4028)")
    });
    found.seconds("session_minimum_s", trunk.session_minimum, 90..=7200);
    found.unless(expires == 0 || trunk.session_minimum <= trunk.session_expires, "session_minimum_s", || {
        format!("longer than session_expires_s ({expires}); take less")
    });
    found.unless(trunk.ring <= Duration::from_secs(60), "ring_ms", || "longer than a minute; callers give up".into());
    found.unless(trunk.max_calls.is_none_or(|calls| (1..=MAX_CALLS).contains(&calls)), "max_calls", || {
        format!("out of range; take 1 to {MAX_CALLS}, or leave the line out")
    });
    let country = trunk.country.as_deref();
    found.unless(country.is_none_or(|code| Country::find(code).is_some()), "country", || {
        format!(
            "{:?} is not a country whose numbers are known; write two capital letters as in \"IL\", or leave the line out",
            country.unwrap_or_default()
        )
    });
    found.unless(!trunk.identity_headers.is_empty(), "identity_headers", || {
        "empty, so that no caller would be known; take [\"From\"] at least".into()
    });
    found.unless(trunk.public_address.is_none_or(|address| !address.is_unspecified()), "public_address", || {
        "an unspecified address reaches nobody; write the address that the other side reaches this box at".into()
    });
    tls_and_srtp(found, trunk);
}

fn tls_and_srtp(found: &mut InSection<'_>, trunk: &Trunk) {
    let is_tls = trunk.transport == Transport::Tls;
    let files = [("tls_ca_file", &trunk.tls_ca_file), ("tls_certificate_file", &trunk.tls_certificate_file)];
    for (key, file) in files {
        found.unless(is_tls || file.is_none(), key, || "has no effect without transport = \"tls\"".into());
    }
    found.unless(trunk.tls_key_file.is_some() == trunk.tls_certificate_file.is_some(), "tls_key_file", || {
        "a certificate and its private key go together; set tls_certificate_file and tls_key_file, or neither".into()
    });
    found.unless(is_tls || trunk.srtp == Policy::Off || trunk.srtp_over_clear_signalling, "srtp", || {
        "the keys would travel in the clear; take transport = \"tls\", or srtp_over_clear_signalling = true where nobody else can listen"
            .into()
    });
    let alone = trunk.mode == TrunkMode::IpAuth && trunk.password_file.is_some() && trunk.user.is_empty();
    found.unless(!alone, "password_file", || "a password without user; set user".into());
}
