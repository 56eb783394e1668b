//! A WAV file in parts, whose memory it shares with everybody who keeps the same sound.

use std::ops::Range;
use std::sync::Arc;

use super::write;

/// Some of a piece of sound, or of whatever stands before it.
#[derive(Clone)]
struct Part {
    bytes: Arc<[u8]>,
    range: Range<usize>,
}

impl Part {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

/// A WAV file that is kept. Cloning it copies no sound. Not `Debug`: it is what somebody said.
#[derive(Clone)]
pub struct WavFile {
    parts: Arc<[Part]>,
    length: usize,
}

impl WavFile {
    /// A file of one channel of 16-bit samples, little-endian, that stand in these ranges of pieces of bytes.
    pub fn mono(rate: u32, sound: impl IntoIterator<Item = (Arc<[u8]>, Range<usize>)>) -> Self {
        let mut head = write(rate, 1, &[]);
        let mut parts = vec![Part { bytes: Arc::new([]), range: 0..0 }];
        parts.extend(sound.into_iter().map(|(bytes, range)| Part { bytes, range }));
        let samples: usize = parts.iter().map(|part| part.range.len()).sum();
        let length = head.len() + samples;
        // What the head says of the length: of all that follows, and of the samples.
        for (at, bytes) in [(4, length - 8), (head.len() - 4, samples)] {
            head[at..at + 4].copy_from_slice(&(bytes as u32).to_le_bytes());
        }
        parts[0] = Part { range: 0..head.len(), bytes: head.into() };
        Self { parts: parts.into(), length }
    }

    /// How many bytes it has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Appends to `to` what of it lies from byte `from` on, at most `most` bytes.
    pub fn copy_to(&self, to: &mut Vec<u8>, from: usize, most: usize) {
        let (mut skip, mut room) = (from, most);
        for part in self.parts.iter().map(Part::as_slice) {
            let (_, rest) = part.split_at(skip.min(part.len()));
            skip -= part.len() - rest.len();
            let taken = &rest[..room.min(rest.len())];
            to.extend_from_slice(taken);
            room -= taken.len();
        }
    }
}

impl From<Vec<u8>> for WavFile {
    fn from(file: Vec<u8>) -> Self {
        let length = file.len();
        Self { parts: Arc::new([Part { bytes: file.into(), range: 0..length }]), length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_parts_is_the_file_that_is_written_whole() {
        let samples: Vec<i16> = (0..1000).collect();
        let bytes: Arc<[u8]> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let parts = [0..300, 300..300, 300..1002, 1002..2000];
        let file = WavFile::mono(8000, parts.map(|range| (bytes.clone(), range)));
        let whole = write(8000, 1, &samples);
        assert_eq!(file.length(), whole.len());
        for step in [7, 44, 345, 5000] {
            let mut copied = Vec::new();
            while copied.len() < whole.len() {
                let from = copied.len();
                file.copy_to(&mut copied, from, step);
                assert_eq!(copied.len(), (from + step).min(whole.len()));
            }
            assert_eq!(copied, whole);
        }
    }
}
