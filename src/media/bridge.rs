//! Two legs as one call: each hears the other, a frame each way every ptime, and keys are passed on, to a peer that takes no telephone
//! events as tones.
//!
//! The sound passes through decoded, so that the legs may have different codecs. Nothing is allocated or freed here: a leg comes from
//! a task by a ring, and goes back by another. Not implemented: conferences of more than two.

use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::leg::{Dtmf, FrameKind, Leg, LegMedia};
use crate::pcm::SILENCE;
use crate::pcm::tone::Ringback;

/// Legs that one call may be joined with, one after another.
const JOINS: usize = 8;
/// What a call is joined with.
#[expect(clippy::large_enum_variant, reason = "taken on the media thread, which frees nothing, and few wait")]
pub enum Join {
    /// Somebody is being called: the caller hears a ringing tone, and nobody hears the caller.
    Ringing(Ringback),
    /// The caller and this leg hear each other.
    Leg(Box<dyn Leg>),
    /// What is agreed on with the leg that the caller is joined with. Once it is `answered`, its packets are missed.
    Described {
        /// All of it.
        media: LegMedia,
        /// Whether the call is answered.
        answered: bool,
    },
    /// The caller pressed a key and signalling tells of it.
    Key(Dtmf),
    /// This leg is the caller's from now on, in place of the one before: the conversation goes on over it.
    Successor(Box<dyn Leg>),
    /// Nobody any more: the conversation goes on.
    Nobody,
}

/// The tasks' ends of the rings.
pub(super) struct Joins {
    orders: HeapProd<Join>,
    returned: HeapCons<Box<dyn Leg>>,
    left: usize,
}

impl Joins {
    /// Frees the legs that are not needed any more.
    pub fn reap(&mut self) {
        while let Some(leg) = self.returned.try_pop() {
            drop(leg);
        }
    }

    /// Joins the call; gives the order back when that was done too often.
    #[expect(clippy::result_large_err, reason = "what finds no room is given back as it is")]
    pub fn join(&mut self, join: Join) -> Result<(), Join> {
        self.reap();
        if matches!(join, Join::Leg(_) | Join::Successor(_)) {
            match self.left.checked_sub(1) {
                Some(left) => self.left = left,
                None => return Err(join),
            }
        }
        self.orders.try_push(join)
    }
}

/// The media thread's side of it.
pub(super) struct Bridge {
    orders: HeapCons<Join>,
    returned: HeapProd<Box<dyn Leg>>,
    state: State,
}

enum State {
    Apart,
    Ringing(Ringback),
    Joined {
        far: Box<dyn Leg>,
        /// From when on its packets are expected.
        expected_since: Option<Instant>,
    },
}

/// Makes the rings of one call.
pub(super) fn bridge() -> (Bridge, Joins) {
    let (order_in, order_out) = HeapRb::new(2 * JOINS).split();
    // Room for every leg that may ever come.
    let (return_in, return_out) = HeapRb::new(JOINS).split();
    let bridge = Bridge { orders: order_out, returned: return_in, state: State::Apart };
    (bridge, Joins { orders: order_in, returned: return_out, left: JOINS })
}

impl Bridge {
    /// Takes orders. True when the call is not alone, and [`Bridge::relay`] is to be called in place of the conversation.
    pub fn obey(&mut self, now: Instant, near: &mut Box<dyn Leg>) -> bool {
        while let Some(join) = self.orders.try_pop() {
            let next = match join {
                Join::Ringing(ringback) => State::Ringing(ringback),
                Join::Leg(far) => State::Joined { far, expected_since: None },
                Join::Nobody => State::Apart,
                Join::Described { media, answered } => {
                    if let State::Joined { far, expected_since } = &mut self.state {
                        far.renegotiate(&media);
                        let due = answered && media.direction.receives();
                        *expected_since = due.then(|| expected_since.unwrap_or(now));
                    }
                    continue;
                }
                Join::Key(dtmf) => {
                    if let State::Joined { far, .. } = &mut self.state {
                        far.dial(dtmf);
                    }
                    continue;
                }
                Join::Successor(leg) => {
                    let before = std::mem::replace(near, leg);
                    self.give_back(before);
                    continue;
                }
            };
            if let State::Joined { far, .. } = std::mem::replace(&mut self.state, next) {
                self.give_back(far);
            }
        }
        !matches!(self.state, State::Apart)
    }

    /// The ring has room for all of them; a leg must not be freed on this thread.
    fn give_back(&mut self, leg: Box<dyn Leg>) {
        if let Err(leg) = self.returned.try_push(leg) {
            std::mem::forget(leg);
        }
    }

    /// Whether nothing was received of the far leg for so long.
    pub fn misses(&self, now: Instant, timeout: Duration) -> bool {
        match &self.state {
            State::Joined { far, expected_since: Some(since) } => {
                now.saturating_duration_since(far.last_received().max(*since)) >= timeout
            }
            _ => false,
        }
    }

    /// One ptime of two legs. Gives what the near one was heard to be; its keys go to `pressed` as well.
    pub fn relay(&mut self, now: Instant, near: &mut dyn Leg, mut pressed: impl FnMut(Dtmf)) -> FrameKind {
        let (mut from_near, mut from_far) = (SILENCE, SILENCE);
        let kind = near.hear(now, &mut from_near);
        match &mut self.state {
            State::Joined { far, .. } => {
                let far_kind = far.hear(now, &mut from_far);
                near.speak(now, &from_far, far_kind != FrameKind::Silence);
                far.speak(now, &from_near, kind != FrameKind::Silence);
                while let Some(dtmf) = near.poll_dtmf() {
                    far.dial(dtmf);
                    pressed(dtmf);
                }
                while let Some(dtmf) = far.poll_dtmf() {
                    near.dial(dtmf);
                }
            }
            State::Ringing(ringback) => {
                let (frame, sounding) = ringback.frame();
                near.speak(now, &frame, sounding);
                while let Some(dtmf) = near.poll_dtmf() {
                    pressed(dtmf);
                }
            }
            State::Apart => near.speak(now, &SILENCE, false),
        }
        kind
    }

    /// A ptime passed without a tick.
    pub fn skip(&mut self) {
        if let State::Joined { far, .. } = &mut self.state {
            far.skip();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use super::*;
    use crate::codec::{Codec, HouseDecoder};
    use crate::config;
    use crate::hearing::{Endpointer, Limits};
    use crate::leg::rtp::RtpLeg;
    use crate::media::{Line, Occurrence, Ports};
    use crate::pcm::{FRAME_SAMPLES, Frame, PTIME, RATE, tone};
    use crate::playout::Mixer;
    use crate::rtp::packet::PacketView;
    use crate::rtp::sender::{MAX_PACKET_BYTES, Sender};
    use crate::sdp;

    const OFF: sdp::MediaSecurity = sdp::MediaSecurity::OFF;

    /// A telephone that says a tone, and the leg to it.
    struct Phone {
        socket: UdpSocket,
        sender: Sender,
        codec: Codec,
        decoder: HouseDecoder,
        hz: f32,
        said: usize,
        heard: Vec<i16>,
        keys: Vec<u8>,
        leg: SocketAddr,
    }

    fn phone(codec: Codec, hz: f32) -> (Phone, Box<RtpLeg>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        let leg = ours.local_addr().unwrap();
        let port = socket.local_addr().unwrap().port();
        let local = sdp::LocalMedia { address: [127, 0, 0, 1].into(), port, session_id: 1, version: 1 };
        let negotiated = sdp::parse_answer(&sdp::make_offer(&local, &[codec], &OFF), &[codec], &OFF).unwrap();
        let (rtp, _) = RtpLeg::new(ours, &negotiated, Duration::from_millis(40), Instant::now()).unwrap();
        let sender = Sender::new(codec, negotiated.telephone_event);
        let phone = Phone {
            socket,
            sender,
            codec,
            decoder: HouseDecoder::new(codec),
            hz,
            said: 0,
            heard: vec![],
            keys: vec![],
            leg,
        };
        (phone, Box::new(rtp))
    }

    impl Phone {
        fn say(&mut self) {
            let sound = tone::sine(self.hz, -20.0, self.said + FRAME_SAMPLES);
            let frame: Frame = sound[self.said..].try_into().unwrap();
            self.said = (self.said + FRAME_SAMPLES) % RATE as usize;
            let mut packet = [0; MAX_PACKET_BYTES];
            let length = self.sender.packet(&frame, false, &mut packet);
            self.socket.send_to(&packet[..length], self.leg).unwrap();
        }

        fn listen(&mut self) {
            let mut packet = [0; 2048];
            while let Ok(length) = self.socket.recv(&mut packet) {
                let view = PacketView::parse(&packet[..length]).unwrap();
                if view.payload_type == self.codec.payload_type() {
                    let mut frame = SILENCE;
                    self.decoder.decode(self.codec, view.payload, &mut frame);
                    self.heard.extend(frame);
                } else {
                    self.keys.push(view.payload[0]);
                }
            }
        }

        /// The share of a tone in the last second heard.
        fn hears(&mut self, hz: f32) -> bool {
            self.listen();
            let last = self.heard.len().saturating_sub(RATE as usize);
            tone::share_of(hz, &self.heard[last..]) > 0.9
        }
    }

    /// Ticks a line for a second and a half, with both phones speaking; time is only counted.
    fn run(line: &mut Line, now: &mut Instant, phones: &mut [&mut Phone]) {
        for _ in 0..75 {
            for phone in phones.iter_mut() {
                phone.say();
            }
            assert!(line.tick(*now));
            *now += PTIME;
            for phone in phones.iter_mut() {
                phone.listen();
            }
        }
    }

    #[tokio::test]
    async fn the_caller_hears_ringing_then_the_one_who_was_called_and_keys_are_passed_on() {
        let mut now = Instant::now();
        let (mut caller, near) = phone(Codec::Pcmu, 700.0);
        let (mut agent, far) = phone(Codec::Pcma, 1100.0);
        let endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
        let (mut line, mut ports) =
            Line::new(near, endpointer, Mixer::new(Duration::ZERO), Duration::from_secs(60)).unwrap();

        assert!(ports.join(Join::Ringing(Ringback::of_country(None))).is_ok());
        for _ in 0..60 {
            caller.say();
            assert!(line.tick(now));
            now += PTIME;
        }
        caller.listen();
        let first = tone::share_of(425.0, &caller.heard[..RATE as usize - FRAME_SAMPLES]);
        assert!(first > 0.9, "{first}");

        assert!(ports.join(Join::Leg(far)).is_ok());
        run(&mut line, &mut now, &mut [&mut caller, &mut agent]);
        assert!(caller.hears(1100.0) && !caller.hears(700.0), "the caller hears the one called");
        assert!(agent.hears(700.0) && !agent.hears(1100.0), "and is heard");

        assert!(caller.sender.dial('5', Duration::from_millis(100)));
        run(&mut line, &mut now, &mut [&mut caller, &mut agent]);
        assert!(agent.keys.contains(&5), "{:?}", agent.keys);

        assert!(ports.join(Join::Nobody).is_ok());
        caller.heard.clear();
        agent.heard.clear();
        run(&mut line, &mut now, &mut [&mut caller, &mut agent]);
        assert!(!caller.hears(1100.0) && !agent.hears(700.0), "apart again");
    }

    #[tokio::test]
    async fn a_key_is_passed_on_as_a_tone_to_one_who_takes_no_telephone_events() {
        let mut now = Instant::now();
        let (mut caller, near) = phone(Codec::Pcmu, 0.0);
        let (mut agent, mut far) = phone(Codec::Pcma, 0.0);
        let direction = sdp::Direction::SendRecv;
        far.renegotiate(&LegMedia {
            codec: Codec::Pcma,
            telephone_event: None,
            remote: None,
            direction,
            srtp: None,
            rtcp_mux: false,
            ptime: PTIME,
        });
        let endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
        let (mut line, mut ports) =
            Line::new(near, endpointer, Mixer::new(Duration::ZERO), Duration::from_secs(60)).unwrap();
        assert!(ports.join(Join::Leg(far)).is_ok());
        assert!(caller.sender.dial('5', Duration::from_millis(100)));
        run(&mut line, &mut now, &mut [&mut caller, &mut agent]);
        let sounds = |frame: &&[i16]| [770.0, 1336.0].iter().map(|hz| tone::share_of(*hz, frame)).sum::<f32>() > 0.9;
        assert_eq!(
            agent.heard.chunks(FRAME_SAMPLES).filter(sounds).count(),
            4,
            "and the two that it begins and ends in"
        );
        assert!(agent.keys.is_empty(), "{:?}", agent.keys);
    }

    #[tokio::test]
    async fn a_successor_is_heard_in_place_of_the_leg_before() {
        let mut now = Instant::now();
        let (mut before, near) = phone(Codec::Pcmu, 700.0);
        let (mut after, successor) = phone(Codec::Pcma, 1100.0);
        let (mut agent, far) = phone(Codec::Pcma, 1700.0);
        let endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
        let (mut line, mut ports) =
            Line::new(near, endpointer, Mixer::new(Duration::ZERO), Duration::from_secs(60)).unwrap();
        assert!(ports.join(Join::Successor(successor)).is_ok() && ports.join(Join::Leg(far)).is_ok());
        run(&mut line, &mut now, &mut [&mut before, &mut after, &mut agent]);
        assert!(agent.hears(1100.0) && after.hears(1700.0) && before.heard.is_empty());
    }

    /// A leg that only hears, or does not.
    struct Quiet {
        last: Instant,
        hears: bool,
    }

    impl Leg for Quiet {
        fn hear(&mut self, now: Instant, _frame: &mut Frame) -> FrameKind {
            if self.hears {
                self.last = now;
            }
            FrameKind::Silence
        }
        fn speak(&mut self, _now: Instant, _frame: &Frame, _sounding: bool) {}
        fn skip(&mut self) {}
        fn poll_dtmf(&mut self) -> Option<Dtmf> {
            None
        }
        fn renegotiate(&mut self, _media: &LegMedia) {}
        fn last_received(&self) -> Instant {
            self.last
        }
    }

    #[tokio::test]
    async fn a_far_leg_is_missed_when_it_is_silent_after_its_answer_and_not_while_it_rings_or_holds() {
        let mut now = Instant::now();
        let quiet = |hears| Box::new(Quiet { last: now, hears });
        let endpointer = Endpointer::new(Limits::from(&config::Hearing::default()));
        let (mut line, mut ports) =
            Line::new(quiet(true), endpointer, Mixer::new(Duration::ZERO), Duration::from_secs(3)).unwrap();
        assert!(ports.join(Join::Leg(quiet(false))).is_ok());
        let mut timed_out = |ports: &mut Ports, seconds: u32| {
            for _ in 0..50 * seconds {
                now += PTIME;
                assert!(line.tick(now));
            }
            std::iter::from_fn(|| ports.event()).any(|event| event.what == Occurrence::MediaTimeout)
        };
        let described = |direction, answered| Join::Described {
            media: LegMedia {
                codec: Codec::Pcma,
                telephone_event: None,
                remote: None,
                direction,
                srtp: None,
                rtcp_mux: false,
                ptime: PTIME,
            },
            answered,
        };
        assert!(!timed_out(&mut ports, 10));
        assert!(ports.join(described(sdp::Direction::SendRecv, false)).is_ok() && !timed_out(&mut ports, 10));
        assert!(ports.join(described(sdp::Direction::SendRecv, true)).is_ok() && !timed_out(&mut ports, 2));
        assert!(ports.join(described(sdp::Direction::SendOnly, true)).is_ok() && !timed_out(&mut ports, 10));
        assert!(ports.join(described(sdp::Direction::SendRecv, true)).is_ok() && !timed_out(&mut ports, 2));
        assert!(timed_out(&mut ports, 2));
    }

    #[test]
    fn more_legs_than_there_is_room_for_are_given_back() {
        let (mut bridge, mut joins) = bridge();
        let (now, mut near): (_, Box<dyn Leg>) = (Instant::now(), phone(Codec::Pcmu, 0.0).1);
        for _ in 0..JOINS {
            assert!(joins.join(Join::Leg(phone(Codec::Pcmu, 0.0).1)).is_ok());
            assert!(bridge.obey(now, &mut near));
        }
        assert!(joins.join(Join::Leg(phone(Codec::Pcmu, 0.0).1)).is_err());
        assert!(joins.join(Join::Nobody).is_ok());
        assert!(!bridge.obey(now, &mut near));
    }
}
