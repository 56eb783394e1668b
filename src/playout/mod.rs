//! Playout.
