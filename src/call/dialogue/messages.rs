//! A caller who leaves a message: the tone, the sound, and what becomes of it.

use std::time::SystemTime;

use super::*;
use crate::voicemail;

/// How long the end of a call waits for its message to be on the disk.
const SAVING: Duration = Duration::from_secs(2);

impl Dialogue {
    /// Records from now on.
    pub(super) fn take_message(&mut self, tone: bool) {
        let now = Instant::now();
        let Some(mailbox) = self.parts.voicemail.clone() else {
            self.conversation.handle(now, Input::MessageTaken);
            return;
        };
        if tone {
            self.ports.command(media::Command::Play(mailbox.tone()));
        }
        let config = &self.parts.config.voicemail;
        let limits = voicemail::Limits { longest: config.longest, silence_end: config.silence_end };
        let spoken = if tone { Vec::new() } else { self.recordings.since_began() };
        let mut recorder = Recorder::new(now, limits, spoken);
        recorder.set_wide(self.recordings.is_wide());
        self.message = Some(recorder);
    }

    /// What the ear tells of somebody who leaves a message.
    pub(super) fn message_heard(&mut self, at: Instant, heard: &Heard) {
        let Some(message) = &mut self.message else { return };
        match heard {
            Heard::Started { .. } | Heard::Resumed { .. } => message.voice(at, true),
            Heard::HardEnd { .. } => message.voice(at, false),
            _ => {}
        }
    }

    pub(super) fn message_timeout(&mut self, now: Instant) {
        if self.message.as_ref().and_then(Recorder::poll_timeout).is_some_and(|at| at <= now) {
            self.message_over(now, |message| message.handle_timeout(now));
        }
    }

    /// Something happened that may end the message; if so, it is kept.
    pub(super) fn message_over(&mut self, now: Instant, happened: impl FnOnce(&mut Recorder)) {
        let Some(message) = &mut self.message else { return };
        happened(message);
        let Some(recording) = message.poll() else { return };
        self.message = None;
        if let Some(mailbox) = self.parts.voicemail.clone().filter(|_| !recording.samples.is_empty()) {
            let from = self.from.clone();
            self.tally.messages += 1;
            self.saving = Some(tokio::task::spawn_blocking(move || mailbox.keep(SystemTime::now(), from, &recording)));
        }
        self.tell(now, Input::MessageTaken);
    }

    /// Waits until the message is on the disk.
    pub(super) async fn saved(&mut self) {
        if let Some(saving) = self.saving.take()
            && tokio::time::timeout(SAVING, saving).await.is_err()
        {
            warn!("a message is not on the disk yet: the disk is slow");
        }
    }

    /// Tells the conversation of clips over a wait.
    pub(super) fn bridging(&mut self, at: Instant, played: &Played) {
        match played {
            Played::ClipStarted { kind, .. } if kind.is_placeholder() => self.tell(at, Input::BridgeStarted),
            Played::ClipEnded { kind, .. } if kind.is_placeholder() => self.tell(at, Input::BridgeEnded),
            _ => {}
        }
    }
}
