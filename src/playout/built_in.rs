//! The clips that are built into the program: the files of `audio/`.

use std::path::Path;

/// The manifest of the set.
pub(super) const MANIFEST: &str = include_str!("../../audio/manifest.toml");

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(
            (concat!($name, ".wav"), include_bytes!(concat!("../../audio/", $name, ".wav"))),
            (concat!($name, ".cuts.toml"), include_bytes!(concat!("../../audio/", $name, ".cuts.toml"))),
        )*]
    };
}

/// Sounds and their cut points, by path within the set.
pub(super) const FILES: &[(&str, &[u8])] = files![
    "en/greeting",
    "en/okay",
    "en/right",
    "en/sure",
    "en/one-sec",
    "en/a-moment",
    "en/let-me-see",
    "en/one-moment",
    "en/let-me-check",
    "en/one-moment-let-me-see",
    "en/let-me-look-at-that",
    "en/still-looking",
    "en/nearly-there",
    "en/are-you-there",
    "en/goodbye",
    "en/apology",
    "ru/greeting",
    "ru/seychas",
    "ru/yasno",
    "ru/ponyatno",
    "ru/sekundu",
    "ru/minutku",
    "ru/moment",
    "ru/uzhe-ishchu",
    "ru/odin-moment",
    "ru/seychas-naydu",
    "ru/moment-ishchu",
    "ru/eshche-ishchu",
    "ru/pochti-gotovo",
    "ru/na-linii",
    "ru/goodbye",
    "ru/apology",
    "he/greeting",
    "he/tov",
    "he/ken",
    "he/okey",
    "he/rega",
    "he/shniya",
    "he/daka",
    "he/od-rega",
    "he/rak-rega",
    "he/rega-bodkim",
    "he/kvar-bodkim",
    "he/adayin-bodkim",
    "he/kimat-siyamnu",
    "he/shomim-oti",
    "he/goodbye",
    "he/apology",
];

/// The content of a file of the set.
pub(super) fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let found = FILES.iter().find(|(name, _)| Path::new(name) == file);
    found.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
}
