//! The clips of the running box: taken up anew when their folder changes, without touching a call that plays from the old ones.
//!
//! A call keeps the set that it began with. A set that was replaced is freed when nobody plays from it, and here, so that nothing is freed
//! on the media thread.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tracing::{info, warn};

use crate::config::Config;
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
                Ok(Err(ClipError::Read { cause, .. }))
                    if cause.kind() == std::io::ErrorKind::NotFound && stamp(&config) != there => {}
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
        while greeting(&library.current()) != "mine" {
            tokio::time::sleep(LOOK).await;
        }
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
