//! Passes a body through the filter while it streams.
//!
//! Each frame goes to the filter as it arrives, even while the filter holds the headers, because the filter may wait for
//! the body. Data that the filter forwards is sent at once. The end is an empty last frame, as in Envoy. While the stream is
//! paused, the body waits until the filter resumes it in a tick or on the response to a call-out. If the filter resets the
//! stream or replies within the body, the body ends with an error, because the rest of the message cannot be sent.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use host_test::event::Side;
use host_test::{Flow, envoy};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::futures::OwnedNotified;

use super::exchange::Exchange;
use super::headers;

/// A body that this proxy sends.
pub(super) enum ProxyBody {
    Filtered(Box<FilteredBody>),
    Whole(Full<Bytes>),
}

/// A body that passes the filter.
pub(super) struct FilteredBody {
    /// The rest of the body; `None` once the filter has received its end.
    inner: Option<Incoming>,
    exchange: Rc<Exchange>,
    side: Side,
    changed: Pin<Box<OwnedNotified>>,
    /// True if everything has been sent.
    is_finished: bool,
}

/// The reason why a body ended too early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("cannot read the body")]
    Read(#[source] hyper::Error),
    #[error("the filter ended the stream within the body")]
    Ended,
    #[error("the filter wrote an invalid trailer")]
    Trailer(#[source] http::Error),
}

impl ProxyBody {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Filtered(body) => body.poll_filtered(context),
            Self::Whole(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
        }
    }

    /// The end of a filtered body is known only when it has been sent.
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Filtered(_) => false,
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Filtered(_) => SizeHint::default(),
            Self::Whole(body) => body.size_hint(),
        }
    }
}

impl FilteredBody {
    /// `inner` is `None` for a message that ended with its headers.
    pub(super) fn new(inner: Option<Incoming>, exchange: Rc<Exchange>, side: Side) -> Self {
        Self {
            inner,
            changed: Box::pin(exchange.changed()),
            exchange,
            side,
            is_finished: false,
        }
    }

    /// Waits until the filter has let the headers pass or has ended the stream.
    pub(super) async fn wait_for_headers(&mut self) -> Result<(), BodyError> {
        poll_fn(|context| {
            while self.exchange.holds_headers(self.side) {
                ready!(self.poll_progress(context))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Returns the body to send after the headers.
    pub(super) fn into_body(self) -> ProxyBody {
        let is_whole = self.inner.is_none() && self.exchange.flow(self.side) == Flow::Continue;
        if is_whole && self.exchange.trailers(self.side).is_empty() {
            // It is complete, so its length is known.
            return ProxyBody::whole(self.exchange.take_body(self.side));
        }
        ProxyBody::Filtered(Box::new(self))
    }

    /// Feeds the filter a frame that has arrived. Ready after that, or when the filter may have resumed the stream.
    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if let Some(inner) = &mut self.inner
            && let Poll::Ready(frame) = Pin::new(inner).poll_frame(context)
        {
            let frame = frame.transpose().map_err(BodyError::Read)?;
            self.feed(frame);
            return Poll::Ready(Ok(()));
        }
        ready!(self.changed.as_mut().poll(context));
        self.changed = Box::pin(self.exchange.changed());
        Poll::Ready(Ok(()))
    }

    fn feed(&mut self, frame: Option<Frame<Bytes>>) {
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => self.exchange.feed_body(self.side, data.to_vec(), false),
            Some(Err(frame)) => {
                self.inner = None;
                let trailers = frame.into_trailers().unwrap_or_default();
                let trailers = envoy::trailers(headers::fields(&trailers));
                self.exchange.feed_trailers(self.side, trailers);
            }
            None => {
                self.inner = None;
                self.exchange.feed_body(self.side, Vec::new(), true);
            }
        }
    }

    fn poll_filtered(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while !self.is_finished {
            let passed = self.exchange.take_body(self.side);
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed.into()))));
            }
            match self.exchange.flow(self.side) {
                // The body of a local response is sent whole and does not pass the filter.
                Flow::Reset | Flow::Replied => {
                    self.is_finished = true;
                    return Poll::Ready(Some(Err(BodyError::Ended)));
                }
                Flow::Continue if self.inner.is_none() => {
                    self.is_finished = true;
                    let trailers = self.exchange.trailers(self.side);
                    let trailers = headers::to_http(&trailers).map_err(BodyError::Trailer);
                    return Poll::Ready(match trailers {
                        Ok(trailers) if trailers.is_empty() => None,
                        trailers => Some(trailers.map(Frame::trailers)),
                    });
                }
                Flow::Continue | Flow::Paused => {}
            }
            if let Err(error) = ready!(self.poll_progress(context)) {
                self.is_finished = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(None)
    }
}
