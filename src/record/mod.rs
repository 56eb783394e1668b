//! What is written down of each call when it is over: one line of JSON, for calls that were not answered too.
//!
//! ```text
//!   call ─ Draft ─(dropped: the call is over)─► Ledger ─ bounded channel ─► write: metrics, [log] calls_file and its `.1`
//! ```
//!
//! A [`Draft`] lives as long as its call and becomes its [`CallRecord`] when it is dropped, however that comes about: so there is exactly
//! one of each call. docs/operation.md lists the fields. Not implemented: what was said, which is nowhere written down.

mod draft;
mod entry;
mod file;
mod moment;

pub use draft::{Draft, Ledger, Opening};
pub use entry::{
    BufferRecord, CallRecord, Cause, Direction, DroppedOnRings, EndedBy, Kind, LineRecord, Outcome, SCHEMA_VERSION,
    SideRecord,
};
pub use file::{CallsFile, write};
pub use moment::rfc3339;
