//! The bytes of a stream, cut into whole SIP messages and keepalives (RFC 3261 §18.3, RFC 5626 §4.4.1).
//!
//! A machine without socket or clock: bytes go in with the time, frames come out, and one fault ends it, since nothing
//! after it can be trusted to begin a message. Where the bytes were cut on their way makes no difference to what comes
//! out. Not implemented: heads whose lines end in a bare LF; such a message never ends and is timed out.

use std::time::{Duration, Instant};

/// The longest head, up to and with its empty line.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The longest body.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// The most lines between start line and body.
const MAX_HEADERS: usize = 200;
/// A first word longer than this is no method.
const MAX_METHOD_BYTES: usize = 64;
/// How long a message may take from its first byte to its last.
pub(super) const MESSAGE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a connection may be silent.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What a stream is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// One whole message, exactly as long as its Content-Length says.
    Message(Vec<u8>),
    /// Two empty lines between messages: wants one back.
    Ping,
    /// The empty line that was awaited.
    Pong,
}

/// Why a stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingFault {
    /// It does not begin as a SIP message does.
    #[error("not SIP")]
    Garbage,
    /// A head of more than 64 kB.
    #[error("message head longer than 64 kB")]
    HeadTooLong,
    /// A body of more than 64 kB.
    #[error("message body longer than 64 kB")]
    BodyTooLong,
    /// More than 200 header lines.
    #[error("more than 200 header lines")]
    TooManyHeaders,
    /// A stream has no other way to say where a message ends.
    #[error("no Content-Length")]
    NoLength,
    /// No number, or two that differ.
    #[error("bad Content-Length")]
    BadLength,
    /// A message that was begun 30 s ago is not complete.
    #[error("message not complete after 30 s")]
    Slow,
    /// Nothing was received for a long time.
    #[error("silent for 30 min")]
    Idle,
}

impl FramingFault {
    /// The response that the request gets before the connection is closed, when there is one.
    pub(super) fn status(self) -> Option<(u16, &'static str)> {
        match self {
            Self::HeadTooLong | Self::BodyTooLong => Some((513, "Message Too Large")),
            Self::TooManyHeaders => Some((400, "Too Many Headers")),
            Self::NoLength => Some((400, "Missing Content-Length")),
            Self::BadLength => Some((400, "Bad Content-Length")),
            Self::Garbage | Self::Slow | Self::Idle => None,
        }
    }
}

/// Cuts one direction of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    buffer: Vec<u8>,
    /// How far the end of the head was looked for.
    searched: usize,
    /// Head and whole length of the message at the start of the buffer, once its head is complete.
    message: Option<(usize, usize)>,
    /// When the message at the start of the buffer began.
    begun_at: Option<Instant>,
    active_at: Instant,
    pong_awaited: bool,
    fault: Option<FramingFault>,
    fault_told: bool,
}

impl Framing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            buffer: Vec::new(),
            searched: 0,
            message: None,
            begun_at: None,
            active_at: now,
            pong_awaited: false,
            fault: None,
            fault_told: false,
        }
    }

    /// Whether a ping is unanswered: then the next empty line between messages answers it.
    pub(super) fn await_pong(&mut self, awaited: bool) {
        self.pong_awaited = awaited;
    }

    /// Takes bytes as they came. After a fault they are ignored.
    pub(super) fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        if self.fault.is_none() && !bytes.is_empty() {
            self.buffer.extend_from_slice(bytes);
            self.begun_at.get_or_insert(now);
        }
    }

    /// The next whole frame, or once the fault that ends the stream; `None` until there is more input.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Result<Frame, FramingFault>> {
        if self.fault.is_none() {
            match self.next_frame(now) {
                Ok(frame) => return frame.map(Ok),
                Err(fault) => self.fault = Some(fault),
            }
        }
        if std::mem::replace(&mut self.fault_told, true) {
            return None;
        }
        self.fault.map(Err)
    }

    /// When [`Framing::handle_timeout`] has something to do. Changes with each input and each frame.
    pub(super) fn poll_timeout(&self) -> Instant {
        match self.begun_at {
            Some(begun_at) => begun_at + MESSAGE_DEADLINE,
            None => self.active_at + IDLE_LIMIT,
        }
    }

    /// Faults a message that took too long and a connection that is silent.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.fault.is_none() && now >= self.poll_timeout() {
            self.fault = Some(if self.begun_at.is_some() { FramingFault::Slow } else { FramingFault::Idle });
        }
    }

    /// What is in the buffer: after a fault, the head that it was found in.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer
    }

    fn next_frame(&mut self, now: Instant) -> Result<Option<Frame>, FramingFault> {
        if self.message.is_none() {
            if let Some(keepalive) = self.keepalive(now) {
                return Ok(Some(keepalive));
            }
            if self.buffer.starts_with(b"\r") {
                // Half a keepalive, which may stay one: some peers send single lines.
                self.begun_at = None;
                self.active_at = now;
                return Ok(None);
            }
            self.message = self.measure()?;
        }
        let Some((_, length)) = self.message.filter(|&(_, length)| length <= self.buffer.len()) else {
            return Ok(None);
        };
        let rest = self.buffer.split_off(length);
        let message = std::mem::replace(&mut self.buffer, rest);
        self.message = None;
        self.cut(now);
        Ok(Some(Frame::Message(message)))
    }

    /// Takes the empty lines between two messages off the buffer.
    fn keepalive(&mut self, now: Instant) -> Option<Frame> {
        loop {
            if self.pong_awaited && self.buffer.starts_with(b"\r\n") {
                self.pong_awaited = false;
                self.drop_front(now, 2);
                return Some(Frame::Pong);
            }
            if self.buffer.starts_with(b"\r\n\r\n") {
                self.drop_front(now, 4);
                return Some(Frame::Ping);
            }
            match self.buffer[..] {
                // RFC 3261 §7.5: an empty line before a start line means nothing. Two of them are taken above.
                [b'\r', b'\n', next, ..] if next != b'\r' => self.drop_front(now, 2),
                [b'\r', b'\n', b'\r', next, ..] if next != b'\n' => self.drop_front(now, 3),
                [b'\r', next, ..] if next != b'\n' => self.drop_front(now, 1),
                [b'\n', ..] => self.drop_front(now, 1),
                _ => return None,
            }
        }
    }

    fn drop_front(&mut self, now: Instant, bytes: usize) {
        self.buffer.drain(..bytes);
        self.cut(now);
    }

    /// A frame was taken off the front; what is left began with it.
    fn cut(&mut self, now: Instant) {
        self.searched = 0;
        self.active_at = now;
        self.begun_at = (!self.buffer.is_empty()).then_some(now);
    }

    /// Head and whole length of the message that the buffer begins with, `None` while its head is not complete.
    fn measure(&mut self) -> Result<Option<(usize, usize)>, FramingFault> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let from = self.searched.saturating_sub(3);
        let end = self.buffer[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at);
        // What is looked at must not depend on where the bytes were cut: never beyond the limit.
        let lines = end.map_or(self.buffer.len(), |end| end + 2);
        begins_as_sip(&self.buffer[..lines.min(MAX_HEAD_BYTES)])?;
        let Some(end) = end.filter(|end| end + 4 <= MAX_HEAD_BYTES) else {
            if self.buffer.len() >= MAX_HEAD_BYTES {
                return Err(FramingFault::HeadTooLong);
            }
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let body = content_length(&self.buffer[..end])?;
        if body > MAX_BODY_BYTES as u64 {
            return Err(FramingFault::BodyTooLong);
        }
        let head = end + 4;
        Ok(Some((head, head + body as usize)))
    }
}

/// Whether it can be the beginning of a message, as early as that can be told.
fn begins_as_sip(head: &[u8]) -> Result<(), FramingFault> {
    let word = head.split(|&byte| byte == b' ').next().unwrap_or_default();
    let known = &word[..word.len().min(MAX_METHOD_BYTES + 1)];
    // The first word of a response, `SIP/2.0`, has a slash.
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~/".contains(byte);
    if known.len() > MAX_METHOD_BYTES || known.is_empty() || !known.iter().all(token) {
        return Err(FramingFault::Garbage);
    }
    if let Some(end) = head.iter().position(|&byte| byte == b'\n') {
        let line = head[..end].trim_ascii_end();
        let last = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        if !line.starts_with(b"SIP/") && !last.starts_with(b"SIP/") {
            return Err(FramingFault::Garbage);
        }
    }
    Ok(())
}

/// The one Content-Length (compact form `l`) of a head without its empty line.
fn content_length(head: &[u8]) -> Result<u64, FramingFault> {
    let mut lines = head.split(|&byte| byte == b'\n').skip(1).peekable();
    let mut length = None;
    let mut count = 0;
    while let Some(line) = lines.next() {
        count += 1;
        if count > MAX_HEADERS {
            return Err(FramingFault::TooManyHeaders);
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = line[..colon].trim_ascii_end();
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let mut value = line[colon + 1..].trim_ascii();
        // A value may stand on the line after its name (§7.3.1).
        while value.is_empty() {
            match lines.next_if(|next| next.starts_with(b" ") || next.starts_with(b"\t")) {
                Some(next) => value = next.trim_ascii(),
                None => break,
            }
        }
        let number = decimal(value).ok_or(FramingFault::BadLength)?;
        if length.is_some_and(|other| other != number) {
            return Err(FramingFault::BadLength);
        }
        length = Some(number);
    }
    length.ok_or(FramingFault::NoLength)
}

/// A number of any length; what does not fit is as good as the greatest.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, &byte| {
        byte.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\n";

    fn message(length: &str, body: &str) -> String {
        format!("{OPTIONS}{length}\r\n\r\n{body}")
    }

    /// All that comes out of pieces of a stream; the time stands still.
    fn cut(pieces: &[&[u8]], awaiting: bool) -> (Vec<Frame>, Option<FramingFault>) {
        let now = Instant::now();
        let mut framing = Framing::new(now);
        framing.await_pong(awaiting);
        let (mut frames, mut fault) = (Vec::new(), None);
        for piece in pieces {
            framing.handle_input(now, piece);
            while let Some(next) = framing.poll(now) {
                match next {
                    Ok(frame) => frames.push(frame),
                    Err(problem) => fault = Some(problem),
                }
            }
        }
        (frames, fault)
    }

    fn corpus() -> Vec<Vec<u8>> {
        let ok = message("Content-Length: 3", "a\r\n");
        let response = "SIP/2.0 200 OK\r\nl: 0\r\n\r\n";
        let many: String = (0..300).map(|number| format!("X-{number}: y\r\n")).collect();
        vec![
            format!("{ok}{response}{ok}").into_bytes(),
            format!("\r\n{ok}\r\n\r\n\r\n\r\n{response}\r\n").into_bytes(),
            format!("\r\n\r\n\r\n{response}\r\r\n{response}\n{response}").into_bytes(),
            message("L : 2", "ab").into_bytes(),
            message("Content-Length:\r\n  2", "ab").into_bytes(),
            message("Content-Length: 2\r\ncontent-length: 2", "ab").into_bytes(),
            message("Content-Length: 2\r\nl: 3", "abc").into_bytes(),
            message("Content-Length: -1", "").into_bytes(),
            message("Content-Length: +1", "a").into_bytes(),
            message("Content-Length:", "").into_bytes(),
            message("Content-Length: 18446744073709551615", "").into_bytes(),
            message("Content-Length: 99999999999999999999999999", "").into_bytes(),
            message("Content-Length: 65537", "").into_bytes(),
            message("Subject: none", "").into_bytes(),
            format!("{OPTIONS}{many}l: 0\r\n\r\n").into_bytes(),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            b"\0\0\0\0".to_vec(),
            b"OPTIONS\r\n\r\n".to_vec(),
            b" OPTIONS sip:a SIP/2.0\r\n\r\n".to_vec(),
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd}".as_bytes().to_vec(),
            [b'A'; 200].to_vec(),
        ]
    }

    #[test]
    fn the_same_bytes_give_the_same_frames_wherever_they_are_cut() {
        for awaiting in [false, true] {
            for stream in corpus() {
                let whole = cut(&[&stream], awaiting);
                let bytes: Vec<&[u8]> = stream.chunks(1).collect();
                assert_eq!(cut(&bytes, awaiting), whole, "byte by byte: {}", stream.escape_ascii());
                for at in 0..=stream.len() {
                    let (left, right) = stream.split_at(at);
                    assert_eq!(cut(&[left, right], awaiting), whole, "cut at {at}: {}", stream.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn messages_come_out_whole_and_exactly_as_long_as_they_say() {
        let first = message("Content-Length: 3", "a\r\n");
        let second = message("l:0", "");
        let stream = format!("{first}{second}\r\n\r\n{first}");
        let (frames, fault) = cut(&[stream.as_bytes()], false);
        let message = |text: &str| Frame::Message(text.as_bytes().to_vec());
        assert_eq!(frames, [message(&first), message(&second), Frame::Ping, message(&first)]);
        assert_eq!(fault, None);
    }

    #[test]
    fn one_empty_line_is_a_pong_only_when_one_is_awaited() {
        let response = "SIP/2.0 200 OK\r\nl: 0\r\n\r\n";
        let stream = format!("\r\n{response}");
        assert_eq!(cut(&[stream.as_bytes()], true).0[0], Frame::Pong);
        assert_eq!(cut(&[stream.as_bytes()], false).0, [Frame::Message(response.as_bytes().to_vec())]);
        // The peer's ping crosses ours: each line answers one.
        assert_eq!(cut(&[b"\r\n\r\n\r\n"], true).0, [Frame::Pong, Frame::Ping]);
    }

    #[test]
    fn each_fault_has_its_answer() {
        let fault = |stream: &str| cut(&[stream.as_bytes()], false).1;
        assert_eq!(fault(&message("Subject: x", "")), Some(FramingFault::NoLength));
        assert_eq!(fault(&message("Content-Length: 1x", "")), Some(FramingFault::BadLength));
        assert_eq!(fault(&message("Content-Length: 1\r\nl: 2", "ab")), Some(FramingFault::BadLength));
        for length in ["65537", "18446744073709551615", "18446744073709551616", "99999999999999999999999999999"] {
            assert_eq!(fault(&message(&format!("Content-Length: {length}"), "")), Some(FramingFault::BodyTooLong));
        }
        let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
        assert_eq!(fault(&format!("{OPTIONS}{many}l: 0\r\n\r\n")), Some(FramingFault::TooManyHeaders));
        assert_eq!(fault("GET / HTTP/1.1\r\n"), Some(FramingFault::Garbage));
        assert_eq!(fault("\u{16}\u{3}\u{1}"), Some(FramingFault::Garbage));
        assert_eq!(fault(&"A".repeat(65)), Some(FramingFault::Garbage));
        assert_eq!(FramingFault::NoLength.status(), Some((400, "Missing Content-Length")));
        assert_eq!(FramingFault::HeadTooLong.status().map(|status| status.0), Some(513));
        assert_eq!(FramingFault::Garbage.status(), None);
    }

    #[test]
    fn a_head_and_a_body_at_their_limits_pass_and_one_byte_more_does_not() {
        let filled = |length: usize| {
            let rest = format!("{OPTIONS}l: 0\r\nSubject: \r\n\r\n").len();
            format!("{OPTIONS}l: 0\r\nSubject: {}\r\n\r\n", "x".repeat(length - rest))
        };
        assert_eq!(cut(&[filled(MAX_HEAD_BYTES).as_bytes()], false).0.len(), 1);
        for pieces in [1, 1000, MAX_HEAD_BYTES + 1] {
            let long = filled(MAX_HEAD_BYTES + 1);
            let pieces: Vec<&[u8]> = long.as_bytes().chunks(pieces).collect();
            assert_eq!(cut(&pieces, false), (vec![], Some(FramingFault::HeadTooLong)));
        }
        let body = "x".repeat(MAX_BODY_BYTES);
        assert_eq!(cut(&[message(&format!("l: {MAX_BODY_BYTES}"), &body).as_bytes()], false).0.len(), 1);
    }

    #[test]
    fn a_message_must_be_complete_within_30_s_however_the_bytes_drip() {
        let mut now = Instant::now();
        let mut framing = Framing::new(now);
        let begun_at = now;
        for byte in message("Content-Length: 100", "").bytes() {
            framing.handle_input(now, &[byte]);
            assert_eq!(framing.poll(now), None);
            framing.handle_timeout(now);
            assert_eq!(framing.poll_timeout(), begun_at + MESSAGE_DEADLINE);
            now += Duration::from_millis(100);
        }
        framing.handle_timeout(begun_at + MESSAGE_DEADLINE - Duration::from_millis(1));
        assert_eq!(framing.poll(now), None);
        framing.handle_timeout(begun_at + MESSAGE_DEADLINE);
        assert_eq!(framing.poll(now), Some(Err(FramingFault::Slow)));
        assert_eq!(framing.poll(now), None, "told once");
    }

    #[test]
    fn a_connection_that_pings_is_not_idle() {
        let start = Instant::now();
        let mut framing = Framing::new(start);
        let half = start + IDLE_LIMIT / 2;
        framing.handle_input(half, b"\r\n\r\n");
        assert_eq!(framing.poll(half), Some(Ok(Frame::Ping)));
        framing.handle_timeout(start + IDLE_LIMIT);
        assert_eq!(framing.poll(start + IDLE_LIMIT), None);
        // One empty line is no message that was begun.
        framing.handle_input(half, b"\r\n");
        assert_eq!(framing.poll(half), None);
        framing.handle_timeout(half + IDLE_LIMIT - Duration::from_secs(1));
        assert_eq!(framing.poll(half), None);
        framing.handle_timeout(half + IDLE_LIMIT);
        assert_eq!(framing.poll(half + IDLE_LIMIT), Some(Err(FramingFault::Idle)));
    }
}
