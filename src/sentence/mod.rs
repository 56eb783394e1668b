//! Cutting the token stream into clauses and sentences.
