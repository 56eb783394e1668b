//! The machine that takes messages, for all calls: its tone, its folder, and whoever is told.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tracing::{info, warn};

use crate::pcm::{FRAME_SAMPLES, Frame, samples_in, tone};
use crate::playout::{ClipKind, PlayableClip};
use crate::voicemail::{Note, Recording, Store};

/// The tone after which one speaks.
const TONE_HZ: f32 = 1000.0;
const TONE_DBFS: f32 = -20.0;
const TONE: Duration = Duration::from_millis(400);

/// Takes messages.
pub struct Mailbox {
    store: Arc<Store>,
    saved: Arc<Notify>,
    tone: PlayableClip,
}

impl Mailbox {
    /// Keeps messages in `store`, and wakes `saved` for each.
    pub fn new(store: Arc<Store>, saved: Arc<Notify>) -> Self {
        let samples = tone::sine(TONE_HZ, TONE_DBFS, samples_in(TONE) as usize);
        let frames: Vec<Frame> =
            samples.chunks_exact(FRAME_SAMPLES).map(|chunk| std::array::from_fn(|n| chunk[n])).collect();
        let tone = PlayableClip { kind: ClipKind::Prompt, index: 0, frames: frames.into(), cuts: [].into() };
        Self { store, saved, tone }
    }

    /// The tone. Its sound outlives every call.
    pub(super) fn tone(&self) -> PlayableClip {
        self.tone.clone()
    }

    /// Keeps a message. Blocks.
    pub(super) fn keep(&self, at: SystemTime, from: Note, recording: &Recording) {
        match self.store.save(at, from, recording) {
            Ok(message) => {
                info!(seconds = message.seconds, ended = ?recording.ended, "a message was left");
                self.saved.notify_one();
            }
            Err(error) => warn!(%error, "a message is lost"),
        }
    }
}
