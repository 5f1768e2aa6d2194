//! How does a body pass the filter while it streams?
//!
//! Each frame goes through the filter as it comes, and what the filter lets pass goes on at once. The end is an empty
//! last frame, as in Envoy. A filter that holds the end back for ever, closes the stream or answers in the middle ends
//! the body with an error, since nothing can follow that would be true.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use host_test::{Flow, Side, envoy};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::headers;
use super::proxy::Exchange;

/// A body that this proxy sends.
pub(super) enum ProxyBody {
    Filtered(FilteredBody),
    Whole(Full<Bytes>),
}

/// A body on its way through the filter.
pub(super) struct FilteredBody {
    inner: Incoming,
    exchange: Rc<Exchange>,
    side: Side,
    state: State,
}

enum State {
    Streaming,
    /// The end has been fed; these trailers remain to be sent.
    Ended(Option<http::HeaderMap>),
}

/// Why a body ended too early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("cannot read the body")]
    Read(#[source] hyper::Error),
    #[error("the filter ended the stream within the body")]
    Ended,
    #[error("the filter left the body paused")]
    Paused,
    #[error("the filter wrote a trailer that HTTP cannot carry")]
    Trailer(#[source] http::Error),
}

impl ProxyBody {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }

    pub(super) fn empty() -> Self {
        Self::whole(Bytes::new())
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
            Self::Filtered(body) => Pin::new(body).poll_frame(context),
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
    pub(super) fn new(inner: Incoming, exchange: Rc<Exchange>, side: Side) -> Self {
        Self {
            inner,
            exchange,
            side,
            state: State::Streaming,
        }
    }

    fn feed(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), BodyError> {
        let mut stream = self.exchange.stream();
        let Some(stream) = stream.as_mut() else {
            return Err(BodyError::Ended);
        };
        let (flow, is_end) = match frame.map(Frame::into_data) {
            Some(Ok(data)) => (feed_data(stream, self.side, data.to_vec(), false), false),
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let trailers = envoy::trailers(headers::fields(&trailers));
                let flow = match self.side {
                    Side::Request => stream.request_trailers(trailers),
                    Side::Response => stream.response_trailers(trailers),
                };
                (flow, true)
            }
            None => (feed_data(stream, self.side, Vec::new(), true), true),
        };
        match flow {
            // The body of an answer within a response comes whole, and is not fed.
            Flow::Reset | Flow::Replied => return Err(BodyError::Ended),
            Flow::Paused if is_end => return Err(BodyError::Paused),
            Flow::Continue | Flow::Paused => {}
        }
        if is_end {
            let trailers = stream.trailers(self.side);
            let trailers = headers::from_filter(&trailers).map_err(BodyError::Trailer)?;
            self.state = State::Ended((!trailers.is_empty()).then_some(trailers));
        }
        Ok(())
    }
}

impl Body for FilteredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while let State::Streaming = self.state {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
            let frame = frame.transpose().map_err(BodyError::Read);
            if let Err(error) = frame.and_then(|frame| self.feed(frame)) {
                self.state = State::Ended(None);
                return Poll::Ready(Some(Err(error)));
            }
            let passed = self.exchange.take_body(self.side);
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed.into()))));
            }
        }
        Poll::Ready(match &mut self.state {
            State::Ended(trailers) => trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers))),
            State::Streaming => None,
        })
    }
}

fn feed_data(
    stream: &mut host_test::Stream,
    side: Side,
    data: Vec<u8>,
    end_of_stream: bool,
) -> Flow {
    match side {
        Side::Request => stream.request_body(data, end_of_stream),
        Side::Response => stream.response_body(data, end_of_stream),
    }
}
