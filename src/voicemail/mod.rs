//! Messages that callers leave on the box: recorded, kept, listed, and posted to whoever wants them.
//!
//! A message is a WAV file (8 kHz, or 16 where the call was a wide one; mono, 16 bit) and a JSON file of the same name beside it; a wish to be called back is the JSON file alone.
//! Both are written whole, made durable and then given their names, so that a power cut leaves either all of a message or nothing of it.
//! Who may read the folder may read what people said: files are 0600, the folder 0700. Not implemented: encryption at rest, transcription.

mod post;
mod recorder;
mod store;
mod time;

pub use post::{Poster, PosterError};
pub use recorder::{Ended, Limits, Recorder, Recording};
pub use store::{Kind, Message, Note, Post, Store, StoreError};
pub use time::utc;
