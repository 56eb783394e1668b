//! The vectors of the RFCs, the answers to challenges of every kind, and the server's side against the client's.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn credentials() -> Credentials {
    Credentials::new("620", Secret::new("pa:ss"))
}

/// The parameters of the one answer that a request with these credentials carries.
fn answer(credentials: &mut Credentials, exchange: &mut Exchange) -> Parameters {
    let headers = credentials.authorize(exchange, "REGISTER", "sip:box", b"body");
    assert_eq!(headers.len(), 1, "{headers:?}");
    parse_authorization(&headers[0].1).expect("our own header")
}

/// Answers `challenge` with a fixed client nonce, and shows the response.
fn response_to(challenge: &str) -> String {
    let mut credentials = credentials();
    let mut exchange = Exchange::default();
    let asked = [("WWW-Authenticate", challenge)];
    assert_eq!(credentials.challenged(&mut exchange, asked), Challenged::Retry, "{challenge}");
    credentials.challenges[0].client_nonce = "def".into();
    answer(&mut credentials, &mut exchange).get("response").unwrap().to_owned()
}

fn vector(hash: Hash, user: &str, password: &str, realm: &str, nonce: &str, client_nonce: &str, uri: &str) -> String {
    let ingredients = Ingredients {
        algorithm: Algorithm { hash, session: false },
        quality: Quality::Auth,
        user,
        realm,
        password: &Secret::new(password),
        nonce,
        client_nonce,
        count: "00000001",
        method: "GET",
        uri,
        body: b"",
    };
    ingredients.response()
}

#[test]
fn the_examples_of_rfc_2617_and_7616_come_out() {
    let (nonce, client_nonce) = ("dcd98b7102dd2f0e8b11d0f600bfb0c093", "0a4f113b");
    let host = "testrealm@host.com";
    let response = vector(Hash::Md5, "Mufasa", "Circle Of Life", host, nonce, client_nonce, "/dir/index.html");
    assert_eq!(response, "6629fae49393a05397450978507c4ef1");

    let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    let client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    let of = |hash| {
        vector(hash, "Mufasa", "Circle of Life", "http-auth@example.org", nonce, client_nonce, "/dir/index.html")
    };
    assert_eq!(of(Hash::Md5), "8ca523f5e9506fed4657c9700eebdbec");
    assert_eq!(of(Hash::Sha256), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
}

/// With the values of erratum 4897: those of the RFC's text are no SHA-512/256.
#[test]
fn the_sha_512_256_example_of_rfc_7616_comes_out() {
    let (nonce, realm) = ("5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", "api@example.org");
    let client_nonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v";
    let user = "J\u{e4}s\u{f8}n Doe";
    let hash = Hash::Sha512_256;
    let response = vector(hash, user, "Secret, or not?", realm, nonce, client_nonce, "/doe.json");
    assert_eq!(response, "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5");
    let hashed_user = "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b";
    assert_eq!(hash.of(&[user.as_bytes(), realm.as_bytes()]), hashed_user);
}

/// The expected values are from another implementation (Python's hashlib).
#[test]
fn sessions_bodies_and_challenges_of_rfc_2069_are_answered() {
    for (algorithm, session, auth_int, plain) in [
        (
            "MD5",
            "9e3c4041c914e43842190795896825ea",
            // Its count is 2: see below.
            "04d5d3ef2c5d7576816a736cb1afd672",
            "f875b24bd0ecd2c0e3aebdd0d44e4f12",
        ),
        (
            "SHA-256",
            "fa9924a6f0c0ccffd12e2fd7973a48b67cce4aa4b00006655e41b2ba6c73f1b3",
            "c92dde1b2b775048c5153a12030eea826478f88d24a4a9649686a23d5d298a58",
            "81b44fb5838e6466b029ef761b72d69195de847e897c423c4cb0de97a370976a",
        ),
        (
            "SHA-512-256",
            "8856d487bdaa3b99b0df8799c45dafba865a81aaede9c5995a6dd15594708947",
            "b4e0359c4f1eaaad1c50d497c7d4f82fe429346ba72bf1d4560d17acb3e0b35a",
            "44af2a380dba79df21983f193ad50acf9b001ffd4fb0bfcb9f68e61d428e0825",
        ),
    ] {
        let head = format!("Digest realm=\"box\", nonce=\"abc\", algorithm={algorithm}");
        assert_eq!(response_to(&format!("{head}-sess, qop=\"auth,auth-int\"")), session, "{algorithm}");
        assert_eq!(response_to(&head), plain, "{algorithm}");

        let mut credentials = credentials();
        let mut exchange = Exchange::default();
        let challenge = format!("{head}, qop=\"auth-int\"");
        let challenged = credentials.challenged(&mut exchange, [("WWW-Authenticate", challenge.as_str())]);
        assert_eq!(challenged, Challenged::Retry);
        credentials.challenges[0].client_nonce = "def".into();
        answer(&mut credentials, &mut exchange);
        let second = answer(&mut credentials, &mut Exchange::default());
        assert_eq!(second.get("response"), Some(auth_int), "{algorithm}");
        assert_eq!(second.get("nc"), Some("00000002"));
        assert_eq!(second.get("qop"), Some("auth-int"));
    }
}

/// The algorithm that answers the challenges, each in a header of its own and all in one header.
fn algorithm_for(challenges: &[&str]) -> String {
    let several: Vec<_> = challenges.iter().map(|challenge| ("www-authenticate", *challenge)).collect();
    let joined = challenges.join(", ");
    let chosen = |headers: &[(&str, &str)]| {
        let mut credentials = credentials();
        let mut exchange = Exchange::default();
        assert_eq!(credentials.challenged(&mut exchange, headers.iter().copied()), Challenged::Retry);
        let answer = answer(&mut credentials, &mut exchange);
        format!("{} {}", answer.get("algorithm").unwrap_or("none"), answer.get("nonce").unwrap())
    };
    let one = chosen(&several);
    assert_eq!(one, chosen(&[("WWW-Authenticate", &joined)]));
    one
}

#[test]
fn the_strongest_algorithm_is_answered_and_the_first_among_equals() {
    let md5 = r#"Digest realm="r, \"x\"", nonce="m""#;
    let sha256 = r#"Digest realm="r, \"x\"", nonce="s", algorithm=SHA-256, qop="auth""#;
    let second_sha256 = r#"digest nonce="t",realm="r, \"x\"" , Algorithm="sha-256" ,qop=auth"#;
    let unknown = r#"Digest realm="r, \"x\"", nonce="u", algorithm=AKAv1-MD5, qop="auth""#;
    let basic = r#"Basic realm="r, \"x\"""#;
    let negotiate = "Negotiate YWJjZA==";
    assert_eq!(algorithm_for(&[md5]), "none m");
    assert_eq!(algorithm_for(&[md5, sha256]), "SHA-256 s");
    assert_eq!(algorithm_for(&[sha256, md5]), "SHA-256 s");
    assert_eq!(algorithm_for(&[second_sha256, sha256]), "sha-256 t");
    assert_eq!(algorithm_for(&[unknown, basic, negotiate, md5]), "none m");
}

#[test]
fn every_realm_gets_its_answer_whoever_asked() {
    let mut credentials = credentials();
    let mut exchange = Exchange::default();
    let asked = [
        ("Proxy-Authenticate", r#"Digest realm="p", nonce="1", qop="auth""#),
        ("WWW-Authenticate", r#"Digest realm="p", nonce="2", qop="auth""#),
        ("WWW-Authenticate", r#"Digest realm="q", nonce="3""#),
        ("Via", r#"Digest realm="v", nonce="4""#),
    ];
    assert_eq!(credentials.challenged(&mut exchange, asked), Challenged::Retry);
    let headers = credentials.authorize(&mut exchange, "INVITE", "sip:1@x", b"");
    let found: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name} {}", parse_authorization(value).unwrap().get("nonce").unwrap()))
        .collect();
    assert_eq!(found, ["Proxy-Authorization 1", "Authorization 2", "Authorization 3"]);
}

#[test]
fn later_requests_carry_the_answer_at_once_with_a_count_of_eight_digits() {
    let mut credentials = credentials();
    let mut exchange = Exchange::default();
    assert!(credentials.authorize(&mut exchange, "REGISTER", "sip:box", b"").is_empty(), "nobody has asked");
    let asked = [("WWW-Authenticate", r#"Digest realm="r", nonce="n", opaque="o\"p", qop="auth""#)];
    credentials.challenged(&mut exchange, asked);
    let counts: Vec<_> = (0..11)
        .map(|_| {
            let answer = answer(&mut credentials, &mut Exchange::default());
            assert_eq!(answer.get("opaque"), Some("o\"p"));
            answer.get("nc").unwrap().to_owned()
        })
        .collect();
    assert_eq!((counts[0].as_str(), counts[10].as_str()), ("00000001", "0000000b"));
}

#[test]
fn what_is_quoted_and_what_is_not_is_as_rfc_7616_wants_it() {
    let mut credentials = Credentials::new(r#"a"b\c"#, Secret::new("x"));
    let mut exchange = Exchange::default();
    let asked = [("WWW-Authenticate", r#"Digest realm="r\\s", nonce="n", algorithm=MD5, qop="auth", opaque="""#)];
    assert_eq!(credentials.challenged(&mut exchange, asked), Challenged::Retry);
    let (_, value) = credentials.authorize(&mut exchange, "REGISTER", "sip:box", b"").remove(0);
    let start = r#"Digest username="a\"b\\c", realm="r\\s", nonce="n", uri="sip:box", response=""#;
    assert!(value.starts_with(start), "{value}");
    assert!(value.contains(r#", algorithm=MD5, cnonce=""#) && value.contains(", qop=auth, nc=00000001"), "{value}");
    assert!(value.ends_with(r#", opaque="""#), "{value}");
}

#[test]
fn a_refused_answer_to_a_fresh_nonce_is_a_wrong_password() {
    for again in [r#"Digest realm="r", nonce="n1""#, r#"Digest realm="r", nonce="n2""#] {
        let mut credentials = credentials();
        let mut exchange = Exchange::default();
        let first = [("WWW-Authenticate", r#"Digest realm="r", nonce="n1""#)];
        assert_eq!(credentials.challenged(&mut exchange, first), Challenged::Retry);
        credentials.authorize(&mut exchange, "REGISTER", "sip:box", b"");
        assert_eq!(credentials.challenged(&mut exchange, [("WWW-Authenticate", again)]), Challenged::Rejected);
        assert!(credentials.authorize(&mut Exchange::default(), "REGISTER", "sip:box", b"").is_empty());
    }
}

#[test]
fn a_remembered_nonce_that_is_not_taken_is_replaced_once() {
    let mut credentials = credentials();
    let challenge = |nonce: &str| format!("Digest realm=\"r\", nonce=\"{nonce}\"");
    credentials.challenged(&mut Exchange::default(), [("WWW-Authenticate", challenge("old").as_str())]);
    // A registrar that has restarted knows the nonce no more, and need not say that it is stale.
    let mut exchange = Exchange::default();
    credentials.authorize(&mut exchange, "REGISTER", "sip:box", b"");
    let challenged = credentials.challenged(&mut exchange, [("WWW-Authenticate", challenge("new").as_str())]);
    assert_eq!(challenged, Challenged::Retry);
    // The same nonce again is a refusal of what it was answered with.
    let mut exchange = Exchange::default();
    credentials.authorize(&mut exchange, "REGISTER", "sip:box", b"");
    let challenged = credentials.challenged(&mut exchange, [("WWW-Authenticate", challenge("new").as_str())]);
    assert_eq!(challenged, Challenged::Rejected);
}

#[test]
fn a_stale_nonce_is_replaced_but_not_for_ever() {
    let mut credentials = credentials();
    let mut exchange = Exchange::default();
    let mut challenge = |nonce: &str, stale: &str| {
        let value = format!("Digest realm=\"r\", nonce=\"{nonce}\", stale={stale}");
        let challenged = credentials.challenged(&mut exchange, [("WWW-Authenticate", value.as_str())]);
        credentials.authorize(&mut exchange, "REGISTER", "sip:box", b"");
        challenged
    };
    assert_eq!(challenge("1", "FALSE"), Challenged::Retry);
    assert_eq!(challenge("2", "TRUE"), Challenged::Retry);
    assert_eq!(challenge("3", "\"true\""), Challenged::Retry);
    assert_eq!(challenge("4", "true"), Challenged::Unanswerable);
}

#[test]
fn what_cannot_be_answered_is_named() {
    let ask = |values: &[&str]| {
        let headers = values.iter().map(|value| ("WWW-Authenticate", *value));
        credentials().challenged(&mut Exchange::default(), headers)
    };
    assert_eq!(ask(&[]), Challenged::Unanswerable);
    assert_eq!(ask(&["Digest realm=\"r\""]), Challenged::Unanswerable);
    assert_eq!(ask(&["Digest realm=\"r\nInjected: x\", nonce=\"n\""]), Challenged::Unanswerable);
    let unknown = ask(&["Digest realm=\"r\", nonce=\"n\", algorithm=AKAv1-MD5", "Basic realm=\"r\""]);
    assert_eq!(unknown, Challenged::Unsupported(vec!["AKAv1-MD5".into(), "Basic".into()]));
    let unknown = ask(&["Digest realm=\"r\", nonce=\"n\", qop=\"auth-conf\""]);
    assert_eq!(unknown, Challenged::Unsupported(vec!["qop=auth-conf".into()]));
}

#[test]
fn challenges_and_realms_are_bounded() {
    let mut credentials = credentials();
    let value = |number: u32| format!("Digest realm=\"{number}\", nonce=\"n\"");
    let many: Vec<String> = (0..50).map(value).collect();
    let mut exchange = Exchange::default();
    let headers = many.iter().map(|value| ("WWW-Authenticate", value.as_str()));
    assert_eq!(credentials.challenged(&mut exchange, headers), Challenged::Retry);
    assert_eq!(credentials.challenges.len(), MAX_REALMS);
    let long = format!("Digest realm=\"{}\", nonce=\"n\"", "x".repeat(5000));
    let challenged = credentials.challenged(&mut Exchange::default(), [("WWW-Authenticate", long.as_str())]);
    assert_eq!(challenged, Challenged::Unanswerable);
    // Proxies that ask one after the other, each for another realm.
    let mut exchange = Exchange::default();
    let mut rounds = 0;
    while credentials.challenged(&mut exchange, [("Proxy-Authenticate", value(rounds).as_str())]) == Challenged::Retry {
        rounds += 1;
    }
    assert_eq!(rounds as usize, MAX_ROUNDS);
}

#[test]
fn the_next_nonce_is_used_from_its_first_count() {
    let mut credentials = credentials();
    let asked = [("WWW-Authenticate", r#"Digest realm="r", nonce="1", qop="auth""#)];
    credentials.challenged(&mut Exchange::default(), asked);
    answer(&mut credentials, &mut Exchange::default());
    credentials.answered([("Authentication-Info", r#"qop=auth, nextnonce="2", nc=00000001"#)]);
    let next = answer(&mut credentials, &mut Exchange::default());
    assert_eq!((next.get("nonce"), next.get("nc")), (Some("2"), Some("00000001")));
    credentials.answered([("Proxy-Authentication-Info", r#"nextnonce="3""#)]);
    assert_eq!(answer(&mut credentials, &mut Exchange::default()).get("nonce"), Some("2"));
}

#[test]
fn a_user_is_hashed_where_that_is_asked_for() {
    let mut credentials = credentials();
    let asked = [("WWW-Authenticate", r#"Digest realm="r", nonce="1", algorithm=SHA-256, userhash=true"#)];
    credentials.challenged(&mut Exchange::default(), asked);
    let answer = answer(&mut credentials, &mut Exchange::default());
    assert_eq!(answer.get("username"), Some(Hash::Sha256.of(&[b"620", b"r"]).as_str()));
    assert_eq!(answer.get("userhash"), Some("true"));
}

#[test]
fn credentials_do_not_show_the_password() {
    let shown = format!("{:?}", credentials());
    assert!(!shown.contains("pa:ss"), "{shown}");
}

/// A client that has the challenger's challenge; `algorithms` are those that it sees.
fn client_of(challenger: &mut Challenger, now: Instant, algorithms: std::ops::Range<usize>) -> Credentials {
    let mut credentials = credentials();
    let challenges = challenger.challenge(now, false);
    let headers = challenges[algorithms].iter().map(|value| ("WWW-Authenticate", value.as_str()));
    assert_eq!(credentials.challenged(&mut Exchange::default(), headers), Challenged::Retry);
    credentials
}

fn authorization(credentials: &mut Credentials) -> String {
    credentials.authorize(&mut Exchange::default(), "INVITE", "sip:620@box;x=y", b"").remove(0).1
}

fn verify(challenger: &mut Challenger, now: Instant, answer: &str) -> Verdict {
    challenger.verify(now, "INVITE", "sip:620@BOX", [answer], "620", &Secret::new("pa:ss"))
}

#[test]
fn a_right_answer_is_accepted_once() {
    let now = Instant::now();
    let mut challenger = Challenger::new("the \"box\"", now);
    for algorithms in [0..2, 0..1, 1..2] {
        let mut client = client_of(&mut challenger, now, algorithms);
        let first = authorization(&mut client);
        assert_eq!(verify(&mut challenger, now, &first), Verdict::Accepted);
        assert_eq!(verify(&mut challenger, now, &first), Verdict::Stale, "shown twice");
        let second = authorization(&mut client);
        assert_eq!(verify(&mut challenger, now, &second), Verdict::Accepted);
        assert_eq!(verify(&mut challenger, now, &first), Verdict::Stale, "shown later");
    }
}

#[test]
fn an_answer_without_a_count_serves_once() {
    let now = Instant::now();
    let mut challenger = Challenger::new("box", now);
    let plain = challenger.challenge(now, false)[1].replace(", qop=\"auth\"", "");
    let mut client = credentials();
    client.challenged(&mut Exchange::default(), [("WWW-Authenticate", plain.as_str())]);
    let answer = authorization(&mut client);
    assert_eq!(verify(&mut challenger, now, &answer), Verdict::Accepted);
    assert_eq!(verify(&mut challenger, now, &answer), Verdict::Stale);
}

#[test]
fn an_answer_of_another_request_user_or_password_is_wrong() {
    let now = Instant::now();
    let mut challenger = Challenger::new("box", now);
    let mut client = client_of(&mut challenger, now, 0..2);
    let answer = authorization(&mut client);
    let password = Secret::new("pa:ss");
    let mut verify = |method, uri, user, password: &Secret| {
        challenger.verify(now, method, uri, ["Basic YQ==", answer.as_str()], user, password)
    };
    assert_eq!(verify("BYE", "sip:620@box", "620", &password), Verdict::Wrong);
    assert_eq!(verify("INVITE", "sip:621@box", "620", &password), Verdict::Wrong);
    assert_eq!(verify("INVITE", "sip:620@box", "621", &password), Verdict::Wrong);
    assert_eq!(verify("INVITE", "sip:620@box", "620", &Secret::new("pass")), Verdict::Wrong);
    assert_eq!(verify("INVITE", "sip:620@box", "620", &password), Verdict::Accepted);
    let none = challenger.verify(now, "INVITE", "sip:620@box", [], "620", &password);
    assert_eq!(none, Verdict::Absent);
    let mut elsewhere = Challenger::new("elsewhere", now);
    assert_eq!(super::tests::verify(&mut elsewhere, now, &answer), Verdict::Absent);
}

#[test]
fn an_old_or_foreign_nonce_is_stale() {
    let start = Instant::now();
    let mut challenger = Challenger::new("box", start);
    let made_at = start + Duration::from_secs(1000);
    let mut client = client_of(&mut challenger, made_at, 0..2);
    let answer = authorization(&mut client);
    assert_eq!(verify(&mut challenger, made_at + Duration::from_secs(302), &answer), Verdict::Stale);
    assert_eq!(verify(&mut challenger, made_at + Duration::from_secs(299), &answer), Verdict::Accepted);
    let mut restarted = Challenger::new("box", start);
    let answer = authorization(&mut client);
    assert_eq!(verify(&mut restarted, made_at, &answer), Verdict::Stale);
    assert!(restarted.challenge(made_at, true)[0].ends_with("stale=true"));
}

#[test]
fn nonces_in_use_are_bounded_and_the_oldest_are_stale() {
    let now = Instant::now();
    let mut challenger = Challenger::new("box", now);
    let mut first = client_of(&mut challenger, now, 0..2);
    let answer = authorization(&mut first);
    assert_eq!(verify(&mut challenger, now, &answer), Verdict::Accepted);
    for _ in 0..1024 {
        let mut client = client_of(&mut challenger, now, 0..2);
        let answer = authorization(&mut client);
        assert_eq!(verify(&mut challenger, now, &answer), Verdict::Accepted);
    }
    let answer = authorization(&mut first);
    assert_eq!(verify(&mut challenger, now, &answer), Verdict::Stale);
}

proptest! {
    #[test]
    fn garbage_never_panics_and_never_writes_a_line_break(
        value in "(Digest |Basic |[a-z]{0,4}|, |realm=|nonce=|qop=|algorithm=|stale=true|\"|\\\\|=|MD5|-sess|auth|\\PC|\r|\n|\0){0,24}",
        more in ".*",
    ) {
        let now = Instant::now();
        let mut challenger = Challenger::new("box", now);
        let mut credentials = credentials();
        for text in [&value, &more, &format!("Digest realm=\"r\", nonce=\"{value}\", {more}")] {
            let mut exchange = Exchange::default();
            credentials.challenged(&mut exchange, [("WWW-Authenticate", text.as_str())]);
            credentials.answered([("Authentication-Info", text.as_str())]);
            for (_, header) in credentials.authorize(&mut exchange, "REGISTER", "sip:box", b"") {
                prop_assert!(!header.contains(['\r', '\n', '\0']), "{header:?}");
                prop_assert!(parse_authorization(&header).is_some(), "{header:?}");
            }
            prop_assert_ne!(verify(&mut challenger, now, text), Verdict::Accepted);
        }
    }

    #[test]
    fn what_is_quoted_reads_back(text in "[^\\x00-\\x1f\\x7f-\\x9f]{0,40}") {
        let value = format!("Digest realm={}", quoted(&text));
        let answer = parse_authorization(&value).unwrap();
        prop_assert_eq!(answer.get("realm"), Some(text.as_str()));
    }
}
