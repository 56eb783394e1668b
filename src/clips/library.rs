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
    current: RwLock<Held>,
    /// Held by whoever loads, so that nobody puts an older state in place of a newer one.
    renewing: Mutex<()>,
    /// Shared with the libraries before and after this one: whichever is left frees them.
    retired: Arc<Mutex<Vec<Arc<Clips>>>>,
}

/// A set, and how its folders were before it was read.
#[derive(Debug)]
struct Held {
    clips: Arc<Clips>,
    stamp: Stamp,
}

impl Library {
    /// Begins with these, which come from no folder.
    pub fn new(clips: Clips) -> Self {
        Self::holding(clips, Stamp::new(), Arc::default())
    }

    fn holding(clips: Clips, stamp: Stamp, retired: Arc<Mutex<Vec<Arc<Clips>>>>) -> Self {
        let current = RwLock::new(Held { clips: Arc::new(clips), stamp });
        Self { current, renewing: Mutex::default(), retired }
    }

    /// What comes after this one: it begins with what `config` asks for, and frees what is still played from this one when this one is gone.
    /// Blocks.
    ///
    /// # Errors
    /// When a file cannot be read or used, or a clip is missing that a call needs.
    pub fn successor(&self, config: &Config) -> Result<Self, ClipError> {
        let (stamp, loaded) = load(config);
        Ok(Self::holding(loaded?, stamp, self.retired.clone()))
    }

    /// Begins with what `config` asks for; clips of one's own that cannot be used are told of, and it begins without them. Blocks.
    ///
    /// # Errors
    /// When it cannot begin without them either.
    pub fn open_at_start(config: &Config) -> Result<Self, ClipError> {
        let (stamp, loaded) = load(config);
        let clips = loaded.or_else(|error| {
            if config.clips.folder.is_none() {
                return Err(error);
            }
            let without = Config { clips: config::OwnClips::default(), ..config.clone() };
            let clips = Clips::configured(&without)?;
            error!(%error, "the clips of [clips] cannot be used: calls are answered without them");
            Ok(clips)
        })?;
        Ok(Self::holding(clips, stamp, Arc::default()))
    }

    /// The clips of a call that begins now, for as long as it lasts.
    pub fn current(&self) -> Arc<Clips> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clips.clone()
    }

    /// The clips of calls that begin from now on, with the state of their folders before they were read; `false` while too many older sets
    /// are still played from.
    fn swap(&self, clips: Clips, stamp: Stamp) -> bool {
        if !self.has_room() {
            return false;
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let held = Held { clips: Arc::new(clips), stamp };
        retired.push(std::mem::replace(&mut *current, held).clips);
        true
    }

    fn has_room(&self) -> bool {
        self.reap();
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).len() < RETIRED
    }

    /// Takes up what the folders of `config` hold, unless that is what is held already. Blocks.
    fn renew(&self, config: &Config) -> Result<Renewed, ClipError> {
        let _one_at_a_time = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let there = stamp(config);
        if self.holds(&there) {
            return Ok(Renewed::Same);
        }
        if !self.has_room() {
            return Ok(Renewed::Full);
        }
        let clips = Clips::configured(config)?;
        Ok(if self.swap(clips, there) { Renewed::Changed } else { Renewed::Full })
    }

    fn holds(&self, there: &Stamp) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).stamp == *there
    }

    /// Takes up at once what the folders of `config` hold, if it can be used. Blocks.
    pub fn take_up(&self, config: &Config) {
        // What cannot be used or finds no room is found by whoever watches, later.
        let _ = self.renew(config);
    }

    /// Frees what nobody plays from any more.
    pub fn reap(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|clips| Arc::strong_count(clips) > 1 || !clips.is_unused());
    }

    /// Takes up what changes in the folders of `config`, and what has changed since the clips were read, as long as it is polled. A set with
    /// something wrong in it is told of, once, and the one before stays.
    pub async fn watch(self: Arc<Self>, config: Config) {
        let config = Arc::new(config);
        let mut refused = None;
        let mut waiting = None;
        loop {
            tokio::time::sleep(LOOK).await;
            self.reap();
            let there = stamp(&config);
            if self.holds(&there) || refused.as_ref() == Some(&there) {
                continue;
            }
            let (library, loading) = (self.clone(), config.clone());
            match tokio::task::spawn_blocking(move || library.renew(&loading)).await {
                Ok(Ok(Renewed::Changed)) => info!("the clips have changed: calls that begin now have the new ones"),
                Ok(Ok(Renewed::Full)) if waiting.as_ref() != Some(&there) => {
                    warn!("the clips have changed too often: the new ones wait until older ones are over");
                    waiting = Some(there);
                }
                Ok(Ok(Renewed::Same | Renewed::Full)) => {}
                // Somebody writes: the manifest that was read names a sound that is gone.
                Ok(Err(error)) if is_gone(&error) && stamp(&config) != there => {}
                Ok(Err(error)) => {
                    warn!(%error, "the clips have changed and cannot be used: calls go on with those before");
                    refused = Some(there);
                }
                Err(error) => {
                    warn!(%error, "the clips have changed and cannot be used: calls go on with those before");
                    refused = Some(there);
                }
            }
        }
    }
}

impl Drop for Library {
    /// A call that is over may still be played from on the media thread, which must not be the last to hold its clips.
    fn drop(&mut self) {
        let clips = self.current.get_mut().unwrap_or_else(PoisonError::into_inner).clips.clone();
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(clips);
    }
}

/// What came of looking for a change.
enum Renewed {
    /// There is none.
    Same,
    /// Calls that begin now have the new clips.
    Changed,
    /// There is one, and it has to wait.
    Full,
}

/// The state of the folders and then what they hold; again, where somebody wrote meanwhile and a sound was gone that a manifest names.
fn load(config: &Config) -> (Stamp, Result<Clips, ClipError>) {
    let read = || (stamp(config), Clips::configured(config));
    match read() {
        (_, Err(error)) if is_gone(&error) => read(),
        read => read,
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

    #[tokio::test(start_paused = true)]
    async fn what_changed_between_reading_and_watching_is_taken_up_too_also_where_it_mends_what_was_broken() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.clips.folder = Some(folder.path().to_owned());
        let own = OwnClips::of(&config.clips).unwrap();
        put(&own, "first");
        let sound = own.folder().join(&own.manifest().unwrap().clip[0].file);
        let library = Arc::new(Library::open_at_start(&config).unwrap());
        std::fs::write(&sound, "no sound").unwrap();
        let broken = Arc::new(Library::open_at_start(&config).unwrap());
        std::fs::remove_file(&sound).unwrap();
        put(&own, "first");
        put(&own, "second");
        for library in [library, broken] {
            assert_ne!(greeting(&library.current()), "second");
            let watching = tokio::spawn(library.clone().watch(config.clone()));
            looked_until(|| greeting(&library.current()) == "second").await;
            watching.abort();
        }
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
            assert!(Library::new(Clips::embedded(-20.0)).successor(&config).is_err());
            assert_eq!(greeting(&Library::open_at_start(&config).unwrap().current()), "en-greeting");
        }
        config.placeholder.clips = Some(folder.path().join("nothing"));
        assert!(Library::open_at_start(&config).is_err());
    }

    #[test]
    fn what_is_played_from_a_library_that_is_gone_is_freed_by_the_one_that_came_after() {
        let library = Library::new(Clips::embedded(-20.0));
        let retired = library.current().greeting(Language::En).unwrap().playable(0);
        assert!(library.swap(Clips::embedded(-20.0), Stamp::new()));
        let current = library.current().greeting(Language::En).unwrap().playable(0);
        let next = library.successor(&Config::default()).unwrap();
        drop(library);
        let kept = || {
            next.reap();
            next.retired.lock().unwrap().len()
        };
        assert_eq!(kept(), 2);
        drop(retired);
        assert_eq!(kept(), 1);
        drop(current);
        assert_eq!(kept(), 0);
    }

    #[test]
    fn sets_that_are_still_played_from_are_bounded() {
        let library = Library::new(Clips::embedded(-20.0));
        let swap = || library.swap(Clips::embedded(-20.0), Stamp::new());
        let held: Vec<_> = (0..RETIRED)
            .map(|_| {
                let held = library.current();
                assert!(swap());
                held
            })
            .collect();
        assert!(!swap());
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.clips.folder = Some(folder.path().to_owned());
        put(&OwnClips::of(&config.clips).unwrap(), "mine");
        std::fs::write(Manifest::path(&config.clips.set_folder().unwrap()), "nonsense").unwrap();
        assert!(matches!(library.renew(&config), Ok(Renewed::Full)), "without room nothing is read");
        drop(held);
        assert!(library.renew(&config).is_err());
        assert!(swap());
    }
}
