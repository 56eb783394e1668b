//! The log as the systemd journal takes it: the line that a person reads, and beside it fields to choose by (`journalctl CALL_ID=…`).
//!
//! The native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram an entry. Not implemented: entries that do not fit a datagram
//! are cut, since no line of ours should be that long.

use std::fmt::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest line that is handed over; a datagram holds some 200 kB.
const MESSAGE_MAX: usize = 32 * 1024;

/// Hands events to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// The journal, if standard error is a stream to it (systemd.exec(5), `$JOURNAL_STREAM`): whoever redirects that gets text.
    pub(super) fn behind_stderr() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = std::fs::metadata("/proc/self/fd/2").ok()?;
        (stream == format!("{}:{}", stderr.dev(), stderr.ino())).then_some(())?;
        Self::at(SOCKET).ok()
    }

    fn at(socket: &str) -> std::io::Result<Self> {
        let ours = UnixDatagram::unbound()?;
        ours.connect(socket)?;
        // A journal that does not read must not hold up calls; what it misses is lost.
        ours.set_nonblocking(true)?;
        Ok(Self { socket: ours })
    }
}

/// The fields of a span, as they are written: `NAME=value`.
struct SpanFields(Vec<(String, String)>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields { prefix: Some(attributes.metadata().name()), ..Fields::default() };
        attributes.record(&mut fields);
        span.extensions_mut().insert(SpanFields(fields.named));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let priority = match *metadata.level() {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        let mut entry = Vec::with_capacity(512);
        put(&mut entry, "PRIORITY", priority);
        put(&mut entry, "SYSLOG_IDENTIFIER", "offhook");
        put(&mut entry, "TARGET", metadata.target());
        let mut line = String::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let Some(SpanFields(fields)) = extensions.get::<SpanFields>() else { continue };
            for (name, value) in fields {
                put(&mut entry, name, value);
                let _ = write!(line, "{}={value} ", name.to_ascii_lowercase());
            }
        }
        line.push_str(&fields.message);
        for (name, value) in &fields.named {
            let _ = write!(line, " {name}={value}");
        }
        if line.len() > MESSAGE_MAX {
            line.truncate(line.floor_char_boundary(MESSAGE_MAX));
            line.push('…');
        }
        put(&mut entry, "MESSAGE", &line);
        let _ = self.socket.send(&entry);
    }
}

/// Appends one field: as a line, or with its length before it when the value has lines of its own.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// Collects the fields of an event or a span.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(String, String)>,
    /// A span's name, which goes before its fields' names: `CALL_ID`.
    prefix: Option<&'static str>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: String) {
        match (field.name(), self.prefix) {
            ("message", None) => self.message = value,
            (name, None) => self.named.push((name.to_owned(), value)),
            (name, Some(prefix)) => self.named.push((journal_name(prefix, name), value)),
        }
    }
}

/// The journal's names are capital letters, digits and underscores.
fn journal_name(prefix: &str, name: &str) -> String {
    let good = |byte: char| if byte.is_ascii_alphanumeric() { byte.to_ascii_uppercase() } else { '_' };
    format!("{prefix}_{name}").chars().map(good).collect()
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing::{info_span, warn};
    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn an_entry_has_the_line_that_a_person_reads_and_the_call_to_choose_by() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let layer = Journal::at(path.to_str().unwrap()).unwrap();
        with_default(tracing_subscriber::registry().with(layer), || {
            info_span!("call", id = "a1@b").in_scope(|| warn!(error = "two\nlines", status = 486, "not answered"));
        });
        let mut buffer = [0; 4096];
        let length = journal.recv(&mut buffer).unwrap();
        let line = "call_id=a1@b not answered error=two\nlines status=486";
        let mut expected =
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=offhook\nTARGET=offhook::cli::journal::tests\nCALL_ID=a1@b\n".to_vec();
        expected.extend_from_slice(b"MESSAGE\n");
        expected.extend_from_slice(&(line.len() as u64).to_le_bytes());
        expected.extend_from_slice(line.as_bytes());
        expected.push(b'\n');
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), String::from_utf8_lossy(&expected));
    }
}
