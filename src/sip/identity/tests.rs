//! Headers as trunks and PBXes send them, and who they say calls.

use super::*;

const ORDER: [IdentityHeader; 3] =
    [IdentityHeader::PAssertedIdentity, IdentityHeader::RemotePartyId, IdentityHeader::From];

fn read(trusted: bool, headers: &[(&str, &str)]) -> Caller {
    let identification = Identification { headers: &ORDER, trusted, country: Country::find("IL") };
    identification.caller(headers.iter().copied())
}

const FROM: (&str, &str) = ("From", "\"Anna\" <sip:0501112222@pbx>;tag=1");

#[test]
fn from_is_what_the_caller_says() {
    let caller = read(true, &[FROM]);
    assert_eq!(caller.number.as_deref(), Some("+972501112222"));
    assert_eq!(caller.user, "0501112222");
    assert_eq!(caller.display.as_deref(), Some("Anna"));
    assert!(!caller.asserted && !caller.private);
    assert_eq!(read(true, &[("f", "<sip:alice@pbx>;tag=1")]).user, "alice");
    assert_eq!(read(true, &[("f", "<sip:alice@pbx>;tag=1")]).number, None);
}

#[test]
fn a_trunk_is_believed_before_the_caller_and_nobody_else_is() {
    let headers = [FROM, ("P-Asserted-Identity", "\"Bank, Ltd\" <sip:+97235551234@gw;user=phone>, tel:+97235551234")];
    let caller = read(true, &headers);
    assert_eq!(caller.number.as_deref(), Some("+97235551234"));
    assert_eq!(caller.display.as_deref(), Some("Bank, Ltd"));
    assert!(caller.asserted);
    let caller = read(false, &headers);
    assert_eq!(caller.number.as_deref(), Some("+972501112222"));
    assert!(!caller.asserted);
}

#[test]
fn the_order_is_the_trunks() {
    let order = [IdentityHeader::From, IdentityHeader::PAssertedIdentity];
    let identification = Identification { headers: &order, trusted: true, country: None };
    let headers = [("P-Asserted-Identity", "<tel:+1>"), FROM, ("Remote-Party-ID", "<sip:9@x>;party=calling")];
    assert_eq!(identification.caller(headers.into_iter()).number.as_deref(), Some("0501112222"));
    // A From that says nothing leaves it to the next.
    let headers = [("P-Asserted-Identity", "<tel:+97235550000>"), ("From", "<sip:anonymous@anonymous.invalid>;tag=2")];
    let caller = identification.caller(headers.into_iter());
    assert_eq!(caller.number.as_deref(), Some("+97235550000"));
    assert!(caller.private, "the From asks for it");
}

#[test]
fn a_display_name_cannot_be_the_number() {
    let caller = read(true, &[("From", r#""a" <sip:1@x>" <sip:0509998888@pbx>;tag=1"#)]);
    assert_eq!(caller.number.as_deref(), Some("1"), "what follows the address is no address");
    let caller = read(true, &[("From", r#""<sip:0501234567@bank>" <sip:0509998888@pbx>;tag=1"#)]);
    assert_eq!(caller.number.as_deref(), Some("+972509998888"));
    assert_eq!(caller.display.as_deref(), Some("<sip:0501234567@bank>"));
}

#[test]
fn a_display_name_with_a_comma_is_one_name() {
    let caller = read(true, &[("From", "Bell, Alexander <sip:620@pbx>;tag=1")]);
    assert_eq!((caller.user.as_str(), caller.display.as_deref()), ("620", Some("Bell, Alexander")));
}

#[test]
fn who_withholds_the_number_is_private() {
    let shapes = [
        "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1",
        "<sip:Restricted@gw>;tag=1",
        "<sip:unavailable@gw>;tag=1",
        "\"Anonymous\" <sip:gw.example>;tag=1",
        "<sip:@gw.example>;tag=1",
        "\"broken <sip:1@x>;tag=1",
    ];
    for from in shapes {
        let caller = read(true, &[("From", from)]);
        assert!(caller.private, "{from}");
        assert_eq!((caller.number, caller.user.as_str(), caller.display), (None, "", None), "{from}");
    }
    // The trunk may know all the same; then it must not be told on.
    let headers = [("From", shapes[0]), ("P-Asserted-Identity", "<sip:0501112222@gw>"), ("Privacy", "id;critical")];
    let caller = read(true, &headers);
    assert_eq!(caller.number.as_deref(), Some("+972501112222"));
    assert!(caller.private && caller.asserted);
    assert!(read(true, &[FROM, ("Privacy", "user")]).private);
    assert!(!read(true, &[FROM, ("Privacy", "none")]).private);
    assert!(read(true, &[("From", "\"Anonymous\" <sip:0501112222@gw>;tag=1")]).private);
}

#[test]
fn a_remote_party_id_counts_when_it_is_the_caller() {
    let called = ("Remote-Party-ID", "<sip:620@pbx>;party=called;screen=yes");
    let calling = ("Remote-Party-ID", "\"Dana\" <sip:0503334444@pbx>;party=calling;screen=yes;privacy=off");
    let caller = read(true, &[FROM, called, calling]);
    assert_eq!(caller.number.as_deref(), Some("+972503334444"));
    assert!(caller.asserted && !caller.private);
    assert_eq!(caller.display.as_deref(), Some("Dana"));
    let caller = read(true, &[FROM, ("Remote-Party-ID", "<sip:0503334444@pbx>;screen=no;privacy=full")]);
    assert!(!caller.asserted && caller.private);
    assert_eq!(read(true, &[FROM, called]).number.as_deref(), Some("+972501112222"));
}

#[test]
fn whom_the_caller_wanted_first_is_the_oldest_diversion() {
    let diverted = |headers: &[(&str, &str)]| read(true, &[&[FROM], headers].concat()).diverted_from;
    let two = (
        "Diversion",
        "<sip:0502@pbx>;reason=no-answer;counter=1, \"Office, main\" <tel:03-5551234>;reason=unconditional",
    );
    assert_eq!(diverted(&[two]).as_deref(), Some("+97235551234"));
    assert_eq!(diverted(&[("Diversion", "<sip:621@pbx>"), ("Diversion", "<sip:620@pbx>")]).as_deref(), Some("620"));
    let history = "<sip:620@pbx?Reason=SIP%3Bcause%3D302>;index=1, <sip:700@box>;index=1.1;mp=1";
    assert_eq!(diverted(&[("History-Info", history)]).as_deref(), Some("620"));
    assert_eq!(diverted(&[("History-Info", "<sip:700@box>;index=1")]), None);
    assert_eq!(diverted(&[]), None);
    assert_eq!(read(false, &[FROM, two]).diverted_from, None);
}

#[test]
fn the_number_is_not_in_the_debug_text() {
    let caller = read(true, &[FROM, ("Diversion", "<sip:0509876543@pbx>")]);
    let text = format!("{caller:?}");
    assert!(!text.contains("50111") && !text.contains("0987") && !text.contains("Anna"), "{text}");
}
