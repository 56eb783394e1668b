//! Session timers in virtual time, in both roles.

use super::*;

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn timer(expires: u64, minimum: u64, refresher: Refresher) -> SessionTimer {
    SessionTimer::new(&DialogRules {
        session_expires: seconds(expires),
        session_minimum: seconds(minimum),
        session_refresher: refresher,
        ..DialogRules::default()
    })
}

fn said(headers: &[(&str, &str)]) -> SessionFields {
    let headers: Vec<Header> =
        headers.iter().map(|(name, value)| Header::Other((*name).into(), (*value).into())).collect();
    SessionFields::of(&headers.into())
}

fn shown(headers: &[Header]) -> Vec<String> {
    headers.iter().map(ToString::to_string).collect()
}

/// When, after `start`, the timer next wants something, and what.
fn next(timer: &mut SessionTimer, start: Instant) -> (u64, Option<Output>) {
    let at = timer.poll_timeout().unwrap();
    timer.handle_timeout(at);
    ((at - start).as_secs(), timer.poll())
}

const CALLER: [(&str, &str); 2] = [("Supported", "timer"), ("Session-Expires", "1800")];

#[test]
fn a_caller_who_names_no_refresher_is_refreshed_by_us_at_half_time() {
    let (start, mut timer) = (Instant::now(), timer(1800, 90, Refresher::Auto));
    assert!(timer.check(&said(&CALLER)).is_ok());
    let answer = timer.answer(start, &said(&CALLER));
    assert_eq!(shown(&answer), ["Session-Expires: 1800;refresher=uas", "Require: timer"]);
    assert_eq!(next(&mut timer, start), (900, Some(Output::Refresh(Refresh::Reinvite))));
    // Without an answer the session ends in its time.
    assert_eq!(next(&mut timer, start), (1800, Some(Output::Expired)));
    assert_eq!(timer.poll_timeout(), None);
}

#[test]
fn the_callers_wish_for_a_refresher_is_followed() {
    let start = Instant::now();
    for (wish, who) in [("uac", "uac"), ("UAS", "uas")] {
        let mut timer = timer(1800, 90, Refresher::Auto);
        let value = format!("600;refresher={wish}");
        let answer = timer.answer(start, &said(&[("Supported", "timer"), ("Session-Expires", &value)]));
        assert_eq!(shown(&answer)[0], format!("Session-Expires: 600;refresher={who}"));
    }
    let mut timer = timer(1800, 90, Refresher::Uac);
    assert_eq!(shown(&timer.answer(start, &said(&CALLER)))[0], "Session-Expires: 1800;refresher=uac");
}

#[test]
fn a_peer_whose_refresh_stays_away_is_hung_up_on_shortly_before_the_end() {
    let start = Instant::now();
    for (expires, end) in [("1800;refresher=uac", 1768), ("90;refresher=uac", 60)] {
        let mut timer = timer(1800, 90, Refresher::Auto);
        timer.answer(start, &said(&[("Supported", "timer"), ("Session-Expires", expires)]));
        assert_eq!(next(&mut timer, start), (end, Some(Output::Expired)));
    }
}

#[test]
fn a_refresh_by_the_peer_starts_the_time_anew_and_keeps_the_refresher() {
    let (start, mut timer) = (Instant::now(), timer(1800, 90, Refresher::Auto));
    timer.answer(start, &said(&[("Supported", "timer"), ("Session-Expires", "300;refresher=uac")]));
    let later = start + seconds(150);
    let answer = timer.answer(later, &said(&[("Supported", "timer"), ("Session-Expires", "300")]));
    assert_eq!(shown(&answer)[0], "Session-Expires: 300;refresher=uac");
    assert_eq!(next(&mut timer, later), (268, Some(Output::Expired)));
}

#[test]
fn an_interval_below_our_minimum_gets_422_when_the_caller_knows_the_extension() {
    let timer = timer(1800, 90, Refresher::Auto);
    let refused = timer.check(&said(&[("Supported", "timer"), ("Session-Expires", "89")]));
    assert_eq!(refused.unwrap_err().to_string(), "Min-SE: 90");
    assert!(timer.check(&said(&[("Session-Expires", "89")])).is_ok());
    assert!(timer.check(&said(&[("Supported", "timer"), ("Session-Expires", "90")])).is_ok());
}

#[test]
fn our_interval_is_the_shorter_one_but_never_below_the_callers_minimum() {
    let start = Instant::now();
    let mut short = timer(600, 90, Refresher::Auto);
    assert_eq!(shown(&short.answer(start, &said(&CALLER)))[0], "Session-Expires: 600;refresher=uas");
    let mut minimum = CALLER.to_vec();
    minimum.push(("Min-SE", "1200"));
    assert_eq!(shown(&short.answer(start, &said(&minimum)))[0], "Session-Expires: 1200;refresher=uas");
}

#[test]
fn a_caller_without_the_extension_is_refreshed_by_us_and_not_asked_for_it() {
    let (start, mut ours) = (Instant::now(), timer(600, 90, Refresher::Uac));
    assert_eq!(shown(&ours.answer(start, &said(&[]))), ["Session-Expires: 600;refresher=uas"]);
    assert_eq!(next(&mut ours, start).0, 300);
    let mut off = timer(0, 90, Refresher::Auto);
    assert!(off.answer(start, &said(&[])).is_empty() && off.poll_timeout().is_none());
    // Switched off here it is still done for a caller who wants it.
    assert_eq!(shown(&off.answer(start, &said(&CALLER))).len(), 2);
}

#[test]
fn we_ask_for_our_interval_and_take_what_is_granted() {
    let (start, mut timer) = (Instant::now(), timer(1800, 90, Refresher::Auto));
    assert_eq!(shown(&timer.proposal()), ["Session-Expires: 1800", "Min-SE: 90"]);
    timer.answered(start, &said(&[("Require", "timer"), ("Session-Expires", "600;refresher=uac")]));
    let mut allow = vec![Header::Allow("INVITE, Update".into())].into();
    timer.allowed(&allow);
    assert_eq!(next(&mut timer, start), (300, Some(Output::Refresh(Refresh::Update))));
    assert_eq!(shown(&timer.proposal()), ["Session-Expires: 600;refresher=uac", "Min-SE: 90"]);
    // Granted to the other side, that one refreshes.
    timer.answered(start, &said(&[("Require", "timer"), ("Session-Expires", "600;refresher=uas")]));
    assert_eq!(next(&mut timer, start), (568, Some(Output::Expired)));
    allow = vec![].into();
    timer.allowed(&allow);
    assert!(timer.updates, "a message without Allow says nothing");
}

#[test]
fn a_callee_without_the_extension_is_refreshed_all_the_same() {
    let (start, mut on) = (Instant::now(), timer(1800, 90, Refresher::Auto));
    on.answered(start, &said(&[]));
    assert_eq!(next(&mut on, start), (900, Some(Output::Refresh(Refresh::Reinvite))));
    let mut off = timer(0, 90, Refresher::Auto);
    assert!(off.proposal().is_empty());
    off.answered(start, &said(&[]));
    assert_eq!(off.poll_timeout(), None);
}

#[test]
fn a_422_that_asks_for_no_more_than_before_is_no_reason_to_ask_again_at_once() {
    let (start, mut timer) = (Instant::now(), timer(1800, 90, Refresher::Auto));
    timer.answered(start, &said(&[("Session-Expires", "1800;refresher=uac")]));
    assert_eq!(next(&mut timer, start).0, 900);
    let refused = |timer: &mut SessionTimer| {
        timer.refresh_failed(start + seconds(900), 422, &said(&[("Min-SE", "500")]), true, 0);
    };
    refused(&mut timer);
    assert_eq!(next(&mut timer, start), (900, Some(Output::Refresh(Refresh::Reinvite))));
    refused(&mut timer);
    assert!(next(&mut timer, start).0 > 960, "at leisure");
}

#[test]
fn a_422_raises_what_we_ask_for() {
    let (start, mut timer) = (Instant::now(), timer(100, 90, Refresher::Auto));
    timer.raise_minimum(seconds(240));
    assert_eq!(shown(&timer.proposal()), ["Session-Expires: 240", "Min-SE: 240"]);
    timer.answered(start, &said(&[("Session-Expires", "240;refresher=uac")]));
    assert_eq!(next(&mut timer, start).0, 120);
    timer.refresh_failed(start + seconds(120), 422, &said(&[("Min-SE", "500")]), true, 0);
    assert_eq!(next(&mut timer, start), (120, Some(Output::Refresh(Refresh::Reinvite))));
    assert_eq!(shown(&timer.proposal()), ["Session-Expires: 500;refresher=uac", "Min-SE: 500"]);
}

#[test]
fn what_a_failed_refresh_leads_to_depends_on_its_status() {
    let start = Instant::now();
    let failed = |status: u16, random: u32| {
        let mut timer = timer(1000, 90, Refresher::Auto);
        timer.allowed(&vec![Header::Allow("UPDATE".into())].into());
        timer.answered(start, &said(&[]));
        assert_eq!(next(&mut timer, start), (500, Some(Output::Refresh(Refresh::Update))));
        timer.refresh_failed(start + seconds(500), status, &SessionFields::default(), true, random);
        timer
    };
    for status in [408, 481] {
        let mut timer = failed(status, 0);
        assert_eq!((timer.poll(), timer.poll_timeout()), (Some(Output::Expired), None), "{status}");
    }
    // RFC 3261 §14.1: 2.1 to 4 s.
    assert_eq!(failed(491, 0).poll_timeout().unwrap() - start, Duration::from_millis(502_100));
    assert_eq!(failed(491, 190).poll_timeout().unwrap() - start, seconds(504));
    assert_eq!(next(&mut failed(501, 0), start), (500, Some(Output::Refresh(Refresh::Reinvite))));
    assert_eq!(next(&mut failed(500, 0), start), (750, Some(Output::Refresh(Refresh::Update))));
    assert_eq!(glare_delay(false, 200), seconds(2));
    assert_eq!(glare_delay(false, 201), Duration::ZERO);
}

#[test]
fn numbers_that_are_none_and_numbers_out_of_all_bounds_do_no_harm() {
    let start = Instant::now();
    for expires in ["", "-5", "abc", "99999999999", ";refresher=uac"] {
        assert_eq!(said(&[("Session-Expires", expires)]).expires, None, "{expires}");
    }
    let mut timer = timer(1800, 90, Refresher::Auto);
    timer.answered(start, &said(&[("Session-Expires", "0;refresher=uas")]));
    assert_eq!(next(&mut timer, start).0, 60);
    timer.answered(start, &said(&[("Session-Expires", "4294967295")]));
    assert!(timer.poll_timeout().is_some());
}
