//! The targets of `fuzz/`, each with a fixed number of inputs from a fixed seed: nothing panics, and what must hold holds.
//!
//! Inputs are random bytes, and what the target can read with random damage. `OFFHOOK_FUZZ_INPUTS=1000000 cargo test --release --test
//! fuzz` takes more of them; `fuzz/README.md` says how to search by coverage.

#[allow(dead_code, missing_docs)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use fastrand::Rng;

/// A second or two of a debug build.
const INPUTS: u64 = 1500;
/// Long enough for some dozen steps.
const BYTES: usize = 1200;

/// What stands in `fuzz/seeds` for a target, in the order of its names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Bytes changed, left out, doubled, added.
fn damage(bytes: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..random.usize(..6) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..20)).min(bytes.len());
        match random.u8(..5) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.insert(at, random.u8(..)),
        }
    }
}

fn run(name: &str) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|number| number.parse().ok());
    let (_, target) = targets::ALL.into_iter().find(|(target, _)| *target == name).unwrap();
    let mut random = Rng::with_seed(number("OFFHOOK_FUZZ_SEED").unwrap_or(3550));
    let seeds = seeds(name);
    for seed in &seeds {
        target(seed);
    }
    for _ in 0..number("OFFHOOK_FUZZ_INPUTS").unwrap_or(INPUTS) {
        let mut input = match random.choice(&seeds) {
            Some(seed) if random.bool() => seed.clone(),
            _ => {
                let mut bytes = vec![0; random.usize(..BYTES)];
                random.fill(&mut bytes);
                bytes
            }
        };
        damage(&mut input, &mut random);
        if std::panic::catch_unwind(|| target(&input)).is_err() {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} does not hold for the input {hex}");
        }
    }
}

#[test]
fn packets_in_any_order_at_any_time_make_even_sound() {
    run("jitter");
}

#[test]
fn datagrams_from_anywhere_are_all_accounted_for() {
    run("receiver");
}

#[test]
fn any_rtcp_is_read_or_refused_and_what_we_report_can_be_read() {
    run("rtcp");
}

#[test]
fn any_description_is_answered_line_by_line_or_refused() {
    run("sdp");
}

#[test]
fn any_sip_is_delivered_answered_or_dropped_wherever_it_was_cut() {
    run("sip");
}

#[test]
fn a_protected_packet_comes_in_once_and_whole_or_not_at_all() {
    run("srtp");
}

#[test]
fn telephone_events_make_no_key_that_was_not_pressed() {
    run("telephone_event");
}

#[test]
fn any_wav_is_read_or_refused_wherever_it_was_cut() {
    run("wav");
}
