//! The offers and answers of one call, from its first to its last (RFC 3264 §4 and §8).
//!
//! Holds what both sides agreed on last and our own description; a refused offer changes neither. The version in our `o=` grows by one
//! with every description that differs from the one before, and only then. The version in the peer's is not relied on: a description
//! that says the same changes nothing, and one that says something else under the same version is believed, since devices are known
//! that do not count (Microsoft OCS; Asterisk has `ignoresdpversion` for them). The keys of SRTP are those of the first description in
//! every one that follows. Not implemented: offers of ours that change the media.

use super::{LocalMedia, MediaSecurity, Negotiated, Offer, SdpError, make_offer_with, parse_answer};
use crate::codec::Codec;

/// The offers and answers of one call.
#[derive(Debug, Clone)]
pub struct OfferAnswer {
    local: LocalMedia,
    /// Most wanted first.
    codecs: Vec<Codec>,
    security: MediaSecurity,
    /// Our last description, with the version that it was sent with.
    described: Option<Vec<u8>>,
    agreed: Option<Negotiated>,
    /// What the call is made for, in Opus: the first thing agreed on, or an offer of ours that it stands in.
    opus: Option<Codec>,
}

impl OfferAnswer {
    /// A call with nothing agreed yet; `local` is our side of the media, `codecs` what we offer, most wanted first, `security` what may be
    /// agreed about SRTP.
    pub fn new(local: LocalMedia, codecs: &[Codec], security: MediaSecurity) -> Self {
        Self { local, codecs: codecs.to_vec(), security, described: None, agreed: None, opus: None }
    }

    /// What both sides agreed on last.
    pub fn agreed(&self) -> Option<&Negotiated> {
        self.agreed.as_ref()
    }

    /// Our side of the media, in the version that was sent last.
    pub fn local(&self) -> &LocalMedia {
        &self.local
    }

    /// Answers an offer of the peer's: our description, and what is agreed from now on.
    ///
    /// # Errors
    /// When the offer cannot be agreed to. What was agreed before stays.
    pub fn answer(&mut self, offer: &[u8]) -> Result<(Vec<u8>, Negotiated), SdpError> {
        let offer = Offer::parse(offer)?;
        let security = self.security;
        let codecs = self.takeable();
        let (_, agreed) = offer.answer(&self.local, &codecs, &security)?;
        let described = self.describe(|local| offer.answer(local, &codecs, &security).map(|(answer, _)| answer))?;
        self.agree(agreed);
        Ok((described, agreed))
    }

    /// Our offer: all codecs, the one in use first, under the profile and the payload type for telephone events that are in use
    /// (RFC 3264 §8.3.2).
    pub fn offer(&mut self) -> Vec<u8> {
        let mut codecs = self.takeable();
        if let Some(agreed) = &self.agreed {
            // A payload type is one thing only: events keep theirs.
            let events = agreed.telephone_event.map(|events| events.payload_type);
            codecs.retain(|codec| !codec.is_kind_of(agreed.codec) && Some(codec.payload_type()) != events);
            codecs.insert(0, agreed.codec);
        }
        // The answer may take it, and before it another may have been heard in early media.
        self.opus = self.opus.or(codecs.iter().copied().find(|codec| matches!(codec, Codec::Opus(_))));
        let (agreed, security) = (self.agreed, self.security);
        self.describe(|local| Ok(make_offer_with(local, &codecs, agreed.as_ref(), &security)))
            .expect("an offer of ours needs nothing from the peer")
    }

    /// Takes the peer's answer to [`OfferAnswer::offer`]: what is agreed from now on.
    ///
    /// # Errors
    /// When it declines the call, or makes no sense. What was agreed before stays.
    pub fn answered(&mut self, answer: &[u8]) -> Result<Negotiated, SdpError> {
        let mut agreed = parse_answer(answer, &self.takeable(), &self.security)?;
        if agreed.rtcp_mux && !self.agreed.is_some_and(|before| before.rtcp_mux) {
            // We have not offered it.
            agreed.rtcp_mux = false;
            agreed.remote_rtcp.set_port(agreed.remote.port().saturating_add(1));
        }
        let (remote, local) = (agreed.remote.ip(), self.local.address);
        if remote.is_ipv4() != local.is_ipv4() && !remote.is_unspecified() {
            return Err(SdpError::IpVersion { remote, local });
        }
        self.agree(agreed);
        Ok(agreed)
    }

    fn agree(&mut self, agreed: Negotiated) {
        if matches!(agreed.codec, Codec::Opus(_)) {
            self.opus = Some(agreed.codec);
        }
        self.agreed = Some(agreed);
    }

    /// Opus, if the leg of this call has to be made for it: agreed on, or still to be answered.
    pub fn opus(&self) -> Option<Codec> {
        self.opus
    }

    /// What may be agreed on now. A call that began without Opus does not change over to it: what decodes and encodes it is made with the
    /// call, since the media thread can make nothing.
    fn takeable(&self) -> Vec<Codec> {
        let began_without = self.agreed.is_some() && self.opus.is_none();
        self.codecs.iter().copied().filter(|codec| !(began_without && matches!(codec, Codec::Opus(_)))).collect()
    }

    /// Our description in the version that it has to have.
    fn describe(&mut self, write: impl Fn(&LocalMedia) -> Result<Vec<u8>, SdpError>) -> Result<Vec<u8>, SdpError> {
        let as_before = write(&self.local)?;
        let described = match &self.described {
            Some(before) if *before != as_before => {
                let next = LocalMedia { version: self.local.version + 1, ..self.local };
                let described = write(&next)?;
                self.local = next;
                described
            }
            _ => as_before,
        };
        self.described = Some(described.clone());
        Ok(described)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::Direction;
    use super::*;
    use crate::config::Policy;

    const OFFER: &str = "v=0\r\no=- 7 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n\
        m=audio 11832 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

    fn call() -> OfferAnswer {
        call_with(MediaSecurity::OFF)
    }

    fn call_with(security: MediaSecurity) -> OfferAnswer {
        let address = IpAddr::from([192, 0, 2, 7]);
        let local = LocalMedia { address, port: 16384, session_id: 42, version: 1 };
        OfferAnswer::new(local, &Codec::ALL, security)
    }

    /// The version in `o=` of our answer, its codec and direction, and where the peer wants its packets.
    fn answered(call: &mut OfferAnswer, offer: &str) -> (u64, Codec, &'static str, String) {
        let (answer, agreed) = call.answer(offer.as_bytes()).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let version = answer.split("o=- 42 ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
        assert!(answer.contains(&format!("a={}\r\n", agreed.direction.name())), "{answer}");
        (version, agreed.codec, agreed.direction.name(), agreed.remote.to_string())
    }

    #[test]
    fn our_version_grows_only_when_our_description_changes() {
        let mut call = call();
        let remote = "198.51.100.2:11832".to_owned();
        assert_eq!(answered(&mut call, OFFER), (1, Codec::Pcma, "sendrecv", remote.clone()));
        assert_eq!(answered(&mut call, OFFER), (1, Codec::Pcma, "sendrecv", remote));
        // The peer moves: nothing of ours changes.
        let moved = OFFER.replace("11832", "20000").replace("o=- 7 1", "o=- 7 2");
        assert_eq!(answered(&mut call, &moved).0, 1);
        let held = moved.replace("sendrecv", "sendonly");
        assert_eq!((answered(&mut call, &held).0, answered(&mut call, &held).0), (2, 2));
        assert_eq!(answered(&mut call, &OFFER.replace(" 8 0 ", " 0 8 ")).0, 3);
        assert_eq!(call.local().version, 3);
    }

    #[test]
    fn hold_is_answered_in_both_forms_and_taken_back() {
        let mut call = call();
        answered(&mut call, OFFER);
        for (held, direction) in [
            (OFFER.replace("sendrecv", "sendonly"), "recvonly"),
            (OFFER.replace("sendrecv", "inactive"), "inactive"),
            (OFFER.replace("c=IN IP4 198.51.100.2", "c=IN IP4 0.0.0.0"), "recvonly"),
        ] {
            assert_eq!(answered(&mut call, &held).2, direction);
            assert!(!call.agreed().unwrap().direction.sends());
            assert_eq!(answered(&mut call, OFFER).2, "sendrecv");
        }
    }

    #[test]
    fn a_refused_offer_leaves_everything_as_it_was() {
        let mut call = call();
        answered(&mut call, OFFER);
        let before = (*call.agreed().unwrap(), *call.local());
        for refused in [
            OFFER.replace(" 8 0 101", " 18"),
            OFFER.replace("m=audio 11832", "m=audio 0"),
            OFFER.replace("IN IP4 198.51.100.2", "IN IP6 2001:db8::5"),
            "nonsense".into(),
        ] {
            assert!(call.answer(refused.as_bytes()).is_err(), "{refused}");
            assert_eq!((*call.agreed().unwrap(), *call.local()), before);
        }
        assert_eq!(answered(&mut call, OFFER).0, 1);
    }

    #[test]
    fn another_payload_type_for_telephone_events_is_taken_on() {
        let mut call = call();
        answered(&mut call, OFFER);
        let changed = OFFER.replace("101", "96");
        assert_eq!(answered(&mut call, &changed).0, 2);
        assert_eq!(call.agreed().unwrap().telephone_event, Some(96.into()));
    }

    #[test]
    fn a_call_without_an_offer_is_offered_all_and_the_answer_chooses() {
        let mut call = call();
        let offer = String::from_utf8(call.offer()).unwrap();
        assert!(
            offer.contains("o=- 42 1 ") && offer.contains("m=audio 16384 RTP/AVP 9 111 0 8 101 110\r\n"),
            "{offer}"
        );
        let answer = OFFER.replace(" 8 0 101", " 8 101");
        assert_eq!(call.answered(answer.as_bytes()).unwrap().codec, Codec::Pcma);
        // Asked again within the call, the codec in use comes first; that is another description.
        let again = String::from_utf8(call.offer()).unwrap();
        assert!(again.contains("o=- 42 2 ") && again.contains("RTP/AVP 8 9 111 0 101 110\r\n"), "{again}");
        assert_eq!(String::from_utf8(call.offer()).unwrap(), again);
        assert_eq!(
            call.answered(answer.replace("sendrecv", "sendonly").as_bytes()).unwrap().direction,
            Direction::RecvOnly
        );
    }

    #[test]
    fn a_call_that_began_in_opus_may_leave_it_and_come_back_and_another_never_gets_there() {
        const WITH_OPUS: &str = "v=0\r\no=- 7 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n\
            m=audio 11832 RTP/AVP 96 8 97 98\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1;stereo=1\r\n\
            a=rtpmap:97 telephone-event/8000\r\na=rtpmap:98 telephone-event/48000\r\n";
        let mut first = call();
        let (answer, agreed) = first.answer(WITH_OPUS.as_bytes()).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!((agreed.codec.name(), agreed.codec.payload_type()), ("opus", 96));
        assert!(answer.contains("RTP/AVP 96 98\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 "), "{answer}");
        assert!(answer.contains("a=rtpmap:98 telephone-event/48000\r\n"), "{answer}");
        assert_eq!(answered(&mut first, OFFER).1, Codec::Pcma);
        assert_eq!(first.answer(WITH_OPUS.as_bytes()).unwrap().1.codec, agreed.codec);
        let ours = String::from_utf8(first.offer()).unwrap();
        assert!(ours.contains("RTP/AVP 96 9 0 8 98 101\r\n"), "{ours}");
        // What decodes it was not made for this one.
        let mut second = call();
        assert_eq!(answered(&mut second, OFFER).1, Codec::Pcma);
        assert_eq!((first.opus(), second.opus()), (Some(agreed.codec), None));
        assert_eq!(second.answer(WITH_OPUS.as_bytes()).unwrap().1.codec, Codec::Pcma);
        assert!(!String::from_utf8(second.offer()).unwrap().contains("opus"));
    }

    #[test]
    fn opus_that_we_offered_may_be_taken_after_early_media_in_another_codec() {
        let mut call = call();
        call.offer();
        assert_eq!(call.opus(), Codec::named("opus"));
        assert_eq!(call.answered(OFFER.as_bytes()).unwrap().codec, Codec::Pcma);
        let answer = OFFER.replace(" 8 0 101", " 111 101") + "a=rtpmap:111 opus/48000/2\r\n";
        assert_eq!(call.answered(answer.as_bytes()).unwrap().codec.name(), "opus");
    }

    #[test]
    fn a_payload_type_that_the_peer_has_for_events_is_offered_for_nothing_else() {
        let mut call = call();
        let opus = OFFER.replace(" 8 0 101", " 96 101") + "a=rtpmap:96 opus/48000/2\r\n";
        call.answer(opus.as_bytes()).unwrap();
        call.answer(OFFER.replace("101", "111").as_bytes()).unwrap();
        let ours = String::from_utf8(call.offer()).unwrap();
        assert_eq!(ours.matches("rtpmap:111 ").count(), 1, "{ours}");
    }

    #[test]
    fn rtcp_shares_the_port_when_the_peer_offers_it_and_as_long_as_it_does() {
        let mut call = call();
        let muxed = OFFER.to_owned() + "a=rtcp-mux\r\na=rtcp:9\r\n";
        let (answer, agreed) = call.answer(muxed.as_bytes()).unwrap();
        assert!(String::from_utf8(answer).unwrap().contains("\r\na=rtcp-mux\r\n"));
        assert!(agreed.rtcp_mux && agreed.remote_rtcp == agreed.remote);
        // Our own offer within the call repeats it, and the answer decides.
        let ours = String::from_utf8(call.offer()).unwrap();
        assert!(ours.contains("\r\na=rtcp-mux\r\n"), "{ours}");
        assert!(call.answered(muxed.as_bytes()).unwrap().rtcp_mux);
        let without = call.answered(OFFER.as_bytes()).unwrap();
        assert!(!without.rtcp_mux && without.remote_rtcp.port() == without.remote.port() + 1);
        // Nobody offered it now: an answer with it means nothing.
        assert!(!String::from_utf8(call.offer()).unwrap().contains("rtcp-mux"));
        let answered = call.answered(muxed.as_bytes()).unwrap();
        assert!(!answered.rtcp_mux && answered.remote_rtcp.port() == answered.remote.port() + 1);
        let (answer, agreed) = call.answer(OFFER.as_bytes()).unwrap();
        assert!(!agreed.rtcp_mux && !String::from_utf8(answer).unwrap().contains("rtcp-mux"));
    }

    #[test]
    fn every_description_of_a_call_repeats_the_keys_of_its_first_under_the_same_profile() {
        const THEIRS: &str = "inline:YUJDZGVGZ2hpSktMbW9QUXJzVHVWd3l6MTIzNDU2";
        let security = MediaSecurity::new(Policy::Optional, true, false).unwrap();
        let crypto_of =
            |sdp: &str| sdp.lines().filter(|line| line.starts_with("a=crypto:")).map(str::to_owned).collect();
        for profile in ["RTP/AVP", "RTP/SAVP"] {
            let line = format!("a=crypto:4 AES_CM_128_HMAC_SHA1_32 {THEIRS}\r\n");
            let offer = OFFER.replace("RTP/AVP", profile) + &line;
            let mut call = call_with(security);
            let (first, agreed) = call.answer(offer.as_bytes()).unwrap();
            let first = String::from_utf8(first).unwrap();
            let keys: Vec<String> = crypto_of(&first);
            assert!(keys.len() == 1 && keys[0].starts_with("a=crypto:4 AES_CM_128_HMAC_SHA1_32 inline:"), "{first}");
            // On hold and back, the keys and the tag are those of before.
            for direction in ["sendonly", "sendrecv"] {
                let (again, now) = call.answer(offer.replace("sendrecv", direction).as_bytes()).unwrap();
                assert_eq!((now.srtp, crypto_of(&String::from_utf8(again).unwrap())), (agreed.srtp, keys.clone()));
            }
            let ours = String::from_utf8(call.offer()).unwrap();
            assert!(ours.contains(&format!("m=audio 16384 {profile} 8 9 0 101\r\n")), "{ours}");
            let offered: Vec<String> = crypto_of(&ours);
            assert!(offered.iter().any(|line| line.split(' ').nth(2) == keys[0].split(' ').nth(2)), "{ours}");
            let answer = offer.replace(&line, &line.replace("crypto:4", "crypto:2"));
            assert_eq!(call.answered(answer.as_bytes()).unwrap().srtp, agreed.srtp);
        }
    }

    #[test]
    fn an_answer_without_keys_where_they_are_required_leaves_everything_as_it_was() {
        let mut call = call_with(MediaSecurity::new(Policy::Required, true, false).unwrap());
        let offer = String::from_utf8(call.offer()).unwrap();
        assert!(offer.contains(" RTP/SAVP 9 111 0 8 101 110\r\n"), "{offer}");
        assert_eq!(call.answered(OFFER.as_bytes()), Err(SdpError::SrtpRequired));
        assert_eq!(call.agreed(), None);
    }

    #[test]
    fn an_answer_that_declines_or_makes_no_sense_leaves_everything_as_it_was() {
        let mut call = call();
        answered(&mut call, OFFER);
        let before = *call.agreed().unwrap();
        call.offer();
        for answer in [
            "",
            "nonsense",
            &OFFER.replace("m=audio 11832", "m=audio 0"),
            &OFFER.replace("IN IP4 198.51.100.2", "IN IP6 ::1"),
        ] {
            assert!(call.answered(answer.as_bytes()).is_err(), "{answer}");
            assert_eq!(*call.agreed().unwrap(), before);
        }
    }
}
