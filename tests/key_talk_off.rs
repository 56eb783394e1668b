//! No voice is taken for a key. Needs espeak-ng.

use std::process::Command;

use offhook::pcm::keypad::KeyTones;
use offhook::pcm::telephone::{FRAME_SAMPLES, RATE};
use offhook::pcm::{level, resample, wav};

/// Voices with long vowels, high and low; Hebrew as phonemes, because espeak-ng 1.51 cannot read it.
const SAID: [(&str, &str); 8] = [
    (
        "en-us",
        "You owe me a new yellow canoe, and we all knew you would lie about who you were with in Malaya one year ago.",
    ),
    ("en-us+f3", "Where were you while we were away? I really loathe a lame alibi, you see, you know, oh no."),
    (
        "en-gb+f5",
        "Zero, one, two, three, four, five, six, seven, eight, nine, star, hash. Doo doo doo, bee bee bee, aah, ooh, eee.",
    ),
    (
        "en-gb+m7",
        "Please leave your name and number after the tone. The meeting is at a quarter to eleven on the second of June.",
    ),
    ("ru", "Алло, алло, я её люблю, у неё новые юбки и белая лилия, уйди из моей аллеи, Юлия, или я умру."),
    ("ru+f4", "Один, два, три, четыре, пять, шесть, семь, восемь, девять, ноль. Ура, ура, уу, ии, ээ, оо, аа."),
    ("he", "[[Sal'om _: ?an'i rots'e lik'boa? t'or lemaX'ar bab'oker _: ?im 'efSar bevakaS'a]]"),
    ("he+f4", "[[?aX'at _: St'ajim _: Sal'oS _: ?arb'a _: XameS _: SeS _: S'eva _: Smon'e _: t'eSa _: '?efes]]"),
];

#[test]
fn no_voice_is_taken_for_a_key_however_it_is_pitched_and_however_loud() {
    let mut taken = Vec::new();
    let mut seconds = 0;
    for (voice, text) in SAID {
        for (rate, pitch) in [("120", "20"), ("150", "50"), ("190", "80"), ("80", "99")] {
            let output =
                Command::new("espeak-ng").args(["-v", voice, "-s", rate, "-p", pitch, "--stdout", "--", text]).output();
            let sound = wav::read(&output.expect("espeak-ng is installed").stdout).expect("espeak-ng speaks");
            let mut samples = resample::resample(&sound.samples, sound.rate, RATE);
            let active = level::active_dbfs_at(RATE, &samples).expect("espeak-ng speaks");
            level::apply_gain(&mut samples, -17.0 - active);
            seconds += samples.len() / RATE as usize;
            let mut tones = KeyTones::new();
            let keys = samples.as_chunks::<FRAME_SAMPLES>().0.iter().filter_map(|frame| tones.hear(frame));
            taken.extend(keys.map(|(key, held)| (voice, rate, pitch, key, held)));
        }
    }
    assert!(seconds > 200, "{seconds} s were heard");
    assert!(taken.is_empty(), "{taken:?}");
}
