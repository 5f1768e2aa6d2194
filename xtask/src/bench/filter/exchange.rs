//! What is asked through Envoy, and what does the upstream behind it answer?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::bench::{BROWSER, local};

pub(super) fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(connection)
}

/// Reads one answer that says its length.
pub(super) fn read_answer(connection: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    let mut chunk = [0; 4096];
    while !is_whole(answer) {
        let length = connection.read(&mut chunk).context("no answer")?;
        ensure!(length > 0, "Envoy closed the connection");
        answer.extend_from_slice(&chunk[..length]);
    }
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("not served: {}", String::from_utf8_lossy(answer));
    }
    Ok(())
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        head.lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .is_some_and(|length: usize| body.len() >= length)
    })
}

/// Answers requests on a free port for as long as this process lives.
pub(super) fn serve_upstream() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(local(0)).context("no free port for the upstream")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // Envoy ends the connection when it ends.
                let _ = answer_all(stream);
            });
        }
    });
    Ok(address)
}

/// Answers each request alike, or with the request itself if it asks for that.
fn answer_all(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let usual = response("ok");
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..length]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&request);
        if text.lines().any(|line| line == ECHO.trim_end()) {
            stream.write_all(response(&text).as_bytes())?;
        } else {
            stream.write_all(usual.as_bytes())?;
        }
        request.clear();
    }
}

/// What a browser sends, and two forged fields; with `more` behind.
pub(super) fn request(more: &str) -> String {
    let mut fields = vec!["GET /apps/my-app/_stcore/stream?x=1 HTTP/1.1"];
    fields.extend(BROWSER);
    fields.extend(["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"]);
    format!("{}\r\n{more}\r\n", fields.join("\r\n"))
}

/// What an app answers that does not know its mount.
fn response(body: &str) -> String {
    let fields = [
        "HTTP/1.1 200 OK".to_owned(),
        "Content-Type: text/plain".to_owned(),
        "Cache-Control: no-cache".to_owned(),
        "Location: /login?next=1".to_owned(),
        "Set-Cookie: _streamlit_xsrf=2|7586241e|47c8c1d6a2|1700000000; Path=/; SameSite=Lax"
            .to_owned(),
        "Set-Cookie: session=0123456789abcdef; HttpOnly; Path=/files".to_owned(),
        format!("Content-Length: {}", body.len()),
    ];
    format!("{}\r\n\r\n{body}", fields.join("\r\n"))
}

/// A field that makes the upstream answer with the request it got.
pub(super) const ECHO: &str = "x-bench: echo\r\n";

/// How long anything that is asked may take.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
