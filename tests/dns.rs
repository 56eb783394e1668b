//! From a name to servers (RFC 3263), asked of a real small DNS server.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use offhook::config::{ServerEntry, Transport, Trunk};
use offhook::sip::{Query, Record, ResolveError, Resolved, Resolver, ResolverOptions, Source};

#[path = "support/dnsmasq.rs"]
mod dnsmasq;
use dnsmasq::Dnsmasq;

/// A domain as a provider has it: NAPTR for UDP and TLS, a pair of servers for each, one of them with both families.
const PROVIDER: [&str; 8] = [
    "naptr-record=provider.test,20,10,s,SIPS+D2T,,_sips._tcp.provider.test",
    "naptr-record=provider.test,10,20,s,SIP+D2U,,_sip._udp.second.provider.test",
    "naptr-record=provider.test,10,10,S,sip+d2u,,_sip._udp.first.provider.test",
    "srv-host=_sip._udp.first.provider.test,a.provider.test,5070,10,0",
    "srv-host=_sip._udp.first.provider.test,b.provider.test,5071,20,0",
    "srv-host=_sip._udp.second.provider.test,b.provider.test,5072,0,0",
    "host-record=a.provider.test,192.0.2.1,2001:db8::1",
    "host-record=b.provider.test,192.0.2.2",
];

fn resolver(nameservers: &[SocketAddr]) -> Resolver {
    Resolver::new(ResolverOptions { nameservers: nameservers.to_vec(), prefer_ipv6: false, seed: 1 })
}

fn query(server: &str, transport: Transport) -> Query {
    Query::to(server.parse().unwrap(), transport)
}

fn addresses(resolved: &Resolved) -> Vec<String> {
    resolved.targets.iter().map(|target| target.address.to_string()).collect()
}

/// A name server that takes questions and never answers.
fn black_hole() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn naptr_leads_to_srv_and_srv_to_all_addresses_in_their_order() {
    let dns = Dnsmasq::start(&PROVIDER);
    let before = Instant::now();
    let found = resolver(&[dns.address]).targets(&query("provider.test", Transport::Udp)).await.unwrap();
    let wanted = ["192.0.2.1:5070", "[2001:db8::1]:5070", "192.0.2.2:5071", "192.0.2.2:5072"];
    assert_eq!(addresses(&found), wanted);
    assert_eq!((found.source, found.stale), (Source::Naptr, false));
    assert!(found.targets.iter().all(|target| target.name == "provider.test" && target.transport == Transport::Udp));
    let life = found.valid_until - before;
    assert!((59..=61).contains(&life.as_secs()), "the TTL of the records is 60 s: {life:?}");
}

#[tokio::test]
async fn a_box_on_ipv6_tries_ipv6_addresses_of_a_host_first() {
    let dns = Dnsmasq::start(&PROVIDER);
    let resolver =
        Resolver::new(ResolverOptions { nameservers: vec![dns.address], prefer_ipv6: true, ..Default::default() });
    let found = resolver.targets(&query("a.provider.test:5060", Transport::Udp)).await.unwrap();
    assert_eq!(addresses(&found), ["[2001:db8::1]:5060", "192.0.2.1:5060"]);
    assert_eq!(found.source, Source::Host);
}

#[tokio::test]
async fn the_configured_transport_wins_over_naptr_that_offers_another() {
    let dns = Dnsmasq::start(&[
        "naptr-record=tls.test,10,10,s,SIPS+D2T,,_sips._tcp.tls.test",
        "srv-host=_sips._tcp.tls.test,a.tls.test,5061,0,0",
        "srv-host=_sip._tcp.tls.test,b.tls.test,5060,0,0",
        "host-record=a.tls.test,192.0.2.1",
        "host-record=b.tls.test,192.0.2.2",
        "host-record=tls.test,192.0.2.3",
    ]);
    let resolver = resolver(&[dns.address]);
    let tls = resolver.targets(&query("tls.test", Transport::Tls)).await.unwrap();
    assert_eq!((addresses(&tls), tls.source), (vec!["192.0.2.1:5061".to_owned()], Source::Naptr));
    let tcp = resolver.targets(&query("tls.test", Transport::Tcp)).await.unwrap();
    assert_eq!((addresses(&tcp), tcp.source), (vec!["192.0.2.2:5060".to_owned()], Source::Srv));
    let udp = resolver.targets(&query("tls.test", Transport::Udp)).await.unwrap();
    assert_eq!((addresses(&udp), udp.source), (vec!["192.0.2.3:5060".to_owned()], Source::Host));
}

#[tokio::test]
async fn an_address_or_a_port_needs_no_srv_and_the_port_follows_the_transport() {
    let dns = Dnsmasq::start(&[
        "srv-host=_sip._udp.pbx.test,elsewhere.test,5099,0,0",
        "host-record=elsewhere.test,192.0.2.99",
        "host-record=pbx.test,192.0.2.5",
    ]);
    let resolver = resolver(&[dns.address]);
    for (server, transport, address, source) in [
        ("pbx.test", Transport::Udp, "192.0.2.99:5099", Source::Srv),
        ("pbx.test:5070", Transport::Udp, "192.0.2.5:5070", Source::Host),
        ("pbx.test", Transport::Tls, "192.0.2.5:5061", Source::Host),
        ("192.0.2.7", Transport::Udp, "192.0.2.7:5060", Source::Address),
        ("192.0.2.7", Transport::Tls, "192.0.2.7:5061", Source::Address),
        ("[2001:db8::7]:5080", Transport::Tcp, "[2001:db8::7]:5080", Source::Address),
    ] {
        let found = resolver.targets(&query(server, transport)).await.unwrap();
        assert_eq!((addresses(&found), found.source), (vec![address.to_owned()], source), "{server}");
    }
}

#[tokio::test]
async fn the_servers_of_the_configuration_replace_those_of_the_dns() {
    let dns = Dnsmasq::start(&PROVIDER);
    let servers = ["192.0.2.9:5099;priority=20", "b.provider.test;priority=10", "[2001:db8::9];priority=30"];
    let trunk = Trunk {
        domain: "provider.test".into(),
        servers: servers.map(String::from).to_vec(),
        transport: Transport::Tls,
        ..Trunk::default()
    };
    let query = Query::of_trunk(&trunk).unwrap();
    let found = resolver(&[dns.address]).targets(&query).await.unwrap();
    assert_eq!(addresses(&found), ["192.0.2.2:5061", "192.0.2.9:5099", "[2001:db8::9]:5061"]);
    assert_eq!(found.source, Source::Configuration);
    assert!(found.targets.iter().all(|target| target.name == "provider.test"), "the certificate is the domain's");
}

#[test]
fn a_trunks_first_hop_is_its_proxy_else_its_registrar_else_its_domain() {
    let mut trunk = Trunk { domain: "provider.test".into(), ..Trunk::default() };
    let hop = |trunk: &Trunk| Query::of_trunk(trunk).unwrap();
    assert_eq!((hop(&trunk).server.to_string(), hop(&trunk).name), ("provider.test".into(), "provider.test".into()));
    trunk.registrar = Some("reg.provider.test:5080".into());
    assert_eq!(hop(&trunk).server.to_string(), "reg.provider.test:5080");
    trunk.servers = vec!["192.0.2.1".into()];
    trunk.outbound_proxy = Some("sbc.test".into());
    assert_eq!((hop(&trunk).server.to_string(), hop(&trunk).servers), ("sbc.test".into(), Vec::<ServerEntry>::new()));
    trunk.tls_server_name = Some("cert.test".into());
    assert_eq!(hop(&trunk).name, "cert.test");
    trunk.outbound_proxy = Some("sip:sbc.test".into());
    assert!(Query::of_trunk(&trunk).unwrap_err().to_string().contains("leave out \"sip:\""));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_tried_last_until_it_answers() {
    let dns = Dnsmasq::start(&PROVIDER);
    let resolver = resolver(&[dns.address]);
    let query = query("provider.test", Transport::Udp);
    let first = resolver.targets(&query).await.unwrap();
    resolver.penalise(&first.targets[0]);
    resolver.penalise(&first.targets[1]);
    let second = resolver.clone().targets(&query).await.unwrap();
    let after_two = ["192.0.2.2:5071", "192.0.2.2:5072", "192.0.2.1:5070", "[2001:db8::1]:5070"];
    assert_eq!(addresses(&second), after_two);
    assert!(second.valid_until < Instant::now() + Duration::from_secs(31), "the order changes when the penalty ends");
    resolver.forgive(&first.targets[0]);
    resolver.forgive(&first.targets[1]);
    assert_eq!(resolver.targets(&query).await.unwrap().targets, first.targets);
}

#[tokio::test]
async fn a_name_that_is_not_there_has_no_record_or_offers_nothing_is_told_apart() {
    let dns = Dnsmasq::start(&["txt-record=words.test,none", "srv-host=_sip._tcp.closed.test"]);
    let resolver = resolver(&[dns.address]);
    let refused = async |name: &str, transport| resolver.targets(&query(name, transport)).await.unwrap_err();
    let no_name = ResolveError::NoSuchName { name: "nowhere.test".into(), record: Record::A };
    assert_eq!(refused("nowhere.test", Transport::Udp).await, no_name);
    let no_record = ResolveError::NoRecord { name: "words.test".into(), record: Record::A };
    assert_eq!(refused("words.test", Transport::Udp).await, no_record);
    let not_offered = ResolveError::NotOffered { name: "_sip._tcp.closed.test".into() };
    assert_eq!(refused("closed.test", Transport::Tcp).await, not_offered);
    assert!(matches!(refused("outside.example", Transport::Udp).await, ResolveError::Failed { .. }), "dnsmasq refuses");
}

#[tokio::test]
async fn servers_of_which_one_has_no_address_are_the_others() {
    let dns = Dnsmasq::start(&[
        "srv-host=_sip._udp.half.test,gone.half.test,5060,0,0",
        "srv-host=_sip._udp.half.test,there.half.test,5060,1,0",
        "host-record=there.half.test,192.0.2.4",
    ]);
    let found = resolver(&[dns.address]).targets(&query("half.test", Transport::Udp)).await.unwrap();
    assert_eq!(addresses(&found), ["192.0.2.4:5060"]);
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_a_datagram_comes_over_tcp() {
    let records: Vec<_> = (0..16)
        .flat_map(|n| {
            let host = format!("a-server-with-a-really-long-name-{n}.large.test");
            [format!("srv-host=_sip._udp.large.test,{host},5060,{n},0"), format!("host-record={host},192.0.2.{n}")]
        })
        .collect();
    let dns = Dnsmasq::start(&records.iter().map(String::as_str).collect::<Vec<_>>());
    let found = resolver(&[dns.address]).targets(&query("large.test", Transport::Udp)).await.unwrap();
    assert_eq!(addresses(&found), (0..16).map(|n| format!("192.0.2.{n}:5060")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dns_that_never_answers_costs_four_seconds_at_most_and_then_nothing_for_a_while() {
    let (_socket, address) = black_hole();
    let resolver = resolver(&[address]);
    let query = query("provider.test", Transport::Udp);
    let asked = Instant::now();
    let error = resolver.targets(&query).await.unwrap_err();
    assert_eq!(error, ResolveError::NoAnswer { name: "provider.test".into(), record: Record::A });
    let taken = asked.elapsed();
    assert!(taken < Duration::from_millis(4300), "{taken:?}");
    let asked = Instant::now();
    resolver.targets(&query).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_millis(50), "it is not asked again at once");
    let numeric = resolver.targets(&Query::to("192.0.2.1".parse().unwrap(), Transport::Udp)).await.unwrap();
    assert_eq!(addresses(&numeric), ["192.0.2.1:5060"]);
}

#[tokio::test]
async fn the_second_name_server_is_asked_when_the_first_is_silent() {
    let (_socket, silent) = black_hole();
    let dns = Dnsmasq::start(&PROVIDER);
    let found = resolver(&[silent, dns.address]).targets(&query("provider.test", Transport::Udp)).await.unwrap();
    assert_eq!(found.targets.len(), 4);
}

#[tokio::test]
async fn when_the_dns_dies_the_last_answer_goes_on_and_a_new_one_replaces_it() {
    let dns = Dnsmasq::start(&PROVIDER);
    let resolver = resolver(&[dns.address]);
    let query = query("provider.test", Transport::Udp);
    let alive = resolver.targets(&query).await.unwrap();
    drop(dns);
    resolver.refresh();
    let asked = Instant::now();
    let dead = resolver.targets(&query).await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(1900), "{:?}", asked.elapsed());
    assert_eq!((dead.targets, dead.stale, dead.source), (alive.targets, true, Source::Naptr));
    assert!(dead.valid_until <= asked + Duration::from_secs(35), "it is asked again soon");
    let asked = Instant::now();
    assert!(resolver.targets(&query).await.unwrap().stale);
    assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
}

#[test]
fn a_trunk_named_by_addresses_is_known_without_a_look_up() {
    let addresses = |domain: &str, servers: &[&str]| {
        let servers = servers.iter().map(|server| (*server).to_owned()).collect();
        let trunk = Trunk { domain: domain.to_owned(), servers, ..Trunk::default() };
        let query = Query::of_trunk(&trunk).unwrap();
        query.literal_addresses().map(|address| address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(addresses("192.0.2.1", &[]), ["192.0.2.1"]);
    assert_eq!(
        addresses("pbx.example", &["192.0.2.2:5070", "[2001:db8::1]", "sip.example"]),
        ["192.0.2.2", "2001:db8::1"]
    );
    assert!(addresses("sip.example", &[]).is_empty());
}
