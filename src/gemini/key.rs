//! Where the API key comes from: the configured file, the systemd credential `gemini.key`, the variable `GEMINI_API_KEY`.

use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config;
use crate::privacy::Secret;

/// Names of the systemd credential: as the shipped unit has it, which loads the folder `secrets` (systemd puts a folder's name and `_`
/// before its files'), and as a unit that loads the one file has it.
const CREDENTIALS: [&str; 2] = ["secrets_gemini.key", "gemini.key"];
/// Name of the environment variable.
const VARIABLE: &str = "GEMINI_API_KEY";
/// No key is longer; a file that is, is not a key file.
const LONGEST_BYTES: u64 = 4096;

/// A key that cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("gemini key file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has nothing in it.
    #[error("gemini key file {} is empty; write the API key into it, or remove `api_key_file`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is not one line of printable ASCII.
    #[error(
        "the gemini key from {origin} is not one line of printable ASCII characters; copy it again from aistudio.google.com"
    )]
    Malformed {
        /// The file or variable.
        origin: String,
    },
}

/// Finds the key. `None` when there is none anywhere, which is enough for a base URL on loopback.
pub fn key(config: &config::Gemini) -> Result<Option<Secret>, KeyError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    find(config.api_key_file.as_deref(), credentials.as_deref(), std::env::var(VARIABLE).ok())
}

fn find(file: Option<&Path>, credentials: Option<&Path>, variable: Option<String>) -> Result<Option<Secret>, KeyError> {
    if let Some(path) = file {
        return read(path).map(Some);
    }
    let credential = |folder: &Path| CREDENTIALS.into_iter().map(|name| folder.join(name)).find(|path| path.exists());
    if let Some(path) = credentials.and_then(credential) {
        return read(&path).map(Some);
    }
    match variable.map(Secret::new).filter(|key| !key.is_empty()) {
        Some(key) => printable(key, || format!("the variable {VARIABLE}")).map(Some),
        None => Ok(None),
    }
}

fn read(path: &Path) -> Result<Secret, KeyError> {
    let failed = |source| KeyError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(LONGEST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    let malformed = || KeyError::Malformed { origin: path.display().to_string() };
    if bytes.len() as u64 > LONGEST_BYTES {
        return Err(malformed());
    }
    let key = Secret::new(String::from_utf8(bytes).map_err(|_| malformed())?);
    if key.is_empty() {
        return Err(KeyError::Empty { path: path.into() });
    }
    printable(key, || path.display().to_string())
}

fn printable(key: Secret, origin: impl Fn() -> String) -> Result<Secret, KeyError> {
    match key.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(key),
        false => Err(KeyError::Malformed { origin: origin() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_before_the_credential_and_that_before_the_variable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine");
        std::fs::write(&file, "from-file\n").unwrap();
        std::fs::write(folder.path().join("gemini.key"), "from-credential\n").unwrap();
        let variable = || Some("from-variable".to_owned());
        let found = |file, folder| find(file, folder, variable()).unwrap().unwrap();
        assert_eq!(found(Some(&file), Some(folder.path())).reveal(), "from-file");
        assert_eq!(found(None, Some(folder.path())).reveal(), "from-credential");
        std::fs::write(folder.path().join("secrets_gemini.key"), "from-folder\n").unwrap();
        assert_eq!(found(None, Some(folder.path())).reveal(), "from-folder");
        assert_eq!(found(None, Some(Path::new("/nonexistent"))).reveal(), "from-variable");
        assert_eq!(find(None, None, Some("  ".into())).unwrap(), None);
        assert_eq!(find(None, None, None).unwrap(), None);
    }

    #[test]
    fn an_empty_or_missing_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty.key");
        std::fs::write(&file, " \n").unwrap();
        let error = find(Some(&file), None, Some("unused".into())).unwrap_err();
        assert!(matches!(error, KeyError::Empty { .. }) && error.to_string().contains("empty.key"), "{error}");
        let error = find(Some(&folder.path().join("absent.key")), None, None).unwrap_err();
        assert!(matches!(error, KeyError::Read { .. }) && error.to_string().contains("absent.key"), "{error}");
    }

    #[test]
    fn a_key_with_strange_characters_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("two-lines.key");
        for content in ["AIzaSecret\nsecond", "AIzaSecret\u{5d0}", &"AIzaSecret".repeat(1000)] {
            std::fs::write(&file, content).unwrap();
            let error = find(Some(&file), None, None).unwrap_err();
            assert!(matches!(error, KeyError::Malformed { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("AIza"));
        }
        assert!(matches!(find(None, None, Some("a b".into())), Err(KeyError::Malformed { .. })));
    }
}
