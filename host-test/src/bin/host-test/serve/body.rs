//! How does a body pass the filter while it streams?
//!
//! Each frame goes to the filter as it comes, even while it holds the headers, since it may wait for the body; what it
//! lets pass goes on at once. The end is an empty last frame, as in Envoy. While the filter holds something back, this
//! waits for a tick or a call-out's answer to let it go. A filter that closes the stream or answers in the middle ends the
//! body with an error, since nothing can follow that would be true.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use host_test::{Flow, Side, envoy};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::futures::OwnedNotified;

use super::headers;
use super::proxy::Exchange;

/// A body that this proxy sends.
pub(super) enum ProxyBody {
    Filtered(Box<FilteredBody>),
    Whole(Full<Bytes>),
}

/// A body on its way through the filter.
pub(super) struct FilteredBody {
    /// What has yet to be read; `None` when the end has been fed.
    inner: Option<Incoming>,
    exchange: Rc<Exchange>,
    side: Side,
    changed: Pin<Box<OwnedNotified>>,
    /// Whether all of it has been passed on.
    is_over: bool,
}

/// Why a body ended too early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("cannot read the body")]
    Read(#[source] hyper::Error),
    #[error("the filter ended the stream within the body")]
    Ended,
    #[error("the filter wrote a trailer that HTTP cannot carry")]
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
            Self::Filtered(body) => body.poll_passed(context),
            Self::Whole(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
        }
    }

    /// The end of a filtered body is known only when it has passed.
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
    /// `None` for a message that ended with its headers.
    pub(super) fn new(inner: Option<Incoming>, exchange: Rc<Exchange>, side: Side) -> Self {
        Self {
            inner,
            changed: Box::pin(exchange.changed()),
            exchange,
            side,
            is_over: false,
        }
    }

    /// Waits until the filter has let the headers pass, or has ended the stream.
    pub(super) async fn settle(&mut self) -> Result<(), BodyError> {
        poll_fn(|context| {
            while self.exchange.holds_headers(self.side) {
                ready!(self.poll_progress(context))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The body behind headers that have passed.
    pub(super) fn into_body(self) -> ProxyBody {
        let is_whole = self.inner.is_none() && self.exchange.flow(self.side) == Flow::Continue;
        if is_whole && self.exchange.trailers(self.side).is_empty() {
            // Its length is known.
            return ProxyBody::whole(self.exchange.take_body(self.side));
        }
        ProxyBody::Filtered(Box::new(self))
    }

    /// Feeds what has arrived; ready when something may have changed.
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

    fn poll_passed(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while !self.is_over {
            let passed = self.exchange.take_body(self.side);
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed.into()))));
            }
            match self.exchange.flow(self.side) {
                // The body of an answer within a response comes whole, and is not fed.
                Flow::Reset | Flow::Replied => {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(BodyError::Ended)));
                }
                Flow::Continue if self.inner.is_none() => {
                    self.is_over = true;
                    let trailers = self.exchange.trailers(self.side);
                    let trailers = headers::from_filter(&trailers).map_err(BodyError::Trailer);
                    return Poll::Ready(match trailers {
                        Ok(trailers) if trailers.is_empty() => None,
                        trailers => Some(trailers.map(Frame::trailers)),
                    });
                }
                Flow::Continue | Flow::Paused => {}
            }
            if let Err(error) = ready!(self.poll_progress(context)) {
                self.is_over = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(None)
    }
}
