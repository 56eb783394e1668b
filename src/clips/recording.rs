//! Reads a recording in whatever form somebody has it: WAV, MP3, Ogg Vorbis, FLAC, by `symphonia`; mixed to one channel.
//!
//! Of a file that is longer than a clip may be, no more is read than shows it. Not implemented: AAC, Opus in a file.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as DecodingError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use thiserror::Error;

use crate::pcm::wav::Sound;

/// Packets that may be broken: the first of an MP3 that was cut out of another is.
const BROKEN: usize = 3;
/// Rates and channels that a recording may have.
const RATES: std::ops::RangeInclusive<u32> = 4000..=192_000;
const CHANNELS: usize = 8;

/// Why a recording cannot be used.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no recording in a form that is known.
    #[error("{}: no WAV, MP3, Ogg Vorbis or FLAC ({note}); convert it with `ffmpeg -i IN -ac 1 OUT.wav`", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        note: String,
    },
    /// It is broken.
    #[error("{}: the file is broken ({note}); copy or export it again", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        note: String,
    },
    /// It has a form that no recording of speech has.
    #[error("{}: {channels} channels at {rate} Hz; up to 8 channels at 4000 to 192000 Hz are taken", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Channels.
        channels: usize,
        /// Samples a second.
        rate: u32,
    },
    /// It is too long.
    #[error(
        "{}: longer than {} s, and a caller would wait for its end; cut it with `sox IN OUT.wav trim START LENGTH`",
        path.display(),
        longest.as_secs()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How long it may be.
        longest: Duration,
    },
}

/// The sound of a recording, `longest` at most.
///
/// # Errors
/// When the file cannot be read, is none that is known, is broken, or is too long.
pub fn read_recording(path: &Path, longest: Duration) -> Result<Sound, RecordingError> {
    let broken = |note: String| RecordingError::Broken { path: path.to_owned(), note };
    // Whatever a decoder makes of bytes that nobody has thought of, it is the file's fault.
    catch_unwind(AssertUnwindSafe(|| read(path, longest)))
        .unwrap_or_else(|_| Err(broken("it cannot be decoded".into())))
}

fn read(path: &Path, longest: Duration) -> Result<Sound, RecordingError> {
    let unknown = |note: String| RecordingError::Unknown { path: path.to_owned(), note };
    let broken = |note: String| RecordingError::Broken { path: path.to_owned(), note };
    let unread = |source| RecordingError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unread)?;
    if !file.metadata().map_err(unread)?.is_file() {
        return Err(unread(std::io::Error::other("not a regular file")));
    }
    let source = MediaSourceStream::new(Box::new(file), Default::default());
    let mut format: Box<dyn FormatReader> = symphonia::default::get_probe()
        .probe(&Hint::new(), source, Default::default(), Default::default())
        .map_err(|error| match error {
            DecodingError::DecodeError(note) => broken(note.into()),
            error => unknown(error.to_string()),
        })?;
    let track = format.default_track(TrackType::Audio).ok_or_else(|| unknown("it has no sound".into()))?;
    let id = track.id;
    let coded = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
    let coded = coded.ok_or_else(|| unknown("how its sound is coded is not said".into()))?;
    let mut decoder: Box<dyn AudioDecoder> = symphonia::default::get_codecs()
        .make_audio_decoder(coded, &AudioDecoderOptions::default())
        .map_err(|error| unknown(error.to_string()))?;
    let (mut sound, mut failures) = (Sound { rate: 0, samples: Vec::new() }, 0);
    let mut interleaved: Vec<i16> = Vec::new();
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // A program that wrote to a pipe did not know how long it would become.
            Err(DecodingError::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(DecodingError::IoError(error)) => return Err(unread(error)),
            Err(error) => return Err(broken(error.to_string())),
        };
        if packet.track_id != id {
            continue;
        }
        let decoded = match decoder.decode(&packet) {
            Ok(decoded) => decoded,
            Err(error) if failures == BROKEN => return Err(broken(error.to_string())),
            Err(_) => {
                failures += 1;
                continue;
            }
        };
        let (rate, channels) = (decoded.spec().rate(), decoded.spec().channels().count());
        let changes = sound.rate != 0 && rate != sound.rate;
        if !RATES.contains(&rate) || !(1..=CHANNELS).contains(&channels) || changes {
            return Err(RecordingError::Shape { path: path.to_owned(), channels, rate });
        }
        sound.rate = rate;
        interleaved.resize(decoded.samples_interleaved(), 0);
        decoded.copy_to_slice_interleaved(&mut interleaved);
        let mixed = interleaved.chunks_exact(channels).map(|group| {
            let sum: i32 = group.iter().map(|&sample| i32::from(sample)).sum();
            (sum / channels as i32) as i16
        });
        sound.samples.extend(mixed);
        if sound.samples.len() as u64 > longest.as_secs() * u64::from(rate) {
            return Err(RecordingError::TooLong { path: path.to_owned(), longest });
        }
    }
    if sound.samples.is_empty() {
        return Err(broken("there is no sound in it".into()));
    }
    Ok(sound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::{level, tone, wav};

    const MINUTE: Duration = Duration::from_secs(60);

    fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn a_recording_in_stereo_is_mixed_and_keeps_its_rate_and_length() {
        let tone = tone::sine_at(44_100, 500.0, -10.0, 44_100);
        let stereo: Vec<i16> = tone.iter().flat_map(|&sample| [sample, sample]).collect();
        let (_folder, path) = written("a.wav", &wav::write(44_100, 2, &stereo));
        let sound = read_recording(&path, MINUTE).unwrap();
        assert_eq!((sound.rate, sound.samples.len()), (44_100, 44_100));
        assert!((level::rms_dbfs(&sound.samples) - level::rms_dbfs(&tone)).abs() < 0.1);
    }

    #[test]
    fn two_hours_are_refused_before_they_are_read() {
        let mut bytes = wav::write(8000, 1, &vec![500; 8000 * 61]);
        // A header of two hours; what follows is never looked for.
        bytes[40..44].copy_from_slice(&(2 * 3600 * 16_000u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(2 * 3600 * 16_000u32 + 36).to_le_bytes());
        let (_folder, path) = written("long.wav", &bytes);
        let error = read_recording(&path, MINUTE).unwrap_err();
        assert!(matches!(error, RecordingError::TooLong { .. }) && error.to_string().contains("trim"), "{error}");
    }

    #[test]
    fn what_is_no_recording_says_so_with_the_remedy_and_never_panics() {
        for bytes in [&b"%PDF-1.7 not a sound"[..], b"", &[0xff; 5000], b"ID3\x04\0\0\0\0\0\x0anothing here", b"OggS"] {
            let (_folder, path) = written("a.mp3", bytes);
            let error = read_recording(&path, MINUTE).unwrap_err();
            assert!(error.to_string().contains("a.mp3") && error.to_string().contains(';'), "{error}");
        }
        assert!(matches!(read_recording(Path::new("/nonexistent"), MINUTE), Err(RecordingError::Read { .. })));
        assert!(matches!(read_recording(Path::new("/tmp"), MINUTE), Err(RecordingError::Read { .. })));
        let whole = wav::write(16_000, 1, &tone::sine(500.0, -10.0, 16_000));
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut bytes = whole[..random.usize(..whole.len())].to_vec();
            for _ in 0..random.usize(..20) {
                let header = bytes.len().min(60);
                if header > 0 {
                    bytes[random.usize(..header)] = random.u8(..);
                }
            }
            let (_folder, path) = written("a.wav", &bytes);
            let _ = read_recording(&path, MINUTE);
        }
    }
}
