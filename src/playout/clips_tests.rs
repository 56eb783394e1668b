use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::pcm::{self, FRAME_SAMPLES, RATE, level, resample, tone};
use crate::tts::shape;

fn sound(clip: &Clip) -> Vec<i16> {
    clip.frames.concat()[..clip.voiced_samples].to_vec()
}

fn tone_wav(rate: u32, dbfs: f32) -> Vec<u8> {
    let mut samples = vec![300i16; 4000];
    samples.extend(tone::sine(500.0 * RATE as f32 / rate as f32, dbfs, rate as usize / 2).iter().map(|s| s + 300));
    samples.extend([300; 5000]);
    wav::write(rate, 1, &samples)
}

const MANIFEST: &str =
    "[[clip]]\nname = \"a\"\nfile = \"a.wav\"\nlanguage = \"en\"\nkind = \"placeholder\"\ntext = \"x\"\n";

#[test]
fn every_language_of_the_built_in_set_is_complete_level_and_tight() {
    let clips = Clips::embedded(-20.0);
    for language in Language::ALL {
        clips.check(language).unwrap();
        assert!(clips.stills(language).len() >= 2);
        assert!(clips.prompt(language).is_some() && clips.goodbye(language).is_some());
        for clip in clips.iter().filter(|clip| clip.language == language) {
            let sound = sound(clip);
            let level = level::active_dbfs(&sound).unwrap();
            assert!((level + 20.0).abs() < 1.0, "{}: {level}", clip.name);
            assert!(level::peak_dbfs(&sound) < -0.5, "{}", clip.name);
            let lead = sound.iter().position(|s| s.unsigned_abs() > shape::EDGE).unwrap();
            assert!(lead <= 80, "{}: {lead} samples of silence", clip.name);
            assert_eq!(clip.frames.len(), sound.len().div_ceil(FRAME_SAMPLES));
            assert_eq!(*clip.cuts.last().unwrap() as usize, sound.len());
            assert!(!clip.text.is_empty());
        }
    }
}

#[test]
fn what_a_telephone_leaves_of_a_built_in_clip_is_as_loud_as_the_whole() {
    for clip in Clips::embedded(-20.0).iter() {
        let narrow = resample::resample(&sound(clip), RATE, pcm::telephone::RATE);
        let level = level::active_dbfs(&resample::resample(&narrow, pcm::telephone::RATE, RATE)).unwrap();
        assert!((level + 20.0).abs() < 1.0, "{}: {level}", clip.name);
    }
}

#[test]
fn every_language_has_placeholders_of_four_lengths_and_no_two_say_the_same() {
    let clips = Clips::embedded(-20.0);
    for language in Language::ALL {
        let placeholders = clips.placeholders(language);
        for range in [200..=345, 350..=480, 700..=1000, 1400..=1700] {
            let of_length = |clip: &&Clip| range.contains(&pcm::duration(clip.voiced_samples as u64).as_millis());
            assert!(placeholders.iter().filter(of_length).count() >= 2, "{language:?} {range:?}");
        }
        let texts: HashSet<_> = placeholders.iter().chain(clips.stills(language)).map(|clip| &clip.text).collect();
        assert_eq!(texts.len(), placeholders.len() + clips.stills(language).len());
    }
}

/// Three kinds of evidence that no cut point of a built-in clip lies within a word: as many pauses are found as were put between its words when
/// it was made; at the cut it is as good as silent; and the silence around it is longer than a plosive's.
#[test]
fn no_cut_point_of_a_built_in_clip_lies_within_a_word() {
    let manifest: Manifest = toml::from_str(built_in::MANIFEST).unwrap();
    let clips = Clips::embedded(-20.0);
    for clip in clips.iter() {
        let sound = sound(clip);
        let inner = &clip.cuts[..clip.cuts.len() - 1];
        let mut pauses = 0;
        let mut last = 0;
        for &cut in inner {
            let at = cut as usize;
            let level = level::rms_dbfs(&sound[at - 80..at + 80]);
            assert!(level <= -40.0, "{} at {cut}: {level} dBFS", clip.name);
            let quiet =
                |samples: &mut dyn Iterator<Item = &i16>| samples.take_while(|s| s.unsigned_abs() < 400).count();
            let pause = quiet(&mut sound[..at].iter().rev()) + quiet(&mut sound[at..].iter());
            assert!(pause >= 1400, "{} at {cut}: {} ms of silence", clip.name, pause / 16);
            pauses += usize::from(last == 0 || cut - last > 400);
            last = cut;
        }
        let entry = manifest.clip.iter().find(|entry| entry.name == clip.name).unwrap();
        if let Some(made) = entry.pauses {
            assert_eq!(pauses, made, "{}", clip.name);
        } else {
            assert!(pauses < clip.text.split_whitespace().count(), "{}", clip.name);
        }
    }
}

#[test]
fn what_is_stored_beside_the_built_in_clips_is_what_is_found_in_them() {
    for (file, bytes) in built_in::FILES.iter().filter(|(file, _)| file.ends_with(".wav")) {
        let stored = built_in::read(&Stored::path(Path::new(file))).unwrap();
        let stored = Stored::parse(std::str::from_utf8(&stored).unwrap()).unwrap();
        assert_eq!(Shaped::new(Path::new(file), bytes, FINDING_DBFS).unwrap().found(), stored, "{file}");
    }
}

#[test]
fn the_manifest_of_the_built_in_set_describes_its_files_and_each_of_them() {
    let manifest: Manifest = toml::from_str(built_in::MANIFEST).unwrap();
    assert_eq!(manifest.clip.len() * 2, built_in::FILES.len());
    for entry in &manifest.clip {
        let sound = wav::read(&built_in::read(&entry.file).unwrap()).unwrap();
        let length = pcm::duration(sound.samples.len() as u64).as_millis() as u64;
        assert_eq!(sound.rate, RATE);
        assert!(entry.duration_ms.unwrap().abs_diff(length) <= 1, "{}: {length} ms", entry.name);
        let made = [&entry.voice, &entry.made, &entry.licence];
        assert!(made.iter().all(|field| field.as_deref().is_some_and(|text| !text.is_empty())), "{}", entry.name);
    }
}

#[test]
fn a_foreign_recording_is_brought_to_the_lines_rate_level_and_edges() {
    for (rate, dbfs) in [(8000, -3.0), (22050, -30.0), (48000, -12.0)] {
        let shaped = Shaped::new(Path::new("x.wav"), &tone_wav(rate, dbfs), -20.0).unwrap();
        let clip = shaped.clip("x".into(), Language::En, ClipKind::Greeting, String::new(), None);
        let sound = sound(&clip);
        assert!(sound.len().abs_diff(8000) < 400, "{}", sound.len());
        assert!((level::active_dbfs(&sound).unwrap() + 20.0).abs() < 1.0);
        assert!(tone::share_of(500.0, &sound[400..7600]) > 0.99);
        let mean = sound.iter().map(|&s| i32::from(s)).sum::<i32>() / sound.len() as i32;
        assert!(mean.abs() < 20, "direct current {mean}");
    }
}

#[test]
fn one_file_replaces_the_placeholders_of_every_language_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("beep.wav");
    std::fs::write(&file, tone_wav(16000, -10.0)).unwrap();
    let placeholder = config::Placeholder { clip: Some(file), ..Default::default() };
    let clips = Clips::open(&placeholder, -20.0).unwrap();
    for language in Language::ALL {
        assert_eq!(clips.placeholders(language).len(), 1);
        assert_eq!(clips.placeholders(language)[0].name, "beep");
        clips.check(language).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_folder_names_the_file_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let error = |folder: &Path| Clips::load(folder, -20.0).unwrap_err().to_string();
    assert!(error(folder.path()).contains("manifest.toml"), "{}", error(folder.path()));
    std::fs::write(folder.path().join("manifest.toml"), MANIFEST).unwrap();
    assert!(error(folder.path()).contains("a.wav"));
    for (bytes, says) in [
        (b"garbage".to_vec(), "not a WAV file"),
        (wav::write(8000, 1, &[0; 8000]), "no sound"),
        (wav::write(8000, 1, &[]), "no sound"),
        (wav::write(8000, 1, &vec![9000; 8000 * 61]), "longer than 60 s"),
    ] {
        std::fs::write(folder.path().join("a.wav"), bytes).unwrap();
        assert!(error(folder.path()).contains(says) && error(folder.path()).contains("a.wav"), "{says}");
    }
    std::fs::write(folder.path().join("a.wav"), tone_wav(8000, -10.0)).unwrap();
    let clips = Clips::load(folder.path(), -20.0).unwrap();
    let missing = clips.check(Language::En).unwrap_err().to_string();
    assert!(missing.contains("kind = \"greeting\"") && missing.contains("language = \"en\""), "{missing}");
    std::fs::write(folder.path().join("manifest.toml"), format!("{MANIFEST}txet = 1\n")).unwrap();
    assert!(error(folder.path()).contains("txet"));
    std::fs::write(folder.path().join("manifest.toml"), format!("{MANIFEST}cut_points_ms = [5, 5]\n")).unwrap();
    assert!(error(folder.path()).contains("cut_points_ms"));
}

#[test]
fn cut_points_move_with_the_trimmed_silence() {
    let shaped = Shaped::new(Path::new("x.wav"), &tone_wav(8000, -10.0), -20.0).unwrap();
    let clip = shaped.clip("x".into(), Language::En, ClipKind::Placeholder, String::new(), Some(&[3, 700, 5000]));
    let [cut, end] = clip.cuts[..] else { panic!("{:?}", clip.cuts) };
    let at = pcm::duration(u64::from(cut));
    assert!(at >= Duration::from_millis(203) && at <= Duration::from_millis(206), "{at:?}");
    assert_eq!(end as usize, clip.voiced_samples);
}

/// Half a second of sound, two tenths of silence, half a second of sound.
fn two_words(rate: u32) -> Vec<u8> {
    let word = tone::sine(500.0 * RATE as f32 / rate as f32, -10.0, rate as usize / 2);
    wav::write(rate, 1, &[&word[..], &vec![0; rate as usize / 5], &word].concat())
}

#[test]
fn where_an_installers_clip_may_be_cut_is_found_written_beside_it_and_may_be_changed_by_ear() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("manifest.toml"), MANIFEST).unwrap();
    std::fs::write(path("a.wav"), two_words(16000)).unwrap();
    let cuts_ms = || {
        let clips = Clips::load(folder.path(), -20.0).unwrap();
        let clip = &clips.placeholders(Language::En)[0];
        clip.cuts[..clip.cuts.len() - 1].iter().map(|cut| cut / 16).collect::<Vec<_>>()
    };
    let found = cuts_ms();
    assert!(found.len() > 3 && found.iter().all(|at| (515..685).contains(at)), "{found:?}");
    assert_eq!(Clips::write_cuts(folder.path()).unwrap(), [path("a.cuts.toml")]);
    assert!(cuts_ms().iter().zip(&found).all(|(stored, found)| stored.abs_diff(*found) <= 1));
    let by_ear = "samples = 19200\ncut_points_ms = [600]\n";
    std::fs::write(path("a.cuts.toml"), by_ear).unwrap();
    assert_eq!(cuts_ms(), [600]);
    // They say nothing about another recording.
    std::fs::write(path("a.wav"), two_words(8000)).unwrap();
    assert!(cuts_ms().len() > 3);
    std::fs::write(path("a.cuts.toml"), "samples = many").unwrap();
    let error = Clips::load(folder.path(), -20.0).unwrap_err().to_string();
    assert!(error.contains("a.cuts.toml") && error.contains("--write-cuts"), "{error}");
}

#[test]
fn own_clips_take_the_place_of_all_of_their_kind_and_language_and_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("default");
    std::fs::create_dir(&set).unwrap();
    let mut config = config::Config::default();
    config.clips.folder = Some(folder.path().to_owned());
    assert_eq!(Clips::configured(&config).unwrap().placeholders(Language::En).len(), 10, "nothing of one's own yet");
    std::fs::write(set.join("manifest.toml"), MANIFEST).unwrap();
    std::fs::write(set.join("a.wav"), tone_wav(16000, -10.0)).unwrap();
    let clips = Clips::configured(&config).unwrap();
    let names: Vec<_> = clips.placeholders(Language::En).iter().map(|clip| clip.name.as_str()).collect();
    assert_eq!(names, ["a"]);
    assert!(clips.is_own(Language::En, ClipKind::Placeholder) && !clips.is_own(Language::Ru, ClipKind::Placeholder));
    assert_eq!(clips.placeholders(Language::Ru).len(), 10);
    assert_eq!(clips.greeting(Language::En).unwrap().name, "en-greeting");
    config.clips.set = "another".into();
    assert_eq!(Clips::configured(&config).unwrap().placeholders(Language::En).len(), 10, "another persona's");
}

#[test]
fn what_is_prepared_is_tight_level_and_known_again_with_its_cut_points() {
    let word = tone::sine(500.0, -30.0, 8000).iter().map(|s| s + 500).collect::<Vec<_>>();
    let sound = [&vec![500; 3000][..], &word, &vec![500; 3200], &word, &vec![500; 9000]].concat();
    let prepared = Prepared::new(Path::new("x.ogg"), wav::Sound { rate: RATE, samples: sound }).unwrap();
    let made = wav::read(&prepared.wav).unwrap();
    assert_eq!(made.rate, RATE);
    assert!((level::active_dbfs(&made.samples).unwrap() + 20.0).abs() < 1.0);
    assert!(made.samples.iter().position(|s| s.unsigned_abs() > shape::EDGE).unwrap() <= 320);
    assert!(prepared.duration.as_millis().abs_diff(1210) < 10, "{:?}", prepared.duration);
    let stored = Stored::parse(&prepared.cuts).unwrap();
    assert!(stored.samples == made.samples.len() && stored.cut_points_ms.len() > 3, "{stored:?}");
    let again = Shaped::new(Path::new("x.wav"), &prepared.wav, -20.0).unwrap();
    assert_eq!(again.found(), stored);
}
