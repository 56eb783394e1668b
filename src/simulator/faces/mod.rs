//! The other interfaces that the box talks to, on this machine: each face checks what the real one checks, and answers by script.
//!
//! One listener serves them all, by path. Gemini's own interface is [`Simulator`](super::Simulator), whose faults go below HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

mod all;
mod deepgram;
pub mod ears;
mod live;
pub mod live_speech;
mod transcription;
pub mod wyoming_asr;
pub mod chat;
pub mod crm;
mod tools;
pub mod voices;

pub use all::AllFaces;
pub use tools::{ToolOptions, ToolRequest};

/// How the faces behave.
#[derive(Debug, Clone, Default)]
pub struct FaceOptions {
    /// The recognisers: Gemini's, Deepgram's, OpenAI's.
    pub ears: ears::Ears,
    /// OpenAI's chat completions.
    pub chat: chat::ChatOptions,
    /// The CRM.
    pub crm: crm::CrmOptions,
    /// The voices.
    pub voices: voices::VoiceOptions,
    /// An installer's own interface.
    pub tools: ToolOptions,
    /// What Gemini's Live API says in a dialogue.
    pub mouth: live_speech::Mouth,
}

/// The faces, until they are dropped.
#[derive(Debug)]
pub struct Faces {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Faces {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(listen: SocketAddr, options: FaceOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let routes = routes().with_state(Arc::new(options));
        let serving = tokio::spawn(async move {
            // Ends with its task only.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, serving })
    }

    /// Where they listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Faces {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What each face serves.
fn routes() -> Router<Arc<FaceOptions>> {
    Router::new()
        .merge(deepgram::routes())
        .merge(live::routes())
        .merge(transcription::routes())
        .merge(chat::routes())
        .merge(crm::routes())
        .merge(voices::routes())
        .merge(tools::routes())
}
