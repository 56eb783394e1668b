//! A request body that is JSON with sounds in base64 (RFC 4648 §4) in it, which are encoded while it leaves: a sound is in memory once, however many
//! requests it goes with.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::pcm::wav::WavFile;

/// Bytes of a sound that are encoded at a time; a multiple of three, so that only its end is padded.
const ENCODED_BYTES: usize = 6 * 1024;
/// Decimal digits of a sound's number in what stands for it.
const DIGITS: usize = 4;

/// The sounds of a request that is being written as JSON.
pub(crate) struct Sounds {
    /// What the stand-ins begin with, and nothing else in the request.
    mark: String,
    files: Vec<WavFile>,
}

impl Sounds {
    pub(crate) fn new() -> Self {
        Self { mark: format!("sound-{:032x}-", fastrand::u128(..)), files: Vec::new() }
    }

    /// What is to be written as the JSON string that is to hold this sound.
    pub(crate) fn stand_in(&mut self, file: &WavFile) -> String {
        self.files.push(file.clone());
        format!("{}{:0DIGITS$}", self.mark, self.files.len() - 1)
    }

    /// The body: the JSON, with the sounds in the places of what stands for them.
    pub(crate) fn within(self, json: String) -> RequestBody {
        let places: Vec<usize> = json.match_indices(&self.mark).map(|(at, _)| at).collect();
        let json = Bytes::from(json);
        let (mut pieces, mut done) = (VecDeque::with_capacity(2 * places.len() + 1), 0);
        for at in places {
            let number = at + self.mark.len()..at + self.mark.len() + DIGITS;
            let digits = json.get(number.clone()).and_then(|digits| std::str::from_utf8(digits).ok());
            let Some(file) = digits.and_then(|digits| self.files.get(digits.parse::<usize>().ok()?)) else { continue };
            pieces.push_back(Piece::Plain(json.slice(done..at)));
            pieces.push_back(Piece::Sound { file: file.clone(), encoded: 0 });
            done = number.end;
        }
        pieces.push_back(Piece::Plain(json.slice(done..)));
        RequestBody { pieces }
    }
}

/// What a request says.
pub(crate) struct RequestBody {
    pieces: VecDeque<Piece>,
}

enum Piece {
    Plain(Bytes),
    /// … of which so many bytes have left.
    Sound {
        file: WavFile,
        encoded: usize,
    },
}

impl RequestBody {
    /// How many bytes are left of it.
    pub(super) fn length(&self) -> usize {
        let length = |piece: &Piece| match piece {
            Piece::Plain(bytes) => bytes.len(),
            Piece::Sound { file, encoded } => (file.length() - encoded).div_ceil(3) * 4,
        };
        self.pieces.iter().map(length).sum()
    }

    /// The next bytes of it.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        match self.pieces.pop_front()? {
            Piece::Plain(bytes) => Some(bytes),
            Piece::Sound { file, encoded } => {
                let mut some = Vec::with_capacity(ENCODED_BYTES);
                file.copy_to(&mut some, encoded, ENCODED_BYTES);
                let encoded = encoded + some.len();
                if encoded < file.length() {
                    self.pieces.push_front(Piece::Sound { file, encoded });
                }
                Some(Bytes::from(STANDARD.encode(some)))
            }
        }
    }
}

impl From<Vec<u8>> for RequestBody {
    fn from(body: Vec<u8>) -> Self {
        Self { pieces: [Piece::Plain(body.into())].into() }
    }
}

#[cfg(test)]
impl RequestBody {
    /// All of it.
    pub(crate) fn whole(mut self) -> Vec<u8> {
        let length = self.length();
        let whole: Vec<u8> = std::iter::from_fn(|| self.next()).flatten().collect();
        assert_eq!((whole.len(), self.length()), (length, 0));
        whole
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sound_stands_in_the_body_as_if_it_had_been_written_there() {
        for length in [0, 1, 2, 3, 4, ENCODED_BYTES - 1, ENCODED_BYTES, ENCODED_BYTES + 1, 5 * ENCODED_BYTES + 2] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 31 % 251) as u8).collect();
            let (first, second) = (WavFile::from(bytes.clone()), WavFile::from(b"RIFF".to_vec()));
            let written = |sounds: [String; 3]| json!({"a": sounds[0], "text": "sound-\"0001", "b": [sounds[1], {"c": sounds[2]}]});
            let mut sounds = Sounds::new();
            let marks = [&first, &second, &first].map(|file| sounds.stand_in(file));
            let body = sounds.within(written(marks).to_string());
            let expected = written([STANDARD.encode(&bytes), STANDARD.encode("RIFF"), STANDARD.encode(&bytes)]);
            assert_eq!(body.whole(), expected.to_string().into_bytes());
        }
    }

    #[test]
    fn a_body_without_sounds_leaves_as_it_is() {
        assert_eq!(RequestBody::from(b"{}".to_vec()).whole(), b"{}");
        assert_eq!(Sounds::new().within("{}".into()).whole(), b"{}");
    }
}
