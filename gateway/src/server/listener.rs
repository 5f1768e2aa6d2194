//! How do connections come in?
//!
//! All workers accept from one listening socket, so a connection goes to whoever is awake and none is lost when a worker
//! ends. With `SO_REUSEPORT` a second process may listen at the same place, so that the first can end once the second is
//! ready.

use std::cell::Cell;
use std::io;
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

use crate::net::stream::Io;
use crate::observe::reject_reason::RejectReason;
use crate::server::http1::{Accepted, serve};
use crate::server::reject::{self, Unplanned};
use crate::worker::Worker;
use crate::worker::admission::Place;

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

/// The connections of a worker that are open.
#[derive(Clone, Default)]
pub(crate) struct Open(Rc<Cell<usize>>);

/// One of them, until it is dropped.
pub(crate) struct Held {
    open: Open,
    worker: Rc<Worker>,
    _place: Place,
}

impl Open {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.get()
    }

    fn hold(&self, worker: &Rc<Worker>, place: Place) -> Held {
        self.0.set(self.0.get() + 1);
        worker.observer.counters.connection_opened();
        Held {
            open: self.clone(),
            worker: Rc::clone(worker),
            _place: place,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.worker.observer.counters.connection_closed();
        self.open.0.set(self.open.0.get() - 1);
    }
}

/// Accepts connections until draining; returns those that are open.
pub(crate) async fn accept(
    listener: TcpListener,
    worker: &Rc<Worker>,
    mut draining: watch::Receiver<bool>,
) -> Open {
    let open = Open::default();
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
            // First, or a crowd at the door would keep the gateway from stopping.
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => start(worker, &open, stream, peer),
                Err(error) => {
                    // Out of file descriptors, most often: others must end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    worker.drain.begin();
    // Nobody new is let in, and whoever was is served: closing the socket resets those that wait in its queue, and those
    // whose handshake is not over.
    if let Err(error) = let_nobody_in(&listener) {
        tracing::warn!(%error, "connections that come at this moment may be reset");
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

/// Makes the system drop what opens a connection, and nothing else: the client sends it again in a second, and is then
/// refused, or let in by the process that has taken over.
fn let_nobody_in(listener: &tokio::net::TcpListener) -> io::Result<()> {
    let load_flags = SockFilter::new(BPF_LOAD_BYTE, 0, 0, TCP_FLAGS);
    let keep_syn_and_ack = SockFilter::new(BPF_AND, 0, 0, SYN | ACK);
    let is_syn_alone = SockFilter::new(BPF_JUMP_IF_EQUAL, 0, 1, SYN);
    let drop = SockFilter::new(BPF_RETURN, 0, 0, 0);
    let pass = SockFilter::new(BPF_RETURN, 0, 0, u32::MAX);
    SockRef::from(listener).attach_filter(&[load_flags, keep_syn_and_ack, is_syn_alone, drop, pass])
}

fn start(worker: &Rc<Worker>, open: &Open, stream: TcpStream, peer: SocketAddr) {
    let peer = peer.ip().to_canonical();
    // A proxy speaks for many, so it is not held to what one client may have.
    let counted = (!worker.settings.policy.trusts(Peer::Ip(peer))).then_some(peer);
    let Some(place) = Arc::clone(&worker.shared.connections).enter(counted) else {
        refuse(worker, &stream, peer);
        return;
    };
    let held = open.hold(worker, place);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let io = match &worker.shared.tls {
            None => Io::plain(stream),
            Some(tls) => {
                let limit = worker.settings.limits.head_read;
                match timeout(limit, tls.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => Io::tls(stream),
                    // A port scanner, a plain request, a client without a common cipher.
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        let accepted = Accepted {
            io,
            peer,
            tls: worker.shared.tls.is_some(),
            is_admin: false,
            held: Some(held),
        };
        serve(&worker, accepted).await;
    });
}

/// Accepts connections of operators, for as long as the worker lives.
pub(crate) async fn accept_operators(listener: TcpListener, worker: Rc<Worker>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let accepted = Accepted {
                    io: Io::plain(stream),
                    peer: peer.ip().to_canonical(),
                    tls: false,
                    is_admin: true,
                    held: None,
                };
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(async move { serve(&worker, accepted).await });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Says why, as far as it can be said without waiting.
fn refuse(worker: &Worker, stream: &TcpStream, peer: IpAddr) {
    if worker.shared.tls.is_some() {
        return worker.refused(peer, None, 503, RejectReason::TooManyConnections);
    }
    let unplanned = Unplanned {
        peer,
        tls: false,
        version: None,
        host: None,
        fields: &[],
        to_head: false,
    };
    let text = "Too many connections; try again.";
    let answer = reject::refuse(
        worker,
        &unplanned,
        (503, text, RejectReason::TooManyConnections),
    );
    let _ = stream.try_write(&answer);
}

/// Instructions of the system's packet filter, `linux/bpf_common.h`.
const BPF_LOAD_BYTE: u16 = 0x30;
const BPF_AND: u16 = 0x54;
const BPF_JUMP_IF_EQUAL: u16 = 0x15;
const BPF_RETURN: u16 = 0x06;

/// Where a TCP header has its flags, RFC 9293 §3.1, and two of them.
const TCP_FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// How long the last handshakes may take once the worker is stopping.
const HANDSHAKE_PATIENCE: Duration = Duration::from_millis(200);

/// How many connections may wait to be accepted; the system allows fewer, most often.
const BACKLOG: i32 = 4096;

/// How long to wait before accepting again after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
