//! Runs upstreams: one that plays a script and records what it received, and one that a handler serves.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener as BlockingListener, TcpStream as BlockingStream};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fluxlit_cases::{Answer, UpstreamRequest, latin1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader as AsyncBufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::http1::{self, Content, Field, Head, Kind};
use crate::port::local;
use crate::script::{ResponseMessage, ScriptedResponse};

/// The protocol of an upstream. Its client has to be configured for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// The options of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The protocol.
    pub protocol: Protocol,
    /// Closes an HTTP/1 connection after each response, so that a response with a wrong length ends too.
    pub closes_connections: bool,
    /// Responds to the health checks of the gateway by itself, and does not record them.
    pub answers_probes: bool,
}

/// A running upstream. Each request takes the next entry of the script; the last entry is repeated.
///
/// An entry that refuses closes the listener before the response to the previous request is sent, so that the next
/// connection is refused.
pub struct Upstream {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// Its options.
    pub options: Options,
    shared: Arc<Shared>,
    /// Keeps the port while nothing listens on it.
    _reserved: TcpSocket,
}

/// A request as an upstream received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// The request so far.
    pub request: UpstreamRequest,
    /// True if the end of the request was received.
    pub is_complete: bool,
}

struct Shared {
    options: Options,
    state: Mutex<State>,
    /// True while connections are accepted.
    listens: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    script: Vec<ScriptedResponse>,
    /// The number of requests that have taken an entry of the script.
    taken: usize,
    received: Vec<ReceivedRequest>,
}

impl Upstream {
    /// Reserves a port, and listens unless the script begins with a refusal.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub fn start(options: Options, script: Vec<ScriptedResponse>) -> io::Result<Self> {
        let _runtime = RUNTIME.enter();
        let reserved = socket(0)?;
        let address = reserved.local_addr()?;
        let refuses = script.first().is_some_and(ScriptedResponse::is_refusal);
        let shared = Arc::new(Shared {
            options,
            state: Mutex::new(State {
                script,
                ..State::default()
            }),
            listens: watch::Sender::new(!refuses),
        });
        if !refuses {
            let listener = socket(address.port())?.listen(BACKLOG)?;
            RUNTIME.spawn(accept(listener, Arc::clone(&shared)));
        }
        Ok(Self {
            address,
            options,
            shared,
            _reserved: reserved,
        })
    }

    /// Replaces the script, and discards the recorded requests.
    pub fn follow(&self, script: Vec<ScriptedResponse>) {
        *self.shared.state() = State {
            script,
            ..State::default()
        };
    }

    /// Sends this response of a case from now on, and discards the recorded requests.
    pub fn answer(&self, answer: &Answer) {
        self.answer_in_turn(std::slice::from_ref(answer));
    }

    /// Sends these responses of cases in order, repeating the last one, and discards the recorded requests.
    pub fn answer_in_turn(&self, answers: &[Answer]) {
        self.follow(answers.iter().map(ScriptedResponse::of_answer).collect());
    }

    /// Returns the requests so far, in order; those that are still being received are incomplete.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.shared.state().received.clone()
    }

    /// Returns the requests so far, in order.
    pub fn requests(&self) -> Vec<UpstreamRequest> {
        let state = self.shared.state();
        state
            .received
            .iter()
            .map(|one| one.request.clone())
            .collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.listens.send_replace(false);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request; returns its index.
    fn record(&self, request: UpstreamRequest) -> usize {
        let mut state = self.state();
        state.received.push(ReceivedRequest {
            request,
            is_complete: false,
        });
        state.received.len() - 1
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut ReceivedRequest)) {
        if let Some(request) = self.state().received.get_mut(index) {
            change(request);
        }
    }

    /// Takes the next entry of the script. If the one after it refuses, the listener is closed when this returns.
    async fn next(&self) -> ScriptedResponse {
        let (taken, refuses_next) = {
            let mut state = self.state();
            let last = state.script.len().saturating_sub(1);
            let taken = state.script.get(state.taken.min(last)).cloned();
            state.taken += 1;
            let next = state.script.get(state.taken.min(last));
            (taken, next.is_some_and(ScriptedResponse::is_refusal))
        };
        if refuses_next {
            self.listens.send_replace(false);
            self.listens.closed().await;
        }
        // A service without a script never responds.
        taken.unwrap_or(ScriptedResponse::Silence)
    }
}

/// Serves on a free port for as long as the process lives, each connection in its own thread. The handler reads and
/// writes the connection itself.
///
/// # Errors
///
/// If no port is free.
pub fn serve(
    handler: impl Fn(&mut BufReader<BlockingStream>) + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = BlockingListener::bind(local(0))?;
    let address = listener.local_addr()?;
    let handler = Arc::new(handler);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = Arc::clone(&handler);
            std::thread::spawn(move || handler(&mut BufReader::new(stream)));
        }
    });
    Ok(address)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut listens = shared.listens.subscribe();
    loop {
        tokio::select! {
            _ = listens.wait_for(|listens| !listens) => break,
            accepted = listener.accept() => {
                let Ok((connection, _)) = accepted else { break };
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // The error is ignored: the other side detects the broken connection, and tests check its reaction.
                    let _ = match shared.options.protocol {
                        Protocol::Http1 => serve_http1(connection, &shared).await,
                        Protocol::Http2 => serve_http2(connection, &shared).await,
                    };
                });
            }
        }
    }
    // The listener is closed before `Shared::next` is notified, because the receiver is dropped last.
    drop(listener);
    drop(listens);
}

async fn serve_http1(connection: TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut connection = AsyncBufReader::new(connection);
    while let Some(head) = http1::read_head(&mut connection).await? {
        if shared.options.answers_probes && head.values("user-agent") == [PROBE] {
            connection.write_all(PROBE_RESPONSE).await?;
            connection.flush().await?;
            continue;
        }
        let index = shared.record(received(&head));
        let body = http1::read_body(&mut connection, &head, Kind::Request).await;
        shared.update(index, |received| {
            received.request.body = body.text();
            received.request.trailers = lower_case(http1::fields(&body.trailers));
            received.is_complete = body.is_complete;
        });
        match shared.next().await {
            ScriptedResponse::Close | ScriptedResponse::Refuse => return Ok(()),
            ScriptedResponse::Silence => {
                let mut further = Vec::new();
                connection.read_to_end(&mut further).await?;
                return Ok(());
            }
            ScriptedResponse::Respond(delay, response) => {
                tokio::time::sleep(delay).await;
                let bytes = response_bytes(&response, head.word(0));
                connection.write_all(&bytes).await?;
                connection.flush().await?;
            }
        }
        if shared.options.closes_connections {
            return Ok(());
        }
    }
    Ok(())
}

fn response_bytes(response: &ResponseMessage, method: &str) -> Vec<u8> {
    let ResponseMessage {
        status,
        headers,
        content,
    } = response;
    let start = format!("HTTP/1.1 {status} Status");
    let bodiless = Content::default();
    let (content, kind) = if method == "HEAD" {
        (content, Kind::Bodiless)
    } else if matches!(status, 100..200 | 204 | 304) {
        // Like a request, such a response has no length.
        (&bodiless, Kind::Request)
    } else {
        (content, Kind::Response)
    };
    http1::pieces(&start, headers, content, kind).concat()
}

fn received(head: &Head) -> UpstreamRequest {
    let mut headers = lower_case(head.fields());
    let host = headers
        .iter()
        .find(|(name, _)| name == "host")
        .map(|(_, host)| host.clone());
    headers.retain(|(name, _)| name != "host");
    UpstreamRequest {
        method: head.word(0).to_owned(),
        target: head.word(1).to_owned(),
        host,
        headers,
        body: String::new(),
        trailers: Vec::new(),
    }
}

fn lower_case<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Field> {
    fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect()
}

async fn serve_http2(connection: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    // Declared first, so that the connection is closed before the request that closes it is notified.
    let (close, mut closed) = watch::channel(false);
    let mut connection = h2::server::handshake(connection)
        .await
        .map_err(io::Error::other)?;
    loop {
        tokio::select! {
            _ = closed.wait_for(|close| *close) => return Ok(()),
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted.map_err(io::Error::other)?;
                let (shared, close) = (Arc::clone(shared), close.clone());
                tokio::spawn(async move {
                    let _ = serve_http2_request(request, respond, &shared, &close).await;
                });
            }
        }
    }
}

async fn serve_http2_request(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    shared: &Arc<Shared>,
    close: &watch::Sender<bool>,
) -> io::Result<()> {
    let (parts, body) = request.into_parts();
    let headers = from_http(&parts.headers);
    let is_grpc = headers
        .iter()
        .any(|(name, value)| name == "content-type" && value.starts_with("application/grpc"));
    let index = shared.record(UpstreamRequest {
        method: parts.method.as_str().to_owned(),
        target: parts
            .uri
            .path_and_query()
            .map_or("", |path| path.as_str())
            .to_owned(),
        host: parts
            .uri
            .authority()
            .map(|authority| authority.as_str().to_owned()),
        headers,
        body: String::new(),
        trailers: Vec::new(),
    });
    let reading = tokio::spawn(read_http2(body, index, Arc::clone(shared)));
    // A gRPC stream may stay open on the filter's side until it has its response.
    if !is_grpc {
        reading.await?;
    }
    match shared.next().await {
        ScriptedResponse::Close | ScriptedResponse::Refuse => {
            close.send_replace(true);
            // Dropping the stream earlier would only reset the stream.
            close.closed().await;
        }
        ScriptedResponse::Silence => {
            std::future::poll_fn(|context| respond.poll_reset(context))
                .await
                .map_err(io::Error::other)?;
        }
        ScriptedResponse::Respond(delay, response) => {
            tokio::time::sleep(delay).await;
            let ResponseMessage {
                status,
                headers,
                content,
            } = response;
            let is_headers_only = content.frames.is_empty() && content.trailers.is_empty();
            let mut head = http::Response::new(());
            *head.status_mut() = http::StatusCode::from_u16(status).map_err(io::Error::other)?;
            *head.headers_mut() = to_http(&headers)?;
            let mut sender = respond
                .send_response(head, is_headers_only)
                .map_err(io::Error::other)?;
            send_http2(&mut sender, &content)?;
        }
    }
    Ok(())
}

/// Sends frames unchanged, and then trailers.
pub(crate) fn send_http2(sender: &mut h2::SendStream<Bytes>, content: &Content) -> io::Result<()> {
    let has_trailers = !content.trailers.is_empty();
    let last = content.frames.len();
    for (number, frame) in content.frames.iter().enumerate() {
        let ends = number + 1 == last && !has_trailers;
        sender
            .send_data(Bytes::from(frame.clone()), ends)
            .map_err(io::Error::other)?;
    }
    if has_trailers {
        sender
            .send_trailers(to_http(&content.trailers)?)
            .map_err(io::Error::other)?;
    }
    Ok(())
}

async fn read_http2(mut body: h2::RecvStream, index: usize, shared: Arc<Shared>) {
    while let Some(Ok(frame)) = body.data().await {
        // A stream that has ended needs no window.
        let _ = body.flow_control().release_capacity(frame.len());
        shared.update(index, |received| {
            received.request.body.push_str(&latin1::text(&frame));
        });
    }
    let Ok(trailers) = body.trailers().await else {
        return;
    };
    shared.update(index, |received| {
        received.request.trailers = from_http(&trailers.unwrap_or_default());
        received.is_complete = true;
    });
}

/// Turns field lines into a header map for the HTTP/2 library.
pub(crate) fn to_http(fields: &[Field]) -> io::Result<http::HeaderMap> {
    let mut map = http::HeaderMap::new();
    for (name, value) in fields {
        map.append(
            http::HeaderName::from_bytes(&latin1::bytes(name)).map_err(io::Error::other)?,
            http::HeaderValue::from_bytes(&latin1::bytes(value)).map_err(io::Error::other)?,
        );
    }
    Ok(map)
}

/// Turns a header map of the HTTP/2 library into field lines.
pub(crate) fn from_http(headers: &http::HeaderMap) -> Vec<Field> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), latin1::text(value.as_bytes())))
        .collect()
}

/// Binds a socket. Another one may have the same port, so that it stays reserved while nothing listens.
fn socket(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(local(port))?;
    Ok(socket)
}

/// A thread for all upstreams, so that tests and tools can block.
pub(crate) static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system has resources for a runtime");
        let _ = send.send(runtime.handle().clone());
        runtime.block_on(std::future::pending::<()>());
    });
    receive.recv().expect("the thread sends its handle")
});

const BACKLOG: u32 = 64;

/// The user agent of the gateway's health checks.
const PROBE: &str = "fluxlit-gateway-probe";

const PROBE_RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
