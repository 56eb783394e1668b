//! How loud the caller is and how loud the line without him, and from which level on a sound can be his voice.
//!
//! Levels are in dB over a mean square of 1 (−90.3 dBFS), over 10 ms. The noise is known by two quantiles, because what must not be
//! taken for voice is its upper edge: babble and traffic swing by more than 10 dB, hum hardly at all. Allocates nothing.

/// Before anybody spoke, softer than −46 dBFS is nobody's voice,
const SOFTEST_DB: f32 = 44.3;
/// than −54 dBFS on a line that is known to be without other voices…
const SOFTEST_QUIET_DB: f32 = 36.3;
/// …and louder than −30 dBFS is somebody's.
const CERTAIN_DB: f32 = 60.3;
/// Voice falls so far below its own peaks where it ends…
const FALL_DB: f32 = 31.0;
/// …but its syllables always come up to so far below them.
const SYLLABLE_DB: f32 = 8.0;
/// The noise's upper edge is so far above its median, besides the distance from its lower edge to it.
const EDGE_DB: f32 = 2.0;
/// Other voices are known from their softest moments, and swing most: so much more when nothing but them is heard…
const LIVELY_DB: f32 = 8.0;
/// …and a beginning must be so much louder still.
const LIVELY_ONSET_DB: f32 = 1.0;
/// What 10 ms count in whether nothing but voices is heard.
const LIVELY_SHARE: f32 = 0.03;
/// In the pause a sound so far below the voice's peaks may be a consonant before the vowel.
const CONSONANT_DB: f32 = 38.0;
const CONSONANT_ABOVE_NOISE_DB: f32 = 5.0;
/// The line without voice is known after a second of it.
const KNOWN_HOPS: u16 = 100;
/// Until then, other voices so much louder than the line was are a new noise.
const NEW_NOISE_DB: f32 = 15.0;
/// Share of 10 ms below the noise's lower edge.
const LOW: f32 = 0.1;
/// Step of the quantiles for each 10 ms, in dB, and how much larger the first ones are.
const STEP_DB: f32 = 0.2;
const FIRST_STEP_DB: f32 = 8.0;
/// The peak goes this share of the way up to a louder 10 ms, and so many dB down with every other.
const ATTACK: f32 = 0.5;
const DECAY_DB: f32 = 0.015;
/// A softer voice, another caller's, is told from others in the end: 10 ms that are too soft to be voice and sound like it take so much.
const FORGOTTEN_DB: f32 = 0.003;

/// While the box is heard, a sound so much above the noise, and above the loudest of what comes back of its own voice, is somebody's…
const RISE_ABOVE_NOISE_DB: f32 = 10.0;
const RISE_ABOVE_RETURN_DB: f32 = 6.0;
/// …if so much was heard of what comes back, whose loudest is forgotten by so many dB with each 10 ms.
const RETURN_KNOWN_HOPS: u16 = 50;
const RETURN_FORGOTTEN_DB: f32 = 0.03;

/// The levels of one call.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels {
    /// Peaks of the voice.
    peak: Option<f32>,
    noise: Option<Noise>,
    /// How much was heard of a line without any voice.
    quiet_hops: u16,
    /// The loudest of what comes back while the box is heard, and how much of that was heard.
    returned: f32,
    returned_hops: u16,
}

#[derive(Debug, Clone, Copy)]
struct Noise {
    low: f32,
    median: f32,
    /// Share of it that sounds like speech.
    lively: f32,
    hops: u16,
}

impl Levels {
    /// Takes 10 ms of voice.
    pub(super) fn hear_voice(&mut self, level: f32) {
        let peak = self.peak.get_or_insert(level);
        if level > *peak {
            *peak += (level - *peak) * ATTACK;
        } else {
            *peak -= DECAY_DB;
        }
    }

    /// Takes 10 ms without the caller's voice. `lively`: it sounds like speech, as other people's voices do.
    pub(super) fn hear_noise(&mut self, level: f32, lively: bool) {
        self.quiet_hops = self.quiet_hops.saturating_add(u16::from(!lively));
        let lively = f32::from(u8::from(lively));
        let noise = self.noise.get_or_insert(Noise { low: level, median: level, lively, hops: 0 });
        noise.lively += (lively - noise.lively) * LIVELY_SHARE;
        let step = STEP_DB.max(FIRST_STEP_DB / (f32::from(noise.hops) + 1.0));
        noise.hops = noise.hops.saturating_add(1);
        noise.median += if level < noise.median { -step } else { step } * 0.5;
        noise.low += if level < noise.low { -step * (1.0 - LOW) } else { step * LOW };
        noise.low = noise.low.min(noise.median);
        if let Some(peak) = &mut self.peak {
            *peak -= lively * FORGOTTEN_DB;
        }
    }

    /// Takes 10 ms of other people's voices, and believes them at once while little is known of the line.
    pub(super) fn hear_others(&mut self, level: f32) {
        if !self.knows_noise() && self.noise.is_none_or(|noise| noise.median < level - NEW_NOISE_DB) {
            self.noise = Some(Noise { low: level - LIVELY_DB, median: level, lively: 1.0, hops: 0 });
        }
        self.hear_noise(level, true);
    }

    /// Takes 10 ms that are not the caller's voice while the box is heard: noise, or its own voice that comes back.
    pub(super) fn hear_return(&mut self, level: f32) {
        self.returned = level.max(self.returned - RETURN_FORGOTTEN_DB);
        self.returned_hops = self.returned_hops.saturating_add(1);
    }

    /// From which level on a sound that is heard beside the box may be somebody's, whatever it sounds like; `None` while too little is
    /// known of the line.
    pub(super) fn rise(&self) -> Option<f32> {
        let noise = self.noise().filter(|_| self.knows_noise() && self.returned_hops >= RETURN_KNOWN_HOPS)?;
        Some((noise + RISE_ABOVE_NOISE_DB).max(self.returned + RISE_ABOVE_RETURN_DB).max(SOFTEST_QUIET_DB))
    }

    /// The level which the line without voice hardly reaches; nothing before any was heard.
    fn edge(&self) -> Option<f32> {
        self.noise.map(|Noise { low, median, lively, .. }| median + (median - low) + EDGE_DB + lively * LIVELY_DB)
    }

    /// From which level on a sound can be voice.
    pub(super) fn voice(&self) -> f32 {
        match (self.peak, self.edge()) {
            (None, edge) => {
                let softest = if self.knows_noise() { SOFTEST_QUIET_DB } else { SOFTEST_DB };
                edge.map_or(softest, |edge| edge.clamp(softest, CERTAIN_DB))
            }
            (Some(peak), None) => peak - SYLLABLE_DB,
            (Some(peak), Some(edge)) => edge.clamp(peak - FALL_DB, peak - SYLLABLE_DB),
        }
    }

    /// From which level on a sound can be the beginning of voice: other voices must not be taken for it.
    pub(super) fn onset(&self) -> f32 {
        let lively = self.noise.map_or(0.0, |noise| noise.lively);
        self.voice() + if self.peak.is_some() { lively * LIVELY_ONSET_DB } else { 0.0 }
    }

    /// From which level on a sound in the pause may be the beginning of voice.
    pub(super) fn consonant(&self) -> f32 {
        match (self.peak, self.noise) {
            (Some(peak), Some(noise)) => (noise.median + CONSONANT_ABOVE_NOISE_DB).max(peak - CONSONANT_DB),
            _ => self.voice(),
        }
    }

    /// From which level on a sound is one of the voice's syllables, of which there are several a second.
    pub(super) fn syllable(&self) -> f32 {
        self.peak.map_or(SOFTEST_DB, |peak| peak - SYLLABLE_DB)
    }

    /// Whether enough was heard of the line without voice.
    pub(super) fn knows_noise(&self) -> bool {
        self.quiet_hops >= KNOWN_HOPS
    }

    /// Whether the line without voice sounds like speech.
    pub(super) fn lively(&self) -> bool {
        self.noise.is_some_and(|noise| noise.lively > 0.5)
    }

    /// How much of the voice's fall the noise hides, in dB: 0 on a quiet line.
    pub(super) fn hidden(&self) -> f32 {
        self.peak.map_or(0.0, |peak| self.voice() - (peak - FALL_DB))
    }

    /// Median of the line without voice.
    pub(super) fn noise(&self) -> Option<f32> {
        self.noise.map(|noise| noise.median)
    }
}

/// A mean square as a level.
pub(super) fn db(power: f32) -> f32 {
    10.0 * power.max(1.0).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels after ten seconds of noise that swings around 40 dB, and half a second of voice with peaks of 70 dB.
    fn heard(swing: f32, lively: bool) -> Levels {
        let mut levels = Levels::default();
        for hop in 0..1000 {
            let level = 40.0 + swing * if hop % 2 == 0 { 1.0 } else { -1.0 };
            levels.hear_noise(level, lively);
        }
        (0..50).for_each(|hop| levels.hear_voice(if hop % 5 == 0 { 70.0 } else { 60.0 }));
        levels
    }

    #[test]
    fn voice_begins_above_the_noise_farther_the_more_it_swings_and_farthest_when_it_is_voices() {
        let (hum, street, babble) = (heard(0.5, false), heard(4.0, false), heard(4.0, true));
        assert!((41.0..45.0).contains(&hum.voice()), "{hum:?}");
        assert!((45.0..55.0).contains(&street.voice()), "{street:?}");
        assert!((55.0..62.5).contains(&babble.voice()), "{babble:?}");
        assert!(babble.onset() > babble.voice() && hum.onset() == hum.voice());
        assert!(hum.hidden() < street.hidden() && street.hidden() < babble.hidden());
        assert!(!street.lively() && street.knows_noise() && babble.lively() && !babble.knows_noise());
    }

    #[test]
    fn voice_is_never_sought_far_below_its_own_peaks_nor_above_its_syllables() {
        let mut quiet = Levels::default();
        assert!((SOFTEST_DB..=SOFTEST_DB).contains(&quiet.voice()));
        (0..200).for_each(|_| quiet.hear_noise(0.0, false));
        assert!((SOFTEST_QUIET_DB..=SOFTEST_QUIET_DB).contains(&quiet.voice()));
        (0..50).for_each(|_| quiet.hear_voice(70.0));
        assert!((69.0 - FALL_DB..=70.0 - FALL_DB).contains(&quiet.voice()), "{quiet:?}");
        assert!(quiet.hidden() < 0.01 && quiet.consonant() < quiet.voice());
        let mut loud = Levels::default();
        (0..200).for_each(|_| loud.hear_noise(69.0, false));
        assert!(loud.voice() <= CERTAIN_DB, "nobody has spoken");
        (0..50).for_each(|_| loud.hear_voice(70.0));
        assert!(loud.voice() <= 70.0 - SYLLABLE_DB && loud.voice() >= 68.0 - SYLLABLE_DB);
    }

    #[test]
    fn beside_the_box_only_what_is_louder_than_its_return_rises() {
        let mut levels = Levels::default();
        (0..200).for_each(|_| levels.hear_noise(10.0, false));
        assert_eq!(levels.rise(), None, "nothing is known of what comes back");
        (0..50).for_each(|_| levels.hear_return(10.0));
        assert_eq!(levels.rise(), Some(SOFTEST_QUIET_DB));
        levels.hear_return(55.0);
        assert_eq!(levels.rise(), Some(55.0 + RISE_ABOVE_RETURN_DB));
        (0..1000).for_each(|_| levels.hear_return(10.0));
        assert_eq!(levels.rise(), Some(SOFTEST_QUIET_DB), "an old return is forgotten");
    }

    #[test]
    fn a_softer_caller_is_heard_again_when_other_voices_have_gone_on_for_a_while() {
        let mut levels = heard(4.0, true);
        let before = levels.voice();
        (0..3000).for_each(|hop| levels.hear_noise(if hop % 2 == 0 { 44.0 } else { 36.0 }, true));
        assert!(levels.voice() < before - 4.0, "{before} {levels:?}");
    }

    #[test]
    fn other_voices_are_believed_at_once_only_while_little_is_known_of_the_line() {
        let after = |quiet_hops| {
            let mut levels = Levels::default();
            (0..quiet_hops).for_each(|_| levels.hear_noise(5.0, false));
            (0..20).for_each(|_| levels.hear_others(50.0));
            levels.noise().unwrap()
        };
        assert!(after(30) > 45.0 && after(200) < 15.0, "{} {}", after(30), after(200));
    }
}
