//! A leg.
