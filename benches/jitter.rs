//! What the jitter buffer makes of bad lines, and what it costs: the figures of docs/media.md.
//!
//! `cargo bench --bench jitter` plays a minute of speech (espeak-ng, in three languages) through seeded networks in virtual time and
//! prints one Markdown table; `-- neteq` plays 20 s of it through the `neteq` crate beside it, which reads the wall clock and so takes
//! 20 s a row. *Match* is the best normalised correlation of each sounding 100 ms of the clean decode with what was heard within the
//! 250 ms that follow. *Delay* is counted from the arrival of the fastest packet.

use std::process::Command;
use std::time::{Duration, Instant};

use neteq::codec::AudioDecoder;
use neteq::{AudioPacket, NetEq, NetEqConfig, RtpHeader};
use offhook::codec::Codec;
use offhook::codec::g711::Law;
use offhook::pcm::telephone::{FRAME_SAMPLES, RATE};
use offhook::pcm::{PTIME, level, resample, wav};
use offhook::rtp::impairment::{Impairment, Profile};
use offhook::rtp::jitter::{Content, JitterBuffer, JitterCounters};

const SPOKEN: [(&str, &str); 3] = [
    (
        "en",
        "Good morning. The invoice of the third of August has not been paid, and the customer asks whether a reminder may be sent by letter. \
         Could you tell me when the workshop opens tomorrow, because I would like to bring my car before I go to work?",
    ),
    (
        "ru",
        "Здравствуйте, я хотел бы узнать, когда будет готов мой заказ, и сколько он будет стоить вместе с доставкой до понедельника.",
    ),
    (
        "en-us+f3",
        "Yes, please call me back in the afternoon at four seven one, nine nine two, eight three five. Thank you very much.",
    ),
];

/// Networks differ by their seed; ticks by their phase against the packets.
const RUNS: u64 = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let speech = speech();
    println!("{:.0} s of speech, {RUNS} runs a row\n", speech.len() as f64 / f64::from(RATE));
    println!(
        "| line | match, mean / p10 | delay p50 / p90, ms | target p50 | 2 × p99 jitter, ms | lost, late | concealed frames | longer / shorter | ns a tick, p50 / p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, profile) in lines() {
        println!("{}", Row::measure(&speech, profile).print(name));
    }
    if arguments.iter().any(|argument| argument == "neteq") {
        beside(&speech[..RATE as usize * 20]);
    }
}

fn lines() -> [(&'static str, Profile); 9] {
    let (clean, ms) = (Profile::default(), Duration::from_millis);
    let reordered = Profile { reorder: 0.03, reorder_by: ms(30), ..clean };
    [
        ("clean", clean),
        ("5 % loss", Profile { loss: 0.05, ..clean }),
        ("5 % loss in bursts of 2.5", Profile { loss: 0.05, burst: 2.5, ..clean }),
        ("20 % loss", Profile { loss: 0.2, ..clean }),
        ("20 % loss in bursts of 2.5", Profile { loss: 0.2, burst: 2.5, ..clean }),
        ("jitter, exponential, 10 ms", Profile { jitter: ms(10), ..clean }),
        ("5 % loss, jitter 10 ms, reordering", Profile { loss: 0.05, jitter: ms(10), ..reordered }),
        ("20 % loss, jitter 20 ms, reordering", Profile { loss: 0.2, jitter: ms(20), ..reordered }),
        ("1 % of packets 80 ms late", Profile { reorder: 0.01, reorder_by: ms(80), ..clean }),
    ]
}

/// Sentences of three voices, with pauses between them, at −23 dBFS.
fn speech() -> Vec<i16> {
    let mut speech = Vec::new();
    for _ in 0..2 {
        for (voice, text) in SPOKEN {
            let spoken =
                Command::new("espeak-ng").args(["--stdout", "-v", voice, text]).output().expect("espeak-ng runs");
            let sound = wav::read(&spoken.stdout).expect("espeak-ng makes a WAV");
            let mut samples = resample::resample(&sound.samples, sound.rate, RATE);
            let gain = -23.0 - level::active_dbfs_at(RATE, &samples).expect("espeak-ng speaks");
            level::apply_gain(&mut samples, gain);
            speech.extend(samples);
            speech.extend([0; 4000]);
        }
    }
    let whole = speech.len() / FRAME_SAMPLES * FRAME_SAMPLES;
    speech.truncate(whole);
    speech
}

/// A payload as it is sent, and as a perfect line would let it be heard.
fn coded(speech: &[i16]) -> (Vec<u8>, Vec<i16>) {
    let (mut payload, mut decoded) = (vec![0; speech.len()], vec![0; speech.len()]);
    Law::Mu.encode(speech, &mut payload);
    Law::Mu.decode(&payload, &mut decoded);
    (payload, decoded)
}

/// What was measured on one line, over all runs.
#[derive(Default)]
struct Row {
    matches: Vec<f64>,
    delays: Vec<f64>,
    targets: Vec<f64>,
    transits: Vec<f64>,
    ticks: Vec<f64>,
    counters: JitterCounters,
}

impl Row {
    fn measure(speech: &[i16], profile: Profile) -> Self {
        let (payload, clean) = coded(speech);
        let mut row = Self::default();
        for run in 0..RUNS {
            let phase = PTIME.mul_f64(run as f64 / RUNS as f64);
            let heard = row.play(&payload, profile, run, phase);
            row.matches.extend(matches(&clean, &heard));
        }
        row
    }

    /// One run; what was heard.
    fn play(&mut self, payload: &[u8], profile: Profile, seed: u64, phase: Duration) -> Vec<i16> {
        let (start, mut network) = (Instant::now(), Impairment::new(profile, seed));
        let sent = |n: u16| start + PTIME * u32::from(n);
        for (n, packet) in payload.as_chunks::<FRAME_SAMPLES>().0.iter().enumerate() {
            network.handle_packet(sent(n as u16), (n as u16, *packet));
        }
        let mut buffer = JitterBuffer::new(Duration::from_millis(20), RATE, Codec::Pcmu.clock_rate());
        let mut heard = Vec::with_capacity(payload.len());
        let packets = (payload.len() / FRAME_SAMPLES) as u32;
        for tick in 0..packets + 15 {
            let now = start + phase + PTIME * tick;
            let began = Instant::now();
            while let Some((arrival, (n, packet))) = network.poll(now) {
                self.transits.push((arrival - sent(n)).as_secs_f64() * 1e3);
                buffer.insert(n, u32::from(n) * FRAME_SAMPLES as u32, Content::Speech(Codec::Pcmu, &packet), arrival);
            }
            let mut frame = [0; FRAME_SAMPLES];
            buffer.pull(now, &mut frame);
            self.ticks.push(began.elapsed().as_nanos() as f64);
            heard.extend(frame);
            // The first second is the beginning, what comes after the last packet the end.
            if (50..packets).contains(&tick) {
                self.delays.push(buffer.delay().as_secs_f64() * 1e3);
                self.targets.push(buffer.target().as_secs_f64() * 1e3);
            }
        }
        self.add(buffer.counters());
        heard
    }

    fn add(&mut self, counters: JitterCounters) {
        let sum = &mut self.counters;
        sum.lost += counters.lost;
        sum.late += counters.late;
        sum.concealed += counters.concealed;
        sum.stretched += counters.stretched;
        sum.shortened += counters.shortened;
    }

    fn print(mut self, name: &str) -> String {
        let counters = self.counters;
        let mean = self.matches.iter().sum::<f64>() / self.matches.len() as f64;
        format!(
            "| {name} | {mean:.3} / {:.3} | {:.0} / {:.0} | {:.0} | {:.0} | {}, {} | {} | {} / {} | {:.0} / {:.0} |",
            quantile(&mut self.matches, 0.1),
            quantile(&mut self.delays, 0.5),
            quantile(&mut self.delays, 0.9),
            quantile(&mut self.targets, 0.5),
            2.0 * quantile(&mut self.transits, 0.99),
            counters.lost,
            counters.late,
            counters.concealed,
            counters.stretched,
            counters.shortened,
            quantile(&mut self.ticks, 0.5),
            quantile(&mut self.ticks, 0.99),
        )
    }
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// The same speech through `neteq`, in real time, all lines at once.
fn beside(speech: &[i16]) {
    println!("\n| neteq 0.9.1, 20 s | match, mean / p10 | buffered p50 / p90, ms |\n|---|---|---|");
    let (payload, clean) = &coded(speech);
    std::thread::scope(|scope| {
        let rows = lines().map(|(name, profile)| (name, scope.spawn(move || through_neteq(payload, profile))));
        for (name, row) in rows {
            let (heard, mut buffered) = row.join().expect("neteq does not panic");
            let mut found = matches(clean, &heard);
            let mean = found.iter().sum::<f64>() / found.len() as f64;
            let (p50, p90) = (quantile(&mut buffered, 0.5), quantile(&mut buffered, 0.9));
            println!("| {name} | {mean:.3} / {:.3} | {p50:.0} / {p90:.0} |", quantile(&mut found, 0.1));
        }
    });
}

struct Ulaw;

impl AudioDecoder for Ulaw {
    fn sample_rate(&self) -> u32 {
        RATE
    }

    fn channels(&self) -> u8 {
        1
    }

    fn decode(&mut self, encoded: &[u8]) -> neteq::Result<Vec<f32>> {
        let mut samples = vec![0; encoded.len()];
        Law::Mu.decode(encoded, &mut samples);
        Ok(samples.iter().map(|&sample| f32::from(sample) / 32768.0).collect())
    }
}

/// What was heard, and how many ms waited at each pull.
fn through_neteq(payload: &[u8], profile: Profile) -> (Vec<i16>, Vec<f64>) {
    let config = NetEqConfig { sample_rate: RATE, ..NetEqConfig::default() };
    let mut buffer = NetEq::new(config).expect("neteq takes 8 kHz");
    buffer.register_decoder(0, Box::new(Ulaw));
    let (start, mut network) = (Instant::now() + PTIME, Impairment::new(profile, 0));
    let packets = payload.as_chunks::<FRAME_SAMPLES>().0;
    for (n, packet) in packets.iter().enumerate() {
        network.handle_packet(start + PTIME * n as u32, (n as u16, *packet));
    }
    let (mut heard, mut buffered) = (Vec::new(), Vec::new());
    // It gives 10 ms a pull.
    for pull in 0..packets.len() as u32 * 2 + 30 {
        let due = start + PTIME / 2 * pull + PTIME / 4;
        loop {
            let next = network.poll_timeout().filter(|next| *next < due);
            std::thread::sleep(next.unwrap_or(due).saturating_duration_since(Instant::now()));
            if next.is_none() {
                break;
            }
            while let Some((_, (n, packet))) = network.poll(Instant::now()) {
                let header = RtpHeader::new(n, u32::from(n) * FRAME_SAMPLES as u32, 1, 0, false);
                let _ = buffer.insert_packet(AudioPacket::new(header, packet.to_vec(), RATE, 1, 20));
            }
        }
        let frame = buffer.get_audio().expect("neteq always has a frame");
        heard.extend(frame.samples.iter().map(|sample| (sample * 32768.0) as i16));
        if pull > 100 {
            buffered.push(f64::from(buffer.current_buffer_size_ms()));
        }
    }
    (heard, buffered)
}

/// How like the clean decode what was heard is, for each of its 100 ms that sound.
fn matches(clean: &[i16], heard: &[i16]) -> Vec<f64> {
    const WINDOW: usize = RATE as usize / 10;
    const LAGS: usize = RATE as usize / 4;
    let heard: Vec<f32> = heard.iter().map(|&sample| f32::from(sample)).collect();
    let windows =
        (0..clean.len() - WINDOW).step_by(WINDOW).filter(|&at| level::rms_dbfs(&clean[at..at + WINDOW]) > -50.0);
    windows
        .map(|at| {
            let window: Vec<f32> = clean[at..at + WINDOW].iter().map(|&sample| f32::from(sample)).collect();
            let of_window: f32 = window.iter().map(|a| a * a).sum();
            let lags = 0..LAGS.min(heard.len() - WINDOW - at);
            lags.map(|lag| {
                let other = &heard[at + lag..][..WINDOW];
                let product: f32 = window.iter().zip(other).map(|(a, b)| a * b).sum();
                let of_other: f32 = other.iter().map(|b| b * b).sum();
                f64::from(product / (of_window * of_other.max(1.0)).sqrt())
            })
            .fold(0.0, f64::max)
        })
        .collect()
}
