//! Offers with keys as PBXes send them, under each policy.

use proptest::prelude::*;

use super::*;
use crate::codec::Codec;
use crate::sdp::{LocalMedia, Negotiated, Offer, make_offer, parse_answer};

/// The key of RFC 4568's own example.
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const OTHER_KEY: &str = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";

fn local() -> LocalMedia {
    LocalMedia { address: [192, 0, 2, 7].into(), port: 16384, session_id: 42, version: 1 }
}

fn security(policy: Policy) -> MediaSecurity {
    MediaSecurity::new(policy, true, false).unwrap()
}

/// An offer of PCMA with these media lines, each a profile and its `a=crypto` values.
fn offer(lines: &[(&str, &[&str])]) -> String {
    let mut text = "v=0\r\no=- 1 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n".to_owned();
    for (n, (profile, crypto)) in lines.iter().enumerate() {
        text += &format!("m=audio {} {profile} 8\r\n", 4000 + 2 * n);
        for value in *crypto {
            text += &format!("a=crypto:{value}\r\n");
        }
    }
    text
}

fn answer(offer: &str, security: &MediaSecurity) -> Result<(String, Negotiated), SdpError> {
    let (answer, negotiated) = Offer::parse(offer.as_bytes())?.answer(&local(), &crate::codec::Codec::ALL, security)?;
    Ok((String::from_utf8(answer).unwrap(), negotiated))
}

fn line(rest: &str) -> Result<CryptoLine, String> {
    CryptoLine::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{rest}"))
}

#[test]
fn the_first_suite_that_we_have_is_answered_with_its_tag_and_a_key_of_our_own() {
    let gcm = format!("1 AEAD_AES_128_GCM inline:{KEY}");
    let (short, long) =
        (format!("7 AES_CM_128_HMAC_SHA1_32 inline:{KEY}"), format!("2 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"));
    let ours = security(Policy::Optional);
    let (text, negotiated) = answer(&offer(&[("RTP/SAVP", &[&gcm, &short, &long])]), &ours).unwrap();
    let keys = negotiated.srtp.unwrap();
    assert_eq!(
        (keys.suite, keys.remote),
        (Suite::AesCm128HmacSha1_32, KeyParameters::new(MasterKey::parse(KEY).unwrap()))
    );
    let written = format!("a=crypto:7 AES_CM_128_HMAC_SHA1_32 inline:{}\r\n", keys.local.master.write());
    assert!(text.contains("m=audio 16384 RTP/SAVP 8\r\n") && text.contains(&written), "{text}");
    assert_eq!(text.matches("a=crypto").count(), 1);
    // A later answer repeats the key of its suite, and another suite has another key.
    assert_eq!(answer(&offer(&[("RTP/SAVP", &[&short])]), &ours).unwrap().1.srtp.unwrap().local, keys.local);
    assert_ne!(answer(&offer(&[("RTP/SAVP", &[&long])]), &ours).unwrap().1.srtp.unwrap().local, keys.local);
    assert_ne!(security(Policy::Optional).ours.unwrap()[1], keys.local.master);
}

#[test]
fn each_policy_takes_what_it_wants_of_each_offer() {
    let crypto = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
    let (keyed, bare): (&[&str], &[&str]) = (&[&crypto], &[]);
    let port = |lines: &[(&str, &[&str])], policy| {
        answer(&offer(lines), &security(policy)).map(|(_, agreed)| (agreed.remote.port(), agreed.srtp.is_some()))
    };
    use Policy::{Off, Optional, Required};
    for (lines, off, optional, required) in [
        (&[("RTP/AVP", bare)][..], Ok((4000, false)), Ok((4000, false)), Err(SdpError::SrtpRequired)),
        (&[("RTP/SAVP", keyed)][..], Err(SdpError::SrtpOff), Ok((4000, true)), Ok((4000, true))),
        (&[("RTP/SAVPF", keyed)][..], Err(SdpError::SrtpOff), Ok((4000, true)), Ok((4000, true))),
        // RFC 8643: encrypted if both can, in the plain profile.
        (&[("RTP/AVP", keyed)][..], Ok((4000, false)), Ok((4000, true)), Ok((4000, true))),
        (&[("RTP/AVP", bare), ("RTP/SAVP", keyed)][..], Ok((4000, false)), Ok((4002, true)), Ok((4002, true))),
        (&[("RTP/SAVP", keyed), ("RTP/AVP", bare)][..], Ok((4002, false)), Ok((4000, true)), Ok((4000, true))),
    ] {
        assert_eq!(port(lines, Off), off, "{lines:?}");
        assert_eq!(port(lines, Optional), optional, "{lines:?}");
        assert_eq!(port(lines, Required), required, "{lines:?}");
    }
    let refusal = port(&[("RTP/SAVP", keyed)], Off).unwrap_err();
    assert!(refusal.to_string().contains("SRTP") && refusal.sip_status() == 488, "{refusal}");
    let dtls = port(&[("UDP/TLS/RTP/SAVP", bare)], Optional).unwrap_err();
    assert!(matches!(dtls, SdpError::NotAcceptable { .. }), "{dtls}");
}

#[test]
fn no_key_travels_in_the_clear_unless_the_installer_says_so() {
    let crypto = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
    let (only, both) = (offer(&[("RTP/SAVP", &[&crypto])]), offer(&[("RTP/SAVP", &[&crypto]), ("RTP/AVP", &[])]));
    let clear = MediaSecurity::new(Policy::Optional, false, false).unwrap();
    let refusal = answer(&only, &clear).unwrap_err();
    assert_eq!((refusal.clone(), refusal.sip_status()), (SdpError::SrtpInClear, 488));
    assert!(refusal.to_string().contains("turn off SRTP or use TLS"), "{refusal}");
    let (text, negotiated) = answer(&both, &clear).unwrap();
    assert!(negotiated.srtp.is_none() && !text.contains("crypto"), "{text}");
    assert!(!String::from_utf8(make_offer(&local(), &Codec::ALL, &clear)).unwrap().contains("crypto"));
    assert_eq!(MediaSecurity::new(Policy::Required, false, false).unwrap_err(), SdpError::SrtpInClear);
    let allowed = MediaSecurity::new(Policy::Required, false, true).unwrap();
    assert!(answer(&only, &allowed).unwrap().1.srtp.is_some());
}

#[test]
fn an_offer_of_ours_is_answered_by_us_and_both_have_the_same_keys() {
    for (caller, callee, secured) in [
        (Policy::Required, Policy::Required, true),
        (Policy::Required, Policy::Optional, true),
        (Policy::Optional, Policy::Required, true),
        (Policy::Optional, Policy::Optional, true),
        (Policy::Optional, Policy::Off, false),
        (Policy::Off, Policy::Optional, false),
    ] {
        let (caller, callee) = (security(caller), security(callee));
        let offer = make_offer(&local(), &Codec::ALL, &caller);
        let (text, theirs) = answer(std::str::from_utf8(&offer).unwrap(), &callee).unwrap();
        let ours = parse_answer(text.as_bytes(), &crate::codec::Codec::ALL, &caller).unwrap();
        assert_eq!((ours.srtp.is_some(), theirs.srtp.is_some()), (secured, secured));
        if let Some((ours, theirs)) = ours.srtp.zip(theirs.srtp) {
            assert_eq!((ours.suite, ours.local, ours.remote), (theirs.suite, theirs.remote, theirs.local));
        }
    }
    let offer = String::from_utf8(make_offer(&local(), &Codec::ALL, &security(Policy::Required))).unwrap();
    assert!(offer.contains("m=audio 16384 RTP/SAVP "), "{offer}");
    assert_eq!(offer.matches("a=crypto:").count(), 2);
    assert!(
        offer.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:")
            && offer.contains("a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:")
    );
}

#[test]
fn an_answer_is_only_taken_with_a_suite_and_tag_of_our_offer_and_a_key_that_is_not_ours() {
    let caller = security(Policy::Required);
    let answered = |crypto: &str| {
        parse_answer(offer(&[("RTP/SAVP", &[crypto])]).as_bytes(), &crate::codec::Codec::ALL, &caller)
            .map(|agreed| agreed.srtp)
    };
    let agreed = answered(&format!("2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}")).unwrap().unwrap();
    assert_eq!((agreed.suite, agreed.local.master), (Suite::AesCm128HmacSha1_32, caller.ours.unwrap()[1]));
    for wrong in [
        format!("2 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
        format!("3 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", caller.ours.unwrap()[0].write()),
    ] {
        assert!(matches!(answered(&wrong), Err(SdpError::NoCrypto { .. })), "{wrong}");
    }
    let plain = parse_answer(offer(&[("RTP/AVP", &[])]).as_bytes(), &crate::codec::Codec::ALL, &caller);
    assert_eq!(plain, Err(SdpError::SrtpRequired));
}

#[test]
fn every_parameter_of_a_key_is_read() {
    let read = |rest: &str| line(rest).map(|line| (line.key.lifetime, line.key.mki.map(|mki| (mki.value, mki.bytes))));
    assert_eq!(read(""), Ok((None, None)));
    assert_eq!(read("|2^31"), Ok((Some(1 << 31), None)));
    assert_eq!(read("|1048576|1:4"), Ok((Some(1 << 20), Some((1, 4)))));
    assert_eq!(read("|66051:128"), Ok((None, Some((66051, 128)))));
    // A hint about the window, and what may be ignored.
    assert_eq!(read("|2^20 WSH=128 -X-NEW=1"), Ok((Some(1 << 20), None)));
    let lower = format!("000000012\t aes_cm_128_hmac_sha1_80   INLINE:{KEY} ");
    assert_eq!(CryptoLine::parse(&lower).map(|line| line.tag), Ok(12));
}

#[test]
fn a_line_that_asks_for_more_is_not_used() {
    for rest in [
        "|2^49",
        "|2^64",
        "|0",
        "|",
        "|x",
        "|2^31|1:0",
        "|2^31|256:1",
        "|2^31|1:129",
        "|1:4|1:4",
        "|1:4|2^31",
        "|2^3|2^3",
        " KDR=1",
        " UNENCRYPTED_SRTP",
        " UNENCRYPTED_SRTCP",
        " UNAUTHENTICATED_SRTP",
        " FEC_ORDER=FEC_SRTP",
        " X-NEW",
    ] {
        assert!(line(rest).is_err(), "{rest}");
    }
    assert!(line(&format!(";inline:{OTHER_KEY}|2^20|2:4")).is_err());
    for value in [
        "",
        "1",
        "x AES_CM_128_HMAC_SHA1_80",
        "1 AES_CM_128_HMAC_SHA1_80",
        "1 AES_CM_128_HMAC_SHA1_80 inline:",
        "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19z",
        "1234567890 AES_CM_128_HMAC_SHA1_80",
        "-1 AES_CM_128_HMAC_SHA1_80",
    ] {
        assert!(CryptoLine::parse(value).is_err(), "{value}");
    }
    assert!(CryptoLine::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}")).is_err());
    assert!(CryptoLine::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{KEY}")).is_err());
}

#[test]
fn no_key_is_shown_by_debug_or_by_an_error() {
    let security = security(Policy::Required);
    let crypto = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4");
    let (_, negotiated) = answer(&offer(&[("RTP/SAVP", &[&crypto])]), &security).unwrap();
    let shown = format!("{negotiated:?} {security:?} {:?}", line(""));
    let bytes = format!("{:?}", MasterKey::parse(KEY).unwrap().key());
    assert!(
        shown.contains("[secret]") && !shown.contains(KEY) && !shown.contains(bytes.trim_matches(['[', ']'])),
        "{shown}"
    );
    // The key in each place where a parser may stumble over it.
    for wrong in [
        format!("{KEY} AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
        format!("1 inline:{KEY}"),
        format!("1 {KEY} inline:{KEY}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 {KEY}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|{KEY}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} {KEY}"),
        format!("1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}"),
    ] {
        let error = answer(&offer(&[("RTP/SAVP", &[&wrong])]), &security).unwrap_err();
        assert!(matches!(error, SdpError::NoCrypto { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains(&KEY[..12]), "{error}");
    }
    let error = answer(&offer(&[("RTP/SAVP", &[&format!("1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}")])]), &security);
    assert!(error.unwrap_err().to_string().contains("its suite is AES_256_CM_HMAC_SHA1_80"));
}

proptest! {
    #[test]
    fn garbage_in_place_of_a_key_never_panics(text in "[ -~]{0,120}", cut in 0..60usize) {
        let _ = CryptoLine::parse(&text);
        let _ = line(&text);
        let whole = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|1:4");
        let _ = CryptoLine::parse(&whole[..cut]);
    }

    #[test]
    fn a_key_that_is_written_is_read_again(key: [u8; 16], salt: [u8; 14]) {
        let master = MasterKey::new(key, salt);
        let value = crypto_value(9, Suite::AesCm128HmacSha1_80, &master);
        let line = CryptoLine::parse(&value).unwrap();
        prop_assert_eq!((line.tag, line.key), (9, KeyParameters::new(master)));
    }
}
