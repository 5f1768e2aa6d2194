//! Sends requests as a polite client: slowly, with time limits, and saying who it is.
//!
//! HTTP/1.1 is written and read as bytes, because the faults to find are in what libraries correct: repeated fields, silence, an
//! upgrade that is lost. A check also announces an upload and sends none, and takes the interim response 100 as the answer; and a
//! response that ends early is returned as far as it has arrived. hyper hides the first and makes an error of the second. At most one request is open at a time, except where a check says that it holds a WebSocket.

mod credentials;
mod frame;
mod message;
mod site;
mod tls;
mod user_agent;
mod websocket;

pub use credentials::{Credentials, CredentialsError};
pub use message::Response;
pub use site::{ConnectTo, ConnectToError, Site, SiteError};
pub use tls::{CaFileError, Tls, TlsFault};

pub(crate) use frame::{BINARY, Frame};
pub(crate) use message::{Framing, has_last_chunk, hash, without_chunks};
pub(crate) use tls::{PeerCertificates, connect_unverified};
use user_agent::DOCTOR;
pub(crate) use user_agent::UserAgent;
pub(crate) use websocket::{Ended, PROTOCOL, WebSocket};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The name has no address.
    #[error("the name cannot be resolved: {0}")]
    Resolve(String),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// TLS.
    #[error("TLS fails: {1}")]
    Tls(TlsFault, String),
    /// Nothing arrived within the time limit.
    #[error("no answer within {0} s")]
    Silent(u64),
    /// The connection ended before a response.
    #[error("the connection is closed without an answer")]
    Closed,
    /// What arrived is no HTTP/1.1.
    #[error("the answer is not HTTP/1.1")]
    Malformed,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    /// The `Host`, if it is not that of the site.
    pub(crate) host: Option<String>,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// Without the cookies and fields of the user.
    pub(crate) is_anonymous: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) is_handshake: bool,
    /// How long to wait for the response.
    pub(crate) limit: Duration,
    /// The answers to it are limited in number by design, so 429 says nothing about other requests.
    pub(crate) is_rationed: bool,
    /// Another one than that of the other requests.
    pub(crate) user_agent: Option<UserAgent>,
}

/// Requests that were refused, see [`is_refusal`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals {
    pub(crate) count: usize,
    /// The last one, with the status.
    pub(crate) last: Option<(Ask, u16)>,
}

/// A stream with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that is read message by message.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    /// What was read and not consumed.
    pending: Vec<u8>,
}

/// Sends requests to one site.
pub(crate) struct Client {
    pub(crate) site: Site,
    credentials: Credentials,
    tls: Tls,
    /// The addresses of the site; the first one is used.
    addresses: Vec<SocketAddr>,
    /// When the next request may be sent.
    next: Arc<Mutex<Instant>>,
    /// Cookies that the site has set, such as those for affinity.
    jar: Mutex<BTreeMap<String, String>>,
    /// Shared by the clients for one host.
    refusals: Arc<Mutex<Refusals>>,
    /// That of each request that has no other, shared by all clients of a run.
    user_agent: Arc<Mutex<UserAgent>>,
}

impl Ask {
    pub(crate) fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            host: None,
            fields: Vec::new(),
            is_anonymous: false,
            body: Vec::new(),
            is_handshake: false,
            limit: LIMIT,
            is_rationed: false,
            user_agent: None,
        }
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    /// A WebSocket handshake without an `Origin`.
    pub(crate) fn handshake(target: impl Into<String>) -> Self {
        let mut ask = Self::get(target);
        ask.is_handshake = true;
        ask
    }

    pub(crate) fn field(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.is_anonymous = true;
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sends this User-Agent instead of that of the other requests.
    pub(crate) fn user_agent(mut self, user_agent: UserAgent) -> Self {
        self.user_agent = Some(user_agent);
        self
    }

    pub(crate) fn rationed(mut self) -> Self {
        self.is_rationed = true;
        self
    }
}

impl Client {
    /// Resolves the site.
    ///
    /// # Errors
    ///
    /// If it has no address.
    pub(crate) async fn new(
        site: Site,
        credentials: Credentials,
        tls: Tls,
    ) -> Result<Self, Failure> {
        let addresses = resolve(&site, site.port).await?;
        Ok(Self {
            credentials: credentials.for_site(&site),
            site,
            tls,
            addresses,
            next: Arc::new(Mutex::new(Instant::now())),
            jar: Mutex::default(),
            refusals: Arc::default(),
            user_agent: Arc::default(),
        })
    }

    /// Returns a client for another site with the same pace. The credentials are sent only to the same host.
    pub(crate) async fn for_site(&self, site: Site) -> Result<Self, Failure> {
        let credentials = if site.host == self.site.host {
            self.credentials.clone()
        } else {
            Credentials::default()
        };
        let mut other = Self::new(site, credentials, self.tls.clone()).await?;
        other.next = Arc::clone(&self.next);
        other.user_agent = Arc::clone(&self.user_agent);
        if other.site.host == self.site.host {
            other.refusals = Arc::clone(&self.refusals);
        }
        Ok(other)
    }

    /// Returns a client that connects to this address only.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self {
            site: self.site.clone(),
            credentials: self.credentials.clone(),
            tls: self.tls.clone(),
            addresses: vec![address],
            next: Arc::clone(&self.next),
            jar: Mutex::default(),
            refusals: Arc::clone(&self.refusals),
            user_agent: Arc::clone(&self.user_agent),
        }
    }

    /// Returns the User-Agent of each request that has no other.
    pub(crate) fn user_agent(&self) -> UserAgent {
        *self
            .user_agent
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sends another User-Agent from now on.
    pub(crate) fn set_user_agent(&self, user_agent: UserAgent) {
        *self
            .user_agent
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = user_agent;
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns how many cookies of this name the user has given.
    pub(crate) fn given_cookies(&self, name: &str) -> usize {
        let cookies = self.credentials.cookies();
        cookies.filter(|(other, _)| *other == name).count()
    }

    pub(crate) fn has_credentials(&self) -> bool {
        !self.credentials.is_empty()
    }

    /// Sends a request on a new connection and reads the response.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Response, Failure> {
        let mut connection = self.connect().await?;
        let response = self.send_on(&mut connection, ask).await?;
        connection.close().await;
        Ok(response)
    }

    /// Requests a path with GET.
    pub(crate) async fn get(&self, target: impl Into<String>) -> Result<Response, Failure> {
        self.send(&Ask::get(target)).await
    }

    /// Sends a request and reads the response, except for the body of an upgrade.
    pub(crate) async fn send_on(
        &self,
        connection: &mut Connection,
        ask: &Ask,
    ) -> Result<Response, Failure> {
        self.pace().await;
        connection.write(&self.bytes(ask)).await?;
        let response = connection.response(ask.method, ask.limit).await?;
        if !ask.is_anonymous {
            self.remember(&response);
        }
        if is_refusal(response.status) && !ask.is_rationed {
            let mut refusals = self
                .refusals
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            refusals.count = refusals.count.saturating_add(1);
            refusals.last = Some((ask.clone(), response.status));
        }
        Ok(response)
    }

    /// Returns which requests were refused so far.
    pub(crate) fn refusals(&self) -> Refusals {
        self.refusals
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Leaves the last refusal out, because its cause is known.
    pub(crate) fn forget_last_refusal(&self) {
        let mut refusals = self
            .refusals
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        refusals.count = refusals.count.saturating_sub(1);
    }

    /// Opens a WebSocket; the response says whether it was accepted.
    pub(crate) async fn open(&self, ask: &Ask) -> Result<(Response, WebSocket), Failure> {
        let mut connection = self.connect().await?;
        let response = self.send_on(&mut connection, ask).await?;
        Ok((response, WebSocket::new(connection)))
    }

    /// Connects, with TLS if the site has it.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        Ok(self.connect_with(&[b"http/1.1"]).await?.0)
    }

    /// Connects and offers these protocols (ALPN).
    pub(crate) async fn connect_with(
        &self,
        protocols: &[&[u8]],
    ) -> Result<(Connection, Option<PeerCertificates>), Failure> {
        self.pace().await;
        let mut last = Failure::Resolve("it has no address".to_owned());
        for address in &self.addresses {
            let connecting = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
            let stream = match connecting {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    last = Failure::Connect(format!("{address}: {error}"));
                    continue;
                }
                Err(_) => {
                    last = Failure::Connect(format!("{address}: no answer within 10 s"));
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            if !self.site.is_tls {
                return Ok((Connection::new(stream), None));
            }
            let (stream, peer) = timeout(
                CONNECT_LIMIT,
                self.tls.connect(&self.site, stream, protocols),
            )
            .await
            .unwrap_or_else(|_| {
                let text = "no answer within 10 s".to_owned();
                Err(Failure::Tls(TlsFault::Other, text))
            })?;
            return Ok((Connection::new(stream), Some(peer)));
        }
        Err(last)
    }

    /// Waits until the next request may be sent.
    pub(crate) async fn pace(&self) {
        let now = Instant::now();
        let at = {
            let mut next = self
                .next
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let at = (*next).max(now);
            *next = at + INTERVAL;
            at
        };
        sleep_until(at).await;
    }

    /// Returns the value of a cookie that the site has set.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let jar = self
            .jar
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        jar.get(name).cloned()
    }

    fn remember(&self, response: &Response) {
        let mut jar = self
            .jar
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for line in response.lines("set-cookie") {
            let pair = line.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                jar.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }

    /// Returns all cookies to send: those of the user take precedence.
    pub(crate) fn cookie_line(&self) -> String {
        let jar = self
            .jar
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let learned = jar
            .iter()
            .filter(|(name, _)| self.given_cookies(name) == 0)
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let own = self.credentials.cookies();
        let pairs = own
            .chain(learned)
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    fn bytes(&self, ask: &Ask) -> Vec<u8> {
        let authority = self.site.authority();
        let host = ask.host.as_deref().unwrap_or(&authority);
        let user_agent = ask.user_agent.unwrap_or_else(|| self.user_agent());
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {}\r\n",
            ask.method,
            ask.target,
            user_agent.text()
        )
        .into_bytes();
        let mut add = |name: &str, value: &[u8]| {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        };
        let has = |wanted: &str| {
            ask.fields
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        if user_agent == UserAgent::Hidden {
            add(DOCTOR, env!("CARGO_PKG_VERSION").as_bytes());
        }
        if ask.is_handshake {
            add("Connection", b"Upgrade");
            add("Upgrade", b"websocket");
            add("Sec-WebSocket-Version", b"13");
            // The example of RFC 6455: nothing depends on its value.
            add("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==");
            if !has("sec-websocket-protocol") {
                add("Sec-WebSocket-Protocol", PROTOCOL.as_bytes());
            }
        } else {
            add("Connection", b"close");
        }
        if !has("accept") {
            add("Accept", b"*/*");
        }
        if !ask.is_anonymous {
            for (name, value) in self.credentials.fields() {
                add(name, value.as_bytes());
            }
            let cookies = self.cookie_line();
            if !cookies.is_empty() && !has("cookie") {
                add("Cookie", cookies.as_bytes());
            }
        }
        if !ask.body.is_empty() && !has("content-length") {
            add("Content-Length", ask.body.len().to_string().as_bytes());
        }
        for (name, value) in &ask.fields {
            add(name, value);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&ask.body);
        bytes
    }
}

/// Returns true for the statuses with which a hop refuses a request, whatever it asks for: it limits their rate, or does not
/// reach the app.
pub(crate) fn is_refusal(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
}

impl Connection {
    fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            pending: Vec::new(),
        }
    }

    /// Returns the stream itself.
    pub(crate) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(LIMIT, writing).await {
            // The server may have responded and closed while the request was being sent.
            Ok(Ok(()) | Err(_)) => Ok(()),
            Err(_) => Err(Failure::Silent(LIMIT.as_secs())),
        }
    }

    /// Reads more bytes; false at the end of the connection.
    async fn read(&mut self, until: Instant, limit: Duration) -> Result<bool, Failure> {
        let mut buffer = [0; 16 * 1024];
        match tokio::time::timeout_at(until, self.stream.read(&mut buffer)).await {
            Err(_) => Err(Failure::Silent(limit.as_secs())),
            Ok(Ok(0) | Err(_)) => Ok(false),
            Ok(Ok(read)) => {
                self.pending
                    .extend_from_slice(buffer.get(..read).unwrap_or_default());
                Ok(true)
            }
        }
    }

    /// Reads the final response. An interim response 100 is returned as it is, because the rest may never come.
    pub(crate) async fn response(
        &mut self,
        method: &str,
        limit: Duration,
    ) -> Result<Response, Failure> {
        let until = Instant::now() + limit;
        loop {
            let mut response = self.head(until, limit).await?;
            if response.status == 103 {
                continue;
            }
            response.body = self.body(response.framing(method), until, limit).await?;
            return Ok(response);
        }
    }

    /// Reads a head.
    pub(crate) async fn head(
        &mut self,
        until: Instant,
        limit: Duration,
    ) -> Result<Response, Failure> {
        loop {
            if let Some(end) = self.pending.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.pending.split_off(end.saturating_add(4));
                let head = std::mem::replace(&mut self.pending, rest);
                return Response::parse(&head).ok_or(Failure::Malformed);
            }
            if self.pending.len() > MAX_HEAD {
                return Err(Failure::Malformed);
            }
            if !self.read(until, limit).await? {
                return Err(if self.pending.is_empty() {
                    Failure::Closed
                } else {
                    Failure::Malformed
                });
            }
        }
    }

    async fn body(
        &mut self,
        framing: Framing,
        until: Instant,
        limit: Duration,
    ) -> Result<Vec<u8>, Failure> {
        loop {
            let is_complete = match framing {
                Framing::None => return Ok(Vec::new()),
                Framing::Length(length) => self.pending.len() >= length,
                Framing::Chunked => has_last_chunk(&self.pending),
                Framing::UntilClosed => false,
            };
            if is_complete || self.pending.len() > MAX_BODY || !self.read(until, limit).await? {
                break;
            }
        }
        let mut body = std::mem::take(&mut self.pending);
        if framing == Framing::Chunked {
            body = without_chunks(&body);
        }
        if let Framing::Length(length) = framing {
            body.truncate(length);
        }
        Ok(body)
    }

    /// Reads until the connection ends.
    pub(crate) async fn drain(&mut self, until: Instant, limit: Duration) -> Result<(), Failure> {
        while self.read(until, limit).await? {
            self.pending.clear();
        }
        Ok(())
    }

    async fn close(mut self) {
        let _ = timeout(Duration::from_secs(1), self.stream.shutdown()).await;
    }
}

/// Returns the addresses of a site, those of the first family first.
async fn resolve(site: &Site, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let given = site.addresses_for(port);
    if !given.is_empty() {
        return Ok(given);
    }
    if let Some(address) = site.address() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((site.host.to_string(), port))
        .await
        .map_err(|error| Failure::Resolve(error.to_string()))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(Failure::Resolve("it has no address".to_owned()));
    }
    Ok(addresses)
}

/// At most 20 requests and connections a second.
const INTERVAL: Duration = Duration::from_millis(50);

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The time limit of a response.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

const MAX_HEAD: usize = 128 * 1024;
const MAX_BODY: usize = 16 * 1024 * 1024;
