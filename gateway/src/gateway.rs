//! How does the gateway start, run and stop?
//!
//! Stopping: not ready at once, no new connections, requests in flight finish within the grace period, tunnels are
//! closed, Streamlit ends, exit. Whoever is cut off at the end of the grace period would not have finished.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::net::tls::Tls;
use crate::observe::access_log_format::Format;
use crate::observe::debug::Debug;
use crate::observe::metrics::Metrics;
use crate::observe::{Observability, Options};
use crate::server::listener;
use crate::settings::{LogFormat, Settings};
use crate::streamlit::supervisor::Supervisor;
use crate::upstream::health::{Probe, Readiness};
use crate::worker::admission::{Admission, Connections};
use crate::worker::warnings::Warnings;
use crate::worker::{Shared, Watched, Worker};

/// A gateway that listens but does not serve yet.
pub struct Gateway {
    settings: Arc<Settings>,
    listener: TcpListener,
    /// For operators.
    admin: Option<TcpListener>,
    tls: Option<Tls>,
    /// Waited for from the beginning, since the first SIGHUP would end the process otherwise.
    hang_ups: Signal,
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
    /// The certificate.
    #[error("cannot terminate TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    /// Opens the listening sockets and reads the certificate. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Listen`] if an address is taken or not ours, [`GatewayError::Tls`] if the certificate cannot be
    /// used.
    pub fn bind(settings: Settings) -> Result<Self, GatewayError> {
        raise_open_files();
        let bind = |address| {
            listener::bind(address, settings.reuse_port)
                .map_err(|source| GatewayError::Listen { address, source })
        };
        let tls = settings
            .tls
            .as_ref()
            .map(|files| Tls::load(&files.certificate, &files.key))
            .transpose()
            .map_err(|source| GatewayError::Tls(Box::new(source)))?;
        Ok(Self {
            listener: bind(settings.listen)?,
            admin: settings.observe.admin.map(bind).transpose()?,
            tls,
            hang_ups: signal(SignalKind::hangup()).map_err(GatewayError::Worker)?,
            settings: Arc::new(settings),
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

    /// The address on which operators are listened to, if there is one.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn admin_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.admin.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Whether the gateway terminates TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `stop` ends, then drains. Must be called on a thread that lives as long as the process.
    ///
    /// # Errors
    ///
    /// If Streamlit or a worker cannot be started.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), GatewayError> {
        let Self {
            settings,
            listener,
            mut admin,
            tls,
            hang_ups,
        } = self;
        let waiting = || Readiness::NotReady("the app has not answered yet".to_owned());
        let (readiness, streamlit) = watch::channel(waiting());
        let api_probe = Probe::api(&settings);
        let (api_readiness, api) = watch::channel(waiting());
        let watched = Watched {
            streamlit,
            api: api_probe.is_some().then_some(api),
        };
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
        let limits = &settings.limits;
        let observability = Observability::start(told(&settings), std::io::stdout())
            .map_err(GatewayError::Worker)?;
        let metrics = Arc::clone(&observability.metrics);
        let shared = Arc::new(Shared {
            admission: Admission::new(limits.concurrent, limits.queued),
            connections: Arc::new(Connections::new(
                limits.connections,
                limits.connections_per_peer,
            )),
            tls,
            metrics: Arc::clone(&metrics),
            debug: observability.debug.clone(),
            warnings: Warnings::default(),
        });
        // The metrics are part of what is shared, and must not keep it alive.
        let queue = Arc::downgrade(&shared);
        metrics.watch_gauge(
            "fluxlit_gateway_queue_length",
            "Requests that wait for an upstream connection",
            move || {
                queue
                    .upgrade()
                    .map_or(0, |shared| shared.admission.waiting() as u64)
            },
        );
        if let Some(tls) = &shared.tls {
            metrics.watch_gauge(
                "fluxlit_gateway_tls_certificate_expiry_timestamp_seconds",
                "When the TLS certificate expires, in seconds since 1970",
                tls.expiry(),
            );
        }
        let mut workers = Vec::new();
        for number in 0..settings.workers {
            let listener = listener.try_clone().map_err(GatewayError::Worker)?;
            let (settings, shared) = (Arc::clone(&settings), Arc::clone(&shared));
            let (watched, draining) = (watched.clone(), draining.clone());
            let observer = observability.observer();
            let admin = admin.take();
            workers.push(start_worker(number, move || async move {
                let worker = Rc::new(Worker::new(settings, shared, watched, observer));
                run_worker(listener, admin, worker, draining).await;
            })?);
        }
        drop(listener);

        tokio::select! {
            () = stop => {}
            () = Probe::streamlit(&settings).run(readiness.clone(), &metrics) => {}
            () = probe_api(api_probe, api_readiness, &metrics) => {}
            () = watch_child(supervisor.as_mut()) => {}
            () = watch_certificate(shared.tls.as_ref(), hang_ups) => {}
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
        observability.end(TELLING_PATIENCE);
        Ok(())
    }
}

/// Lets the process have as many open files as it may: each WebSocket takes two, and the usual 1024 are soon used up.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Whoever may not have more goes on with what there is.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// What operators are told, by the settings.
fn told(settings: &Settings) -> Options {
    let observe = &settings.observe;
    Options {
        access_log: observe.access_log.map(|format| match format {
            LogFormat::Json => Format::Json,
            LogFormat::Text => Format::Text,
        }),
        redacted: observe.redacted.clone(),
        debug: observe.debug.then(|| {
            let table = settings.table.iter();
            Debug::new(
                settings.api.part.path(),
                settings.policy.mount(),
                table.map(|setting| (setting.name.clone(), setting.value.clone())),
                settings.app.is_none(),
            )
        }),
        spans: observe
            .otlp_endpoint
            .clone()
            .map(|endpoint| (endpoint, observe.service_name.clone())),
    }
}

async fn probe_api(probe: Option<Probe>, readiness: watch::Sender<Readiness>, metrics: &Metrics) {
    match probe {
        Some(probe) => probe.run(readiness, metrics).await,
        None => std::future::pending().await,
    }
}

async fn watch_child(supervisor: Option<&mut Supervisor>) {
    match supervisor {
        Some(supervisor) => supervisor.keep_running().await,
        None => std::future::pending().await,
    }
}

/// Reads the certificate again from time to time, and when the process is told so by SIGHUP, which must not end it.
async fn watch_certificate(tls: Option<&Tls>, mut hang_ups: Signal) {
    let now = Notify::new();
    let hang_ups = async {
        while hang_ups.recv().await.is_some() {
            now.notify_one();
        }
        std::future::pending::<()>().await;
    };
    match tls {
        Some(tls) => tokio::select! {
            _ = tls.watch(CERTIFICATE_INTERVAL, &now) => {}
            () = hang_ups => {}
        },
        None => hang_ups.await,
    }
}

/// Runs `work` on a thread of its own, with a runtime of its own.
fn start_worker<W: Future<Output = ()> + 'static>(
    number: usize,
    work: impl FnOnce() -> W + Send + 'static,
) -> Result<JoinHandle<()>, GatewayError> {
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(work()),
                Err(error) => tracing::error!(%error, "a worker cannot start"),
            }
        })
        .map_err(GatewayError::Worker)
}

/// Serves connections until draining, then waits for those that are open.
async fn run_worker(
    listener: TcpListener,
    admin: Option<TcpListener>,
    worker: Rc<Worker>,
    draining: watch::Receiver<bool>,
) {
    if let Some(admin) = admin {
        tokio::task::spawn_local(listener::accept_operators(admin, Rc::clone(&worker)));
    }
    let sweeper = {
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            loop {
                sleep(SWEEP_INTERVAL).await;
                worker.sweep();
            }
        })
    };
    let open = listener::accept(listener, &worker, draining).await;
    let grace_period = worker.settings.grace_period;
    let deadline = Instant::now() + grace_period;
    let drained = timeout_at(deadline, async {
        // A tunnel has no end of its own; the browser opens another one elsewhere.
        worker.tunnels.end(grace_period).await;
        while open.count() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    });
    if drained.await.is_err() {
        tracing::warn!(
            connections = open.count(),
            "the grace period is over; what is still open is cut off"
        );
    }
    sweeper.abort();
}

/// How much longer than the grace period a worker may take to end by itself.
const WORKER_MARGIN: Duration = Duration::from_millis(500);

/// How often idle connections to the upstream are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long whoever reads logs or spans may take at the end.
const TELLING_PATIENCE: Duration = Duration::from_secs(1);

/// How often the certificate is looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
