//! The rings between one call on the media thread and its tasks, and the event descriptor that wakes them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::conversation::Generation;
use crate::hearing::{Heard, Hint};
use crate::leg::{Dtmf, LegMedia};
use crate::pcm::tone::Ringback;
use crate::pcm::{Frame, SILENCE};
use crate::playout::{Arming, PlayableClip, Played, SpeechFrame};

use super::bridge::{Bridge, Join, Joins, bridge};
use super::dialling::Keys;
use super::line::LineCounters;

/// Commands that may wait; a conversation makes a handful a turn.
const COMMANDS: usize = 64;
/// Events that may wait; a turn makes about ten.
const EVENTS: usize = 256;
/// Heard frames that may wait: 4 s, in which the call's task is woken eight times. A ring is gone through all over, and is in memory for as
/// long as the call.
const HEARD: usize = 200;
/// Speech frames that may wait: 6 s. What a voice makes beyond that waits for room.
const SPEECH: usize = 300;

/// What a call may ask of the media thread. A clip's frames are shared with the library that outlives the call, so that dropping
/// one on the media thread frees nothing.
#[derive(Debug, Clone)]
pub enum Command {
    /// Arm the placeholders.
    Arm(Arming),
    /// Take them back, and stop one that plays.
    Disarm,
    /// Play a greeting, a prompt, an apology, a goodbye.
    Play(PlayableClip),
    /// The answer may be heard.
    Release(Generation),
    /// Forget the answer.
    Cancel(Generation),
    /// Silence everything, and forget what the caller cut in on.
    Flush,
    /// What the caller cut in on goes on where it was.
    Resume,
    /// What is known of the caller's utterance from elsewhere.
    Hint(Hint),
    /// Press these keys towards the far side in the next pause of what is said.
    Dial(Keys),
    /// The caller does something other than speaking: an utterance that is open goes on.
    KeepOpen,
    /// Before the answer: this is what is to be heard of us.
    Ring(Ringback),
    /// The call is answered: from now on the caller is listened to, and missed.
    Answered,
    /// From now on the caller hears what he says, and nothing else.
    Echo,
    /// Both sides have agreed anew. While the far side does not want to hear us, it is neither listened to nor missed: music on hold
    /// is no utterance.
    Described(LegMedia),
    /// Leave the media thread.
    Stop,
}

/// Something that happened on the media thread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// When it was decided, or left.
    pub at: Instant,
    /// What.
    pub what: Occurrence,
}

/// What happened on the media thread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Occurrence {
    /// The endpointer decided.
    Heard(Heard),
    /// The mixer played.
    Played(Played),
    /// The caller pressed a key.
    Dtmf(Dtmf),
    /// Nothing was received for the media timeout.
    MediaTimeout,
    /// The call has left the media thread; its last event.
    Stopped,
}

/// A frame of the caller's sound, with its place on the heard time line.
#[derive(Debug, Clone, Copy)]
pub struct HeardFrame {
    /// Samples heard before it.
    pub first_sample: u64,
    /// The sound.
    pub samples: Frame,
    /// Whether it has more than the telephone band.
    pub wide: bool,
}

/// The media thread's ends of the rings.
pub(super) struct Inside {
    pub commands: HeapCons<Command>,
    pub events: HeapProd<Event>,
    pub heard: HeapProd<HeardFrame>,
    pub speech: HeapCons<SpeechFrame>,
    pub wake: Arc<OwnedFd>,
    pub bridge: Bridge,
}

/// The tasks' ends of the rings.
pub struct Ports {
    commands: HeapProd<Command>,
    events: HeapCons<Event>,
    heard: HeapCons<HeardFrame>,
    speech: Option<HeapProd<SpeechFrame>>,
    wake: AsyncFd<Arc<OwnedFd>>,
    counters: Arc<LineCounters>,
    joins: Joins,
}

/// Makes the rings of one call. Needs a tokio runtime.
pub(super) fn rings(counters: Arc<LineCounters>) -> io::Result<(Inside, Ports)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (command_in, command_out) = HeapRb::new(COMMANDS).split();
    let nothing = Event { at: Instant::now(), what: Occurrence::Stopped };
    let (event_in, event_out) = HeapRb::new(EVENTS).split();
    let (event_in, event_out) = touched(event_in, event_out, nothing);
    let (heard_in, heard_out) = HeapRb::new(HEARD).split();
    let (heard_in, heard_out) =
        touched(heard_in, heard_out, HeardFrame { first_sample: 0, samples: SILENCE, wide: false });
    let (speech_in, speech_out) = HeapRb::new(SPEECH).split();
    let (bridge, joins) = bridge();
    // SAFETY: the descriptor is an open eventfd, and the `Arc` inside the `AsyncFd` keeps it open and its number the same.
    #[allow(unsafe_code)]
    let woken = unsafe { AsyncFd::register_with_interest(wake.clone(), Interest::READABLE)? };
    Ok((
        Inside { commands: command_out, events: event_in, heard: heard_in, speech: speech_out, wake, bridge },
        Ports {
            commands: command_in,
            events: event_out,
            heard: heard_out,
            speech: Some(speech_in),
            wake: woken,
            counters,
            joins,
        },
    ))
}

/// An empty ring that was gone through once: the media thread writes into it for the first time without waiting for a page of memory.
fn touched<T: Copy>(mut to: HeapProd<T>, mut from: HeapCons<T>, nothing: T) -> (HeapProd<T>, HeapCons<T>) {
    to.push_iter(std::iter::repeat(nothing));
    from.clear();
    (to, from)
}

impl Ports {
    /// Asks the media thread for something; false when the command ring is full, which is counted.
    pub fn command(&mut self, command: Command) -> bool {
        let taken = self.commands.try_push(command).is_ok();
        if !taken {
            self.counters.command_overruns.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        taken
    }

    /// Joins the call with another leg, which from then on is heard and hears in place of the conversation; or gives it another leg.
    ///
    /// # Errors
    /// The order itself, when the call was joined too often.
    #[expect(
        clippy::result_large_err,
        reason = "what finds no room is given back, unboxed: nothing is freed on the media thread"
    )]
    pub fn join(&mut self, join: Join) -> Result<(), Join> {
        self.joins.join(join)
    }

    /// The speech ring's producer, once: it belongs to the one task that speaks.
    pub fn take_speech(&mut self) -> Option<HeapProd<SpeechFrame>> {
        self.speech.take()
    }

    /// The next heard frame, if there is one.
    pub fn heard(&mut self) -> Option<HeardFrame> {
        self.heard.try_pop()
    }

    /// The next event, if there is one.
    pub fn event(&mut self) -> Option<Event> {
        self.joins.reap();
        self.events.try_pop()
    }

    /// Waits until the media thread has something to tell. Cancel-safe.
    pub async fn woken(&mut self) -> io::Result<()> {
        let mut guard = self.wake.readable().await?;
        let mut count = [0u8; 8];
        match rustix::io::read(self.wake.get_ref(), &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether the media thread's ends of the rings are dropped.
    pub fn is_orphaned(&self) -> bool {
        !self.events.write_is_held()
    }

    /// What was counted for this call.
    pub fn counters(&self) -> &Arc<LineCounters> {
        &self.counters
    }
}
