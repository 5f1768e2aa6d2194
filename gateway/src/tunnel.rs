//! How does a WebSocket get through?
//!
//! The handshake goes upstream with the client's own lines, one `Host` and one protocol line among them: Streamlit reads
//! the protocol line by position. Only a 101 that proves the upstream has understood this very handshake (RFC 6455
//! §4.2.2) opens the tunnel; any other answer is passed on as it is. From then on the connection is bytes, both ways:
//! frames, close codes, compression and pings are between browser and Streamlit.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::hop;
use crate::proxy::{RequestBody, ResponseBody, Worker, failure};
use crate::reply;
use crate::upstream::UpstreamError;

/// A worker's open tunnels.
#[derive(Default)]
pub(crate) struct Tunnels {
    open: Cell<usize>,
    close: Notify,
    closed: Notify,
}

impl Tunnels {
    /// Ends every tunnel and waits until they have ended.
    pub(crate) async fn end(&self) {
        while self.open.get() > 0 {
            self.close.notify_waiters();
            let _ = timeout(Duration::from_millis(50), self.closed.notified()).await;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.open.get()
    }
}

/// Refuses a handshake that Streamlit would never answer: it leaves one with a long header line, or with very many
/// lines, open for ever. A browser with too many cookies sends such a handshake.
pub(crate) fn refuse_early(headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    let longest = headers.values().map(HeaderValue::len).max().unwrap_or(0);
    let reason = if longest > MAX_LINE {
        "A header line of this WebSocket handshake is over 8000 bytes, which Streamlit does not answer. Too many cookies?"
    } else if headers.len() > MAX_LINES {
        "This WebSocket handshake has over 100 header lines, which Streamlit does not answer."
    } else {
        return None;
    };
    Some(reply::text(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        reason,
    ))
}

/// Forwards a handshake and, if the upstream accepts it, connects the two sides.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    mut request: Request<RequestBody>,
    downstream: OnUpgrade,
) -> Response<ResponseBody> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    hop::strip_request(request.headers_mut());
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let own = |response: Response<Full<Bytes>>| response.map(Either::Right);

    let handshake = async {
        let mut sender = worker.pool.connect().await?;
        sender
            .send_request(request)
            .await
            .map_err(UpstreamError::Broken)
    };
    let mut response = match timeout(worker.settings.handshake_timeout, handshake).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return own(failure(worker, &HeaderMap::new(), &error)),
        Err(_) => return own(failure(worker, &HeaderMap::new(), &UpstreamError::Timeout)),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let mut response = response.map(Either::Left);
        hop::strip_response(response.headers_mut());
        return response;
    }
    if !is_accepted(key.as_ref(), response.headers()) {
        tracing::warn!("the upstream switched protocols without accepting the WebSocket handshake");
        return own(reply::text(
            StatusCode::BAD_GATEWAY,
            "The app did not accept the WebSocket handshake.",
        ));
    }
    let upstream = hyper::upgrade::on(&mut response);
    let tunnels = Rc::clone(&worker.tunnels);
    tokio::task::spawn_local(async move {
        tunnels.open.set(tunnels.open.get() + 1);
        if let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) {
            tokio::select! {
                () = connect(downstream, upstream) => {}
                () = tunnels.close.notified() => {}
            }
        }
        tunnels.open.set(tunnels.open.get() - 1);
        tunnels.closed.notify_waiters();
    });
    let (mut head, _) = response.into_parts();
    hop::strip_response(&mut head.headers);
    head.headers
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers
        .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Response::from_parts(head, Either::Right(Full::default()))
}

/// Copies both ways until both sides have ended, or one has and the other does not follow in time.
async fn connect(downstream: Upgraded, upstream: Upgraded) {
    let (from_client, to_client) = split(TokioIo::new(downstream));
    let (from_app, to_app) = split(TokioIo::new(upstream));
    let mut up = std::pin::pin!(copy(from_client, to_app));
    let mut down = std::pin::pin!(copy(from_app, to_client));
    tokio::select! {
        () = &mut up => { let _ = timeout(LINGER, down).await; }
        () = &mut down => { let _ = timeout(LINGER, up).await; }
    }
}

/// Copies until the end of `from`, then says so to the other side, as a half-closed connection does.
async fn copy(mut from: ReadHalf<TokioIo<Upgraded>>, mut to: WriteHalf<TokioIo<Upgraded>>) {
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let read = buffer.get(..count).unwrap_or_default();
                if to.write_all(read).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}

/// RFC 6455 §4.2.2: the answer proves that it is an answer to this key.
fn is_accepted(key: Option<&HeaderValue>, answer: &HeaderMap) -> bool {
    let Some(key) = key else {
        return false;
    };
    let expected = websocket_accept(key.as_bytes());
    let accept = answer.get(header::SEC_WEBSOCKET_ACCEPT);
    hop::is_websocket(answer)
        && accept.is_some_and(|accept| accept.as_bytes() == expected.as_bytes())
}

fn websocket_accept(key: &[u8]) -> String {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(ACCEPT_GUID)
        .finalize();
    BASE64_STANDARD.encode(digest)
}

/// RFC 6455 §1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Longest header value of a handshake, in bytes: Streamlit answers 8100 and hangs at 8300.
const MAX_LINE: usize = 8000;

/// Most header lines of a handshake: Streamlit answers 100 and hangs at 125.
const MAX_LINES: usize = 100;

/// How long the second side of a half-closed tunnel may take to end.
const LINGER: Duration = Duration::from_secs(10);

const COPY_BUFFER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    #[test]
    fn the_answer_to_a_key() {
        assert_eq!(
            websocket_accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
