//! `[trunk.NAME]`: one line to a provider, a PBX or a gateway; as many as there are.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{networks, seconds};

/// How the box and the other side know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrunkMode {
    /// The box registers with user and password and is called back over that flow; works behind NAT.
    #[default]
    Register,
    /// The other side knows the box's address and the box knows theirs; no registration.
    IpAuth,
    /// The box registers as an extension of a PBX on the premises.
    PbxExtension,
}

/// What carries SIP to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP; requests that are too big for it go over TCP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
    /// TLS 1.2 or newer over TCP.
    Tls,
}

/// What keeps the way through a NAT open, and shows that the other side lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keepalive {
    /// An empty line (RFC 5626 §3.5.1 on streams).
    #[default]
    Crlf,
    /// OPTIONS, which also shows whether the other side answers.
    Options,
    /// Nothing.
    Off,
}

/// Whether something is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Never.
    #[default]
    Off,
    /// When the other side wants it.
    Optional,
    /// Always: a call without it is refused.
    Required,
}

/// How a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answering {
    /// 180, and 200 as soon as the media are ready.
    #[default]
    AtOnce,
    /// 180 for `ring_ms`, then 200.
    Ring,
    /// 183 with SDP for `ring_ms`, so that the way of the media is open before the 200.
    EarlyMedia,
}

/// Who is asked to refresh a dialog (RFC 4028).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Refresher {
    /// The caller's wish; without one, us.
    #[default]
    Auto,
    /// The user agent client.
    Uac,
    /// The user agent server.
    Uas,
}

/// How a call is handed to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transferring {
    /// REFER; a second leg on the box when the other side refuses it.
    #[default]
    Auto,
    /// REFER only.
    Refer,
    /// A second leg on the box.
    Bridge,
}

/// A header that may say who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum IdentityHeader {
    /// P-Asserted-Identity (RFC 3325).
    #[serde(rename = "P-Asserted-Identity")]
    PAssertedIdentity,
    /// Remote-Party-ID.
    #[serde(rename = "Remote-Party-ID")]
    RemotePartyId,
    /// From.
    From,
}

/// In which charset header bytes that are not UTF-8 are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderCharset {
    /// Hebrew.
    #[default]
    #[serde(rename = "windows-1255")]
    Windows1255,
    /// Cyrillic.
    #[serde(rename = "windows-1251")]
    Windows1251,
    /// Western Europe, a superset of Latin-1.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

/// `[trunk.NAME]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trunk {
    /// `register`, `ip-auth` or `pbx-extension`.
    pub mode: TrunkMode,
    /// The provider's or PBX's SIP domain: the host part of our address there.
    pub domain: String,
    /// Host or host:port of the registrar or peer; absent: the domain, looked up as RFC 3263 says.
    pub registrar: Option<String>,
    /// Host or host:port that every request goes through first.
    pub outbound_proxy: Option<String>,
    /// Servers to use instead of what DNS says, as `HOST[:PORT][;priority=N][;weight=N]`.
    pub servers: Vec<String>,
    /// `udp`, `tcp` or `tls`.
    pub transport: Transport,
    /// Our user part at that domain: number or extension.
    pub user: String,
    /// The name that goes with the password when it is not `user`.
    pub auth_id: Option<String>,
    /// A file that holds the password. Otherwise the systemd credential `trunk.NAME.password`, then the variable
    /// `OFFHOOK_TRUNK_NAME_PASSWORD`.
    pub password_file: Option<PathBuf>,
    /// Asked for when registering.
    #[serde(rename = "expires_s", with = "seconds")]
    pub expires: Duration,
    /// User part of our Contact; absent: `user`.
    pub contact_user: Option<String>,
    /// User part of From on calls that we place; absent: `user`.
    pub from_user: Option<String>,
    /// Who else may call on this trunk, besides the addresses that its names resolve to.
    #[serde(with = "networks")]
    pub allowed_peers: Vec<IpNet>,
    /// The address this trunk reaches us at, when it is another one than `sip.public_address`.
    pub public_address: Option<IpAddr>,
    /// `crlf`, `options` or `off`.
    pub keepalive: Keepalive,
    /// Time between two keepalives.
    #[serde(rename = "keepalive_s", with = "seconds")]
    pub keepalive_interval: Duration,
    /// SRTP by SDES (RFC 4568): `off`, `optional` or `required`.
    pub srtp: Policy,
    /// Take and give SRTP keys over signalling that is not encrypted.
    pub srtp_over_clear_signalling: bool,
    /// `at-once`, `ring` or `early-media`.
    pub answer: Answering,
    /// How long `ring` and `early-media` last.
    #[serde(rename = "ring_ms", with = "super::ms")]
    pub ring: Duration,
    /// Session-Expires that we ask for; 0: no session timer unless the other side wants one.
    #[serde(rename = "session_expires_s", with = "seconds")]
    pub session_expires: Duration,
    /// Shortest Session-Expires that we take.
    #[serde(rename = "session_minimum_s", with = "seconds")]
    pub session_minimum: Duration,
    /// `auto`, `uac` or `uas`.
    pub session_refresher: Refresher,
    /// Reliable provisional responses (RFC 3262): `off`, `optional` or `required`.
    pub reliable_provisional: Policy,
    /// ISO 3166 code of the country whose number format callers' numbers have, as in `IL`; absent: numbers stay as they are.
    pub country: Option<String>,
    /// Which headers say who calls, most trusted first.
    pub identity_headers: Vec<IdentityHeader>,
    /// `windows-1255`, `windows-1251` or `windows-1252`.
    pub header_charset: HeaderCharset,
    /// `auto`, `refer` or `bridge`.
    pub transfer: Transferring,
    /// Calls at once on this trunk; absent: `sip.max_calls`.
    pub max_calls: Option<usize>,
    /// Certificates (PEM) to trust for TLS instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// Our certificate chain (PEM) for TLS.
    pub tls_certificate_file: Option<PathBuf>,
    /// Its private key (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// The name that the other side's certificate must have; absent: the registrar's or domain's.
    pub tls_server_name: Option<String>,
}

impl Default for Trunk {
    fn default() -> Self {
        Self {
            mode: TrunkMode::default(),
            domain: String::new(),
            registrar: None,
            outbound_proxy: None,
            servers: Vec::new(),
            transport: Transport::default(),
            user: String::new(),
            auth_id: None,
            password_file: None,
            expires: Duration::from_secs(600),
            contact_user: None,
            from_user: None,
            allowed_peers: Vec::new(),
            public_address: None,
            keepalive: Keepalive::default(),
            keepalive_interval: Duration::from_secs(25),
            srtp: Policy::default(),
            srtp_over_clear_signalling: false,
            answer: Answering::default(),
            ring: Duration::from_secs(1),
            session_expires: Duration::from_secs(1800),
            session_minimum: Duration::from_secs(90),
            session_refresher: Refresher::default(),
            reliable_provisional: Policy::Optional,
            country: None,
            identity_headers: vec![
                IdentityHeader::PAssertedIdentity,
                IdentityHeader::RemotePartyId,
                IdentityHeader::From,
            ],
            header_charset: HeaderCharset::default(),
            transfer: Transferring::default(),
            max_calls: None,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            tls_server_name: None,
        }
    }
}

impl Trunk {
    /// Whether the box registers there.
    pub fn registers(&self) -> bool {
        self.mode != TrunkMode::IpAuth
    }

    /// The name that goes with the password.
    pub fn auth_id(&self) -> &str {
        self.auth_id.as_deref().unwrap_or(&self.user)
    }
}
