//! How does an upstream answer by a script, and what has it received?
//!
//! A real server on loopback. Each request takes the next reaction of the script, the last of which stays. A reaction
//! that refuses closes the listener before the answer to the request before it goes out, so that the next connection
//! meets nobody.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use host_test::HeaderMap;
use host_test::event::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::content::{add_http, to_http};
use super::script::{Reaction, Response};
use super::wire::{self, Kind};

/// What an upstream speaks; Envoy is told, so nothing is guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A running upstream.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    shared: Arc<Shared>,
    /// Keeps the port while nobody listens.
    _reserved: TcpSocket,
}

struct Shared {
    protocol: Protocol,
    state: Mutex<State>,
    /// Whether connections are taken.
    listens: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    script: Vec<Reaction>,
    /// How many requests have taken a reaction.
    asked: usize,
    received: Vec<Message>,
}

impl Upstream {
    /// Takes a port, and listens unless the script begins with a refusal. Runs on the current runtime.
    pub(super) async fn start(protocol: Protocol, script: Vec<Reaction>) -> io::Result<Self> {
        let reserved = socket(0)?;
        let address = reserved.local_addr()?;
        let refuses = script.first().is_some_and(Reaction::is_refusal);
        let shared = Arc::new(Shared {
            protocol,
            state: Mutex::new(State {
                script,
                ..State::default()
            }),
            listens: watch::Sender::new(!refuses),
        });
        if !refuses {
            let listener = socket(address.port())?.listen(BACKLOG)?;
            tokio::spawn(accept(listener, Arc::clone(&shared)));
        }
        Ok(Self {
            address,
            protocol,
            shared,
            _reserved: reserved,
        })
    }

    /// Begins another script, and forgets what was received.
    pub(super) fn follow(&self, script: Vec<Reaction>) {
        *self.shared.state() = State {
            script,
            ..State::default()
        };
    }

    /// What has been received so far, in order; what is on its way is incomplete.
    pub(super) fn received(&self) -> Vec<Message> {
        self.shared.state().received.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a request down; returns its number.
    fn note(&self, headers: HeaderMap) -> usize {
        let mut state = self.state();
        state.received.push(Message {
            headers,
            ..Message::default()
        });
        state.received.len() - 1
    }

    fn update(&self, number: usize, change: impl FnOnce(&mut Message)) {
        if let Some(message) = self.state().received.get_mut(number) {
            change(message);
        }
    }

    /// The next reaction. If the one behind it refuses, nobody listens any more when this returns.
    async fn react(&self) -> Reaction {
        let (reaction, refuses_next) = {
            let mut state = self.state();
            let last = state.script.len().saturating_sub(1);
            let reaction = state.script.get(state.asked.min(last)).cloned();
            state.asked += 1;
            let next = state.script.get(state.asked.min(last));
            (reaction, next.is_some_and(Reaction::is_refusal))
        };
        if refuses_next {
            self.listens.send_replace(false);
            self.listens.closed().await;
        }
        // A service without a script never answers.
        reaction.unwrap_or(Reaction::Silence)
    }
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
                    // A connection that breaks is seen by Envoy, and what it does then is what is compared.
                    let _ = match shared.protocol {
                        Protocol::Http1 => serve_http1(connection, &shared).await,
                        Protocol::Http2 => serve_http2(connection, &shared).await,
                    };
                });
            }
        }
    }
    // The listener is closed before anybody is told so: what is dropped last is the receiver.
    drop(listener);
    drop(listens);
}

/// One request a connection: Envoy is configured to use it once.
async fn serve_http1(connection: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    let mut connection = BufReader::new(connection);
    let Some(head) = wire::read_head(&mut connection).await? else {
        return Ok(());
    };
    let (headers, method) = request_headers(&head);
    let number = shared.note(headers);
    let rest = wire::read_rest(&mut connection, &head.headers, Kind::Request).await;
    shared.update(number, |message| {
        message.body = rest.body;
        message.trailers = rest.trailers;
        message.is_complete = rest.is_complete;
    });
    match shared.react().await {
        Reaction::Close | Reaction::Refuse => {}
        Reaction::Silence => {
            let mut further = Vec::new();
            connection.read_to_end(&mut further).await?;
        }
        Reaction::Answer(delay, response) => {
            tokio::time::sleep(delay).await;
            let Response {
                status,
                headers,
                content,
            } = response;
            let is_bodiless = method == b"HEAD" || matches!(status, 100..200 | 204 | 304);
            let kind = if is_bodiless {
                Kind::Bodiless
            } else {
                Kind::Response
            };
            let start = format!("HTTP/1.1 {status} Status");
            let mut bytes = wire::pieces(start.as_bytes(), &headers, &content, kind).concat();
            if is_bodiless && method != b"HEAD" {
                bytes = wire::pieces(
                    start.as_bytes(),
                    &headers,
                    &Default::default(),
                    Kind::Request,
                )
                .concat();
            }
            connection.write_all(&bytes).await?;
            connection.flush().await?;
        }
    }
    Ok(())
}

/// The header map of a request, and its method.
fn request_headers(head: &wire::Head) -> (HeaderMap, Vec<u8>) {
    let mut parts = head.start.split(|byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    let mut headers = HeaderMap::default();
    headers.add(b":method", method);
    headers.add(b":path", target);
    for (name, value) in head.headers.iter() {
        headers.add(if name == b"host" { b":authority" } else { name }, value);
    }
    (headers, method.to_vec())
}

async fn serve_http2(connection: TcpStream, shared: &Arc<Shared>) -> anyhow::Result<()> {
    // Declared first, so that the connection is closed before the request that asked for it learns so.
    let (close, mut closed) = watch::channel(false);
    let mut connection = h2::server::handshake(connection).await?;
    loop {
        tokio::select! {
            _ = closed.wait_for(|close| *close) => return Ok(()),
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
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
) -> anyhow::Result<()> {
    let (parts, body) = request.into_parts();
    let mut headers = HeaderMap::default();
    headers.add(b":method", parts.method.as_str().as_bytes());
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    headers.add(b":path", path.as_bytes());
    if let Some(authority) = parts.uri.authority() {
        headers.add(b":authority", authority.as_str().as_bytes());
    }
    add_http(&mut headers, &parts.headers);
    let is_grpc = parts
        .headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let number = shared.note(headers);
    let reading = tokio::spawn(read_http2(body, number, Arc::clone(shared)));
    // A gRPC stream may stay open on the filter's side until it has its answer.
    if !is_grpc {
        reading.await?;
    }
    match shared.react().await {
        Reaction::Close | Reaction::Refuse => {
            close.send_replace(true);
            // What is let go of before that would be reset by itself.
            close.closed().await;
        }
        Reaction::Silence => {
            std::future::poll_fn(|context| respond.poll_reset(context)).await?;
        }
        Reaction::Answer(delay, response) => {
            tokio::time::sleep(delay).await;
            let Response {
                status,
                headers,
                content,
            } = response;
            let is_headers_only = content.frames.is_empty() && content.trailers.is_empty();
            let mut head = http::Response::new(());
            *head.status_mut() = http::StatusCode::from_u16(status)?;
            *head.headers_mut() = to_http(&headers)?;
            let mut sender = respond.send_response(head, is_headers_only)?;
            send_http2(&mut sender, &content)?;
        }
    }
    Ok(())
}

/// Sends frames as they are, and trailers.
pub(super) fn send_http2(
    sender: &mut h2::SendStream<Bytes>,
    content: &super::content::Content,
) -> anyhow::Result<()> {
    let has_trailers = !content.trailers.is_empty();
    let last = content.frames.len();
    for (number, frame) in content.frames.iter().enumerate() {
        let ends = number + 1 == last && !has_trailers;
        sender.send_data(Bytes::from(frame.clone()), ends)?;
    }
    if has_trailers {
        sender.send_trailers(to_http(&content.trailers)?)?;
    }
    Ok(())
}

async fn read_http2(mut body: h2::RecvStream, number: usize, shared: Arc<Shared>) {
    while let Some(Ok(frame)) = body.data().await {
        // The window is as large as what a case sends; a stream that is gone needs none.
        let _ = body.flow_control().release_capacity(frame.len());
        shared.update(number, |message| message.body.extend(frame));
    }
    let Ok(trailers) = body.trailers().await else {
        return;
    };
    shared.update(number, |message| {
        if let Some(trailers) = &trailers {
            add_http(&mut message.trailers, trailers);
        }
        message.is_complete = true;
    });
}

/// A bound socket. Another one may have the same port, so that it can be kept without being listened on.
fn socket(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket)
}

const BACKLOG: u32 = 64;
