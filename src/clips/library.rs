//! The clips of the running box: taken up anew when their folder changes, without touching a call that plays from the old ones.
//!
//! A call keeps the set that it began with. A set that was replaced is freed when nobody plays from it, and here, so that nothing is freed
//! on the media thread.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tracing::{error, info, warn};

use crate::config::{self, Config};
use crate::playout::clips::{ClipError, Clips, Manifest};

/// How often the folders are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Sets that may still be played from after they were replaced; a change has to wait for one of them then.
const RETIRED: usize = 8;

/// The clips, as they are at the moment.
#[derive(Debug)]
pub struct Library {
    current: RwLock<Arc<Clips>>,
    retired: Mutex<Vec<Arc<Clips>>>,
}

impl Library {
    /// Begins with these.
    pub fn new(clips: Clips) -> Self {
        Self { current: RwLock::new(Arc::new(clips)), retired: Mutex::default() }
    }

    /// Begins with what `config` asks for. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read or used, or a clip is missing that a call needs.
    pub fn open(config: &Config) -> Result<Self, ClipError> {
        let loaded = match Clips::configured(config) {
            // Somebody writes: the manifest that was read names a sound that is gone.
            Err(error) if is_gone(&error) => Clips::configured(config),
            loaded => loaded,
        };
        loaded.map(Self::new)
    }

    /// The same for a box that has none yet: clips of one's own that cannot be used are told of, and it begins without them. Blocks.
    ///
    /// # Errors
    /// When it cannot begin without them either.
    pub fn open_at_start(config: &Config) -> Result<Self, ClipError> {
        Self::open(config).or_else(|error| {
            if config.clips.folder.is_none() {
                return Err(error);
            }
            let without = Config { clips: config::OwnClips::default(), ..config.clone() };
            let library = Self::new(Clips::configured(&without)?);
            error!(%error, "the clips of [clips] cannot be used: calls are answered without them");
            Ok(library)
        })
    }

    /// The clips of a call that begins now, for as long as it lasts.
    pub fn current(&self) -> Arc<Clips> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The clips of calls that begin from now on; gives them back while too many older sets are still played from.
    ///
    /// # Errors
    /// The clips themselves.
    pub fn swap(&self, clips: Clips) -> Result<(), Clips> {
        self.reap();
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        if retired.len() >= RETIRED {
            return Err(clips);
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        retired.push(std::mem::replace(&mut *current, Arc::new(clips)));
        Ok(())
    }

    /// Takes up at once what the folders of `config` hold, if it can be used. Blocks.
    pub fn take_up(&self, config: &Config) {
        if let Ok(clips) = Clips::configured(config) {
            // What finds no room is found by whoever watches, later.
            let _ = self.swap(clips);
        }
    }

    /// Frees what nobody plays from any more.
    pub fn reap(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|clips| Arc::strong_count(clips) > 1 || !clips.is_unused());
    }

    /// Takes up what changes in the folders of `config`, as long as it is polled. A set with something wrong in it is told of, once, and the
    /// one before stays.
    pub async fn watch(self: Arc<Self>, config: Config) {
        let config = Arc::new(config);
        let mut seen = stamp(&config);
        loop {
            tokio::time::sleep(LOOK).await;
            self.reap();
            let there = stamp(&config);
            if there == seen {
                continue;
            }
            let loading = config.clone();
            let loaded = tokio::task::spawn_blocking(move || Clips::configured(&loading)).await;
            match loaded {
                // Somebody writes: the manifest that was read names a sound that is gone.
                Ok(Err(error)) if is_gone(&error) && stamp(&config) != there => {}
                Ok(Err(error)) => {
                    warn!(%error, "the clips have changed and cannot be used: calls go on with those before");
                    seen = there;
                }
                Ok(Ok(clips)) => match self.swap(clips) {
                    Ok(()) => {
                        info!("the clips have changed: calls that begin now have the new ones");
                        seen = there;
                    }
                    Err(_) => warn!("the clips have changed too often: the new ones wait until older ones are over"),
                },
                Err(error) => {
                    warn!(%error, "the clips have changed and cannot be used: calls go on with those before");
                    seen = there;
                }
            }
        }
    }
}

/// Whether a file is not there that a manifest names.
fn is_gone(error: &ClipError) -> bool {
    matches!(error, ClipError::Read { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound)
}

/// What tells one state of the watched files from another: device, file, change in nanoseconds, size.
type Stamp = Vec<Option<(u64, u64, i64, i64, u64)>>;

fn stamp(config: &Config) -> Stamp {
    let folders = [config.placeholder.clips.clone(), config.clips.set_folder()];
    let manifests = folders.into_iter().flatten().map(|folder| Manifest::path(&folder));
    let of = |path: &Path| {
        let there = std::fs::metadata(path).ok()?;
        Some((there.dev(), there.ino(), there.mtime(), there.mtime_nsec(), there.size()))
    };
    let files: Vec<PathBuf> = manifests.chain(config.placeholder.clip.clone()).collect();
    files.iter().map(|path| of(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::{About, OwnClips};
    use crate::config::Language;
    use crate::pcm::{RATE, tone, wav};
    use crate::playout::ClipKind;
    use crate::playout::clips::Prepared;

    fn put(own: &OwnClips, id: &str) {
        let sound = wav::Sound { rate: RATE, samples: tone::sine(500.0, -10.0, 8000) };
        let sound = Prepared::new(Path::new("x.wav"), sound).unwrap();
        let (language, kind) = (Language::En, ClipKind::Greeting);
        let about = About { id: id.into(), language, kind, text: "x".into(), voice: None, made: "a test".into() };
        own.put(&about, &sound).unwrap();
    }

    fn greeting(clips: &Clips) -> String {
        clips.greeting(Language::En).unwrap().name.clone()
    }

    /// Lets the folders be looked at until something holds.
    async fn looked_until(mut holds: impl FnMut() -> bool) {
        for _ in 0..100 {
            if holds() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("it does not hold after 100 looks");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_is_the_next_calls_and_a_call_in_progress_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.clips.folder = Some(folder.path().to_owned());
        let own = OwnClips::of(&config.clips).unwrap();
        let library = Arc::new(Library::new(Clips::configured(&config).unwrap()));
        let watching = tokio::spawn(library.clone().watch(config));
        let call = library.current();
        let playing = call.greeting(Language::En).unwrap().playable(0);
        tokio::time::sleep(LOOK * 2).await;
        put(&own, "mine");
        looked_until(|| greeting(&library.current()) == "mine").await;
        assert_eq!(greeting(&call), "en-greeting");
        drop(call);
        library.reap();
        assert_eq!(library.retired.lock().unwrap().len(), 1, "its greeting is still being played");
        drop(playing);
        library.reap();
        assert_eq!(library.retired.lock().unwrap().len(), 0);
        std::fs::write(Manifest::path(own.folder()), "[[clip]]\nnonsense = 1\n").unwrap();
        tokio::time::sleep(LOOK * 4).await;
        assert_eq!(greeting(&library.current()), "mine", "what is wrong changes nothing");
        watching.abort();
    }

    #[test]
    fn a_box_whose_own_clips_are_broken_starts_without_them_and_nothing_else_may_be_broken() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.clips.folder = Some(folder.path().to_owned());
        let own = OwnClips::of(&config.clips).unwrap();
        put(&own, "mine");
        assert_eq!(greeting(&Library::open_at_start(&config).unwrap().current()), "mine");
        let sound = own.folder().join(&own.manifest().unwrap().clip[0].file);
        for broken in [Some("no sound"), None] {
            match broken {
                Some(text) => std::fs::write(&sound, text).unwrap(),
                None => std::fs::remove_file(&sound).unwrap(),
            }
            assert!(Library::open(&config).is_err());
            assert_eq!(greeting(&Library::open_at_start(&config).unwrap().current()), "en-greeting");
        }
        config.placeholder.clips = Some(folder.path().join("nothing"));
        assert!(Library::open_at_start(&config).is_err());
    }

    #[test]
    fn sets_that_are_still_played_from_are_bounded() {
        let library = Library::new(Clips::embedded(-20.0));
        let held: Vec<_> = (0..RETIRED)
            .map(|_| {
                let held = library.current();
                library.swap(Clips::embedded(-20.0)).unwrap();
                held
            })
            .collect();
        assert!(library.swap(Clips::embedded(-20.0)).is_err());
        drop(held);
        assert!(library.swap(Clips::embedded(-20.0)).is_ok());
    }
}
