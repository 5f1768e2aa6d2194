//! Accepts connections.
//!
//! All workers accept from one listening socket, so a connection goes to a worker that is awake, and none is lost when a
//! worker ends. With `SO_REUSEPORT` a second process may listen on the same address, so that the first can end once the
//! second is ready.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fluxlit_policy::Peer;
use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind as bind_socket, listen, socket_with,
};
use socket2::{SockFilter, SockRef};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::net::stream::Stream;
use crate::net::tcp::TcpSocket;
use crate::net::tls;
use crate::proxy::failure::Rejection;
use crate::proxy::in_flight::record_unparsed;
use crate::server::connection::{Accepted, OpenConnections};
use crate::server::http1::serve;
use crate::server::reject::{MalformedRequest, reject};
use crate::worker::Worker;

/// Opens a listening socket.
pub(crate) fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    set_socket_reuseaddr(&socket, true)?;
    if reuse_port {
        set_socket_reuseport(&socket, true)?;
    }
    bind_socket(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until the worker stops, and returns those that are still open.
pub(crate) async fn accept(
    listener: TcpListener,
    worker: &Rc<Worker>,
    mut draining: watch::Receiver<bool>,
) -> OpenConnections {
    let open = OpenConnections::default();
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a worker cannot listen");
            return open;
        }
    };
    loop {
        tokio::select! {
            biased;
            // First, or a stream of new connections would keep the gateway from stopping.
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => start(worker, &open, stream, peer),
                Err(error) => {
                    // Most often out of file descriptors: other connections must end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    worker.drain.raise();
    // Drop new SYNs but keep serving the accept queue: closing the socket would reset queued connections and those whose
    // handshake is in progress.
    if let Err(error) = drop_new_connections(&listener) {
        tracing::warn!(%error, "connections that are opened at this moment may be reset");
    }
    let mut handshakes = std::pin::pin!(sleep(HANDSHAKE_PATIENCE));
    loop {
        tokio::select! {
            biased;
            Ok((stream, peer)) = listener.accept() => start(worker, &open, stream, peer),
            () = &mut handshakes => return open,
        }
    }
}

/// Makes the kernel drop SYN packets and nothing else. The client retransmits after a second. By then the port is closed, or
/// another process has taken over.
fn drop_new_connections(listener: &tokio::net::TcpListener) -> io::Result<()> {
    let load_flags = SockFilter::new(BPF_LOAD_BYTE, 0, 0, TCP_FLAGS);
    let keep_syn_and_ack = SockFilter::new(BPF_AND, 0, 0, SYN | ACK);
    let is_syn_alone = SockFilter::new(BPF_JUMP_IF_EQUAL, 0, 1, SYN);
    let drop = SockFilter::new(BPF_RETURN, 0, 0, 0);
    let pass = SockFilter::new(BPF_RETURN, 0, 0, u32::MAX);
    SockRef::from(listener).attach_filter(&[load_flags, keep_syn_and_ack, is_syn_alone, drop, pass])
}

fn start(worker: &Rc<Worker>, open: &OpenConnections, stream: TcpStream, peer: SocketAddr) {
    let worker = &worker.current();
    let peer = peer.ip().to_canonical();
    // A trusted proxy connects for many clients, so the limit per client does not apply to it.
    let counted = (!worker.settings.policy.trusts(Peer::Ip(peer))).then_some(peer);
    let limit = Arc::clone(&worker.shared.connection_limit);
    let Some(permit) = limit.admit(counted) else {
        reject_connection(worker, &stream, peer);
        return;
    };
    let guard = open.add(worker, permit);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let mut identity = None;
        let stream = match &worker.shared.tls {
            None => Stream::plain(stream),
            Some(tls) => {
                let limit = worker.settings.limits.head_read;
                match timeout(limit, tls.acceptor().accept(TcpSocket::new(stream))).await {
                    Ok(Ok(stream)) => {
                        identity = tls::identity(stream.get_ref().1);
                        Stream::tls(stream)
                    }
                    // A port scanner, a plain request, a client without a common cipher.
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        let accepted = Accepted {
            stream,
            peer,
            tls: worker.shared.tls.is_some(),
            identity,
            is_admin: false,
            guard: Some(guard),
        };
        serve(&worker, accepted).await;
    });
}

/// Accepts connections on the admin listener for as long as the worker lives.
pub(crate) async fn accept_operators(listener: TcpListener, worker: Rc<Worker>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let accepted = Accepted {
                    stream: Stream::plain(stream),
                    peer: peer.ip().to_canonical(),
                    tls: false,
                    identity: None,
                    is_admin: true,
                    guard: None,
                };
                let worker = worker.current();
                tokio::task::spawn_local(async move { serve(&worker, accepted).await });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Rejects a connection beyond the limit. The response is sent only as far as that is possible without waiting, and not at
/// all over TLS, which needs a handshake first.
fn reject_connection(worker: &Worker, stream: &TcpStream, peer: IpAddr) {
    let rejection = Rejection::too_many_connections();
    if worker.shared.tls.is_some() {
        let Rejection { reason, status, .. } = rejection;
        return record_unparsed(worker, "", peer, None, status, reason);
    }
    let request = MalformedRequest {
        peer,
        tls: false,
        version: None,
        host: None,
        fields: &[],
        is_head: false,
    };
    let response = reject(worker, &request, rejection);
    let socket = SockRef::from(stream);
    // If the request has arrived but is not read, closing the connection resets it, and the client loses the response.
    let _ = (&*socket).read(&mut [0; 4096]);
    let _ = socket.send(&response);
}

/// Instructions of the kernel's packet filter, `linux/bpf_common.h`.
const BPF_LOAD_BYTE: u16 = 0x30;
const BPF_AND: u16 = 0x54;
const BPF_JUMP_IF_EQUAL: u16 = 0x15;
const BPF_RETURN: u16 = 0x06;

/// Offset of the flags in a TCP header, RFC 9293 §3.1, and two of the flags.
const TCP_FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// How long the last TCP handshakes may take once the worker is stopping.
const HANDSHAKE_PATIENCE: Duration = Duration::from_millis(200);

/// Connections that may wait to be accepted. Most systems allow fewer.
const BACKLOG: i32 = 4096;

/// How long to wait before accepting again after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
