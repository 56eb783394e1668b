//! A Wyoming server that speaks: it sends events in both forms, as servers of different ages do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{PIECE, VoiceFault, VoiceOptions, raw, samples};

/// The rate of the models that are most used.
const RATE: u32 = 22_050;

/// A Wyoming server, until it is dropped.
#[derive(Debug)]
pub struct WyomingFace {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl WyomingFace {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(listen: SocketAddr, options: VoiceOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let options = Arc::new(options);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let options = options.clone();
                connections.spawn(async move {
                    // Whoever asked may be gone.
                    let _ = serve(stream, &options).await;
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

impl Drop for WyomingFace {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(stream: TcpStream, options: &VoiceOptions) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if (&mut stream).take(1 << 20).read_line(&mut line).await? == 0 {
        return Ok(());
    }
    let event: Value = serde_json::from_str(&line).unwrap_or_default();
    let (text, voice) = (event["data"]["text"].as_str(), &event["data"]["voice"]);
    let (Some(text), true) = (text.filter(|text| !text.is_empty()), event["type"] == "synthesize") else {
        return inline(&mut stream, "error", json!({"text": "synthesize with a text is expected"})).await;
    };
    let (name, language) = (voice["name"].as_str().unwrap_or_default(), voice["language"].as_str().unwrap_or_default());
    let fault = options.begin("wyoming", text, name, language);
    if let Some(VoiceFault::Status(_)) = fault {
        return inline(&mut stream, "error", json!({"text": "no such voice"})).await;
    }
    let late = if let Some(VoiceFault::Late(late)) = fault { late } else { options.first_sound };
    tokio::time::sleep(late).await;
    if let Some(VoiceFault::Garbage | VoiceFault::Page) = fault {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    }
    let shape = json!({"rate": RATE, "width": 2, "channels": 1});
    inline(&mut stream, "audio-start", shape.clone()).await?;
    let sound = samples(text, RATE, fault);
    let chunks: Vec<&[i16]> = sound.chunks(RATE as usize / 10).collect();
    for (n, chunk) in chunks.iter().enumerate() {
        if n > 0 && options.speed.is_finite() {
            tokio::time::sleep(PIECE.div_f64(options.speed)).await;
        }
        match fault {
            Some(VoiceFault::Stall(stall)) if n == chunks.len() / 2 => tokio::time::sleep(stall).await,
            Some(VoiceFault::Cut) if n == chunks.len() / 2 => return Ok(()),
            _ => {}
        }
        let (data, payload) = (shape.to_string(), raw(chunk));
        let head = json!({"type": "audio-chunk", "version": "1.5.2", "data_length": data.len(), "payload_length": payload.len()});
        stream.write_all(format!("{head}\n{data}").as_bytes()).await?;
        stream.write_all(&payload).await?;
    }
    inline(&mut stream, "audio-stop", json!({})).await
}

async fn inline(stream: &mut BufReader<TcpStream>, kind: &str, data: Value) -> io::Result<()> {
    stream.write_all(format!("{}\n", json!({"type": kind, "data": data})).as_bytes()).await
}
