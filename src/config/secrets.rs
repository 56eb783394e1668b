//! Where a secret comes from: the configured file, a systemd credential (or the file that it is made of), an environment variable.

use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Trunk;
use crate::privacy::Secret;

/// No secret is longer; a file that is, holds something else.
const LONGEST_BYTES: u64 = 4096;

/// The folder that the shipped unit makes credentials of: looked into when systemd did not, as under `offhook doctor` in a shell.
const SHIPPED: &str = "/etc/offhook/secrets.d";

/// A secret that cannot be used. The secret itself is in no message.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{what} file {}: {source}", path.display())]
    Read {
        /// What it is.
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has nothing in it.
    #[error("{what} file {} is empty; write the secret into it, or remove `{key}`", path.display())]
    Empty {
        /// What it is.
        what: String,
        /// The configuration key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("there is no {what}; {remedy}")]
    Absent {
        /// What it is.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It has characters in it that it cannot have.
    #[error("the {what} from {origin} is not {form}; copy it again from where it was given to you")]
    Malformed {
        /// What it is.
        what: String,
        /// The file or variable.
        origin: String,
        /// What it should be.
        form: &'static str,
    },
}

/// What is looked for, and where.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is, as messages call it.
    pub what: &'a str,
    /// The configuration key that may name a file.
    pub key: &'static str,
    /// The file that it names.
    pub file: Option<&'a Path>,
    /// Name of the systemd credential.
    pub credential: &'a str,
    /// Name of the environment variable.
    pub variable: &'a str,
    /// Whether it is printable ASCII without blanks; otherwise one line of any text.
    pub ascii: bool,
}

impl Wanted<'_> {
    /// Looks for it. `None` when it is nowhere.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn find(&self) -> Result<Option<Secret>, SecretError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let credentials = credentials.unwrap_or_else(|| SHIPPED.into());
        self.find_in(Some(&credentials), std::env::var(self.variable).ok())
    }

    fn find_in(&self, credentials: Option<&Path>, variable: Option<String>) -> Result<Option<Secret>, SecretError> {
        if let Some(path) = self.file {
            return self.read(path).map(Some);
        }
        // The shipped unit loads the folder `secrets`: systemd puts a folder's name and `_` before its files'.
        let names = [format!("secrets_{}", self.credential), self.credential.to_owned()];
        let credential = |folder: &Path| names.iter().map(|name| folder.join(name)).find(|path| path.exists());
        if let Some(path) = credentials.and_then(credential) {
            return self.read(&path).map(Some);
        }
        match variable.map(Secret::new).filter(|secret| !secret.is_empty()) {
            Some(secret) => self.checked(secret, || format!("the variable {}", self.variable)).map(Some),
            None => Ok(None),
        }
    }

    fn read(&self, path: &Path) -> Result<Secret, SecretError> {
        let what = || self.what.to_owned();
        let failed = |source| SecretError::Read { what: what(), path: path.into(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path).map_err(failed)?.take(LONGEST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        let origin = || path.display().to_string();
        if bytes.len() as u64 > LONGEST_BYTES {
            return Err(self.malformed(origin()));
        }
        let secret = Secret::new(String::from_utf8(bytes).map_err(|_| self.malformed(origin()))?);
        if secret.is_empty() {
            return Err(SecretError::Empty { what: what(), key: self.key, path: path.into() });
        }
        self.checked(secret, origin)
    }

    fn checked(&self, secret: Secret, origin: impl Fn() -> String) -> Result<Secret, SecretError> {
        let text = secret.reveal();
        let good = match self.ascii {
            true => text.bytes().all(|byte| byte.is_ascii_graphic()),
            false => !text.chars().any(char::is_control),
        };
        if good { Ok(secret) } else { Err(self.malformed(origin())) }
    }

    fn malformed(&self, origin: String) -> SecretError {
        let form = if self.ascii { "one line of printable ASCII characters" } else { "one line of text" };
        SecretError::Malformed { what: self.what.to_owned(), origin, form }
    }
}

impl Trunk {
    /// The password of the trunk that the configuration calls `name`. `None` when there is none anywhere.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn password(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        let variable = format!("OFFHOOK_TRUNK_{}_PASSWORD", name.to_uppercase().replace('-', "_"));
        Wanted {
            what: &format!("password of trunk {name}"),
            key: "password_file",
            file: self.password_file.as_deref(),
            credential: &format!("trunk.{name}.password"),
            variable: &variable,
            ascii: false,
        }
        .find()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(file: Option<&Path>) -> Wanted<'_> {
        Wanted {
            what: "gemini key",
            key: "api_key_file",
            file,
            credential: "gemini.key",
            variable: "NONE",
            ascii: true,
        }
    }

    #[test]
    fn the_file_goes_before_the_credential_and_that_before_the_variable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine");
        std::fs::write(&file, "from-file\n").unwrap();
        std::fs::write(folder.path().join("gemini.key"), "from-credential\n").unwrap();
        let variable = || Some("from-variable".to_owned());
        let found = |file, folder| wanted(file).find_in(folder, variable()).unwrap().unwrap();
        assert_eq!(found(Some(&file), Some(folder.path())).reveal(), "from-file");
        assert_eq!(found(None, Some(folder.path())).reveal(), "from-credential");
        std::fs::write(folder.path().join("secrets_gemini.key"), "from-folder\n").unwrap();
        assert_eq!(found(None, Some(folder.path())).reveal(), "from-folder");
        assert_eq!(found(None, Some(Path::new("/nonexistent"))).reveal(), "from-variable");
        assert_eq!(wanted(None).find_in(None, Some("  ".into())).unwrap(), None);
        assert_eq!(wanted(None).find_in(None, None).unwrap(), None);
    }

    #[test]
    fn an_empty_or_missing_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty.key");
        std::fs::write(&file, " \n").unwrap();
        let error = wanted(Some(&file)).find_in(None, Some("unused".into())).unwrap_err();
        assert!(matches!(error, SecretError::Empty { .. }) && error.to_string().contains("empty.key"), "{error}");
        let absent = folder.path().join("absent.key");
        let error = wanted(Some(&absent)).find_in(None, None).unwrap_err();
        assert!(matches!(error, SecretError::Read { .. }) && error.to_string().contains("absent.key"), "{error}");
    }

    #[test]
    fn strange_characters_are_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("two-lines.key");
        for content in ["AIzaSecret\nsecond", "AIzaSecret\u{5d0}", &"AIzaSecret".repeat(1000)] {
            std::fs::write(&file, content).unwrap();
            let error = wanted(Some(&file)).find_in(None, None).unwrap_err();
            assert!(matches!(error, SecretError::Malformed { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("AIza"));
        }
        assert!(matches!(wanted(None).find_in(None, Some("a b".into())), Err(SecretError::Malformed { .. })));
        let password = Wanted { ascii: false, ..wanted(None) };
        assert_eq!(password.find_in(None, Some("סוד a".into())).unwrap().unwrap().reveal(), "סוד a");
    }
}
