//! A Wyoming recogniser over TCP: one utterance a connection, answered in the form that the real servers write, data behind the header.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::ears::{EarFault, Ears, Say};

/// A Wyoming recogniser, until it is dropped.
#[derive(Debug)]
pub struct WyomingEars {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl WyomingEars {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(listen: SocketAddr, ears: Ears) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let ears = ears.clone();
                connections.spawn(async move {
                    // A peer that goes is no event.
                    let _ = serve(stream, ears).await;
                });
            }
        });
        Ok(Self { address, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for WyomingEars {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(stream: TcpStream, ears: Ears) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut connection = None;
    let mut expected = "transcribe";
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let header: Value = serde_json::from_str(&line)?;
        let mut payload = vec![0; header["payload_length"].as_u64().unwrap_or(0) as usize];
        stream.read_exact(&mut payload).await?;
        let (kind, data) = (header["type"].as_str().unwrap_or_default(), &header["data"]);
        if connection.is_none() {
            connection = Some(ears.connected(data.to_string()));
        }
        let Some((connection, fault)) = &mut connection else { return Ok(()) };
        // Sound comes only when both were said.
        if (if matches!(kind, "audio-chunk" | "audio-stop") { "" } else { kind }) != expected {
            return Ok(());
        }
        match kind {
            "transcribe" if matches!(fault, EarFault::Refuse(_)) => return Ok(()),
            "transcribe" => expected = "audio-start",
            "audio-start" => expected = "",
            "audio-chunk" => {
                let rate = data["rate"].as_u64().filter(|rate| *rate > 0).unwrap_or(16_000);
                match connection.heard(Duration::from_micros(payload.len() as u64 / 2 * 1_000_000 / rate)) {
                    Say::Nothing => {}
                    Say::Words(words) => {
                        // Only the last word is new.
                        let word = words.rsplit(' ').next().unwrap_or_default().to_owned() + " ";
                        tell(&mut stream, "transcript-chunk", &json!({"text": word})).await?;
                    }
                    Say::Garbage => stream.write_all(b"{\"type\":\n").await?,
                    Say::Close(_) => return Ok(()),
                }
            }
            "audio-stop" => {
                connection.control(kind);
                let Some((text, after)) = connection.whole() else { return std::future::pending().await };
                tokio::time::sleep(after).await;
                return tell(&mut stream, "transcript", &json!({"text": text})).await;
            }
            _ => return Ok(()),
        }
    }
}

async fn tell(stream: &mut BufReader<TcpStream>, kind: &str, data: &Value) -> io::Result<()> {
    let data = data.to_string();
    let header = json!({"type": kind, "version": "1.5.4", "data_length": data.len(), "payload_length": null});
    stream.write_all(format!("{header}\n{data}").as_bytes()).await
}
