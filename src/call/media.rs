//! A call's side of the media: its ports, what is agreed on about them (RFC 3264), and the leg that is made of both.

use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::config::{Sip, Trunk};
use crate::hearing::{Endpointer, Limits};
use crate::leg::LegMedia;
use crate::leg::rtcp::{RtcpLink, RtcpMedia};
use crate::leg::rtp::RtpLeg;
use crate::media::{Command, Line, Place, Ports};
use crate::pcm::tone::Ringback;
use crate::playout::Mixer;
use crate::rtp;
use crate::rtp::ports::{self, Lease};
use crate::sdp::{LocalMedia, MediaSecurity, Negotiated, OfferAnswer, SdpError};
use crate::sip::{Offer, Warning};

use super::{Parts, Unanswered};

/// Ports that are bound, and what is agreed on about them.
pub(super) struct BoundMedia {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    lease: Lease,
    exchange: OfferAnswer,
    /// Taken before a call is answered, so that there is room for it then.
    place: Place,
}

/// What a call needs of the media that the media thread serves.
pub(super) struct StartedMedia {
    pub ports: Ports,
    pub rtcp: RtcpLink,
    pub agreement: Agreement,
}

/// A leg that the media thread does not serve yet, and what belongs to it.
pub(super) struct StartedLeg {
    pub leg: Box<RtpLeg>,
    pub rtcp: RtcpLink,
    pub agreement: Agreement,
}

/// What is agreed on about the media of a call that goes on.
pub(super) struct Agreement {
    exchange: OfferAnswer,
    /// No other call has the ports as long as this one lasts, nor for a while behind it.
    _lease: Lease,
    /// The same for RTCP.
    rtcp: watch::Sender<RtcpMedia>,
}

impl BoundMedia {
    /// Binds ports from which `peer` is reached, for a call on `trunk` with what may be agreed about its `security`.
    pub fn bind(
        parts: &Parts,
        peer: IpAddr,
        trunk: Option<&Trunk>,
        security: MediaSecurity,
    ) -> Result<Self, Unanswered> {
        let place = parts.media.place().ok_or(Unanswered::NoRoom)?;
        let (bind, shown) = addresses(parts, peer, trunk);
        let range = parts.config.rtp.port_min..=parts.config.rtp.port_max;
        let (rtp, rtcp, lease) = ports::lease_pair(bind, range).map_err(Unanswered::Ports)?;
        let port = rtp.local_addr().map_err(Unanswered::Ports)?.port();
        let local = LocalMedia { address: shown, port, session_id: u64::from(fastrand::u32(..)), version: 1 };
        Ok(Self { rtp, rtcp, lease, exchange: OfferAnswer::new(local, &parts.config.rtp.codecs, security), place })
    }

    /// Offers and answers for these ports.
    pub fn exchange(&mut self) -> &mut OfferAnswer {
        &mut self.exchange
    }

    /// Lets the media thread serve what was agreed on. While the call is `early`, that is what is heard of us, and nothing is listened to.
    pub fn start(
        self,
        parts: &Parts,
        agreed: &Negotiated,
        early: Option<Ringback>,
    ) -> Result<StartedMedia, Unanswered> {
        let (StartedLeg { leg, rtcp, agreement }, place) = self.placed_leg(parts, agreed)?;
        let (line, mut ports) = Line::new(
            leg,
            Endpointer::new(Limits::from(&parts.config.hearing)),
            Mixer::new(parts.config.placeholder.grace),
            parts.config.rtp.media_timeout,
        )
        .map_err(Unanswered::Wake)?;
        ports.command(Command::Described(LegMedia::from(agreed)));
        if let Some(ringback) = early {
            ports.command(Command::Ring(ringback));
        }
        parts.media.add(line, place);
        Ok(StartedMedia { ports, rtcp, agreement })
    }

    /// The leg that was agreed on, for a line that there is already.
    pub fn leg(self, parts: &Parts, agreed: &Negotiated) -> Result<StartedLeg, Unanswered> {
        self.placed_leg(parts, agreed).map(|(leg, _)| leg)
    }

    fn placed_leg(self, parts: &Parts, agreed: &Negotiated) -> Result<(StartedLeg, Place), Unanswered> {
        let jitter = parts.config.rtp.jitter;
        let (mut leg, outlets) = RtpLeg::new(self.rtp, agreed, jitter, Instant::now()).map_err(Unanswered::Ports)?;
        if let Some(opus) = self.exchange.opus() {
            leg.prepare(opus);
        }
        let (rtcp_in, rtcp_out) = watch::channel(RtcpMedia::from(agreed));
        let rtcp = RtcpLink::new(self.rtcp, rtcp_out, outlets).map_err(Unanswered::Ports)?;
        let agreement = Agreement { exchange: self.exchange, _lease: self.lease, rtcp: rtcp_in };
        Ok((StartedLeg { leg: Box::new(leg), rtcp, agreement }, self.place))
    }
}

impl StartedMedia {
    /// Tells the media thread what is agreed on anew, before the conversation has the ports.
    pub fn describe(&mut self, agreed: &Negotiated) {
        self.ports.command(Command::Described(LegMedia::from(agreed)));
    }
}

impl Agreement {
    /// What both sides agreed on last.
    pub fn agreed(&self) -> Option<Negotiated> {
        self.exchange.agreed().copied()
    }

    /// Answers an offer within the call, or makes the offer that the peer asks for. Gives what is agreed from now on; an offer that cannot
    /// be met leaves the call as it was.
    pub fn reoffered(&mut self, offer: Offer) -> Option<Negotiated> {
        if offer.sdp.is_empty() {
            debug!("the media is to be offered again");
            offer.answer(self.exchange.offer());
            return None;
        }
        match self.exchange.answer(&offer.sdp) {
            Ok((answer, agreed)) => {
                offer.answer(answer);
                Some(self.agreed_anew(agreed))
            }
            Err(error) => {
                warn!(%error, "a new offer within the call cannot be met");
                offer.refuse(warning(&error));
                None
            }
        }
    }

    /// Takes the peer's answer to an offer of ours within the call. One that cannot be met leaves the call as it was.
    pub fn answered(&mut self, answer: &[u8]) -> Option<Negotiated> {
        self.answer(answer)
            .inspect_err(|error| warn!(%error, "the answer to our offer within the call cannot be met"))
            .ok()
    }

    /// The same, for whoever ends the call over it.
    pub fn answer(&mut self, answer: &[u8]) -> Result<Negotiated, SdpError> {
        let agreed = self.exchange.answered(answer)?;
        Ok(self.agreed_anew(agreed))
    }

    fn agreed_anew(&mut self, agreed: Negotiated) -> Negotiated {
        info!(
            direction = agreed.direction.name(),
            codec = agreed.codec.name(),
            srtp = agreed.srtp.is_some(),
            "media agreed on anew"
        );
        self.rtcp.send_modify(|rtcp| {
            rtcp.srtp = agreed.srtp;
            rtcp.mux = agreed.rtcp_mux;
            if !agreed.remote_rtcp.ip().is_unspecified() {
                rtcp.remote = agreed.remote_rtcp;
            }
        });
        agreed
    }
}

/// The words of a refusal.
pub(super) fn warning(error: &SdpError) -> Warning {
    Warning::new(error.warning(), error.to_string())
}

/// The address to bind media for `peer` to, and the one to show it in SDP. Bound to the address that the route to the peer leaves from,
/// a box with two interfaces sends from where the peer was told to send to.
fn addresses(parts: &Parts, peer: IpAddr, trunk: Option<&Trunk>) -> (IpAddr, IpAddr) {
    let public = public_address(&parts.config.sip, peer, trunk);
    if !parts.bind_address.is_unspecified() {
        return (parts.bind_address, public.unwrap_or(parts.bind_address));
    }
    let route = rtp::socket::route_from(peer).ok().filter(|_| peer.is_ipv4() == parts.bind_address.is_ipv4());
    match route {
        Some(local) => (local, public.unwrap_or(local)),
        None => (parts.bind_address, public.unwrap_or(parts.media_address)),
    }
}

/// The address that stands for ours outside: the trunk's, or everybody's. The box itself has no use for it.
fn public_address(sip: &Sip, peer: IpAddr, trunk: Option<&Trunk>) -> Option<IpAddr> {
    let public = trunk.and_then(|trunk| trunk.public_address).or(sip.public_address);
    public.filter(|_| !peer.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunks_public_address_goes_before_everybodys_and_the_box_itself_is_shown_none() {
        let [everybodys, trunks] = [1, 2].map(|n| IpAddr::from([203, 0, 113, n]));
        let peer = IpAddr::from([198, 51, 100, 7]);
        let sip = Sip { public_address: Some(everybodys), ..Sip::default() };
        let trunk = Trunk { public_address: Some(trunks), ..Trunk::default() };
        assert_eq!(public_address(&sip, peer, Some(&trunk)), Some(trunks));
        assert_eq!(public_address(&sip, peer, Some(&Trunk::default())), Some(everybodys));
        assert_eq!(public_address(&sip, peer, None), Some(everybodys));
        assert_eq!(public_address(&sip, [127, 0, 0, 1].into(), Some(&trunk)), None);
        assert_eq!(public_address(&Sip::default(), peer, None), None);
    }
}
