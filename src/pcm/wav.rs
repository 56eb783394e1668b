//! WAV files (RIFF, 16-bit PCM): a tolerant reader and a plain writer.
//!
//! The reader is ours because programs that write to a pipe put impossible sizes into the header (espeak-ng: 0x7ffff000), which
//! `hound` refuses. It takes what bytes there are. Only 16-bit PCM is read; several channels are mixed to one.

mod shared;

pub use shared::WavFile;

use thiserror::Error;

/// Sound as a file held it: mono, 16 bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// Samples a second.
    pub rate: u32,
    /// Mono samples.
    pub samples: Vec<i16>,
}

/// What is wrong with a WAV file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WavError {
    /// It does not begin with RIFF…WAVE.
    #[error("not a WAV file (no RIFF/WAVE header)")]
    NotWav,
    /// It ends before its `fmt ` or `data` chunk.
    #[error("truncated WAV file: no {0:?} chunk")]
    Missing(&'static str),
    /// Its samples are not 16-bit PCM.
    #[error(
        "WAV format {format} with {bits} bits is not supported; convert it with `sox IN -b 16 -e signed-integer OUT`"
    )]
    Format {
        /// The format tag; 1 is PCM.
        format: u16,
        /// Bits a sample.
        bits: u16,
    },
    /// A rate or channel count no telephone clip has.
    #[error("WAV with {channels} channels at {rate} Hz is not supported (1-8 channels, 4000-192000 Hz)")]
    Shape {
        /// Channels.
        channels: u16,
        /// Samples a second.
        rate: u32,
    },
}

/// What stands before the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Samples a second.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
    /// Where the samples begin, in bytes from the start.
    pub data_at: usize,
    /// How many bytes of samples the header promises; may be nonsense.
    pub data_bytes: usize,
}

/// Reads the header of a WAV file from its first bytes; `None` when more bytes are needed.
pub fn header(bytes: &[u8]) -> Result<Option<Header>, WavError> {
    if bytes.len() < 12 {
        return if b"RIFF".starts_with(&bytes[..bytes.len().min(4)]) { Ok(None) } else { Err(WavError::NotWav) };
    }
    if &bytes[..4] != b"RIFF" || &bytes[8..12] != b"WAVE" {
        return Err(WavError::NotWav);
    }
    let mut at = 12usize;
    let mut format = None;
    loop {
        let Some(head) = bytes.get(at..at.saturating_add(8)) else { return Ok(None) };
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let body = at + 8;
        match &head[..4] {
            b"fmt " => {
                let Some(fmt) = bytes.get(body..body + 16) else { return Ok(None) };
                let word = |n: usize| u16::from_le_bytes([fmt[n], fmt[n + 1]]);
                let rate = u32::from_le_bytes([fmt[4], fmt[5], fmt[6], fmt[7]]);
                let (tag, channels, bits) = (word(0), word(2), word(14));
                // 0xfffe is "extensible", with the same layout of the fields read here.
                if !matches!(tag, 1 | 0xfffe) || bits != 16 {
                    return Err(WavError::Format { format: tag, bits });
                }
                if !(1..=8).contains(&channels) || !(4000..=192_000).contains(&rate) {
                    return Err(WavError::Shape { channels, rate });
                }
                format = Some((rate, channels));
            }
            b"data" => {
                let (rate, channels) = format.ok_or(WavError::Missing("fmt "))?;
                return Ok(Some(Header { rate, channels, data_at: body, data_bytes: size }));
            }
            _ => {}
        }
        at = body.saturating_add(size).saturating_add(size & 1);
    }
}

/// Reads a whole WAV file.
pub fn read(bytes: &[u8]) -> Result<Sound, WavError> {
    let header = header(bytes)?.ok_or(WavError::Missing("data"))?;
    let end = header.data_at.saturating_add(header.data_bytes).min(bytes.len());
    let channels = usize::from(header.channels);
    let samples = bytes[header.data_at..end]
        .chunks_exact(2 * channels)
        .map(|group| {
            let sum: i32 = group.chunks_exact(2).map(|s| i32::from(i16::from_le_bytes([s[0], s[1]]))).sum();
            (sum / channels as i32) as i16
        })
        .collect();
    Ok(Sound { rate: header.rate, samples })
}

/// Writes interleaved 16-bit samples as a WAV file.
pub fn write(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let spec =
        hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut file = std::io::Cursor::new(Vec::with_capacity(44 + samples.len() * 2));
    let mut writer = hound::WavWriter::new(&mut file, spec).expect("a WAV header fits into memory");
    let mut block = writer.get_i16_writer(samples.len() as u32);
    for &sample in samples {
        block.write_sample(sample);
    }
    block.flush().expect("memory takes every sample");
    writer.finalize().expect("memory takes the sizes");
    file.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let samples: Vec<i16> = (0..1000).map(|n| (n * 31) as i16).collect();
        assert_eq!(read(&write(8000, 1, &samples)), Ok(Sound { rate: 8000, samples }));
    }

    #[test]
    fn two_channels_are_mixed() {
        assert_eq!(read(&write(16000, 2, &[100, 300, -4, -8])), Ok(Sound { rate: 16000, samples: vec![200, -6] }));
    }

    #[test]
    fn a_size_that_a_pipe_could_not_know_is_ignored() {
        let mut bytes = write(22050, 1, &[1, 2, 3]);
        bytes[40..44].copy_from_slice(&0x7fff_f000u32.to_le_bytes());
        assert_eq!(read(&bytes).unwrap().samples, [1, 2, 3]);
    }

    #[test]
    fn garbage_and_every_truncation_is_an_error_and_never_a_panic() {
        assert_eq!(read(b"MThd nonsense, not a wav"), Err(WavError::NotWav));
        let whole = write(8000, 1, &[5; 50]);
        for cut in 0..44 {
            assert!(read(&whole[..cut]).is_err(), "{cut} bytes");
        }
        let mut float = whole.clone();
        float[20] = 3;
        assert_eq!(read(&float), Err(WavError::Format { format: 3, bits: 16 }));
    }
}
