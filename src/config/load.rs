//! Reading and checking a configuration file.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Config;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}:{problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: Problem,
    },
}

/// What is wrong in a configuration text, and what to do about it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{line}: {message}")]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Key, complaint and remedy.
    pub message: String,
}

/// Reads a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    parse(&text).map_err(|problem| ConfigError::Invalid { path: path.into(), problem })
}

/// Reads a configuration text.
pub fn parse(text: &str) -> Result<Config, Problem> {
    toml::from_str(text).map_err(|error| Problem { line: 1, message: error.message().to_owned() })
}
