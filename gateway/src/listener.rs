//! How do connections come in?
//!
//! All workers accept from one listening socket, so a connection goes to whoever is awake and none is lost when a worker
//! ends. With `SO_REUSEPORT` a second process may listen at the same place, so that the first can end once the second is
//! ready.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fluxlit_policy::Peer;
use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind as bind_socket, listen, socket_with,
};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::admission::Place;
use crate::http1::serve::{Accepted, serve};
use crate::io::Io;
use crate::refusal::TOO_MANY_CONNECTIONS;
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
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => start(worker, &open, stream, peer),
                Err(error) => {
                    // Out of file descriptors, most often: others must end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = draining.wait_for(|draining| *draining) => break,
        }
    }
    // Nobody new is let in, and whoever was is served: closing the socket resets those that wait in its queue.
    let _ = listen(&listener, 0);
    while let Ok(Some((stream, peer))) = take_waiting(&listener).await {
        start(worker, &open, stream, peer);
    }
    open
}

/// A connection that waits to be accepted, if there is one.
async fn take_waiting(
    listener: &tokio::net::TcpListener,
) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    tokio::select! {
        biased;
        accepted = listener.accept() => accepted.map(Some),
        () = std::future::ready(()) => Ok(None),
    }
}

fn start(worker: &Rc<Worker>, open: &Open, stream: TcpStream, peer: SocketAddr) {
    let peer = peer.ip().to_canonical();
    // A proxy speaks for many, so it is not held to what one client may have.
    let counted = (!worker.settings.policy.trusts(Peer::Ip(peer))).then_some(peer);
    let Some(place) = Arc::clone(&worker.shared.connections).enter(counted) else {
        worker.refused(peer, "", 503, TOO_MANY_CONNECTIONS);
        if worker.shared.tls.is_none() {
            refuse(&stream);
        }
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
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-type: text/plain\r\n\
          content-length: 33\r\n\r\nToo many connections; try again.\n",
    );
}

/// How many connections may wait to be accepted; the system allows fewer, most often.
const BACKLOG: i32 = 4096;

/// How long to wait before accepting again after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
