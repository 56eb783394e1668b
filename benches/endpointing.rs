//! How soon after the caller's last voiced sample a turn ends, and how soon after the first one it begins:
//! `cargo bench --bench endpointing`. Needs espeak-ng and sox.
//!
//! Utterances by espeak-ng in each language, telephone band, −23 dBFS, four alignments to the frame grid each, clean and
//! over seeded white noise, through µ-law, between stretches of nothing but noise. Times are those of the heard sound: jitter
//! buffer and packets add to them on a line. The true beginning and end are where the clean sound crosses −45 dBFS over 10 ms.

use std::process::{Command, Stdio};
use std::time::Instant;

use audio_codec_algorithms::{decode_ulaw, encode_ulaw};
use offhook::config;
use offhook::hearing::{Endpointer, Heard, Limits};
use offhook::pcm::telephone::FRAME_SAMPLES;
use offhook::pcm::{self, level};

/// Language, voice, text; Hebrew with points, without which espeak-ng leaves the vowels out. Pauses inside are those that espeak-ng makes at commas.
const UTTERANCES: &[(&str, &str, &str)] = &[
    ("en", "en-us", "Hello, I would like to book a table for two tonight."),
    ("en", "en-gb", "What time do you close on Fridays?"),
    ("en", "en-us+f3", "Could you tell me the price, please, of the large one?"),
    ("en", "en-gb-scotland", "My number is zero five four, three three one, nine eight."),
    ("en", "en-us", "Yes."),
    ("he", "he", "אֲנִי רוֹצֶה לִקְבּוֹעַ תּוֹר לְמָחָר בַּבּוֹקֶר"),
    ("he", "he+f2", "מָה שְׁעוֹת הַפְּתִיחָה שֶׁלָּכֶם, בְּבַקָּשָׁה"),
    ("he", "he+m3", "שָׁלוֹם, כַּמָּה זֶה עוֹלֶה"),
    ("he", "he", "כֵּן"),
    ("ru", "ru", "Здравствуйте, я хотел бы записаться на завтра."),
    ("ru", "ru+f2", "Сколько это стоит, скажите, пожалуйста?"),
    ("ru", "ru+m3", "До скольки вы работаете в пятницу?"),
    ("ru", "ru", "Да."),
];
const ALIGNMENTS: usize = 4;
const LEVEL_DBFS: f32 = -23.0;
const LEAD: usize = 12_000;
const TAIL: usize = 12_000;
/// 10 ms.
const HOP: usize = 80;

/// One utterance heard over one line.
struct Clip {
    language: &'static str,
    sound: Vec<i16>,
    begin: usize,
    end: usize,
    /// Whether each 10 ms of it is voiced.
    voiced: Vec<bool>,
}

impl Clip {
    /// Silence before a position, in samples.
    fn silence_before(&self, position: usize) -> usize {
        self.voiced[..position / HOP].iter().rev().take_while(|&&voiced| !voiced).count() * HOP
    }
}

/// What became of a clip; milliseconds.
struct Outcome {
    onset: Option<f64>,
    started: Option<f64>,
    probable_end: Option<f64>,
    soft_end: Option<f64>,
    hard_end: Option<f64>,
    cut_early: bool,
    committed_early: bool,
    false_starts: usize,
}

fn main() {
    // Under `cargo test --benches` only the first utterance.
    let all = std::env::args().any(|argument| argument == "--bench");
    let utterances = if all { UTTERANCES } else { &UTTERANCES[..1] };
    let spoken: Vec<(&str, Vec<i16>)> =
        utterances.iter().map(|&(language, voice, text)| (language, speak(voice, text))).collect();
    println!(
        "{:<14}{:>6}{:>14}{:>26}{:>14}{:>11}{:>11}{:>7}{:>22}{:>22}{:>7}",
        "line",
        "clips",
        "probable p50",
        "soft end p50 p90 p95 max",
        "hard p50 p95",
        "cut early",
        "committed",
        "never",
        "onset p50 p95",
        "started p50 p95",
        "false"
    );
    for playing in [false, true] {
        for snr_db in [None, Some(20.0), Some(10.0)] {
            let mut every = Vec::new();
            for language in ["en", "he", "ru"] {
                let outcomes: Vec<Outcome> = clips(&spoken, snr_db)
                    .filter(|clip| clip.language == language)
                    .map(|clip| hear(&clip, playing))
                    .collect();
                let line = snr_db.map_or("clean".to_owned(), |db| format!("{db} dB"));
                print(&format!("{language} {line}{}", if playing { " play" } else { "" }), &outcomes);
                every.extend(outcomes);
            }
            print("all", &every);
        }
    }
    for pause_ms in [500, 700] {
        for playing in [false, true] {
            let (mut resumed, committed, pauses) = hear_pauses(&spoken, pause_ms, playing);
            resumed.sort_by(f64::total_cmp);
            println!(
                "pause of {pause_ms} ms{}: {pauses}, taken back {} at p50 {:.0} p95 {:.0} max {:.0} ms after the voice came back, committed {committed}",
                if playing { ", box speaks" } else { "" },
                resumed.len(),
                percentile(&resumed, 0.5),
                percentile(&resumed, 0.95),
                percentile(&resumed, 1.0),
            );
        }
    }
}

/// Two utterances of a language with a pause between: when it was taken back, how often a turn was committed in it, of how many.
fn hear_pauses(spoken: &[(&str, Vec<i16>)], pause_ms: usize, playing: bool) -> (Vec<f64>, usize, usize) {
    let limits = Limits::from(&config::Hearing::default());
    let (mut resumed, mut committed, mut pauses) = (Vec::new(), 0, 0);
    let trimmed: Vec<(&str, &[i16])> = spoken
        .iter()
        .map(|(language, speech)| {
            let voiced = |hop: &[i16]| level::rms_dbfs(hop) > level::VOICED_DBFS;
            let begin = speech.chunks(HOP).position(voiced).unwrap_or(0) * HOP;
            let end = speech.chunks(HOP).rposition(voiced).unwrap_or(0) * HOP + HOP;
            (*language, &speech[begin..end.min(speech.len())])
        })
        .collect();
    for pair in trimmed.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        for alignment in 0..ALIGNMENTS {
            let lead = LEAD + alignment * 101;
            let back = lead + pair[0].1.len() + pause_ms * 8;
            let mut sound = vec![0; lead];
            sound.extend(pair[0].1);
            sound.resize(back, 0);
            sound.extend(pair[1].1);
            let mut endpointer = Endpointer::new(limits);
            let start = Instant::now();
            pauses += 1;
            let mut waiting = false;
            for (index, frame) in sound.as_chunks::<FRAME_SAMPLES>().0.iter().enumerate() {
                let heard = (index + 1) * FRAME_SAMPLES;
                // The placeholder sounds after a soft end.
                endpointer.set_playing(playing && waiting);
                endpointer.handle_frame(start + pcm::telephone::duration(heard as u64), frame);
                while let Some(event) = endpointer.poll() {
                    waiting = matches!(event, Heard::SoftEnd { .. });
                    match event {
                        Heard::Resumed { .. } if (back..back + 4000).contains(&heard) => {
                            resumed.push((heard - back) as f64 / 8.0);
                        }
                        Heard::HardEnd { .. } => committed += 1,
                        _ => {}
                    }
                }
            }
        }
    }
    (resumed, committed, pauses)
}

/// Of sorted values.
fn percentile(values: &[f64], share: f64) -> f64 {
    values.get(((values.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(f64::NAN)
}

fn print(line: &str, outcomes: &[Outcome]) {
    let of = |select: fn(&Outcome) -> Option<f64>| {
        let mut values: Vec<f64> = outcomes.iter().filter_map(select).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (probable, ends, hard) = (of(|o| o.probable_end), of(|o| o.soft_end), of(|o| o.hard_end));
    let (onsets, starts) = (of(|o| o.onset), of(|o| o.started));
    let percent = |count: usize| 100.0 * count as f64 / outcomes.len().max(1) as f64;
    println!(
        "{line:<14}{:>6}{:>14.0}{:>11.0} {:>4.0} {:>4.0} {:>4.0}{:>9.0} {:>4.0}{:>9.1} %{:>9.1} %{:>5.1} %{:>17.0} {:>4.0}{:>17.0} {:>4.0}{:>7}",
        outcomes.len(),
        percentile(&probable, 0.5),
        percentile(&ends, 0.5),
        percentile(&ends, 0.9),
        percentile(&ends, 0.95),
        percentile(&ends, 1.0),
        percentile(&hard, 0.5),
        percentile(&hard, 0.95),
        percent(outcomes.iter().filter(|o| o.cut_early).count()),
        percent(outcomes.iter().filter(|o| o.committed_early).count()),
        percent(outcomes.len() - ends.len()),
        percentile(&onsets, 0.5),
        percentile(&onsets, 0.95),
        percentile(&starts, 0.5),
        percentile(&starts, 0.95),
        outcomes.iter().map(|o| o.false_starts).sum::<usize>(),
    );
}

/// Runs a clip through an endpointer in virtual time.
fn hear(clip: &Clip, playing: bool) -> Outcome {
    let limits = Limits::from(&config::Hearing::default());
    let mut endpointer = Endpointer::new(limits);
    endpointer.set_playing(playing);
    let start = Instant::now();
    let mut outcome = Outcome {
        onset: None,
        started: None,
        probable_end: None,
        soft_end: None,
        hard_end: None,
        cut_early: false,
        committed_early: false,
        false_starts: 0,
    };
    for (index, frame) in clip.sound.as_chunks::<FRAME_SAMPLES>().0.iter().enumerate() {
        let heard = (index + 1) * FRAME_SAMPLES;
        let now = start + pcm::telephone::duration(heard as u64);
        endpointer.handle_frame(now, frame);
        let since = |sample: usize| (heard as f64 - sample as f64) / 8.0;
        while let Some(event) = endpointer.poll() {
            match event {
                Heard::Onset { .. } if heard > clip.begin && outcome.started.is_none() => {
                    outcome.onset.get_or_insert(since(clip.begin));
                }
                Heard::Started { .. } if heard <= clip.begin || heard > clip.end => outcome.false_starts += 1,
                Heard::Started { .. } => {
                    outcome.started.get_or_insert(since(clip.begin));
                }
                Heard::ProbableEnd { .. } if heard >= clip.end => {
                    outcome.probable_end.get_or_insert(since(clip.end));
                }
                Heard::SoftEnd { .. } if heard < clip.end => {
                    // A pause in the middle that is as long as the limit is one.
                    outcome.cut_early |=
                        clip.silence_before(heard) + 2 * HOP < pcm::telephone::samples_in(limits.soft_end_min) as usize;
                }
                Heard::SoftEnd { .. } => {
                    outcome.soft_end.get_or_insert(since(clip.end));
                }
                Heard::HardEnd { .. } | Heard::TooLong { .. } if heard < clip.end => outcome.committed_early = true,
                Heard::HardEnd { .. } => {
                    outcome.hard_end.get_or_insert(since(clip.end));
                }
                _ => {}
            }
        }
    }
    outcome
}

/// Each utterance at each alignment, over noise that is `snr_db` below it.
fn clips(spoken: &[(&'static str, Vec<i16>)], snr_db: Option<f32>) -> impl Iterator<Item = Clip> {
    let mut random = fastrand::Rng::with_seed(8000);
    let mut clips = Vec::new();
    for (language, speech) in spoken {
        for alignment in 0..ALIGNMENTS {
            let lead = LEAD + alignment * 101 + random.usize(..40);
            let mut sound = [vec![0; lead], speech.clone(), vec![0; TAIL]].concat();
            let voiced: Vec<bool> = sound.chunks(HOP).map(|hop| level::rms_dbfs(hop) > level::VOICED_DBFS).collect();
            let begin = voiced.iter().position(|&voiced| voiced).unwrap_or(0) * HOP;
            let end = voiced.iter().rposition(|&voiced| voiced).unwrap_or(0) * HOP + HOP;
            let noise = snr_db.map_or(0.0, |db| 32768.0 * 10f32.powf((LEVEL_DBFS - db) / 20.0));
            for sample in &mut sound {
                // Twelve uniform numbers are nearly a normal one.
                let normal = (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
                let value = (f32::from(*sample) + noise * normal) as i16;
                *sample = decode_ulaw(encode_ulaw(value));
            }
            clips.push(Clip { language, sound, begin, end, voiced });
        }
    }
    clips.into_iter()
}

/// An utterance at [`LEVEL_DBFS`] over its voiced parts.
fn speak(voice: &str, text: &str) -> Vec<i16> {
    let mut espeak = Command::new("espeak-ng")
        .args(["-v", voice, "-z", "--stdout", text])
        .stdout(Stdio::piped())
        .spawn()
        .expect("espeak-ng is installed");
    let wav = espeak.stdout.take().expect("its output is a pipe");
    let raw = Command::new("sox")
        .args("-D -t wav - -t raw -r 8000 -e signed -b 16 -c 1 - gain -6 sinc 300-3400".split(' '))
        .stdin(wav)
        .stderr(Stdio::null())
        .output()
        .expect("sox is installed");
    espeak.wait().expect("espeak-ng ends");
    let mut samples: Vec<i16> = raw.stdout.as_chunks().0.iter().map(|&bytes| i16::from_le_bytes(bytes)).collect();
    let active = level::active_dbfs_at(offhook::pcm::telephone::RATE, &samples).expect("espeak-ng speaks");
    level::apply_gain(&mut samples, LEVEL_DBFS - active);
    samples
}
