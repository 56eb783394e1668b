//! Where a clip gives way to an answer, seen from outside: by comparing what is heard with the clip.

use crate::pcm::{FRAME_SAMPLES, Frame, RATE, level};
use crate::playout::clips::Clip;

/// A clip that is cut where it is louder than this on both sides is cut within a sound.
const LOUD_DBFS: f32 = -35.0;
/// What a mixer may play behind a cut: the fade, and silence that was in the clip anyhow.
const FADE: usize = RATE as usize / 100;

/// Follows a clip in what is heard, to see where it stops.
#[derive(Default)]
pub(super) struct Listener<'a> {
    /// The clip that plays, and how many frames of it were heard whole.
    clip: Option<(&'a Clip, usize)>,
}

/// Where a clip gave way.
pub(super) struct Cut {
    /// Elsewhere than at the end of a word.
    pub(super) mid_word: bool,
    /// Where the clip is loud on both sides.
    pub(super) loud: bool,
}

impl<'a> Listener<'a> {
    /// A clip begins.
    pub(super) fn follow(&mut self, clip: Option<&'a Clip>) {
        self.clip = clip.map(|clip| (clip, 0));
    }

    /// The next frame that is heard; tells where the clip gave way, when it has just done so.
    pub(super) fn hear(&mut self, frame: &Frame) -> Option<Cut> {
        let (clip, frames) = self.clip?;
        let expected = clip.frames.get(frames)?;
        if frame == expected {
            self.clip = (frames + 1 < clip.frames.len()).then_some((clip, frames + 1));
            return None;
        }
        self.clip = None;
        let same = frame.iter().zip(expected).take_while(|(heard, expected)| heard == expected).count();
        let at = frames * FRAME_SAMPLES + same;
        Some(judge_cut(clip, at))
    }
}

/// Whether a clip that was heard up to this sample was cut within a word.
fn judge_cut(clip: &Clip, at: usize) -> Cut {
    let sound: Vec<i16> = clip.frames.iter().flatten().copied().collect();
    let between = |from: usize, to: usize| level::rms_dbfs(&sound[from.min(sound.len())..to.clamp(from, sound.len())]);
    let window = RATE as usize / 100;
    let ends = || clip.cuts.iter().map(|&cut| cut as usize).chain([clip.voiced_samples]);
    let at_word_end = ends().any(|end| at >= end && (at - end <= FADE || between(end + FADE, at) < -50.0));
    Cut {
        mid_word: !at_word_end,
        loud: between(at.saturating_sub(window), at) > LOUD_DBFS && between(at, at + window) > LOUD_DBFS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Language;
    use crate::pcm::tone;
    use crate::playout::clips::Clips;

    #[test]
    fn a_cut_is_judged_by_the_clips_cut_points_and_by_its_sound() {
        let frames: Vec<Frame> = [tone::sine(500.0, -10.0, 1600), vec![0; 800], tone::sine(500.0, -10.0, 1600)]
            .concat()
            .as_chunks()
            .0
            .to_vec();
        let mut clip = Clips::embedded(-20.0).placeholders(Language::En)[0].clone();
        (clip.frames, clip.cuts, clip.voiced_samples) = (frames.into(), vec![1600].into(), 4000);
        for (at, mid_word, loud) in [
            (1600, false, false),
            (1650, false, false),
            (2400, false, false),
            (800, true, true),
            (2500, true, true),
            (4000, false, false),
        ] {
            let cut = judge_cut(&clip, at);
            assert_eq!((cut.mid_word, cut.loud), (mid_word, loud), "at {at}");
        }
        let mut listener = Listener { clip: Some((&clip, 0)) };
        assert!(listener.hear(&clip.frames[0]).is_none());
        assert!(listener.hear(&crate::pcm::SILENCE).is_some_and(|cut| cut.mid_word));
    }
}
