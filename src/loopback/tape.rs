//! Records a call while it goes on: left what was heard, right what was said, 16 kHz, 16 bit.
//!
//! The media thread fills a ring; a thread of its own writes, and corrects the file's sizes every second, so that what a power cut leaves can
//! be played.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use hound::{SampleFormat, WavSpec, WavWriter};
use ringbuf::traits::{Consumer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use thiserror::Error;

use crate::pcm::{Frame, RATE, SILENCE};

/// Frames that may wait to be written: 5 s.
const WAITING: usize = 250;
/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);
/// Looks from one correction of the sizes to the next.
const LOOKS_PER_FLUSH: u32 = 20;
/// The longest file: its sizes have 32 bits. 9 hours.
const LONGEST_FRAMES: u64 = (u32::MAX as u64 - 1024) / (size_of::<[Frame; 2]>() as u64);

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracks {
    /// Left what was heard, right what was said.
    Both,
    /// What was said alone.
    Said,
}

/// Why a recording is not there.
#[derive(Debug, Error)]
#[error("{}: {cause}; choose a file that can be written, on a disk with room", path.display())]
pub struct TapeError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub cause: hound::Error,
}

/// The media thread's end.
pub struct TapeHead {
    ring: HeapProd<[Frame; 2]>,
    heard: Frame,
    lost: Arc<AtomicU64>,
}

impl TapeHead {
    pub(super) fn heard(&mut self, frame: &Frame) {
        self.heard = *frame;
    }

    pub(super) fn spoken(&mut self, frame: &Frame) {
        if self.ring.try_push([self.heard, *frame]).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
        self.heard = SILENCE;
    }
}

/// What became of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Frames that were written.
    pub frames: u64,
    /// Frames that found no room in the ring, or none in the file.
    pub lost: u64,
}

/// A recording that goes on.
pub struct Tape {
    over: Arc<AtomicBool>,
    writer: JoinHandle<Result<Recorded, TapeError>>,
}

impl Tape {
    /// Begins the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(path: &Path, tracks: Tracks) -> Result<(Self, TapeHead), TapeError> {
        let (ring, frames) = HeapRb::new(WAITING).split();
        let (over, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let head = TapeHead { ring, heard: SILENCE, lost: lost.clone() };
        let (to, until) = (path.to_owned(), over.clone());
        let failed = move |cause| TapeError { path: to.clone(), cause };
        let channels = if tracks == Tracks::Both { 2 } else { 1 };
        let spec = WavSpec { channels, sample_rate: RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let writer = WavWriter::create(path, spec).map_err(&failed)?;
        let writer = std::thread::Builder::new()
            .name("offhook-tape".into())
            .spawn(move || write(writer, frames, tracks, &until, &lost).map_err(failed));
        let writer =
            writer.map_err(|error| TapeError { path: path.to_owned(), cause: hound::Error::IoError(error) })?;
        Ok((Self { over, writer }, head))
    }

    /// Ends it. Blocks until all is written.
    ///
    /// # Errors
    /// When the file could not be written to its end.
    pub fn finish(self) -> Result<Recorded, TapeError> {
        self.over.store(true, Relaxed);
        self.writer.join().unwrap_or(Ok(Recorded { frames: 0, lost: 0 }))
    }
}

fn write(
    mut writer: WavWriter<BufWriter<File>>,
    mut frames: HeapCons<[Frame; 2]>,
    tracks: Tracks,
    over: &AtomicBool,
    lost: &AtomicU64,
) -> Result<Recorded, hound::Error> {
    let (mut written, mut looks) = (0, 0);
    loop {
        // Read before the ring is: what comes between is still written.
        let is_over = over.load(Relaxed);
        while let Some([heard, said]) = frames.try_pop() {
            if written >= LONGEST_FRAMES {
                lost.fetch_add(1, Relaxed);
                continue;
            }
            for (heard, said) in heard.into_iter().zip(said) {
                if tracks == Tracks::Both {
                    writer.write_sample(heard)?;
                }
                writer.write_sample(said)?;
            }
            written += 1;
        }
        if is_over {
            writer.finalize()?;
            return Ok(Recorded { frames: written, lost: lost.load(Relaxed) });
        }
        looks += 1;
        if looks % LOOKS_PER_FLUSH == 0 {
            writer.flush()?;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_has_the_caller_left_and_the_box_right_and_says_where_it_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("talk.wav");
        let (tape, mut head) = Tape::start(&file, Tracks::Both).unwrap();
        for n in 0..100 {
            head.heard(&[n; SILENCE.len()]);
            head.spoken(&[-n; SILENCE.len()]);
        }
        assert_eq!(tape.finish().unwrap(), Recorded { frames: 100, lost: 0 });
        let mut reader = hound::WavReader::open(&file).unwrap();
        assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, RATE));
        let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(samples.len(), 200 * SILENCE.len());
        assert!(samples.chunks(2).enumerate().all(|(n, pair)| {
            let value = (n / SILENCE.len()) as i16;
            pair == [value, -value]
        }));
        let nowhere = folder.path().join("no/such/folder.wav");
        let error = Tape::start(&nowhere, Tracks::Said).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("folder.wav") && error.contains("choose a file"), "{error}");
    }
}
