//! Serves an app that shows what it has received, in place of Streamlit.
//!
//! | path | response |
//! | --- | --- |
//! | `/_stcore/health` | `ok` |
//! | `/_stcore/stream` | accepts a WebSocket, and repeats each short message |
//! | `/received` | the request as it arrived: request line and fields |
//! | `/login` | a redirect to `/next`, and a cookie with `Path=/` |
//! | `/upload` | the length of the request's body |
//! | other | a page |

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use fluxlit_support::http1::{self, Head, Kind};
use fluxlit_support::upstream::serve;
use sha1::{Digest as _, Sha1};

/// Starts the app on a free port; it runs as long as the process.
///
/// # Panics
///
/// If no port is free.
pub fn start() -> SocketAddr {
    serve(|stream| {
        // The error is ignored: the other side sees the broken connection, and tests check its reaction.
        let _ = connection(stream);
    })
    .expect("a free port")
}

fn connection(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    while let Some(head) = http1::read_head_blocking(stream)? {
        let target = head.word(1).to_owned();
        let path = target.split('?').next().unwrap_or_default();
        if path == "/_stcore/stream" && !head.values("upgrade").is_empty() {
            return socket(stream, &head);
        }
        if !head.values("expect").is_empty() {
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = http1::read_body_blocking(stream, &head, Kind::Request);
        let (extra, text) = match path {
            "/_stcore/health" => ("", "ok".to_owned()),
            "/login" => (
                "location: /next\r\nset-cookie: session=1; Path=/\r\n",
                String::new(),
            ),
            "/upload" => ("", body.bytes.len().to_string()),
            path if path.ends_with("/received") => ("", head.lines.join("\n")),
            _ => ("", "<title>the page of the app</title>".to_owned()),
        };
        let status = if path == "/login" {
            "302 Found"
        } else {
            "200 OK"
        };
        let response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/html\r\n{extra}content-length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.get_mut().write_all(response.as_bytes())?;
    }
    Ok(())
}

/// Accepts a WebSocket and repeats its messages, which are shorter than 126 bytes, RFC 6455 §5.2.
fn socket(stream: &mut BufReader<TcpStream>, head: &Head) -> std::io::Result<()> {
    use base64::Engine as _;
    let key = head.values("sec-websocket-key").concat();
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.get_mut().write_all(response.as_bytes())?;
    loop {
        let mut start = [0; 6];
        stream.read_exact(&mut start)?;
        let [first, length, mask @ ..] = start;
        let mut payload = vec![0; usize::from(length & 0x7f)];
        stream.read_exact(&mut payload)?;
        for (octet, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *octet ^= mask;
        }
        let mut frame = vec![first, length & 0x7f];
        frame.extend(payload);
        stream.get_mut().write_all(&frame)?;
    }
}
