//! Asks a real page which client address it sees (D10).

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::app::instance::Instance;
use crate::app::subject::{Depth, Subject};
use crate::client::{Frame, PROTOCOL};
use crate::outcome::Outcome;
use crate::wire::{Connection, LIMIT, exchange, handshake, request};

/// D10, with `--page`: starts a Streamlit page on a spare port, behind a second gateway that trusts this machine, and opens a
/// session as a client at an example address.
pub(crate) async fn client_address(subject: &Subject, depth: Depth, outcome: &mut Outcome) {
    if !depth.page {
        return outcome.skip("it starts a Streamlit page; use --page");
    }
    match ask(subject).await {
        Ok(seen) if seen == CLIENT => outcome.right(format!("st.context.ip_address is the client's address ({CLIENT})")),
        Ok(seen) => outcome.fail(
            format!("st.context.ip_address is {seen}, expected {CLIENT}"),
            "Streamlit does not believe the gateway: FORWARDED_ALLOW_IPS in its environment must contain the address from which \
             the gateway connects, 127.0.0.1 on one machine",
        ),
        Err(error) => outcome.skip(format!("the page cannot be asked: {error}")),
    }
}

async fn ask(subject: &Subject) -> io::Result<String> {
    let page = Page::start(&subject.streamlit_command, &subject.base).await?;
    let trusting = [
        ("FLUXLIT_TRUST_PROXY", "true"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
    ];
    let mut plain = subject.clone();
    plain
        .settings
        .retain(|(name, _)| !OTHER_TRUST.contains(&name.as_str()));
    let gateway = Instance::in_front_of(&plain, page.address, &trusting).await?;
    let target = format!("{}/_stcore/stream", subject.mount);
    let headers = [
        ("Sec-WebSocket-Protocol", PROTOCOL),
        ("X-Forwarded-For", CLIENT),
    ];
    let handshake = handshake(&target, &subject.public_authority(), &headers);
    let mut socket = Connection::open_websocket(gateway.address, &handshake).await?;
    socket.send(&Frame::of_client(BINARY, &RERUN)).await?;
    while let Some(frame) = socket.frame(LIMIT).await? {
        if let Some(seen) = between(&frame.payload, START, END) {
            return Ok(seen);
        }
    }
    Err(io::Error::other(
        "the session ended before the page was shown",
    ))
}

/// A Streamlit page in a folder of its own; both end with this value.
struct Page {
    child: Child,
    folder: PathBuf,
    address: std::net::SocketAddr,
}

impl Page {
    async fn start(command: &str, base: &str) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("fluxlit-doctor-{}", Uuid::new_v4()));
        std::fs::create_dir(&folder)?;
        let started = Self::start_in(&folder, command, base).await;
        if started.is_err() {
            let _ = std::fs::remove_dir_all(&folder);
        }
        started
    }

    async fn start_in(folder: &Path, command: &str, base: &str) -> io::Result<Self> {
        let script = folder.join("page.py");
        std::fs::write(
            &script,
            format!(
                "import streamlit as st\nst.write('{START}' + str(st.context.ip_address) + '{END}')\n"
            ),
        )?;
        // Streamlit cannot take a free port itself, so another process may take this one first: then the next is tried.
        for _ in 0..ATTEMPTS {
            let port = std::net::TcpListener::bind("127.0.0.1:0")?
                .local_addr()?
                .port();
            let mut child = Command::new(command)
                .arg("run")
                .arg(&script)
                .args(["--server.address", "127.0.0.1", "--server.headless", "true"])
                .args([
                    "--browser.gatherUsageStats",
                    "false",
                    "--server.fileWatcherType",
                    "none",
                ])
                .args([
                    "--server.port",
                    &port.to_string(),
                    "--server.baseUrlPath",
                    base,
                ])
                .current_dir(folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            if is_ready(&mut child, address, base).await? {
                return Ok(Self {
                    child,
                    folder: folder.to_owned(),
                    address,
                });
            }
        }
        Err(io::Error::other("Streamlit does not start"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Waits until the page is served; false if its process ends before.
async fn is_ready(
    child: &mut Child,
    address: std::net::SocketAddr,
    base: &str,
) -> io::Result<bool> {
    let target = format!("{base}/_stcore/health");
    let limit = tokio::time::Instant::now() + LIMIT * 2;
    loop {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        let reply = exchange(
            address,
            None,
            &request("GET", &target, &address.to_string(), &[]),
        )
        .await;
        if reply.is_ok_and(|reply| crate::app::streamlit::is_ok(&reply)) {
            return Ok(true);
        }
        if tokio::time::Instant::now() > limit {
            return Err(io::Error::other("Streamlit does not become ready"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Returns the text between two marks.
fn between(bytes: &[u8], start: &str, end: &str) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once(start)?;
    let (found, _) = rest.split_once(end)?;
    Some(found.to_owned())
}

/// The address of the client: one of those for documentation (RFC 5737).
const CLIENT: &str = "203.0.113.7";

/// `BackMsg { rerun_script: ClientState {} }` of Streamlit's protocol: field 11 with an empty message.
const RERUN: [u8; 2] = [0x5a, 0x00];
const BINARY: u8 = 2;

const START: &str = "fluxlit-doctor-address[";
const END: &str = "]";
const ATTEMPTS: usize = 3;

/// Settings that exclude the list of trusted peers that this check sets.
const OTHER_TRUST: [&str; 4] = [
    "FLUXLIT_TRUSTED_HOPS",
    "FLUXLIT_TRUST_ANY_PEER",
    "FLUXLIT_CLIENT_IP_HEADER",
    "FLUXLIT_FORWARDED_SOURCE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_message() {
        let message = [&b"\x0a\xff"[..], b"fluxlit-doctor-address[203.0.113.7]\x00"].concat();
        assert_eq!(
            between(&message, START, END).as_deref(),
            Some("203.0.113.7")
        );
        assert_eq!(between(b"fluxlit-doctor-address[", START, END), None);
    }
}
