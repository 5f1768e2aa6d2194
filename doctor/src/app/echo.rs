//! Plays an upstream that remembers the requests it receives, for the self-tests.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The upstream; it ends with this value.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Head>>>,
    task: JoinHandle<()>,
}

/// The head of a request, as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes
            .split(|octet| *octet == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = String::from_utf8_lossy(lines.next()?).into_owned();
        let headers = lines.filter_map(|line| {
            let colon = line.iter().position(|octet| *octet == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            Some((
                String::from_utf8_lossy(name).into_owned(),
                value.get(1..)?.trim_ascii().to_vec(),
            ))
        });
        Some(Self {
            target: start.split(' ').nth(1)?.to_owned(),
            headers: headers.collect(),
        })
    }

    /// Returns true if a field of this name arrived.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
    }
}

impl Echo {
    /// Starts the upstream on a free port. `headers` are added to each response.
    pub(crate) async fn start(headers: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let remembered = Arc::clone(&remembered);
                tokio::spawn(async move {
                    // A client that disconnects is none of our business.
                    let _ = serve(stream, &remembered, headers).await;
                });
            }
        });
        Ok(Self {
            address,
            received,
            task,
        })
    }

    /// Returns the requests that have arrived, health checks left out, and forgets them.
    pub(crate) fn take(&self) -> Vec<Head> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    received: &Mutex<Vec<Head>>,
    headers: &str,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(start) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break start.saturating_add(4);
            }
            if buffer.len() > MAX_HEAD || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let Some(head) = Head::parse(&head) else {
            return Ok(());
        };
        if head.target.ends_with("/_stcore/health") {
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
                )
                .await?;
            continue;
        }
        let is_upgrade = head.has("upgrade");
        received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(head);
        if is_upgrade {
            // The accept value of the key in RFC 6455 1.3, which the handshakes of the checks use.
            stream
                .write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                )
                .await?;
            // The socket stays open until the other side closes it.
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await? > 0 {}
            return Ok(());
        }
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{headers}Content-Length: 2\r\n\r\nok"
        );
        stream.write_all(response.as_bytes()).await?;
    }
}

const MAX_HEAD: usize = 256 * 1024;
