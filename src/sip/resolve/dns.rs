//! Questions to the DNS, one at a time and uncached; the only file that knows which crate asks them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::order::Ranked;
use super::{Record, ResolveError};

/// Where the system's name servers stand.
const SYSTEM: &str = "/etc/resolv.conf";
/// A question is put again after so long; with one repetition it ends within the time that a lookup has.
const REPETITION: Duration = Duration::from_millis(900);
/// Records of one answer that are used.
const RECORDS: usize = 16;

/// The records of one kind under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Records {
    Addresses(Vec<IpAddr>),
    Servers(Vec<Ranked>),
    Services(Vec<Service>),
}

/// A NAPTR record that leads to SRV records (RFC 3263 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// Order and preference.
    pub(super) rank: (u16, u16),
    /// As in `SIP+D2U`, in capitals.
    pub(super) service: String,
    /// Where the SRV records are.
    pub(super) replacement: String,
}

/// Name servers. Those of the system are read again when their file changes, as it does when a box gets its address after its start.
#[derive(Debug)]
pub(super) struct Dns {
    nameservers: Vec<SocketAddr>,
    client: Mutex<Option<(Option<SystemTime>, TokioResolver)>>,
}

impl Dns {
    pub(super) fn new(nameservers: Vec<SocketAddr>) -> Self {
        Self { nameservers, client: Mutex::new(None) }
    }

    /// Begins anew, with fresh sockets.
    pub(super) fn restart(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Puts one question, and gives the records and how long they are good for, or for how long there are none.
    pub(super) async fn ask(
        &self,
        name: &str,
        record: Record,
    ) -> Result<(Records, Duration), (ResolveError, Duration)> {
        let failed = |error| (error, Duration::ZERO);
        let client = self.client().map_err(|reason| failed(ResolveError::NoNameserver { reason }))?;
        let asked = question(name).map_err(|()| failed(ResolveError::BadName { name: name.to_owned() }))?;
        let answer = client.lookup(asked, kind(record)).await.map_err(|error| refusal(name, record, &error))?;
        let ttl = answer.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let data = answer.answers().iter().map(|record| &record.data);
        let records = match record {
            Record::A | Record::Aaaa => Records::Addresses(data.filter_map(address).take(RECORDS).collect()),
            Record::Srv => Records::Servers(data.filter_map(server).take(RECORDS).collect()),
            Record::Naptr => Records::Services(data.filter_map(service).take(RECORDS).collect()),
        };
        Ok((records, Duration::from_secs(ttl.into())))
    }

    fn client(&self) -> Result<TokioResolver, String> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match self.nameservers.is_empty() {
            true => std::fs::metadata(SYSTEM).and_then(|file| file.modified()).ok(),
            false => None,
        };
        if let Some((of, client)) = &*client
            && *of == changed
        {
            return Ok(client.clone());
        }
        let fresh = self.build().map_err(|error| error.to_string())?;
        *client = Some((changed, fresh.clone()));
        Ok(fresh)
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let (config, mut options) = match self.nameservers.is_empty() {
            true => read_system_conf()?,
            false => {
                let servers = self.nameservers.iter().copied().map(name_server).collect();
                (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
            }
        };
        options.timeout = REPETITION;
        options.attempts = 1;
        options.cache_size = 0;
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

/// A name with a dot is a whole one; one without is looked for in the system's search domains.
fn question(name: &str) -> Result<Name, ()> {
    let mut asked = Name::from_ascii(name).map_err(drop)?;
    asked.set_fqdn(name.contains('.'));
    Ok(asked)
}

fn kind(record: Record) -> RecordType {
    match record {
        Record::A => RecordType::A,
        Record::Aaaa => RecordType::AAAA,
        Record::Srv => RecordType::SRV,
        Record::Naptr => RecordType::NAPTR,
    }
}

fn text(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

fn server(data: &RData) -> Option<Ranked> {
    let RData::SRV(srv) = data else { return None };
    Some(Ranked { priority: srv.priority, weight: srv.weight, host: text(&srv.target), port: srv.port })
}

fn service(data: &RData) -> Option<Service> {
    let RData::NAPTR(naptr) = data else { return None };
    // RFC 3263 knows the flag "s" only, and no regular expressions.
    let used = naptr.flags.eq_ignore_ascii_case(b"s") && naptr.regexp.is_empty() && !naptr.replacement.is_root();
    used.then(|| Service {
        rank: (naptr.order, naptr.preference),
        service: String::from_utf8_lossy(&naptr.services).to_ascii_uppercase(),
        replacement: text(&naptr.replacement),
    })
}

/// Why there are no records, and how long that is to be believed; nought where the DNS did not say.
fn refusal(name: &str, record: Record, error: &NetError) -> (ResolveError, Duration) {
    let name = name.to_owned();
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let ttl = Duration::from_secs(none.negative_ttl.unwrap_or_default().into());
            match none.response_code {
                ResponseCode::NXDomain => (ResolveError::NoSuchName { name, record }, ttl),
                _ => (ResolveError::NoRecord { name, record }, ttl),
            }
        }
        NetError::Timeout => (ResolveError::NoAnswer { name, record }, Duration::ZERO),
        other => (ResolveError::Failed { name, record, reason: other.to_string() }, Duration::ZERO),
    }
}
