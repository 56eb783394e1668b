//! The thread that a [`Keeper`] works on: opening and closing a card may block for as long as its driver likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::card::{Card, CardError, Choice};
use super::keeper::{Keeper, Notice};
use super::leg::CardSide;

/// How often is looked after the card.
const LOOK: Duration = Duration::from_millis(50);
/// Notices that may wait.
const NOTICES: usize = 32;
/// A card that has not closed by then is left behind.
const CLOSING: Duration = Duration::from_secs(2);

/// A card that is being kept open.
pub struct Keeping {
    over: Arc<AtomicBool>,
    closed: oneshot::Receiver<()>,
}

impl Keeping {
    /// Opens the devices on a thread of its own; what there is to tell comes through the channel.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(
        cards: impl FnOnce() -> Result<Box<dyn Card>, CardError> + Send + 'static,
        choices: [Choice; 2],
        side: CardSide,
    ) -> std::io::Result<(Self, mpsc::Receiver<Notice>)> {
        let (notice_in, notices) = mpsc::channel(NOTICES);
        let (closed_in, closed) = oneshot::channel();
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        std::thread::Builder::new().name("offhook-card".into()).spawn(move || {
            match cards() {
                Ok(card) => keep(Keeper::new(card, choices, side, Instant::now()), &notice_in, &until),
                Err(error) => {
                    let _ = notice_in.blocking_send(Notice::Lost { direction: super::Direction::Input, error });
                }
            }
            let _ = closed_in.send(());
        })?;
        Ok((Self { over, closed }, notices))
    }

    /// Closes the devices; false when one of them does not close.
    pub async fn end(self) -> bool {
        self.over.store(true, Relaxed);
        tokio::time::timeout(CLOSING, self.closed).await.is_ok()
    }
}

fn keep(mut keeper: Keeper, notices: &mpsc::Sender<Notice>, over: &AtomicBool) {
    while !over.load(Relaxed) {
        keeper.tick(Instant::now());
        while let Some(notice) = keeper.poll() {
            // Nobody listens any more when the call is over.
            let _ = notices.try_send(notice);
        }
        std::thread::sleep(LOOK);
    }
}
