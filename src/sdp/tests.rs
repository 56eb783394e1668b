//! Offers as telephones and gateways send them, and what must not shake the parser.

use proptest::prelude::*;

use super::*;
use crate::codec::TelephoneEvents;

const OFF: MediaSecurity = MediaSecurity::OFF;

const LOCAL: LocalMedia =
    LocalMedia { address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), port: 16384, session_id: 42, version: 1 };

/// Asterisk 20.
const ASTERISK: &str = "v=0\r\no=- 1234 1234 IN IP4 198.51.100.2\r\ns=Asterisk\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n\
    m=audio 11832 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\n";

/// pjsua with Opus first and telephone events as 121 and, at 48 kHz, 120.
const PJSUA: &str = "v=0\r\no=- 3973 3973 IN IP4 10.0.0.5\r\ns=pjmedia\r\nb=AS:117\r\nt=0 0\r\na=X-nat:0\r\n\
    m=audio 4000 RTP/AVP 96 0 8 120 121\r\nc=IN IP4 10.0.0.5\r\nb=TIAS:96000\r\na=rtcp:4001 IN IP4 10.0.0.6\r\na=sendrecv\r\n\
    a=rtpmap:96 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:120 telephone-event/48000\r\n\
    a=fmtp:120 0-16\r\na=rtpmap:121 telephone-event/8000\r\na=fmtp:121 0-16\r\na=ssrc:1 cname:x\r\n";

fn answer(offer: &str) -> Result<(String, Negotiated), SdpError> {
    let (bytes, negotiated) = Offer::parse(offer.as_bytes())?.answer(&LOCAL, &crate::codec::Codec::ALL, &OFF)?;
    Ok((String::from_utf8(bytes).unwrap(), negotiated))
}

#[test]
fn the_offers_first_codec_that_we_speak_is_chosen() {
    let (text, negotiated) = answer(ASTERISK).unwrap();
    assert_eq!(
        text,
        "v=0\r\no=- 42 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 16384 RTP/AVP 8 101\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    );
    assert_eq!(
        negotiated,
        Negotiated {
            codec: Codec::Pcma,
            telephone_event: Some(101.into()),
            remote: "198.51.100.2:11832".parse().unwrap(),
            remote_rtcp: "198.51.100.2:11833".parse().unwrap(),
            rtcp_mux: false,
            ptime: PTIME,
            direction: Direction::SendRecv,
            srtp: None,
            secure_profile: false,
        }
    );
}

#[test]
fn telephone_events_keep_the_offers_payload_type_at_the_clock_rate_of_the_codec() {
    let (text, negotiated) = answer(PJSUA).unwrap();
    let at_its_clock = TelephoneEvents { payload_type: 120, clock_rate: 48_000, narrow: Some(121) };
    assert_eq!((negotiated.codec.name(), negotiated.telephone_event), ("opus", Some(at_its_clock)));
    assert!(text.contains("m=audio 16384 RTP/AVP 96 120\r\n") && text.contains("a=fmtp:120 0-15\r\n"), "{text}");
    // Many know no other clock for them than 8000, whatever the codec.
    let (text, negotiated) = answer(&PJSUA.replace("120 telephone-event/48000", "120 x/48000")).unwrap();
    assert_eq!((negotiated.codec.payload_type(), negotiated.telephone_event), (96, Some(121.into())));
    assert!(text.contains("a=rtpmap:121 telephone-event/8000\r\n"), "{text}");
    let (text, negotiated) = answer(&PJSUA.replace("opus/48000/2", "opus/48000")).unwrap();
    assert_eq!((negotiated.codec, negotiated.telephone_event), (Codec::Pcmu, Some(121.into())));
    assert!(text.contains("m=audio 16384 RTP/AVP 0 121\r\n") && text.contains("a=fmtp:121 0-15\r\n"), "{text}");
    assert_eq!(negotiated.remote, "10.0.0.5:4000".parse().unwrap());
    assert_eq!(negotiated.remote_rtcp, "10.0.0.6:4001".parse().unwrap());
    let (text, negotiated) = answer(&PJSUA.replace("telephone-event/8000", "CN/8000").replace("opus", "x")).unwrap();
    assert_eq!(negotiated.telephone_event, None);
    assert!(text.contains("m=audio 16384 RTP/AVP 0\r\n") && !text.contains("fmtp"), "{text}");
}

#[test]
fn static_payload_types_need_no_rtpmap_and_a_contrary_rtpmap_wins() {
    let bare = "v=0\r\no=a 1 1 IN IP4 10.1.1.1\r\ns=-\r\nc=IN IP4 10.1.1.1\r\nt=0 0\r\nm=audio 5000 RTP/AVP 18 0 8\r\n";
    assert_eq!(answer(bare).unwrap().1.codec, Codec::Pcmu);
    let contrary = format!("{bare}a=rtpmap:0 L16/8000\r\na=rtpmap:8 pcma/8000/1\r\n");
    assert_eq!(answer(&contrary).unwrap().1.codec, Codec::Pcma);
}

#[test]
fn the_direction_is_mirrored_and_hold_is_understood_in_both_manners() {
    for (theirs, ours) in
        [("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive"), ("sendrecv", "sendrecv")]
    {
        let (text, negotiated) = answer(&ASTERISK.replace("sendrecv", theirs)).unwrap();
        assert!(text.contains(&format!("a={ours}\r\n")));
        assert_eq!(negotiated.direction.name(), ours);
        assert_eq!(
            (negotiated.direction.sends(), negotiated.direction.receives()),
            (ours.starts_with("send"), ours.ends_with("recv") || ours == "recvonly")
        );
    }
    let above = ASTERISK.replace("a=sendrecv\r\n", "").replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n");
    assert_eq!(answer(&above).unwrap().1.direction, Direction::RecvOnly);
    let (_, negotiated) = answer(&ASTERISK.replace("c=IN IP4 198.51.100.2", "c=IN IP4 0.0.0.0")).unwrap();
    assert_eq!(negotiated.direction, Direction::RecvOnly);
    assert!(negotiated.remote.ip().is_unspecified());
}

#[test]
fn every_other_line_is_answered_in_its_place_with_port_zero() {
    let offer = format!(
        "{}m=video 6000 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\nm=audio 7000 RTP/AVP 0\r\nm=image 8000 udptl t38\r\n",
        ASTERISK.replace("m=audio 11832", "m=audio 7777 RTP/SAVP 0\r\nm=audio 11832")
    );
    let (text, negotiated) = answer(&offer).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=audio 0 RTP/SAVP 0",
            "m=audio 16384 RTP/AVP 8 101",
            "m=video 0 RTP/AVP 99",
            "m=audio 0 RTP/AVP 0",
            "m=image 0 udptl t38"
        ]
    );
    assert_eq!(negotiated.remote.port(), 11832);
}

#[test]
fn what_cannot_be_agreed_to_is_488_and_says_what_was_offered() {
    for (offer, warning, remedy) in [
        (ASTERISK.replace("RTP/AVP 8 0 101", "RTP/AVP 4 18 101"), 305, "enable G.711"),
        (ASTERISK.replace("RTP/AVP", "RTP/SAVP"), 302, "turn off SRTP at the peer"),
        (ASTERISK.replace("RTP/AVP", "UDP/TLS/RTP/SAVPF"), 302, "offer the profile RTP/AVP"),
        (ASTERISK.replace("m=audio 11832", "m=audio 0"), 304, "offer audio"),
        (ASTERISK.replace("m=audio", "m=video"), 304, "offer audio"),
        (ASTERISK.split("m=").next().unwrap().into(), 304, "no media line"),
    ] {
        let error = answer(&offer).unwrap_err();
        assert!(matches!(error, SdpError::NotAcceptable { .. } | SdpError::SrtpOff), "{error}");
        assert_eq!((error.sip_status(), error.warning()), (488, warning), "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
    let text = answer(&ASTERISK.replace("RTP/AVP 8 0 101", "RTP/AVP 4 18")).unwrap_err().to_string();
    assert!(text.contains("m=audio 11832 RTP/AVP 4 18"), "{text}");
}

#[test]
fn addresses_that_no_telephone_has_are_refused_by_name() {
    for address in ["pbx.example.com", "239.1.2.3/32", "255.255.255.255", "224.0.0.1"] {
        let error = answer(&ASTERISK.replace("c=IN IP4 198.51.100.2", &format!("c=IN IP4 {address}"))).unwrap_err();
        assert!(matches!(&error, SdpError::Address { line: 1, .. }), "{error}");
        assert!(error.to_string().contains(address), "{error}");
    }
    let error = answer(&ASTERISK.replace("c=IN IP4 198.51.100.2\r\n", "")).unwrap_err();
    assert_eq!(error.to_string(), "SDP field c= of media line 1: it is missing; send a unicast IP address");
    let error = answer(&PJSUA.replace("a=rtcp:4001", "a=rtcp:99999")).unwrap_err();
    assert!(matches!(error, SdpError::Field { field: "a=rtcp", .. }));
}

#[test]
fn both_sides_must_speak_the_same_version_of_ip() {
    let offer = ASTERISK.replace("IN IP4 198.51.100.2", "IN IP6 2001:db8::5");
    let error = answer(&offer).unwrap_err();
    assert_eq!((error.sip_status(), error.warning()), (488, 300));
    let local = LocalMedia { address: "2001:db8::7".parse().unwrap(), ..LOCAL };
    let (text, negotiated) =
        Offer::parse(offer.as_bytes()).unwrap().answer(&local, &crate::codec::Codec::ALL, &OFF).unwrap();
    assert_eq!(negotiated.remote_rtcp, "[2001:db8::5]:11833".parse().unwrap());
    assert!(String::from_utf8(text).unwrap().contains("c=IN IP6 2001:db8::7\r\n"));
}

#[test]
fn an_offer_of_ours_is_answered_by_us_and_both_agree() {
    let offer = make_offer(&LOCAL, &[Codec::Pcma, Codec::Pcmu], &OFF);
    let callee = LocalMedia { address: "192.0.2.9".parse().unwrap(), port: 20000, session_id: 9, version: 1 };
    let (text, callee_side) = Offer::parse(&offer).unwrap().answer(&callee, &crate::codec::Codec::ALL, &OFF).unwrap();
    let caller_side = parse_answer(&text, &crate::codec::Codec::ALL, &OFF).unwrap();
    assert_eq!((callee_side.codec, caller_side.codec), (Codec::Pcma, Codec::Pcma));
    assert_eq!((callee_side.telephone_event, caller_side.telephone_event), (Some(101.into()), Some(101.into())));
    assert_eq!(callee_side.remote, "192.0.2.7:16384".parse().unwrap());
    assert_eq!(caller_side.remote, "192.0.2.9:20000".parse().unwrap());
}

#[test]
fn an_answer_that_declines_is_told_from_one_that_makes_no_sense() {
    assert_eq!(
        parse_answer(ASTERISK.replace("audio 11832", "audio 0").as_bytes(), &crate::codec::Codec::ALL, &OFF),
        Err(SdpError::Declined)
    );
    assert!(matches!(parse_answer(b"v=0\r\nnonsense", &crate::codec::Codec::ALL, &OFF), Err(SdpError::Syntax(_))));
}

#[test]
fn packet_times_other_than_ours_are_noted_and_nonsense_is_passed_over() {
    let ptime = |value: &str| answer(&ASTERISK.replace("ptime:20", &format!("ptime:{value}"))).unwrap().1.ptime;
    assert_eq!(ptime("30"), Duration::from_millis(30));
    for nonsense in ["0", "-1", "20.5", "99999", ""] {
        assert_eq!(ptime(nonsense), PTIME);
    }
}

#[test]
fn lenient_where_gateways_are_sloppy() {
    // No s=, no t=, bare line feeds, origin number beyond 64 bits.
    let sloppy = "v=0\no=- 99999999999999999999999 1 IN IP4 10.1.1.1\nc=IN IP4 10.1.1.1\nm=audio 5000 RTP/AVP 0\n";
    assert_eq!(answer(sloppy).unwrap().1.codec, Codec::Pcmu);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let long = vec![b'v'; MAX_BYTES + 1];
    assert_eq!(Offer::parse(&long).unwrap_err().sip_status(), 413);
    let many = format!("{ASTERISK}{}", "m=video 0 RTP/AVP 9\r\n".repeat(MAX_MEDIA));
    assert!(matches!(Offer::parse(many.as_bytes()), Err(SdpError::TooManyMedia(17))));
}

#[test]
fn every_truncation_is_answered_or_refused() {
    for offer in [ASTERISK, PJSUA] {
        for end in 0..offer.len() {
            if let Ok(offer) = Offer::parse(&offer.as_bytes()[..end]) {
                let _ = offer.answer(&LOCAL, &crate::codec::Codec::ALL, &OFF);
            }
        }
    }
}

proptest! {
    #[test]
    fn mutations_never_panic_and_every_answer_parses(
        pjsua: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..12),
    ) {
        let mut bytes = if pjsua { PJSUA } else { ASTERISK }.as_bytes().to_vec();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        if let Ok(offer) = Offer::parse(&bytes)
            && let Ok((text, negotiated)) = offer.answer(&LOCAL, &crate::codec::Codec::ALL, &OFF)
        {
            let answer = Session::parse(&text).unwrap();
            prop_assert_eq!(answer.medias.len(), offer.description.medias.len());
            prop_assert_eq!(answer.medias.iter().filter(|media| media.port != 0).count(), 1);
            prop_assert!(negotiated.remote.port() != 0);
        }
        let _ = parse_answer(&bytes, &crate::codec::Codec::ALL, &OFF);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Offer::parse(&bytes);
        let _ = parse_answer(&bytes, &crate::codec::Codec::ALL, &OFF);
    }
}

#[test]
fn g722_is_taken_under_either_rate_that_devices_write() {
    for rate in [8000, 16000] {
        let offer = ASTERISK
            .replace("RTP/AVP 8 0 101", "RTP/AVP 9 101")
            .replace("rtpmap:8 PCMA/8000", &format!("rtpmap:9 G722/{rate}"));
        let (text, negotiated) = answer(&offer).unwrap();
        assert_eq!(negotiated.codec, Codec::G722);
        assert!(
            text.contains("m=audio 16384 RTP/AVP 9 101\r\n") && text.contains("a=rtpmap:9 G722/8000\r\n"),
            "{text}"
        );
    }
}
