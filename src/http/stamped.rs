//! A request body that says when it is written: the connection asks for it when it stands and the head is out.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::RequestBody;

/// The body, and what is done when it leaves.
pub(crate) struct Stamped {
    body: RequestBody,
    /// `None` once it was done: a body may be asked for again when a kept connection turns out to be closed.
    leaving: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Stamped {
    pub(crate) fn new(body: RequestBody, leaving: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { body, leaving: Some(Box::new(leaving)) }
    }
}

impl Body for Stamped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(bytes) = self.body.next() else { return Poll::Ready(None) };
        if let Some(leaving) = self.leaving.take() {
            leaving();
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.length() as u64)
    }
}
