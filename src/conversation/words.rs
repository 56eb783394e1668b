//! How much of a phrase was heard, in words, when it is known what share of its sound was.

/// A share from which a phrase counts as heard to its end.
pub(super) const WHOLE: f32 = 0.999;

/// The words of `text` that end within its first `share`, counted in characters.
pub(super) fn words_within(text: &str, share: f32) -> &str {
    if share >= WHOLE {
        return text;
    }
    let total = text.chars().count();
    let reach = (total as f32 * share) as usize;
    let mut end = 0;
    for (count, (at, c)) in text.char_indices().enumerate() {
        if count > reach {
            break;
        }
        if c.is_whitespace() {
            end = at;
        }
    }
    text[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_phrase_counts_by_its_whole_words() {
        let text = "We open at nine.";
        for (share, heard) in [
            (0.0, ""),
            (0.1, ""),
            (2.0 / 16.0, "We"),
            (0.4, "We"),
            (7.0 / 16.0, "We open"),
            (0.9, "We open at"),
            (0.998, "We open at"),
            (1.0, "We open at nine."),
        ] {
            assert_eq!(words_within(text, share), heard, "share {share}");
        }
    }

    #[test]
    fn a_cut_phrase_in_hebrew_is_cut_between_characters() {
        assert_eq!(words_within("רגע אחד בבקשה", 0.6), "רגע אחד");
        assert_eq!(words_within("", 0.6), "");
        assert_eq!(words_within("אחד", 0.99), "");
    }
}
