//! One HTTP/1.1 connection (RFC 9112), written by hand: this server decides about single bytes, writes and resets.
//!
//! Not implemented: chunked request bodies (411), trailers, pipelining beyond what fits the buffer.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::fault::{self, Fault};
use super::plan::{self, Question, Step};
use super::refusal::Refusal;
use super::{Seen, Shared, check, interactions};

/// Longest request head.
const LONGEST_HEAD_BYTES: usize = 64 * 1024;
/// Longest request body: the real one takes 20 MB and more.
const LONGEST_BODY_BYTES: usize = 32 * 1024 * 1024;
const MOST_HEADERS: usize = 64;

/// A request as it came.
struct Request {
    method: String,
    path: String,
    query: String,
    key: Option<String>,
    close: bool,
    body: Vec<u8>,
}

/// Serves a connection to its end.
pub(super) async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let request = match read(&mut stream, &mut buffer).await? {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(status) => return turn_away(&mut stream, status).await,
        };
        if !answer(&mut stream, &mut buffer, &request, shared).await? || request.close {
            return Ok(());
        }
    }
}

/// Refuses what is no request. The rest of it is read before the connection is closed, or the reset would overtake the answer.
async fn turn_away(stream: &mut TcpStream, status: u16) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status} {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", reason(status));
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(LONGEST_HEAD_BYTES as u64 * 16);
    let mut nowhere = tokio::io::sink();
    let drained = tokio::io::copy(&mut rest, &mut nowhere);
    tokio::time::timeout(Duration::from_secs(1), drained).await.map_or(Ok(()), |copied| copied.map(drop))
}

/// Answers a request; false when the connection is at its end.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>, request: &Request, shared: &Shared) -> io::Result<bool> {
    let received = Instant::now();
    let interacts = request.path == interactions::PATH;
    let (model, sse) = match routed(request, shared) {
        Ok(Route::Generate { model, sse }) => (model, sse),
        Ok(Route::Keep) => {
            let answer = check::keep(&request.body).map(|functions| {
                let body = format!("{}\n", serde_json::json!({"name": shared.keep(functions), "ttl": "600s"}));
                Refusal { status: 200, content_type: "application/json; charset=UTF-8", body }
            });
            let steps = refusal(&answer.unwrap_or_else(|refused| refused));
            return Ok(play(stream, buffer, steps, received).await? == Played::Whole);
        }
        Ok(Route::Model(model)) => {
            let content_type = "application/json; charset=UTF-8";
            let steps = refusal(&Refusal { status: 200, content_type, body: about(&model) });
            return Ok(play(stream, buffer, steps, received).await? == Played::Whole);
        }
        Err(refused) => {
            let steps = refusal(&if interacts { refused.in_words() } else { refused });
            return Ok(play(stream, buffer, steps, received).await? == Played::Whole);
        }
    };
    let number = shared.begin();
    let _running = Running(shared);
    let fault = fault::for_request(&shared.options.faults, number);
    let steps = generate(request, shared, Generate { number, model: &model, sse, interacts, fault, received });
    let played = play(stream, buffer, steps, received).await?;
    if played == Played::GivenUp {
        shared.cancelled();
    }
    Ok(played == Played::Whole)
}

struct Generate<'a> {
    number: u32,
    model: &'a str,
    sse: bool,
    interacts: bool,
    fault: Fault,
    received: Instant,
}

fn generate(request: &Request, shared: &Shared, asked: Generate<'_>) -> Vec<Step> {
    let Generate { number, model, sse, interacts, fault, received } = asked;
    let refusal = |refused: Refusal| refusal(&if interacts { refused.in_words() } else { refused });
    let check = if interacts { interactions::check } else { check::check };
    let mut accepted = match check(model, &request.body) {
        Ok(accepted) => accepted,
        Err(refused) => return refusal(refused),
    };
    if let Some(name) = &accepted.cached {
        match shared.kept(name) {
            Some(functions) => accepted.functions = functions,
            None => return refusal(Refusal::not_kept()),
        }
    }
    shared.log(Seen {
        number,
        model: model.to_owned(),
        fault,
        key_in_url: request.query.split('&').any(|pair| pair.starts_with("key=")),
        contents: accepted.contents,
        caller_turns: accepted.caller_turns,
        audio: accepted.audio.clone(),
        body_bytes: request.body.len(),
        json: accepted.json.clone(),
        received: received.into_std(),
    });
    match Refusal::ordered(fault, model) {
        Some(refused) => refusal(refused),
        None => plan::answer(&shared.options, fault, &Question { number, model, sse, interacts, request: &accepted }),
    }
}

/// Counts a request as running until it is answered or given up.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

enum Route<'a> {
    Keep,
    Model(Cow<'a, str>),
    Generate { model: Cow<'a, str>, sse: bool },
}

fn routed<'a>(request: &'a Request, shared: &Shared) -> Result<Route<'a>, Refusal> {
    let keeps = request.method == "POST" && request.path == "/v1beta/cachedContents";
    let name = request.path.strip_prefix("/v1beta/models/");
    let interacts = request.method == "POST" && request.path == interactions::PATH;
    let name = name.or((keeps || interacts).then_some("")).ok_or_else(Refusal::no_route)?;
    let route = match (request.method.as_str(), name.split_once(':')) {
        _ if keeps => Route::Keep,
        _ if interacts => Route::Generate { model: interactions::model(&request.body).into(), sse: true },
        ("GET", None) => Route::Model(name.into()),
        ("POST", Some((model, "streamGenerateContent"))) => {
            Route::Generate { model: model.into(), sse: request.query.split('&').any(|pair| pair == "alt=sse") }
        }
        _ => return Err(Refusal::no_route()),
    };
    let in_url = request.query.split('&').find_map(|pair| pair.strip_prefix("key="));
    match request.key.as_deref().or(in_url).filter(|key| !key.is_empty()) {
        None if shared.options.key_required => return Err(Refusal::no_key()),
        Some("invalid") => return Err(Refusal::invalid_key()),
        _ => {}
    }
    let (Route::Model(model) | Route::Generate { model, .. }) = &route else { return Ok(route) };
    match check::model_exists(model) {
        true => Ok(route),
        false => Err(Refusal::no_model(model)),
    }
}

fn about(model: &str) -> String {
    let about = serde_json::json!({"name": format!("models/{model}"), "version": "simulated", "displayName": "Simulator",
        "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536, "thinking": true,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent"]});
    format!("{about:#}\n")
}

fn refusal(refused: &Refusal) -> Vec<Step> {
    let Refusal { status, content_type, body } = refused;
    let head = format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
        reason(*status),
        body.len()
    );
    vec![Step::Write(head.into_bytes())]
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
enum Played {
    /// It was written.
    Whole,
    /// The connection is to be reset, or was.
    Reset,
    /// The peer closed the connection before the end.
    GivenUp,
}

/// Does the steps, unless the peer goes away before they are done.
async fn play(stream: &mut TcpStream, buffer: &mut Vec<u8>, steps: Vec<Step>, received: Instant) -> io::Result<Played> {
    let written = {
        let (mut reader, mut writer) = stream.split();
        tokio::select! {
            biased;
            written = write(&mut writer, steps, received) => written,
            () = gone(&mut reader, buffer) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    };
    Ok(match written {
        Ok(false) => Played::Whole,
        Ok(true) => {
            socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
            Played::Reset
        }
        Err(_) => Played::GivenUp,
    })
}

/// Writes what is to be written; true when the connection is to be reset.
async fn write(writer: &mut (impl AsyncWrite + Unpin), steps: Vec<Step>, received: Instant) -> io::Result<bool> {
    for step in steps {
        match step {
            Step::Until(at) if at.is_zero() => {}
            Step::Until(at) => tokio::time::sleep_until(received + at).await,
            Step::Write(bytes) => writer.write_all(&bytes).await?,
            Step::Hang => std::future::pending().await,
            Step::Reset => return Ok(true),
        }
    }
    Ok(false)
}

/// Ends when the peer has closed the connection. What it sends before that waits for the next request.
async fn gone(reader: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) {
    while buffer.len() < LONGEST_HEAD_BYTES {
        if !matches!(reader.read_buf(buffer).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending().await
}

/// Reads a request. `Ok(None)`: the peer closed the connection between two requests. `Err`: the status to refuse it with.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Result<Option<Request>, u16>> {
    let (mut request, head_bytes, body_bytes, waits) = loop {
        match parsed(buffer) {
            Ok(Some(head)) => break head,
            Ok(None) if buffer.len() > LONGEST_HEAD_BYTES => return Ok(Err(431)),
            Ok(None) => {}
            Err(status) => return Ok(Err(status)),
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(if buffer.is_empty() { Ok(None) } else { Err(400) });
        }
    };
    if waits && buffer.len() < head_bytes + body_bytes {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    while buffer.len() < head_bytes + body_bytes {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(Err(400));
        }
    }
    let rest = buffer.split_off(head_bytes + body_bytes);
    request.body = buffer.split_off(head_bytes);
    *buffer = rest;
    Ok(Ok(Some(request)))
}

/// The head of a request with its length, the length of the body, and whether the peer waits for `100 Continue`.
fn parsed(buffer: &[u8]) -> Result<Option<(Request, usize, usize, bool)>, u16> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(buffer).map_err(|_| 400u16)? {
        httparse::Status::Complete(bytes) => bytes,
        httparse::Status::Partial => return Ok(None),
    };
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    if header("transfer-encoding").is_some() {
        return Err(411);
    }
    let body_bytes = header("content-length").map_or(Ok(0), |length| length.parse().map_err(|_| 400u16))?;
    if body_bytes > LONGEST_BODY_BYTES {
        return Err(413);
    }
    let target = head.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        key: header("x-goog-api-key").map(str::to_owned),
        close: head.version == Some(0) || header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        body: Vec::new(),
    };
    Ok(Some((request, head_bytes, body_bytes, header("expect").is_some())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_whole_or_not_at_all() {
        let head = b"POST /v1beta/models/m:x?alt=sse HTTP/1.1\r\nX-Goog-Api-Key: k\r\nContent-Length: 12\r\n\r\n";
        for cut in 0..head.len() {
            assert!(matches!(parsed(&head[..cut]), Ok(None)), "{cut}");
        }
        let (request, head_bytes, body_bytes, waits) = parsed(head).unwrap().unwrap();
        assert_eq!((request.path.as_str(), request.query.as_str()), ("/v1beta/models/m:x", "alt=sse"));
        assert_eq!((request.key.as_deref(), head_bytes, body_bytes, waits), (Some("k"), head.len(), 12, false));
    }

    #[test]
    fn what_is_not_http_or_too_large_has_a_status() {
        let status = |head: &str| parsed(head.as_bytes()).err();
        assert_eq!(status("\u{1}\u{2} nonsense\r\n\r\n"), Some(400));
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), Some(400));
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"), Some(413));
        assert_eq!(status("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(411));
    }
}
