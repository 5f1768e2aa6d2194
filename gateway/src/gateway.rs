//! How does the gateway start, run and stop?
//!
//! Stopping: not ready at once, no new connections, requests in flight finish within the grace period, tunnels are
//! closed, Streamlit ends, exit. Whoever is cut off at the end of the grace period would not have finished.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::health::{self, Readiness};
use crate::proxy::{Worker, serve};
use crate::settings::Settings;
use crate::supervisor::Supervisor;
use crate::tunnel::Tunnels;
use crate::upstream::Pool;

/// A gateway that listens but does not serve yet.
pub struct Gateway {
    settings: Arc<Settings>,
    listener: TcpListener,
}

/// Why a gateway cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The listening socket.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A thread or runtime.
    #[error("cannot start a worker")]
    Worker(#[source] std::io::Error),
    /// The Streamlit executable.
    #[error(
        "cannot start `{command}`: install Streamlit (pip install streamlit) or name it with FLUXLIT_STREAMLIT_COMMAND"
    )]
    Streamlit {
        /// The executable.
        command: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Gateway {
    /// Opens the listening socket.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Listen`] if the address is taken or not ours.
    pub fn bind(settings: Settings) -> Result<Self, GatewayError> {
        let listen = |error| GatewayError::Listen {
            address: settings.listen,
            source: error,
        };
        let listener = TcpListener::bind(settings.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        Ok(Self {
            settings: Arc::new(settings),
            listener,
        })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` ends, then drains. Must be called on a thread that lives as long as the process.
    ///
    /// # Errors
    ///
    /// If Streamlit or a worker cannot be started.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), GatewayError> {
        let Self { settings, listener } = self;
        let (readiness, watched) = watch::channel(Readiness::NotReady(
            "the app has not answered yet".to_owned(),
        ));
        let (drain, draining) = watch::channel(false);
        let mut supervisor = settings
            .app
            .as_ref()
            .map(|app| Supervisor::new(&settings, app));
        if let Some(supervisor) = &mut supervisor {
            supervisor
                .start()
                .map_err(|source| GatewayError::Streamlit {
                    command: settings.streamlit_command.clone(),
                    source,
                })?;
        }
        let mut workers = Vec::new();
        for number in 0..settings.workers {
            let listener = listener.try_clone().map_err(GatewayError::Worker)?;
            workers.push(start_worker(
                number,
                listener,
                Arc::clone(&settings),
                watched.clone(),
                draining.clone(),
            )?);
        }
        drop(listener);

        tokio::select! {
            () = stop => {}
            () = health::probe(settings.upstream.clone(), readiness.clone()) => {}
            () = watch_child(supervisor.as_mut()) => {}
        }
        tracing::info!("stopping");
        readiness.send_replace(Readiness::Draining);
        drain.send_replace(true);
        let deadline = Instant::now() + settings.grace_period + WORKER_MARGIN;
        while workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        if let Some(supervisor) = &mut supervisor {
            supervisor.end(settings.grace_period).await;
        }
        Ok(())
    }
}

async fn watch_child(supervisor: Option<&mut Supervisor>) {
    match supervisor {
        Some(supervisor) => supervisor.keep_running().await,
        None => std::future::pending().await,
    }
}

fn start_worker(
    number: usize,
    listener: TcpListener,
    settings: Arc<Settings>,
    readiness: watch::Receiver<Readiness>,
    draining: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, GatewayError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(GatewayError::Worker)?;
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let worker = Rc::new(Worker {
                pool: Pool::new(&settings),
                tunnels: Rc::new(Tunnels::default()),
                settings,
                readiness,
            });
            LocalSet::new().block_on(&runtime, accept(listener, worker, draining));
        })
        .map_err(GatewayError::Worker)
}

/// Accepts connections until draining, then waits for those that are open.
async fn accept(listener: TcpListener, worker: Rc<Worker>, mut draining: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a worker cannot listen");
            return;
        }
    };
    let connections = Rc::new(());
    let drain = draining.clone();
    loop {
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Without it, small messages wait for each other's acknowledgement.
                    let _ = stream.set_nodelay(true);
                    let alive = Rc::clone(&connections);
                    let (worker, drain) = (Rc::clone(&worker), drain.clone());
                    tokio::task::spawn_local(async move {
                        connection(stream, peer, worker, drain).await;
                        drop(alive);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most often: others must end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let deadline = Instant::now() + worker.settings.grace_period;
    // A tunnel has no end of its own; the browser opens another one elsewhere.
    worker.tunnels.end().await;
    let drained = timeout_at(deadline, async {
        while Rc::strong_count(&connections) > 1 || worker.tunnels.count() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    });
    if drained.await.is_err() {
        tracing::warn!("requests were cut off at the end of the grace period");
    }
}

async fn connection(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    worker: Rc<Worker>,
    mut draining: watch::Receiver<bool>,
) {
    let service = service_fn(|request| serve(Rc::clone(&worker), peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_LIMIT)
        .max_header_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = draining.wait_for(|draining| *draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// How long a connection may wait for a request's head: longer than what nginx and others keep idle connections for,
/// or they would send requests on connections that we are closing.
const IDLE_LIMIT: Duration = Duration::from_secs(75);

/// Longest head of a request, in bytes; more is answered 431.
const MAX_HEADER: usize = 64 * 1024;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a worker may take, beyond the grace period, to end.
const WORKER_MARGIN: Duration = Duration::from_millis(500);
