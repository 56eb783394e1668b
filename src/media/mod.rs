//! The media thread.
