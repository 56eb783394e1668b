//! Whoever is told of messages: what is posted, and what becomes of a message that is not taken.

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use offhook::config::Voicemail;
use offhook::http::Http;
use offhook::simulator::faces::{FaceOptions, Faces, ToolOptions};
use offhook::voicemail::{Ended, Note, Post, Poster, Recording, Store};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A folder of messages, and its poster.
struct Mailbox {
    config: Voicemail,
    store: Arc<Store>,
    saved: Arc<Notify>,
    folder: tempfile::TempDir,
}

impl Mailbox {
    fn new(url: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Voicemail {
            enabled: true,
            folder: folder.path().join("messages"),
            webhook_url: Some(url),
            ..Voicemail::default()
        };
        Self { store: Arc::new(Store::open(&config).unwrap()), config, saved: Arc::default(), folder }
    }

    /// A message; its name.
    fn message(&self, second: u64) -> String {
        let from = Note { caller: "+972501234567".into(), call: "a@b".into() };
        let recording = Recording { samples: vec![1000; 1600], ended: Ended::Silence, wide: false };
        let at = UNIX_EPOCH + Duration::from_secs(1_795_374_900 + second);
        let message = self.store.save(at, from, &recording).unwrap();
        self.saved.notify_one();
        message.id
    }

    fn post(&self) -> JoinHandle<()> {
        let http = Http::new(Duration::from_secs(2)).unwrap();
        let poster = Poster::new(&self.config, self.store.clone(), self.saved.clone(), &http).unwrap().unwrap();
        tokio::spawn(poster.run())
    }

    async fn is_posted(&self, id: &str) {
        until("the message is booked as taken", || self.store.get(id).unwrap().post == Post::Done).await;
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut every = tokio::time::interval(Duration::from_millis(5));
    let looking = async {
        while !is_so() {
            every.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap_or_else(|_| panic!("not in 20 s: {what}"));
}

/// Answers each request with the next status, and remembers the names that were posted.
fn refuses(listener: TcpListener, statuses: &'static [u16]) -> (JoinHandle<()>, Arc<Mutex<Vec<String>>>) {
    let posted = Arc::<Mutex<Vec<String>>>::default();
    let seen = posted.clone();
    let serving = tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let (head, length) = loop {
                stream.read_buf(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                if let Some(end) = text.find("\r\n\r\n") {
                    let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
                    break (end + 4, length.unwrap().parse::<usize>().unwrap());
                }
            };
            while request.len() < head + length {
                stream.read_buf(&mut request).await.unwrap();
            }
            let body: Value = serde_json::from_slice(&request[head..]).unwrap();
            seen.lock().unwrap().push(body["id"].as_str().unwrap().to_owned());
            let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (serving, posted)
}

#[tokio::test]
async fn a_message_is_posted_once_with_its_sound_its_name_and_the_token() {
    let tools = ToolOptions::default();
    let options = FaceOptions { tools: tools.clone(), ..FaceOptions::default() };
    let faces = Faces::start(([127, 0, 0, 1], 0).into(), options).await.unwrap();
    let mut house = Mailbox::new(format!("http://{}/tools/messages", faces.address()));
    let token = house.folder.path().join("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    house.config.webhook_token_file = Some(token);
    let first = house.message(0);
    let poster = house.post();
    house.is_posted(&first).await;
    // What is left while it runs wakes it.
    let second = house.message(1);
    house.is_posted(&second).await;
    poster.abort();
    let seen = tools.requests();
    assert_eq!(seen.len(), 2, "each is posted once");
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", "/tools/messages"));
    assert_eq!(seen[0].authorization.as_deref(), Some("Bearer hunter2"));
    assert_eq!(seen[0].idempotency_key.as_deref(), Some(first.as_str()));
    let body: Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!((&body["id"], &body["caller"]), (&first.as_str().into(), &"+972501234567".into()));
    assert_eq!((&body["kind"], &body["seconds"]), (&"message".into(), &0.1.into()));
    let sound = STANDARD.decode(body["audio_wav_base64"].as_str().unwrap()).unwrap();
    assert_eq!(sound, house.store.sound(&first).unwrap());
}

#[tokio::test]
async fn a_message_that_is_refused_holds_no_other_up_and_is_posted_again_after_a_restart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut house = Mailbox::new(format!("http://{}/", listener.local_addr().unwrap()));
    let (refused, taken) = (house.message(0), house.message(1));
    let (_serving, posted) = refuses(listener, &[413, 200]);
    let poster = house.post();
    house.is_posted(&taken).await;
    assert_eq!(*posted.lock().unwrap(), [refused.clone(), taken.clone()]);
    assert_eq!(house.store.get(&refused).unwrap().post, Post::Wanted);
    poster.abort();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    house.config.webhook_url = Some(format!("http://{}/", listener.local_addr().unwrap()));
    house.store = Arc::new(Store::open(&house.config).unwrap());
    let (_serving, posted) = refuses(listener, &[200]);
    let poster = house.post();
    house.is_posted(&refused).await;
    assert_eq!(*posted.lock().unwrap(), [refused]);
    poster.abort();
}

#[tokio::test]
async fn a_webhook_that_is_ill_is_asked_again_after_five_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let house = Mailbox::new(format!("http://{}/", listener.local_addr().unwrap()));
    let message = house.message(0);
    let (_serving, posted) = refuses(listener, &[503, 200]);
    let poster = house.post();
    until("it was asked", || posted.lock().unwrap().len() == 1).await;
    let asked = std::time::Instant::now();
    house.is_posted(&message).await;
    assert!(asked.elapsed() > Duration::from_millis(4500), "{:?}", asked.elapsed());
    assert_eq!(*posted.lock().unwrap(), [message.clone(), message]);
    poster.abort();
}
