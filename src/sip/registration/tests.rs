//! The registration machine in virtual time, against a registrar that is a few lines of test.

use super::*;
use crate::privacy::Secret;
use crate::sip::digest::{Challenger, Verdict};

const HERE: &str = "192.0.2.10:5060";

fn options() -> RegistrationOptions {
    RegistrationOptions {
        registers: true,
        uri: "sip:example.org".into(),
        contact_user: "620".into(),
        instance: "urn:uuid:00000000-0000-5000-8000-000000000001".into(),
        expires: Duration::from_secs(600),
        keepalive: Keepalive::Off,
        keepalive_interval: Duration::from_secs(25),
        learns_address: true,
        seed: 1,
    }
}

fn target(number: u8) -> Target {
    Target { address: SocketAddr::from(([198, 51, 100, number], 5060)), transport: Transport::Udp, name: "x".into() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ok(expires: u64) -> Response {
    Response {
        status: 200,
        contacts: vec![format!("<sip:620@{HERE}>;expires={expires}")],
        seen_as: Some(HERE.parse().unwrap()),
        ..Response::default()
    }
}

fn status(status: u16) -> Response {
    Response { status, ..Response::default() }
}

/// A machine with its clock.
struct Line {
    machine: Registration,
    start: Instant,
    now: Instant,
    shown: SocketAddr,
    targets: Vec<Target>,
    /// Outputs other than those that the harness carries out.
    said: Vec<Output>,
}

impl Line {
    fn with(options: RegistrationOptions, targets: &[u8]) -> Self {
        Self::with_credentials(options, targets, Some("secret"))
    }

    fn with_credentials(options: RegistrationOptions, targets: &[u8], password: Option<&str>) -> Self {
        let now = Instant::now();
        let credentials = password.map(|word| Arc::new(Mutex::new(Credentials::new("620", Secret::new(word)))));
        let machine = Registration::new(now, options, credentials);
        let targets = targets.iter().map(|number| target(*number)).collect();
        Self { machine, start: now, now, shown: HERE.parse().unwrap(), targets, said: Vec::new() }
    }

    fn input(&mut self, input: Input) {
        self.machine.handle_input(self.now, input);
    }

    /// Lets time pass until a request is sent, resolving and reaching on the way; none when `limit` passes first.
    fn request_within(&mut self, limit: Duration) -> Option<Request> {
        let end = self.now + limit;
        loop {
            while let Some(output) = self.machine.poll() {
                match output {
                    Output::Send(request) => return Some(request),
                    Output::Resolve if self.targets.is_empty() => self.input(Input::NotResolved),
                    Output::Resolve => self.input(Input::Targets(self.targets.clone())),
                    Output::Reach { attempt, .. } => self.input(Input::Reached { attempt, shown: self.shown }),
                    Output::SeenAs { address, .. } => {
                        self.shown = address;
                        self.said.push(output);
                    }
                    other => self.said.push(other),
                }
            }
            let next = self.machine.poll_timeout().filter(|next| *next <= end)?;
            self.now = self.now.max(next);
            self.machine.handle_timeout(self.now);
        }
    }

    fn request(&mut self) -> Request {
        self.request_within(seconds(3600)).expect("a request within an hour")
    }

    fn answer(&mut self, request: &Request, response: Response) {
        self.input(Input::Response { attempt: request.attempt, response });
    }

    /// Lets time pass; nothing may be sent.
    fn quiet_for(&mut self, time: Duration) {
        let end = self.now + time;
        let request = self.request_within(time);
        assert_eq!(request, None, "after {:?}", self.now - self.start);
        self.now = end;
    }

    fn up(&mut self) {
        let request = self.request();
        self.answer(&request, ok(600));
        self.quiet_for(Duration::ZERO);
        assert!(matches!(self.said.last(), Some(Output::Up(_))), "{:?}", self.said);
        self.said.clear();
    }

    fn downs(&self) -> Vec<&Why> {
        self.said.iter().filter_map(|output| if let Output::Down(why) = output { Some(why) } else { None }).collect()
    }

    fn ups(&self) -> Vec<&Up> {
        self.said.iter().filter_map(|output| if let Output::Up(up) = output { Some(up) } else { None }).collect()
    }
}

/// A registrar that checks passwords.
struct Registrar {
    challenger: Challenger,
    password: Secret,
    requests: usize,
}

impl Registrar {
    fn new(line: &Line) -> Self {
        Self { challenger: Challenger::new("example.org", line.now), password: Secret::new("secret"), requests: 0 }
    }

    fn answer(&mut self, line: &mut Line, request: &Request) {
        self.requests += 1;
        let shown = request.authorization.iter().map(|(_, value)| value.as_str());
        let uri = "sip:example.org";
        let verdict = self.challenger.verify(line.now, "REGISTER", uri, shown, "620", &self.password);
        let challenge = |challenges: [String; 2]| Response {
            status: 401,
            authentication: challenges.into_iter().map(|value| ("WWW-Authenticate".to_owned(), value)).collect(),
            ..Response::default()
        };
        let response = match verdict {
            Verdict::Accepted => ok(120),
            Verdict::Stale => challenge(self.challenger.challenge(line.now, true)),
            Verdict::Absent | Verdict::Wrong => challenge(self.challenger.challenge(line.now, false)),
        };
        line.answer(request, response);
    }
}

#[test]
fn a_registration_says_who_we_are_and_for_how_long() {
    let mut line = Line::with(options(), &[1]);
    let request = line.request();
    let contact = "<sip:620@192.0.2.10:5060>;+sip.instance=\"<urn:uuid:00000000-0000-5000-8000-000000000001>\";reg-id=1;expires=600";
    assert_eq!(request.contacts, [contact]);
    assert_eq!((request.kind, request.expires, request.sequence), (Kind::Register, Some(600), 1));
    let response =
        Response { service_route: vec!["<sip:edge;lr>".into()], associated_uris: vec!["<sip:1@x>".into()], ..ok(600) };
    line.answer(&request, response);
    line.quiet_for(seconds(1));
    let up = Up {
        target: target(1),
        until: Some(line.start + seconds(600)),
        service_route: vec!["<sip:edge;lr>".into()],
        associated_uris: vec!["<sip:1@x>".into()],
    };
    assert_eq!(line.said, [Output::Up(up)]);
}

#[test]
fn a_refresh_takes_one_request_while_the_nonce_lives() {
    let mut line = Line::with(options(), &[1]);
    let mut registrar = Registrar::new(&line);
    for _ in 0..2 {
        let request = line.request();
        registrar.answer(&mut line, &request);
    }
    assert_eq!((registrar.requests, line.request_within(Duration::ZERO)), (2, None));
    let counts: Vec<String> = (0..3)
        .map(|_| {
            let before = line.now;
            let request = line.request();
            let waited = line.now - before;
            assert!(seconds(80) < waited && waited < seconds(100), "{waited:?} of 120 s");
            registrar.answer(&mut line, &request);
            let value = &request.authorization[0].1;
            value[value.find("nc=").unwrap() + 3..][..8].to_owned()
        })
        .collect();
    assert_eq!(counts, ["00000002", "00000003", "00000004"]);
    // The nonce lives 300 s: one round trip more.
    let before = registrar.requests;
    let request = line.request();
    registrar.answer(&mut line, &request);
    let request = line.request_within(Duration::ZERO).expect("the answer to the new nonce");
    registrar.answer(&mut line, &request);
    assert_eq!((registrar.requests - before, line.request_within(seconds(60))), (2, None));
    assert!(line.downs().is_empty());
}

#[test]
fn refreshes_come_early_enough_and_with_jitter() {
    for (granted, least, most) in [(3600, 2430, 2970), (120, 81, 99), (60, 27, 33), (10, 4, 6)] {
        let waits: Vec<Duration> = (0..20)
            .map(|seed| {
                let mut line = Line::with(RegistrationOptions { seed, ..options() }, &[1]);
                let request = line.request();
                line.answer(&request, ok(granted));
                line.request();
                line.now - line.start
            })
            .collect();
        assert!(waits.iter().all(|wait| seconds(least) <= *wait && *wait <= seconds(most)), "{granted}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{granted}: no jitter");
    }
}

#[test]
fn what_the_registrar_says_of_our_contact_is_what_counts() {
    let granted = |contacts: &[&str], expires: Option<u64>| {
        let mut line = Line::with(options(), &[1]);
        let request = line.request();
        let contacts = contacts.iter().map(|contact| (*contact).to_owned()).collect();
        line.answer(&request, Response { contacts, expires: expires.map(seconds), ..ok(1) });
        line.quiet_for(Duration::ZERO);
        (line.ups()[0].until.unwrap() - line.start).as_secs()
    };
    assert_eq!(granted(&["<sip:620@192.0.2.10:5060>;expires=120"], Some(60)), 120);
    assert_eq!(
        granted(&["<sip:620@192.0.2.99>;expires=50", "<sip:620@192.0.2.10:5060;ob>;q=1;EXPIRES=\"70\""], None),
        70
    );
    let instance = "<sip:elsewhere>;expires=80;+sip.instance=\"<urn:uuid:00000000-0000-5000-8000-000000000001>\"";
    assert_eq!(granted(&["<sip:620@192.0.2.99>;expires=50", instance], None), 80);
    assert_eq!(granted(&["<sip:620@203.0.113.1>;expires=90"], None), 90, "rewritten on the way");
    assert_eq!(granted(&["<sip:a@b>;expires=50", "<sip:c@d>;expires=40"], Some(30)), 30);
    assert_eq!(granted(&[], Some(45)), 45);
    assert_eq!(granted(&[], None), 600);
    assert_eq!(granted(&["<sip:620@192.0.2.10:5060>;expires=x"], None), 600);
    assert_eq!(granted(&["<sip:620@192.0.2.10:5060>;expires=99999999999"], None), 24 * 3600);
}

#[test]
fn too_brief_a_registration_is_asked_for_longer_once_and_ever_after() {
    let mut line = Line::with(options(), &[1]);
    let request = line.request();
    line.answer(&request, Response { min_expires: Some(seconds(900)), ..status(423) });
    let request = line.request_within(Duration::ZERO).expect("at once");
    assert_eq!(request.expires, Some(900));
    line.answer(&request, ok(900));
    assert_eq!(line.request().expires, Some(900));
    assert!(line.downs().is_empty());
}

#[test]
fn a_registrar_that_cannot_be_pleased_is_not_asked_in_a_circle() {
    for minimum in [None, Some(60), Some(1_000_000)] {
        let mut line = Line::with(options(), &[1]);
        let request = line.request();
        line.answer(&request, Response { min_expires: minimum.map(seconds), ..status(423) });
        line.quiet_for(seconds(280));
        assert_eq!(line.downs(), [&Why::Refused(423)]);
    }
}

#[test]
fn a_wrong_password_is_shown_once_and_then_every_five_minutes_to_an_hour() {
    let mut line = Line::with(options(), &[1]);
    let mut registrar = Registrar::new(&line);
    registrar.password = Secret::new("another");
    let mut waits = Vec::new();
    for _ in 0..6 {
        let before = line.now;
        let request = line.request();
        waits.push((line.now - before).as_secs());
        registrar.answer(&mut line, &request);
        let request = line.request_within(Duration::ZERO).expect("the answer");
        registrar.answer(&mut line, &request);
        assert_eq!(line.request_within(Duration::ZERO), None);
    }
    assert_eq!(registrar.requests, 12);
    let expected = [0, 300, 600, 1200, 2400, 3600];
    for (wait, expected) in waits.iter().zip(expected) {
        assert!(wait.abs_diff(expected) <= expected / 20, "{waits:?}");
    }
    assert_eq!(line.downs(), [&Why::WrongPassword], "said once");
    registrar.password = Secret::new("secret");
    let request = line.request_within(seconds(2 * 3600)).unwrap();
    registrar.answer(&mut line, &request);
    let request = line.request_within(Duration::ZERO).unwrap();
    registrar.answer(&mut line, &request);
    line.quiet_for(seconds(1));
    assert_eq!(line.ups().len(), 1);
}

#[test]
fn a_refusal_is_taken_for_an_answer() {
    for code in [302, 400, 403, 404, 501, 600] {
        let mut line = Line::with(options(), &[1, 2]);
        let request = line.request();
        line.answer(&request, status(code));
        line.quiet_for(seconds(280));
        assert_eq!(line.said, [Output::Down(Why::Refused(code))]);
        assert!(line.request_within(seconds(60)).is_some());
    }
}

#[test]
fn without_a_password_a_challenge_is_a_refusal() {
    let mut line = Line::with_credentials(options(), &[1], None);
    let mut registrar = Registrar::new(&line);
    let request = line.request();
    registrar.answer(&mut line, &request);
    line.quiet_for(seconds(280));
    assert_eq!(line.downs(), [&Why::NoPassword]);
}

#[test]
fn an_algorithm_that_is_not_known_is_named() {
    let mut line = Line::with(options(), &[1]);
    let request = line.request();
    let challenge = "Digest realm=\"x\", nonce=\"y\", algorithm=AKAv2-MD5".to_owned();
    line.answer(&request, Response { authentication: vec![("WWW-Authenticate".into(), challenge)], ..status(401) });
    line.quiet_for(seconds(280));
    assert_eq!(line.downs(), [&Why::Unsupported(vec!["AKAv2-MD5".into()])]);
}

#[test]
fn a_server_that_is_out_of_service_gives_way_to_the_next_at_once() {
    for code in [408, 480, 500, 503, 504] {
        let mut line = Line::with(options(), &[1, 2]);
        let request = line.request();
        assert_eq!(request.target, target(1));
        line.answer(&request, status(code));
        let request = line.request_within(Duration::ZERO).expect("at once");
        assert_eq!(request.target, target(2), "{code}");
        assert!(line.said.contains(&Output::Penalise(target(1))));
        line.answer(&request, ok(600));
        // It stays with the one that has the binding.
        assert_eq!(line.request().target, target(2));
        assert!(line.downs().is_empty());
    }
}

#[test]
fn a_server_that_says_nothing_has_four_seconds() {
    let mut line = Line::with(options(), &[1, 2]);
    line.request();
    let request = line.request();
    assert_eq!((request.target, line.now - line.start), (target(2), seconds(4)));
    assert_eq!(line.said, [Output::Discard(target(1)), Output::Abandon { attempt: 1 }, Output::Penalise(target(1))]);
}

#[test]
fn a_connection_has_two_seconds() {
    let mut line = Line::with(options(), &[1, 2]);
    let reached = |line: &mut Line| loop {
        match line.machine.poll() {
            Some(Output::Reach { target, .. }) => return target,
            Some(Output::Resolve) => line.input(Input::Targets(line.targets.clone())),
            Some(_) => {}
            None => {
                line.now = line.machine.poll_timeout().unwrap();
                line.machine.handle_timeout(line.now);
            }
        }
    };
    assert_eq!(reached(&mut line), target(1));
    assert_eq!((reached(&mut line), line.now - line.start), (target(2), seconds(2)));
    // One that is refused takes no time.
    line.input(Input::Failed { attempt: 2 });
    assert_eq!((reached(&mut line), line.now - line.start > seconds(2)), (target(1), true));
    assert_eq!(line.machine.down, Some(Why::Unreachable));
}

#[test]
fn retry_after_is_obeyed_within_reason() {
    for (asked, least, most) in [(60, 60, 62), (1_000_000, 600, 602)] {
        let mut line = Line::with(options(), &[1, 2]);
        for _ in 0..2 {
            let request = line.request_within(Duration::ZERO).unwrap();
            line.answer(&request, Response { retry_after: Some(seconds(asked)), ..status(503) });
        }
        line.request();
        let waited = line.now - line.start;
        assert!(seconds(least) <= waited && waited <= seconds(most), "{waited:?}");
        assert_eq!(line.downs(), [&Why::Unserved(503)]);
    }
    // One that did not ask for peace is tried all the same.
    let mut line = Line::with(options(), &[1, 2]);
    let request = line.request();
    line.answer(&request, Response { retry_after: Some(seconds(60)), ..status(503) });
    let request = line.request();
    line.answer(&request, status(500));
    let request = line.request();
    assert_eq!((request.target, line.now - line.start <= seconds(4)), (target(2), true));
}

#[test]
fn a_server_that_is_there_and_does_not_serve_is_asked_ever_less_often() {
    let mut line = Line::with(options(), &[1]);
    let mut times = Vec::new();
    for _ in 0..60 {
        let request = line.request();
        times.push(line.now);
        line.answer(&request, status(503));
    }
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[..18].iter().all(|pause| *pause <= seconds(5)), "{pauses:?}");
    assert!(pauses[40..].iter().all(|pause| (seconds(25)..=seconds(30)).contains(pause)), "{pauses:?}");
    assert_eq!(line.downs(), [&Why::Unserved(503)]);
}

/// When requests are sent while nothing is answered, counted with their retransmissions (RFC 3261 §17.1.2: timer E).
fn transmissions(targets: &[u8], time: Duration) -> Vec<(Duration, u8)> {
    let mut line = Line::with(options(), targets);
    line.up();
    let lost_at = line.now + seconds(3600);
    let mut sent = Vec::new();
    while line.now < lost_at + time {
        let request = line.request();
        let SocketAddr::V4(address) = request.target.address else { panic!() };
        let until = line.machine.poll_timeout().unwrap();
        for after in [0, 500, 1500, 3500].map(Duration::from_millis) {
            if line.now + after < until {
                sent.push((line.now + after - line.start, address.ip().octets()[3]));
            }
        }
    }
    sent
}

#[test]
fn an_unreachable_registrar_hears_from_us_within_five_seconds_of_its_return() {
    for targets in [&[1][..], &[1, 2], &[1, 2, 3]] {
        let sent = transmissions(targets, seconds(7200));
        for target in targets {
            let times: Vec<Duration> = sent.iter().filter(|(_, to)| to == target).map(|(time, _)| *time).collect();
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            let longest = gaps.skip_while(|gap| *gap > seconds(60)).max().unwrap();
            assert!(longest <= Duration::from_millis(4500), "{targets:?}: {longest:?}");
        }
        let rate = sent.len() as f64 / (sent.last().unwrap().0 - sent[0].0).as_secs_f64();
        assert!(rate < 2.0, "{rate} requests a second");
    }
}

#[test]
fn names_that_do_not_resolve_are_looked_up_again_soon_and_known_targets_are_used_meanwhile() {
    let mut line = Line::with(options(), &[]);
    line.quiet_for(seconds(60));
    assert_eq!(line.downs(), [&Why::NotResolved]);
    line.targets = vec![target(1)];
    let before = line.now;
    let request = line.request();
    assert!(line.now - before <= RETRY);
    line.answer(&request, ok(600));
    line.targets.clear();
    assert_eq!(line.request().target, target(1));
    // A look-up that says nothing at all.
    let mut silent = Line::with(options(), &[1]);
    silent.up();
    silent.now += seconds(500);
    silent.machine.handle_timeout(silent.now);
    assert_eq!(silent.machine.poll(), Some(Output::Resolve));
    assert_eq!(silent.request().target, target(1));
    assert_eq!(silent.now - silent.start, seconds(502));
}

#[test]
fn a_new_address_seen_by_the_registrar_becomes_the_contact_and_the_old_one_goes() {
    let mut line = Line::with(options(), &[1]);
    line.up();
    let request = line.request();
    let public: SocketAddr = "203.0.113.7:40000".parse().unwrap();
    line.answer(&request, Response { seen_as: Some(public), ..ok(600) });
    let request = line.request_within(Duration::ZERO).expect("at once");
    assert!(line.said.contains(&Output::SeenAs { target: target(1), address: public }));
    assert!(request.contacts[0].starts_with("<sip:620@203.0.113.7:40000>;+sip.instance="), "{request:?}");
    assert_eq!(request.contacts[1..], ["<sip:620@192.0.2.10:5060>;expires=0"]);
    line.answer(&request, Response { seen_as: Some(public), ..ok(600) });
    line.quiet_for(seconds(300));
    assert_eq!(line.request().contacts.len(), 1);
}

#[test]
fn a_challenge_already_tells_the_address() {
    let mut line = Line::with(options(), &[1]);
    let request = line.request();
    let public: SocketAddr = "203.0.113.7:40000".parse().unwrap();
    let challenge = "Digest realm=\"x\", nonce=\"y\"".to_owned();
    let authentication = vec![("WWW-Authenticate".into(), challenge)];
    line.answer(&request, Response { seen_as: Some(public), authentication, ..status(401) });
    let request = line.request_within(Duration::ZERO).unwrap();
    assert_eq!(request.contacts.len(), 1);
    assert!(request.contacts[0].contains("@203.0.113.7:40000>"), "{request:?}");
    line.answer(&request, Response { seen_as: Some(public), ..ok(600) });
    line.quiet_for(seconds(300));
}

#[test]
fn a_nat_that_shows_another_port_each_time_does_not_make_us_spin() {
    let mut line = Line::with(options(), &[1]);
    let mut sent = 0;
    for port in 40_000.. {
        let Some(request) = line.request_within(seconds(60)) else { break };
        sent += 1;
        let seen_as = Some(SocketAddr::from(([203, 0, 113, 7], port)));
        line.answer(&request, Response { seen_as, ..ok(600) });
    }
    assert_eq!(sent, 3);
}

#[test]
fn a_configured_address_is_not_overruled() {
    let mut line = Line::with(RegistrationOptions { learns_address: false, ..options() }, &[1]);
    let request = line.request();
    line.answer(&request, Response { seen_as: Some("203.0.113.7:40000".parse().unwrap()), ..ok(600) });
    line.quiet_for(seconds(300));
    assert_eq!(line.said.len(), 1, "{:?}", line.said);
}

#[test]
fn a_registrar_that_takes_one_contact_only_gets_one() {
    let mut line = Line::with(options(), &[1]);
    line.up();
    line.shown = "192.0.2.77:5060".parse().unwrap();
    line.input(Input::AddressesChanged);
    let request = line.request_within(Duration::ZERO).unwrap();
    assert_eq!(request.contacts.len(), 2);
    line.answer(&request, status(400));
    let request = line.request_within(Duration::ZERO).unwrap();
    assert_eq!(request.contacts.len(), 1);
    line.answer(&request, status(400));
    line.quiet_for(seconds(280));
    assert_eq!(line.downs(), [&Why::Refused(400)]);
}

#[test]
fn a_first_hop_without_outbound_is_spared_it() {
    let mut line = Line::with(options(), &[1]);
    let request = line.request();
    line.answer(&request, status(439));
    let request = line.request_within(Duration::ZERO).unwrap();
    assert_eq!(request.contacts, ["<sip:620@192.0.2.10:5060>;expires=600"]);
}

#[test]
fn a_change_of_addresses_registers_at_once_whatever_was_under_way() {
    let mut line = Line::with(options(), &[1]);
    let request = line.request();
    line.input(Input::AddressesChanged);
    let second = line.request_within(Duration::ZERO).expect("at once");
    assert!(line.said.contains(&Output::Abandon { attempt: request.attempt }));
    // The late answer to the first is nobody's.
    line.answer(&request, status(403));
    line.quiet_for(seconds(1));
    assert!(line.downs().is_empty());
    line.answer(&second, status(403));
    line.input(Input::AddressesChanged);
    line.input(Input::AddressesChanged);
    line.quiet_for(seconds(29));
    assert!(line.request_within(seconds(1)).is_some(), "a refusal may be over with the new address");
}

#[test]
fn a_lost_connection_is_made_again_but_not_in_a_circle() {
    let mut line = Line::with(options(), &[1]);
    line.up();
    line.quiet_for(seconds(100));
    line.input(Input::FlowLost(target(2)));
    line.quiet_for(seconds(1));
    line.input(Input::FlowLost(target(1)));
    let request = line.request_within(Duration::ZERO).expect("at once");
    line.answer(&request, ok(600));
    line.quiet_for(Duration::ZERO);
    line.input(Input::FlowLost(target(1)));
    line.quiet_for(seconds(2));
    let request = line.request_within(seconds(1)).expect("after a pause");
    line.answer(&request, status(403));
    line.input(Input::FlowLost(target(1)));
    line.quiet_for(seconds(280));
}

#[test]
fn empty_lines_go_out_at_the_interval_while_registered() {
    let mut line = Line::with(RegistrationOptions { keepalive: Keepalive::Crlf, ..options() }, &[1]);
    line.up();
    line.quiet_for(seconds(300));
    let sent = line.said.iter().filter(|output| **output == Output::Keepalive(target(1))).count();
    assert!((12..=15).contains(&sent), "{sent} in 300 s");
}

#[test]
fn an_options_without_answer_is_repeated_and_then_the_flow_is_lost() {
    let mut line = Line::with(RegistrationOptions { keepalive: Keepalive::Options, ..options() }, &[1]);
    line.up();
    let first = line.request();
    assert_eq!(first.kind, Kind::Options);
    line.answer(&first, status(404));
    let lost = line.request();
    assert_eq!(lost.kind, Kind::Options);
    let sent_at = line.now;
    let again = line.request();
    assert_eq!((again.kind, line.now - sent_at), (Kind::Options, seconds(4)));
    let request = line.request();
    assert_eq!((request.kind, line.now - sent_at), (Kind::Register, seconds(8)));
    assert!(line.said.contains(&Output::Discard(target(1))));
}

#[test]
fn a_server_that_was_away_for_a_moment_is_asked_to_register_us_again() {
    let mut line = Line::with(RegistrationOptions { keepalive: Keepalive::Options, ..options() }, &[1]);
    line.up();
    line.request();
    let again = line.request();
    line.answer(&again, status(200));
    assert_eq!(line.request_within(Duration::ZERO).map(|request| request.kind), Some(Kind::Register));
}

#[test]
fn stopping_removes_the_binding_and_waits_only_a_little() {
    let mut line = Line::with(options(), &[1]);
    let mut registrar = Registrar::new(&line);
    for _ in 0..2 {
        let request = line.request();
        registrar.answer(&mut line, &request);
    }
    line.quiet_for(seconds(10));
    line.said.clear();
    line.input(Input::Stop);
    let request = line.request_within(Duration::ZERO).unwrap();
    assert_eq!((request.kind, request.expires), (Kind::Register, Some(0)));
    assert!(request.contacts[0].ends_with(";expires=0"));
    registrar.answer(&mut line, &request);
    line.quiet_for(seconds(7200));
    assert_eq!((line.said, registrar.requests), (vec![Output::Stopped], 3));

    let mut line = Line::with(options(), &[1]);
    line.up();
    line.input(Input::Stop);
    assert!(line.request_within(Duration::ZERO).is_some());
    line.quiet_for(Duration::from_millis(1500));
    assert_eq!(line.said.last(), Some(&Output::Stopped));
    assert_eq!(line.machine.poll_timeout(), None);
}

#[test]
fn stopping_before_anything_was_sent_is_quick() {
    let mut line = Line::with(options(), &[1]);
    line.input(Input::Stop);
    line.input(Input::Targets(vec![target(1)]));
    line.input(Input::AddressesChanged);
    line.quiet_for(seconds(3600));
    assert_eq!(line.said, [Output::Stopped]);
}

#[test]
fn a_trunk_by_address_is_up_while_it_answers_options() {
    let options = RegistrationOptions { registers: false, keepalive: Keepalive::Options, ..options() };
    let mut line = Line::with(options, &[1, 2]);
    for _ in 0..3 {
        let request = line.request_within(seconds(30)).unwrap();
        assert_eq!((request.kind, &request.target), (Kind::Options, &target(1)));
        assert!(request.contacts.is_empty() && request.expires.is_none());
        line.answer(&request, status(405));
    }
    line.quiet_for(seconds(1));
    assert!(line.ups().iter().all(|up| up.until.is_none()));
    // It falls silent, and the second takes over; that one falls silent as well.
    line.request();
    let request = line.request();
    assert_eq!(request.target, target(2));
    assert!(line.downs().is_empty());
    let request = line.request();
    assert_eq!(line.downs(), [&Why::Unreachable]);
    line.answer(&request, status(200));
    line.quiet_for(seconds(1));
    line.input(Input::Stop);
    line.quiet_for(seconds(3600));
    assert_eq!(line.said.last(), Some(&Output::Stopped));
}

#[test]
fn a_trunk_by_address_without_options_is_taken_to_be_up() {
    let options = RegistrationOptions { registers: false, keepalive: Keepalive::Crlf, ..options() };
    let mut line = Line::with(options, &[1]);
    line.quiet_for(seconds(1000));
    assert!(!line.ups().is_empty() && line.said.contains(&Output::Keepalive(target(1))), "{:?}", line.said);
}
