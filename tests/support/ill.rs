//! A call in which the model is ill in one way, and what its caller hears of it: two questions, and what follows each of them.

use std::collections::BTreeMap;
use std::time::Duration;

use offhook::config::HttpTool;
use offhook::pcm::{FRAME_SAMPLES, PTIME, level};
use offhook::simulator::faces::{FaceOptions, Faces};
use offhook::simulator::{self, Simulator};
use offhook::timeline::TurnReport;

use super::house::{Call, House, LOOPBACK, Sound, say, sound_of};

/// The fault that is none of the simulator's: nobody listens where the model should be.
pub const REFUSED: &str = "refused";
/// A pause of the caller's that is shorter is within a question.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(1200);
const AT_ONCE: usize = 8;
/// What is shorter is the seam between two tones.
const SEAM: Duration = Duration::from_millis(60);

/// One sound, from the caller's last word on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    pub sound: Sound,
    pub from: Duration,
    pub to: Duration,
}

/// What follows a question.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub sounds: Vec<Timed>,
}

impl Reply {
    /// What was heard that is more than a promise of something.
    pub fn said(&self) -> impl Iterator<Item = &Timed> {
        self.sounds.iter().filter(|timed| timed.sound != Sound::Placeholder)
    }

    /// Its sounds in their order, of several of the same kind the first.
    pub fn kinds(&self) -> Vec<Sound> {
        let mut kinds: Vec<Sound> = self.said().map(|timed| timed.sound).collect();
        kinds.dedup();
        kinds
    }

    /// When something sensible began.
    pub fn sensible(&self) -> Option<Duration> {
        self.said().next().map(|timed| timed.from)
    }

    /// The longest silence before the last of its sounds, the one before the first left out.
    pub fn longest_silence(&self) -> Duration {
        let pairs = self.sounds.windows(2).map(|pair| pair[1].from.saturating_sub(pair[0].to));
        pairs.max().unwrap_or_default()
    }
}

/// A call, and what came of it.
pub struct Illness {
    pub fault: &'static str,
    pub replies: Vec<Reply>,
    /// Who hung up.
    pub ended_by: &'static str,
    /// How the box saw the turns.
    pub turns: Vec<TurnReport>,
    /// Requests that reached the simulator.
    pub requests: u32,
}

/// All of these calls, some of them at once: they are mostly waiting.
pub async fn calls(faults: &[&'static str]) -> Vec<Illness> {
    let mut ill = Vec::new();
    for some in faults.chunks(AT_ONCE) {
        let calls: Vec<_> = some.iter().map(|fault| tokio::spawn(call(fault))).collect();
        for call in calls {
            ill.push(call.await.unwrap());
        }
    }
    ill
}

/// Calls a box whose model is ill in this way in every request, and asks two questions.
async fn call(fault: &'static str) -> Illness {
    let faces = Faces::start((LOOPBACK, 0).into(), FaceOptions::default()).await.unwrap();
    let mut house = House::open(|config, cloud: &mut simulator::Options| {
        if fault != REFUSED {
            cloud.faults = vec![fault.parse().unwrap()];
        }
        let order = serde_json::json!({"type": "object", "properties": {"order": {"type": "string"}}});
        let tool = HttpTool {
            description: "the state of an order".into(),
            url: format!("http://{}/tools/orders/{{{{order}}}}", faces.address()),
            parameters: order.as_object().unwrap().clone(),
            side_effects: false,
            ..HttpTool::default()
        };
        config.tools = BTreeMap::from([("order_status".into(), tool)]);
    })
    .await;
    if fault == REFUSED {
        let elsewhere = Simulator::start(simulator::Options::default()).await.unwrap();
        std::mem::replace(&mut house.simulator, elsewhere).shutdown().await;
    }
    let mut options = house.options(vec![say("Are you open on Friday?"), say("And how do I find you?")]);
    // Longer than any silence that is allowed, so that one which is not is heard to its end.
    options.script.answer_quiet = Duration::from_millis(3200);
    options.script.answer_wait = Duration::from_millis(8000);
    let call = house.call(options).await.unwrap();
    house.is_empty().await;
    let requests = house.simulator.counts().requests;
    let turns = house.close().await;
    let (replies, ended_by) = (replies(&call), call.report.ended_by);
    Illness { fault, replies, ended_by, turns, requests }
}

/// Frames to time.
fn at(frame: usize) -> Duration {
    PTIME * u32::try_from(frame).unwrap()
}

/// Stretches of frames that are the same, `None` for silence, with a gap in them of at most so many frames.
fn runs<T: PartialEq + Copy>(frames: &[Option<T>], gap: Duration) -> Vec<(T, usize, usize)> {
    let mut runs: Vec<(T, usize, usize)> = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let Some(kind) = *frame else { continue };
        match runs.last_mut() {
            Some((last, _, end)) if *last == kind && at(n - *end) <= gap => *end = n + 1,
            _ => runs.push((kind, n, n + 1)),
        }
    }
    runs
}

fn replies(call: &Call) -> Vec<Reply> {
    let side = |n: usize| call.recording.chunks_exact(2).map(|both| both[n]).collect::<Vec<i16>>();
    let (caller, box_) = (side(0), side(1));
    let voiced = |frame: &[i16]| (level::rms_dbfs(frame) > level::VOICED_DBFS).then_some(());
    let spoken = runs(&caller.chunks_exact(FRAME_SAMPLES).map(voiced).collect::<Vec<_>>(), BETWEEN_QUESTIONS);
    let heard = runs(&box_.chunks_exact(FRAME_SAMPLES).map(sound_of).collect::<Vec<_>>(), Duration::ZERO);
    let heard: Vec<_> = heard.into_iter().filter(|(_, from, to)| at(to - from) >= SEAM).collect();
    let ends = spoken.iter().skip(1).map(|(_, from, _)| *from).chain([usize::MAX]);
    let of = |(asked, until): (usize, usize)| {
        let between = heard.iter().filter(|(_, from, _)| (asked..until).contains(from));
        let sounds =
            between.map(|(sound, from, to)| Timed { sound: *sound, from: at(from - asked), to: at(to - asked) });
        Reply { sounds: sounds.collect() }
    };
    spoken.iter().map(|(_, _, to)| *to).zip(ends).map(of).collect()
}

/// The columns of [`Illness`] as a row of a Markdown table.
pub const COLUMNS: &str = "| fault | heard | something sensible after (ms), both questions | longest silence after the placeholder (ms) | requests of both |\n\
    |---|---|---|---|---|";

/// What was found, as a row of a Markdown table; with `#` every sound of it.
impl std::fmt::Display for Illness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if f.alternate() {
            return write!(f, "{:?}", self.replies);
        }
        let mut heard: Vec<&str> =
            self.replies.iter().take(1).flat_map(|reply| reply.sounds.iter().map(name)).collect();
        heard.dedup();
        let sensible: Vec<String> = self.replies.iter().map(|reply| ms(reply.sensible())).collect();
        let silence = self.replies.iter().map(Reply::longest_silence).max();
        write!(
            f,
            "| {} | {} | {} | {} | {} |",
            self.fault,
            heard.join(", "),
            sensible.join(" / "),
            ms(silence),
            self.requests
        )
    }
}

fn ms(time: Option<Duration>) -> String {
    time.map_or("–".into(), |time| time.as_millis().to_string())
}

fn name(timed: &Timed) -> &'static str {
    match timed.sound {
        Sound::Placeholder => "placeholder",
        Sound::Answer | Sound::Second | Sound::Live => "answer",
        Sound::Apology => "apology",
        Sound::Goodbye => "goodbye",
        Sound::Greeting | Sound::Prompt | Sound::Other => "something else",
    }
}
