//! Cutting a response body into JSON texts: `text/event-stream` (WHATWG HTML §9.2), and what model servers send instead of it.
//!
//! Besides events this takes a bare JSON object between them (an error inside a 200) and a JSON array of objects (the body without
//! `alt=sse`). Works on bytes, so the same bytes give the same texts however they were cut on the way. Not implemented: `event:`,
//! `id:` and `retry:` fields, which nobody who is asked here needs; they are skipped.

use std::collections::VecDeque;

use thiserror::Error;

/// A body that cannot be used.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SseError {
    /// A line or an event is longer than allowed.
    #[error("the server sent an event of more than {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
}

/// Takes the bytes of a body, gives the JSON texts in it.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    place: Place,
    /// The line so far.
    line: Vec<u8>,
    /// The event's data so far; `Some` from its first `data` line on.
    data: Option<Vec<u8>>,
    /// Whether the last byte was a CR, so that an LF is the rest of the same line end.
    after_cr: bool,
    /// How many bytes of a byte order mark were seen, while one is possible.
    mark: Option<usize>,
    ready: VecDeque<Vec<u8>>,
    failed: Option<SseError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first character of a line.
    LineStart,
    /// Inside a line.
    Line,
    /// Inside a JSON object that no `data` field announced.
    Object { depth: usize, string: bool, escaped: bool },
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Decoder {
    /// A decoder that holds at most `limit_bytes` of a line and of an event.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit: limit_bytes,
            place: Place::LineStart,
            line: Vec::new(),
            data: None,
            after_cr: false,
            mark: Some(0),
            ready: VecDeque::new(),
            failed: None,
        }
    }

    /// Takes the next bytes of the body. After an error the rest is ignored.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        for &byte in bytes {
            if let Some(error) = self.failed {
                return Err(error);
            }
            self.take(byte);
            if self.line.len() > self.limit || self.data.as_ref().is_some_and(|data| data.len() > self.limit) {
                (self.line, self.data) = (Vec::new(), None);
                self.failed = Some(SseError::TooLong { limit_bytes: self.limit });
            }
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// The next JSON text.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// The body has ended: an event without its blank line counts. What this gives may be the half of something.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        if self.failed.is_some() {
            return None;
        }
        match self.place {
            Place::LineStart => {}
            Place::Line => self.end_line(),
            Place::Object { .. } => self.data = Some(std::mem::take(&mut self.line)),
        }
        self.place = Place::LineStart;
        self.data.take()
    }

    fn take(&mut self, byte: u8) {
        if let Some(seen) = self.mark {
            self.mark = (seen < BYTE_ORDER_MARK.len() && byte == BYTE_ORDER_MARK[seen]).then_some(seen + 1);
            if self.mark.is_some() {
                return;
            }
        }
        let after_cr = std::mem::replace(&mut self.after_cr, false);
        match &mut self.place {
            Place::Object { depth, string, escaped } => {
                self.line.push(byte);
                match byte {
                    _ if *escaped => *escaped = false,
                    b'\\' if *string => *escaped = true,
                    b'"' => *string = !*string,
                    b'{' if !*string => *depth += 1,
                    b'}' if !*string => *depth -= 1,
                    _ => {}
                }
                if *depth == 0 {
                    self.ready.push_back(std::mem::take(&mut self.line));
                    self.place = Place::LineStart;
                }
            }
            Place::LineStart | Place::Line => match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    self.end_line();
                    self.place = Place::LineStart;
                }
                // No field begins with these; around bare objects they are the array's punctuation.
                b' ' | b'\t' | b'[' | b']' | b',' if self.place == Place::LineStart => {}
                b'{' if self.place == Place::LineStart => {
                    self.end_event();
                    self.line.push(byte);
                    self.place = Place::Object { depth: 1, string: false, escaped: false };
                }
                byte => {
                    self.line.push(byte);
                    self.place = Place::Line;
                }
            },
        }
    }

    fn end_line(&mut self) {
        if self.line.is_empty() {
            return self.end_event();
        }
        if let Some(value) = self.line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        self.line.clear();
    }

    fn end_event(&mut self) {
        if let Some(data) = self.data.take().filter(|data| !data.is_empty()) {
            self.ready.push_back(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::new(1000);
        let mut texts = Vec::new();
        for piece in pieces {
            decoder.push(piece).unwrap();
            texts.extend(std::iter::from_fn(|| decoder.poll()));
        }
        texts.extend(decoder.finish());
        texts.into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
    }

    fn whole(body: &str) -> Vec<String> {
        decode(&[body.as_bytes()])
    }

    const HEBREW: &str = r#"{"text": "בטח, {\"איך\"} אפשר?"}"#;

    fn bodies() -> Vec<String> {
        vec![
            format!("data: {HEBREW}\r\n\r\ndata: {{\"a\": 2}}\r\n\r\n"),
            format!("data: {HEBREW}\n\ndata:{{\"a\":2}}\n\n: comment\nevent: x\n\n"),
            format!("data: {HEBREW}\r\rdata: {{\"a\": 2}}"),
            format!("\u{feff}data: {HEBREW}\n\n{{\n \"error\": {{\"message\": \"}} {{ \\\" \\\\\"}}\n\n}}\n"),
            format!("[{HEBREW}\r\n,\r\n{{\"a\": [1, {{}}]}}]"),
            format!("data: {HEBREW}\ndata\ndata: more\n{{\"error\":{{}}}}data: {{\"after\":1}}\r\n\n\n"),
        ]
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        for body in bodies() {
            let (bytes, expected) = (body.as_bytes(), whole(&body));
            assert!(expected.len() >= 2 && expected[0].starts_with(HEBREW), "{body}: {expected:?}");
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(decode(&pieces), expected, "cut at {first} and {second} of {body:?}");
                }
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(decode(&single), expected);
        }
    }

    #[test]
    fn crlf_lf_and_cr_end_lines() {
        for end in ["\r\n", "\n", "\r"] {
            assert_eq!(whole(&format!("data: 1{end}{end}data: 2{end}{end}")), ["1", "2"], "{end:?}");
        }
    }

    #[test]
    fn data_needs_no_space_and_no_last_blank_line() {
        assert_eq!(whole("data:{\"a\":1}\n\ndata: {\"b\":2}"), [r#"{"a":1}"#, r#"{"b":2}"#]);
        assert_eq!(whole("data: {\"b\":2}\n"), [r#"{"b":2}"#]);
    }

    #[test]
    fn an_error_object_between_events_is_an_event_of_its_own() {
        let body = "data: {\"a\":1}\r\n\r\n{\n  \"error\": {\r\n\r\n \"code\": 503 }\n}\n";
        assert_eq!(whole(body), ["{\"a\":1}", "{\n  \"error\": {\r\n\r\n \"code\": 503 }\n}"]);
        assert_eq!(whole("{\"error\":{}}"), [r#"{"error":{}}"#]);
    }

    #[test]
    fn an_array_gives_its_objects() {
        assert_eq!(whole("[{\"a\":1}\r\n,\r\n{\"b\":[{}]}\r\n]"), [r#"{"a":1}"#, r#"{"b":[{}]}"#]);
        assert_eq!(whole("[{\"error\":{\"code\":400}}]"), [r#"{"error":{"code":400}}"#]);
        assert_eq!(whole("[]"), Vec::<String>::new());
    }

    #[test]
    fn several_data_lines_are_one_event_and_other_fields_are_skipped() {
        assert_eq!(whole("id: 7\ndata: {\ndata: }\nretry: 5\n: hello\n\n\n\ndatax: 1\n\n"), ["{\n}"]);
        assert_eq!(whole("data: {\r\ndata: }\r\n\r\n"), ["{\n}"]);
    }

    #[test]
    fn what_is_cut_off_is_given_at_the_end_as_it_is() {
        assert_eq!(whole("data: {\"a\":"), [r#"{"a":"#]);
        assert_eq!(whole("{\"error\": {"), [r#"{"error": {"#]);
        assert_eq!(whole("<html><body>no</body></html>"), Vec::<String>::new());
    }

    #[test]
    fn a_line_an_event_and_an_object_without_end_are_errors() {
        let error = Err(SseError::TooLong { limit_bytes: 1000 });
        for body in ["x".repeat(1001), "data: 12345\n".repeat(500), format!("{{{}", " ".repeat(1000))] {
            let mut decoder = Decoder::new(1000);
            assert_eq!(decoder.push(body.as_bytes()), error);
            assert_eq!(decoder.push(b"data: 1\n\n"), error);
            assert_eq!((decoder.poll(), decoder.finish()), (None, None));
        }
        let mut decoder = Decoder::new(1000);
        for _ in 0..10_000 {
            decoder.push(b"data: 1\n\n").unwrap();
            assert_eq!(decoder.poll().as_deref(), Some(&b"1"[..]));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_give_the_same_events_however_cut(
            bytes in proptest::collection::vec(prop_oneof![
                4 => proptest::sample::select(b"\r\n{}[],\":\\ datx".to_vec()), 1 => any::<u8>(),
            ], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let run = |pieces: &[&[u8]]| {
                let mut decoder = Decoder::new(64);
                let mut texts = Vec::new();
                let mut result = Ok(());
                for piece in pieces {
                    result = decoder.push(piece);
                    texts.extend(std::iter::from_fn(|| decoder.poll()));
                }
                texts.extend(decoder.finish());
                (texts, result)
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(run(&[&bytes]), run(&pieces));
        }
    }
}
