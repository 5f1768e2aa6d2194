//! How does a request reach the upstream, on a connection that is still alive?
//!
//! Each worker keeps its own idle connections, so there is nothing to lock. Streamlit's server closes idle connections
//! after five seconds; ours are used for three at most, the newest first. An idle connection may still turn out to be gone.
//! A request that was not written yet then goes out on another one, whatever its method. One that was written does so
//! only if it may be done twice: it is idempotent (RFC 9110 §9.2.2), has no body, and no answer to it had begun.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy::RequestBody;
use crate::settings::Settings;

/// A worker's connections to the upstream.
pub(crate) struct Pool {
    authority: String,
    connect_timeout: Duration,
    idle: RefCell<Vec<(SendRequest<RequestBody>, Instant)>>,
}

/// Why the upstream did not answer.
#[derive(Debug)]
pub(crate) enum UpstreamError {
    /// No connection could be made.
    Connect(String),
    /// The connection broke before the answer began.
    Broken(hyper::Error),
    /// No answer began in time.
    Timeout,
}

impl Pool {
    pub(crate) fn new(settings: &Settings) -> Rc<Self> {
        Rc::new(Self {
            authority: settings.upstream.authority(),
            connect_timeout: settings.connect_timeout,
            idle: RefCell::default(),
        })
    }

    /// Sends a request and waits for the head of the answer. A connection that can be used again returns to the pool
    /// once the answer's body has been read.
    pub(crate) async fn send(
        self: &Rc<Self>,
        mut request: Request<RequestBody>,
        limit: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        loop {
            let reused = self.take_idle();
            let copy = reused.is_some().then(|| repeatable(&request)).flatten();
            let is_reused = reused.is_some();
            let mut sender = match reused {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            match timeout(limit, sender.try_send_request(request)).await {
                Ok(Ok(response)) => {
                    self.give_back(sender);
                    return Ok(response);
                }
                Ok(Err(mut error)) => match error.take_message().or(copy) {
                    Some(again) if is_reused => request = again,
                    _ => return Err(UpstreamError::Broken(error.into_error())),
                },
                Err(_) => return Err(UpstreamError::Timeout),
            }
        }
    }

    /// Opens a connection that is used once, for a handshake.
    pub(crate) async fn connect(&self) -> Result<SendRequest<RequestBody>, UpstreamError> {
        let stream = timeout(self.connect_timeout, TcpStream::connect(&self.authority))
            .await
            .map_err(|_| UpstreamError::Connect("the connection timed out".to_owned()))?
            .map_err(|error| UpstreamError::Connect(error.to_string()))?;
        // Without it, small messages wait for each other's acknowledgement.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(UpstreamError::Broken)?;
        tokio::task::spawn_local(async move {
            // How a connection ends is told to the request that it carries.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    fn take_idle(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.borrow_mut();
        while let Some((sender, since)) = idle.pop() {
            if since.elapsed() > IDLE_LIMIT {
                // The newest is too old, so all are.
                idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(self: &Rc<Self>, mut sender: SendRequest<RequestBody>) {
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if sender.ready().await.is_ok() {
                let mut idle = pool.idle.borrow_mut();
                if idle.len() < IDLE_MAX {
                    idle.push((sender, Instant::now()));
                }
            }
        });
    }
}

/// A copy of a request that may be done twice.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_repeatable = request.method().is_idempotent() && request.body().is_end_stream();
    is_repeatable.then(|| {
        let mut copy = Request::new(RequestBody::empty());
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        copy.headers_mut().clone_from(request.headers());
        copy
    })
}

/// Longest time a connection is kept without use: below the five seconds of Streamlit's server.
const IDLE_LIMIT: Duration = Duration::from_secs(3);

/// Most idle connections a worker keeps.
const IDLE_MAX: usize = 64;
