//! Tests of the receiver in virtual time.
