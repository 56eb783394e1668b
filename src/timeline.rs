//! When what happened in a turn.
