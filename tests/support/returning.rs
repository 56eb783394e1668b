//! A call in virtual time whose far end returns what the box says: a greeting, a question, an answer, and sometimes a caller who cuts in.
//!
//! The line is the real one (endpointer, mixer); the way back is a short hybrid with a delay and a loss, µ-law both ways.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use audio_codec_algorithms::{decode_ulaw, encode_ulaw};
use offhook::config::Config;
use offhook::hearing::{Endpointer, Heard, Limits};
use offhook::leg::{Dtmf, FrameKind, Leg, LegMedia};
use offhook::media::{self, Line, Occurrence};
use offhook::pcm::{FRAME_SAMPLES, Frame, PTIME, RATE, level, resample, wav};
use offhook::playout::{Mixer, SpeechFrame};
use offhook::tts::shape::Gain;
use ringbuf::traits::Producer;

/// The way back after the first reflection: what a two-wire hybrid adds within 2 ms.
const HYBRID: [(usize, f32); 5] = [(0, 0.62), (1, 0.55), (3, -0.36), (7, 0.28), (15, -0.14)];
/// Samples in 10 ms.
const HOP: usize = RATE as usize / 100;
const BEGIN: usize = 20;
const AFTER_GREETING: usize = 40;
const AFTER_QUESTION: usize = 60;
/// How long a caller who cuts in waits for it: 1.8 s into what is said.
const CUT_IN: usize = 90;
/// Ticks behind the last sound.
const TAIL: usize = 75;
/// Ticks of the placeholder, which begins at the soft end of the question.
const PLACEHOLDER: usize = 35;
/// How far into it a caller goes on with the question.
const GOES_ON: usize = 10;

/// What is said in one language: voice and text. Hebrew as phonemes, because espeak-ng 1.51 cannot read it.
pub struct Lines {
    bot: &'static str,
    greeting: &'static str,
    answer: &'static str,
    caller: &'static str,
    question: &'static str,
    cut_in: &'static str,
}

pub const LINES: [Lines; 3] = [
    Lines {
        bot: "en-us",
        greeting: "Hello, this is the practice of Doctor Stone. How can I help you today?",
        answer: "We are open from Monday to Thursday between eight and five, and on Friday until noon. If you need an appointment, tell me which day suits you best.",
        caller: "en-gb+f3",
        question: "What are your opening hours, please?",
        cut_in: "Wait, I have another question.",
    },
    Lines {
        bot: "he",
        greeting: "[[Sal'om _: higat'em lamirpa'a. _: ?'ejX ?efS'ar la?az'or]]",
        answer: "[[?an'aXnu ptuX'im mej'om SeniX'ad ?ad j'om XamiS'i _: misSmon'e ?ad Xam'eS _: uvej'om SiS'i ?ad tsohor'ajim. _: l'e?ejze j'om lik'boa? t'or]]",
        caller: "he+f2",
        question: "[[mat'aj ?at'em ptuX'im bevakaS'a]]",
        cut_in: "[[r'ega _: j'eS li Se?el'a ?aX'eret]]",
    },
    Lines {
        bot: "ru",
        greeting: "Здравствуйте, это приёмная доктора Петрова. Чем я могу вам помочь?",
        answer: "Мы работаем с понедельника по четверг с восьми до пяти, а в пятницу до полудня. Скажите, на какой день вас записать?",
        caller: "ru+f2",
        question: "Скажите, когда вы работаете?",
        cut_in: "Подождите, у меня другой вопрос.",
    },
];

/// Sounds of one language, ready to be said.
pub struct Sounds {
    greeting: Vec<Frame>,
    answer: Vec<Frame>,
    question: Vec<i16>,
    cut_in: Vec<i16>,
}

impl Sounds {
    /// Needs espeak-ng. The box speaks at its own level, the caller at `caller_dbfs`.
    pub fn speak(lines: &Lines, caller_dbfs: f32) -> Self {
        let own = Config::default().voice.level_dbfs;
        let frames = |text| {
            let mut sound = espeak(lines.bot, text, own);
            sound.resize(sound.len().next_multiple_of(FRAME_SAMPLES), 0);
            sound.as_chunks().0.to_vec()
        };
        Self {
            greeting: frames(lines.greeting),
            answer: frames(lines.answer),
            question: espeak(lines.caller, lines.question, caller_dbfs),
            cut_in: espeak(lines.caller, lines.cut_in, caller_dbfs),
        }
    }
}

/// From its first voiced sample to its last.
fn espeak(voice: &str, text: &str, level_dbfs: f32) -> Vec<i16> {
    let output = Command::new("espeak-ng").args(["-v", voice, "-z", "--stdout", "--", text]).output();
    let sound = wav::read(&output.expect("espeak-ng is installed").stdout).expect("espeak-ng speaks");
    let mut samples = resample::resample(&sound.samples, sound.rate, RATE);
    Gain::matching(&samples, level_dbfs).expect("espeak-ng speaks").apply(&mut samples);
    let voiced = |hop: &[i16]| level::rms_dbfs(hop) > level::VOICED_DBFS;
    let first = samples.chunks(HOP).position(voiced).unwrap_or(0) * HOP;
    let last = samples.chunks(HOP).rposition(voiced).unwrap_or(0) * HOP + HOP;
    samples[first..last.min(samples.len())].to_vec()
}

/// Where the caller speaks over the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutIn {
    Never,
    Greeting,
    Answer,
    /// He goes on with his question.
    Placeholder,
}

/// The far end.
#[derive(Debug, Clone, Copy)]
pub struct FarEnd {
    /// From what is sent to what comes back of it.
    pub delay: Duration,
    /// How much softer it comes back, in dB; `None`: nothing does.
    pub loss_db: Option<f32>,
    /// The call begins with a greeting.
    pub greeted: bool,
    /// When the caller speaks over the box.
    pub cut_in: CutIn,
    /// Moves what the caller says against the frames.
    pub shift: usize,
}

/// What became of a call.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Utterances heard while the caller said nothing.
    pub false_starts: usize,
    /// How often the question seemed to go on while the caller said nothing.
    pub false_resumptions: usize,
    /// How long what was said was silenced for nothing.
    pub false_pause: Duration,
    /// The caller's question was not heard.
    pub question_missed: bool,
    /// From the caller's first voiced sample over the box to silence on the line.
    pub silent_after: Option<Duration>,
    /// …to the barge-in, or to the first sign that the question goes on.
    pub taken_after: Option<Duration>,
}

#[derive(Default)]
struct Shared {
    /// What the caller says, from which tick on.
    says: Option<(usize, Vec<i16>)>,
    sounding: bool,
}

struct Returning {
    shared: Arc<Mutex<Shared>>,
    sent: Vec<i16>,
    tick: usize,
    delay: usize,
    gain: f32,
    random: fastrand::Rng,
    now: Instant,
}

impl Leg for Returning {
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind {
        let shared = self.shared.lock().unwrap();
        for (n, sample) in frame.iter_mut().enumerate() {
            let at = self.tick * FRAME_SAMPLES + n;
            let back: f32 = HYBRID
                .iter()
                .filter_map(|&(tap, share)| Some(share * f32::from(*self.sent.get(at.checked_sub(self.delay + tap)?)?)))
                .sum();
            let said =
                shared.says.as_ref().and_then(|(from, sound)| sound.get(at.checked_sub(*from)?)).copied().unwrap_or(0);
            let noise = (self.random.f32() + self.random.f32() + self.random.f32() - 1.5) * 40.0;
            let value = (back * self.gain + f32::from(said) + noise).clamp(-32768.0, 32767.0) as i16;
            *sample = decode_ulaw(encode_ulaw(value));
        }
        self.tick += 1;
        self.now = now;
        FrameKind::Speech
    }

    fn speak(&mut self, _now: Instant, frame: &Frame, sounding: bool) {
        self.sent.extend(frame.iter().map(|&sample| decode_ulaw(encode_ulaw(sample))));
        self.shared.lock().unwrap().sounding = sounding;
    }

    fn skip(&mut self) {}

    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        None
    }

    fn renegotiate(&mut self, _media: &LegMedia) {}

    fn last_received(&self) -> Instant {
        self.now
    }
}

/// The call: greeting, question, placeholder, answer, until the caller has cut in or the answer is over. A barge-in of nobody is overruled when it ends.
pub fn call(sounds: &Sounds, far: FarEnd) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let config = Config::default();
    let start = Instant::now();
    let shared = Arc::new(Mutex::new(Shared::default()));
    // The loss is that of the whole way back.
    let hybrid_db = 10.0 * HYBRID.iter().map(|(_, share)| share * share).sum::<f32>().log10();
    let leg = Returning {
        shared: shared.clone(),
        sent: Vec::new(),
        tick: 0,
        delay: offhook::pcm::samples_in(far.delay) as usize,
        gain: far.loss_db.map_or(0.0, |db| 10f32.powf((-db - hybrid_db) / 20.0)),
        random: fastrand::Rng::with_seed(7),
        now: start,
    };
    let endpointer = Endpointer::new(Limits::from(&config.hearing));
    let mixer = Mixer::new(config.placeholder.grace);
    let (mut line, mut ports) = Line::new(Box::new(leg), endpointer, mixer, Duration::from_secs(60)).unwrap();
    let mut speech = ports.take_speech().unwrap();
    let mut outcome = Outcome::default();
    let greeting: &[Frame] = if far.greeted { &sounds.greeting } else { &[] };
    let question_at = BEGIN + greeting.len() + AFTER_GREETING;
    let mut say: Vec<(usize, u32, &[Frame])> = vec![(BEGIN, 1, greeting)];
    let mut caller: Vec<(usize, &[i16], bool)> = Vec::new();
    if far.cut_in == CutIn::Greeting {
        caller.push((BEGIN + CUT_IN, &sounds.cut_in, true));
    } else {
        let answer_at = question_at + sounds.question.len() / FRAME_SAMPLES + AFTER_QUESTION;
        caller.push((question_at, &sounds.question, false));
        say.push((answer_at, 3, &sounds.answer));
        if far.cut_in == CutIn::Answer {
            caller.push((answer_at + CUT_IN, &sounds.cut_in, true));
        }
    }
    let length = say.iter().map(|(at, _, frames)| at + frames.len() + TAIL).max().unwrap();
    let mut queue = VecDeque::new();
    // Frames of the present saying that have left, and how many it has.
    let (mut left, mut of) = (0, 0);
    let mut heard_question = far.cut_in == CutIn::Greeting;
    let (mut held_on, mut placeholder_at) = (far.cut_in == CutIn::Greeting, None);
    for tick in 0..length {
        let now = start + PTIME * tick as u32;
        if let Some(at) = placeholder_at.take() {
            say.push((at, 2, &sounds.answer[..PLACEHOLDER]));
            if far.cut_in == CutIn::Placeholder {
                caller.push((at + GOES_ON, &sounds.cut_in, true));
            }
        }
        if let Some(&(_, generation, frames)) = say.iter().find(|(at, ..)| *at == tick) {
            queue.extend(frames.iter().map(|&frame| SpeechFrame::speech(generation, 0, frame)));
            queue.push_back(SpeechFrame::end_of_phrase(generation, 0));
            ports.command(media::Command::Release(generation));
            (left, of) = (0, frames.len());
        }
        while let Some(frame) = queue.pop_front() {
            if let Err(frame) = speech.try_push(frame) {
                queue.push_front(frame);
                break;
            }
        }
        // What the caller says begins somewhere within the tick before.
        let spoken = caller.iter().find(|(at, ..)| *at == tick);
        if let Some(&(at, sound, _)) = spoken {
            shared.lock().unwrap().says = Some((at * FRAME_SAMPLES + far.shift, sound.to_vec()));
        }
        assert!(line.tick(now));
        let heard_until = (tick + 1) * FRAME_SAMPLES;
        let talking = caller.iter().find(|(at, sound, _)| {
            let from = at * FRAME_SAMPLES + far.shift;
            (from..from + sound.len() + 4 * FRAME_SAMPLES).contains(&heard_until)
        });
        let cutting_in = talking.filter(|(.., cuts_in)| *cuts_in);
        let since = |at: usize| offhook::pcm::duration((heard_until - at * FRAME_SAMPLES - far.shift) as u64);
        let sounding = shared.lock().unwrap().sounding;
        if left < of {
            left += usize::from(sounding);
            if !sounding && left > 0 {
                match cutting_in {
                    Some((at, ..)) => drop(outcome.silent_after.get_or_insert(since(*at))),
                    None => outcome.false_pause += PTIME,
                }
            }
        }
        while let Some(event) = ports.event() {
            match (event.what, talking) {
                (Occurrence::Heard(Heard::Resumed { .. }), None) => outcome.false_resumptions += 1,
                (Occurrence::Heard(Heard::Resumed { .. }), Some((at, _, true))) => {
                    outcome.taken_after.get_or_insert(since(*at));
                }
                (Occurrence::Heard(Heard::Started { .. }), None) => outcome.false_starts += 1,
                (Occurrence::Heard(Heard::Started { .. }), Some((at, _, true))) => {
                    outcome.taken_after.get_or_insert(since(*at));
                }
                (Occurrence::Heard(Heard::Started { .. }), Some(_)) => heard_question = true,
                (Occurrence::Heard(Heard::SoftEnd { .. }), None) if heard_question && !held_on => {
                    held_on = true;
                    placeholder_at = Some(tick + 1);
                }
                (Occurrence::Heard(Heard::SoftEnd { .. }), None) => drop(ports.command(media::Command::Resume)),
                _ => {}
            }
        }
        if outcome.taken_after.is_some() {
            break;
        }
    }
    outcome.question_missed = !heard_question;
    outcome
}
