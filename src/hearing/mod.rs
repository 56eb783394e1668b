//! Hearing: voice activity, end of turn, the utterance.
