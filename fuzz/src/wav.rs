//! WAV files: any bytes, and a header that a file which is still coming has as well.

use offhook::pcm::wav;

/// Reads the bytes whole and cut.
pub fn fuzz(input: &[u8]) {
    let whole = wav::header(input);
    for cut in (0..input.len()).step_by(1 + input.len() / 64) {
        match wav::header(&input[..cut]) {
            Ok(Some(header)) => assert_eq!(whole, Ok(Some(header)), "after {cut} bytes"),
            Err(error) => assert_eq!(whole, Err(error), "after {cut} bytes"),
            Ok(None) => {}
        }
    }
    let Ok(sound) = wav::read(input) else { return };
    assert!(sound.samples.len() * 2 <= input.len());
    let written = wav::write(sound.rate, 1, &sound.samples);
    assert_eq!(wav::read(&written), Ok(sound));
}
