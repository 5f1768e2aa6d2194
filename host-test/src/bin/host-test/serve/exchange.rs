//! Holds the state of one live request: its stream through the filter, and the data to record and to print.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use host_test::abi::Value;
use host_test::envoy::{self, RequestHead};
use host_test::event::Side;
use host_test::{Flow, HeaderMap, Stream};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::futures::OwnedNotified;

use super::call_outs::RunningFilter;
use super::headers;
use super::recording::{Observed, Recorder};
use super::summary::{self, Before};

/// One request with its response. When it is dropped, the stream ends and the effects of the filter are printed.
pub(super) struct Exchange {
    filter: Rc<RunningFilter>,
    /// The open stream; `None` only while the exchange is dropped.
    stream: RefCell<Option<Stream>>,
    before: RefCell<Before>,
    recorder: Option<Rc<Recorder>>,
    observed: RefCell<Observed>,
}

impl Exchange {
    pub(super) fn new(
        filter: Rc<RunningFilter>,
        recorder: Option<Rc<Recorder>>,
        peer: SocketAddr,
        version: http::Version,
    ) -> Self {
        let is_http10 = version == http::Version::HTTP_10;
        let protocol = if is_http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let properties = envoy::connection_properties(envoy::Peer::Ip(peer), false)
            .with(&["request", "protocol"], Value::Text(protocol.to_owned()));
        let mut observed = Observed::from(peer, is_http10);
        if let Some(recorder) = &recorder {
            recorder.begin(&filter, &mut observed);
        }
        let stream = filter.plugin.stream(properties);
        Self {
            filter,
            stream: RefCell::new(Some(stream)),
            before: RefCell::default(),
            recorder,
            observed: RefCell::new(observed),
        }
    }

    /// Returns a future that is ready when the filter may have resumed a paused stream since this call.
    pub(super) fn changed(&self) -> OwnedNotified {
        self.filter.changed()
    }

    /// Returns true if the filter holds the headers, so that nothing can be sent yet.
    pub(super) fn holds_headers(&self, side: Side) -> bool {
        self.with_stream(|stream| {
            stream.headers(side).is_none() && stream.flow(side) == Flow::Paused
        })
        .unwrap_or(false)
    }

    pub(super) fn flow(&self, side: Side) -> Flow {
        self.with_stream(|stream| stream.flow(side))
            .unwrap_or(Flow::Reset)
    }

    /// Returns the headers that the filter forwarded.
    pub(super) fn headers(&self, side: Side) -> HeaderMap {
        self.with_stream(|stream| stream.headers(side))
            .flatten()
            .unwrap_or_default()
    }

    /// Takes the part of the body that the filter forwarded.
    pub(super) fn take_body(&self, side: Side) -> Vec<u8> {
        let body = self.with_stream(|stream| stream.take_body(side));
        let body = body.unwrap_or_default();
        self.observed.borrow_mut().forwarded(side, &body);
        body
    }

    /// Returns the trailers that the filter forwarded.
    pub(super) fn trailers(&self, side: Side) -> HeaderMap {
        self.with_stream(|stream| stream.trailers(side))
            .unwrap_or_default()
    }

    /// Feeds the filter the headers of the request. Several `Host` fields are joined, as in Envoy.
    pub(super) fn feed_request(&self, mut parts: http::request::Parts, end_of_stream: bool) {
        headers::remove_hop_by_hop(&mut parts.headers);
        let hosts = parts.headers.get_all(header::HOST).iter();
        let hosts: Vec<&[u8]> = hosts.map(HeaderValue::as_bytes).collect();
        let host = (!hosts.is_empty()).then(|| hosts.join(&b","[..]));
        parts.headers.remove(header::HOST);
        let target = parts.uri.to_string();
        let head = RequestHead {
            method: parts.method.as_str().as_bytes(),
            target: target.as_bytes(),
            host: host.as_deref(),
            is_tls: false,
        };
        let fields = || headers::fields(&parts.headers);
        self.observed
            .borrow_mut()
            .request(&head, fields(), end_of_stream);
        let map = envoy::request_headers(head, fields());
        self.before.borrow_mut().request.clone_from(&map);
        self.with_stream(|stream| stream.request_headers(map, end_of_stream));
        self.filter.after_callbacks();
    }

    /// Notes that the request is sent to the upstream now.
    pub(super) fn sent(&self) {
        self.observed.borrow_mut().sent();
    }

    /// Feeds the filter the headers of the response.
    pub(super) fn feed_response(
        &self,
        status: StatusCode,
        mut fields: http::HeaderMap,
        end_of_stream: bool,
    ) {
        headers::remove_hop_by_hop(&mut fields);
        let map = envoy::response_headers(status.as_u16(), headers::fields(&fields));
        self.observed
            .borrow_mut()
            .response(status.as_u16(), &map, end_of_stream);
        self.before.borrow_mut().response.clone_from(&map);
        self.with_stream(|stream| stream.response_headers(map, end_of_stream));
        self.filter.after_callbacks();
    }

    /// Feeds the filter a frame of a body.
    pub(super) fn feed_body(&self, side: Side, data: Vec<u8>, end_of_stream: bool) {
        self.observed.borrow_mut().body(side, &data);
        self.with_stream(|stream| match side {
            Side::Request => stream.request_body(data, end_of_stream),
            Side::Response => stream.response_body(data, end_of_stream),
        });
        self.filter.after_callbacks();
    }

    /// Feeds the filter the trailers of a message.
    pub(super) fn feed_trailers(&self, side: Side, trailers: HeaderMap) {
        self.observed.borrow_mut().trailers(side, &trailers);
        self.with_stream(|stream| match side {
            Side::Request => stream.request_trailers(trailers),
            Side::Response => stream.response_trailers(trailers),
        });
        self.filter.after_callbacks();
    }

    fn with_stream<T>(&self, action: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.stream.borrow_mut().as_mut().map(action)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.get_mut().take() {
            let outcome = stream.finish();
            summary::print(self.before.get_mut(), &outcome);
            if let Some(recorder) = &self.recorder {
                recorder.keep(self.observed.borrow().clone(), outcome);
            }
        }
    }
}
