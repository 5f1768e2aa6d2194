//! Starts the gateway's parts, runs them, and stops them in order.
//!
//! To stop, the gateway reports not ready and accepts no new connections. Requests in flight finish within the grace period,
//! tunnels are closed, and Streamlit is stopped. What has not finished by the end of the grace period is cut off.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::children::{self, ChildFailure, StartError, Supervisor};
use crate::net::tls::Tls;
use crate::observe::debug::Debug;
use crate::observe::metrics::Metrics;
use crate::observe::upstream::Upstream;
use crate::observe::{Observability, Options};
use crate::reload::{Live, Reloader, access_log_format};
use crate::server::listener;
use crate::settings::Settings;
use crate::upstream::health::{self, HealthCheck, Readiness};
use crate::worker::admission::Admission;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::probes::Probes;
use crate::worker::warnings::Warnings;
use crate::worker::{Shared, UpstreamReadiness, Worker};

/// A gateway that listens but does not serve yet.
pub struct Gateway {
    settings: Arc<Settings>,
    listener: TcpListener,
    /// The listener for operators.
    admin: Option<TcpListener>,
    tls: Option<Tls>,
    hang_ups: Signal,
}

/// The error when a gateway cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A listening socket cannot be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// Logs, metrics or traces cannot be started.
    #[error("cannot start logs, metrics or traces")]
    Observe(#[source] std::io::Error),
    /// The certificate cannot be used.
    #[error("cannot terminate TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A thread or runtime cannot be started.
    #[error("cannot start a worker")]
    Worker(#[source] std::io::Error),
    /// A child process cannot be started.
    #[error("cannot start `{command}`, because there is no such program: {}", install(.setting))]
    Start {
        /// The executable.
        command: String,
        /// The setting that names it.
        setting: &'static str,
    },
    /// A child process ends again and again.
    #[error(transparent)]
    Child(ChildFailure),
}

impl Gateway {
    /// Opens the listening sockets and reads the certificate. Must be called within a runtime.
    ///
    /// `hang_ups`: SIGHUP, registered before the settings were read. Until then it ends the process, and a signal in between asks
    /// for a reload.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Listen`] if an address is in use or not available, [`GatewayError::Tls`] if the certificate cannot be
    /// used.
    pub fn bind(settings: Settings, hang_ups: Signal) -> Result<Self, GatewayError> {
        raise_open_files();
        let bind = |address| {
            listener::bind(address, settings.reuse_port)
                .map_err(|source| GatewayError::Listen { address, source })
        };
        let tls = settings
            .tls
            .as_ref()
            .map(|files| Tls::load(&files.certificate, &files.key, files.client_ca.as_deref()))
            .transpose()
            .map_err(|source| GatewayError::Tls(Box::new(source)))?;
        Ok(Self {
            listener: bind(settings.listen)?,
            admin: settings.observe.admin.map(bind).transpose()?,
            tls,
            hang_ups,
            settings: Arc::new(settings),
        })
    }

    /// Returns the address of the listener.
    ///
    /// # Errors
    ///
    /// If the system does not report it.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the address of the listener for operators, if there is one.
    ///
    /// # Errors
    ///
    /// If the system does not report it.
    pub fn admin_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.admin.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Returns true if the gateway terminates TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `stop` ends, then drains. Calls `ready` once the app is ready for the first time. Must be called on a thread
    /// that lives as long as the process.
    ///
    /// # Errors
    ///
    /// If a child process or a worker cannot be started, or if a child process ends again and again.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        ready: impl FnOnce(),
    ) -> Result<(), GatewayError> {
        let Self {
            settings,
            listener,
            mut admin,
            tls,
            hang_ups,
        } = self;
        let waiting = || Readiness::NotReady("the app has not responded yet".to_owned());
        let (readiness, streamlit) = watch::channel(waiting());
        let api_check = HealthCheck::api(&settings);
        let (api_readiness, api) = watch::channel(waiting());
        let has_started = Arc::new(AtomicBool::new(settings.app.is_none()));
        let starts_api = settings.app.as_ref().is_some_and(|app| app.api.is_some());
        let started = [Some(streamlit.clone()), starts_api.then(|| api.clone())];
        let upstream_readiness = UpstreamReadiness {
            streamlit: streamlit.clone(),
            api: api_check.is_some().then_some(api),
            has_started: Arc::clone(&has_started),
        };
        let (drain, draining) = watch::channel(false);
        let mut supervisors = start_children(&settings)?;
        let limits = &settings.limits;
        let observability = Observability::start(observe_options(&settings), std::io::stdout())
            .map_err(GatewayError::Observe)?;
        let metrics = Arc::clone(&observability.metrics);
        let shared = Arc::new(Shared {
            admission: Admission::new(limits.concurrent, limits.queued),
            connection_limit: Arc::new(ConnectionLimit::new(
                limits.connections,
                limits.connections_per_peer,
            )),
            tls,
            metrics: Arc::clone(&metrics),
            debug: observability.debug.clone(),
            warnings: Warnings::default(),
            probes: Probes::default(),
        });
        let (live, _) = watch::channel(Live {
            settings: Arc::clone(&settings),
            logger: None,
        });
        register_gauges(&shared, live.subscribe());
        metrics.set_config(settings.config());
        let mut workers = Vec::new();
        for number in 0..settings.workers {
            let listener = listener.try_clone().map_err(GatewayError::Worker)?;
            let (settings, shared) = (Arc::clone(&settings), Arc::clone(&shared));
            let (upstream_readiness, draining) = (upstream_readiness.clone(), draining.clone());
            let observer = observability.observer();
            let (admin, live) = (admin.take(), live.subscribe());
            workers.push(start_worker(number, move || async move {
                let worker = Rc::new(Worker::new(settings, shared, upstream_readiness, observer));
                run_worker(listener, admin, worker, (draining, live)).await;
            })?);
        }
        drop(listener);

        let reloader = Reloader {
            live: &live,
            shared: &shared,
            observability: &observability,
        };
        let failure = tokio::select! {
            () = stop => None,
            () = HealthCheck::streamlit(&settings).run(readiness.clone(), &metrics) => None,
            () = check_api(api_check, api_readiness.clone(), &metrics) => None,
            () = notice_start(started.into_iter().flatten().collect(), &has_started) => None,
            () = call_when_ready(streamlit, ready) => None,
            failure = keep_running(&mut supervisors, &metrics, [&readiness, &api_readiness]) => Some(failure),
            () = watch_files(shared.tls.as_ref(), hang_ups, &reloader) => None,
        };
        let settings = Arc::clone(&live.borrow().settings);
        tracing::info!("stopping");
        readiness.send_replace(Readiness::Draining);
        let stopping = Instant::now();
        metrics.watch_gauge(
            "fluxlit_gateway_stopping_seconds",
            "Time since the signal to stop; absent before it",
            move || stopping.elapsed().as_secs(),
        );
        let limit = settings.drain_delay.saturating_add(settings.grace_period);
        metrics.watch_gauge(
            "fluxlit_gateway_stopping_limit_seconds",
            "Time after the signal at which open connections are cut off; absent before it",
            move || limit.as_secs(),
        );
        // A load balancer opens a new connection for each check, so it sees the 503 only while connections are accepted.
        sleep(settings.drain_delay).await;
        drain.send_replace(true);
        let deadline = Instant::now() + settings.grace_period + WORKER_MARGIN;
        while workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        stop_children(&mut supervisors).await;
        observability.end(FLUSH_TIMEOUT);
        match failure {
            Some(failure) => Err(GatewayError::Child(failure)),
            None => Ok(()),
        }
    }
}

/// Raises the limit of open files to its maximum. Each WebSocket takes two, and the usual limit is 1024.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // On failure the old limit stays.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Returns the options of logs, metrics and traces.
fn observe_options(settings: &Settings) -> Options {
    let observe = &settings.observe;
    Options {
        access_log: access_log_format(settings),
        redacted: observe.redacted_parameters(),
        debug: observe.debug.then(|| {
            let table = settings.table.iter();
            Debug::new(
                settings.api.sub_app.path(),
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

/// Returns what to do if the program does not exist that a setting names.
fn install(setting: &str) -> String {
    let (program, of) = match setting {
        PYTHON => ("Python", "a Python that has Streamlit and uvicorn"),
        _ => (
            "Streamlit (pip install streamlit)",
            "the path of its executable",
        ),
    };
    format!("install {program}, or set {setting} to {of}")
}

/// Starts the programs that the settings name.
fn start_children(settings: &Settings) -> Result<Vec<Supervisor>, GatewayError> {
    let is_fluxlit = settings
        .app
        .as_ref()
        .is_some_and(|app| app.fluxlit.is_some());
    let mut supervisors = Vec::new();
    for program in children::programs(settings) {
        let mut supervisor = Supervisor::new(program, settings.grace_period);
        supervisor.start().map_err(|error| match error {
            StartError::NotFound(command) => GatewayError::Start {
                setting: if is_fluxlit || !supervisors.is_empty() {
                    PYTHON
                } else {
                    STREAMLIT
                },
                command,
            },
            StartError::Guard(error) => GatewayError::Worker(error),
        })?;
        supervisors.push(supervisor);
    }
    Ok(supervisors)
}

/// Restarts the children that end, until one of them ends too often.
///
/// The gateway is not ready from the moment on at which the end of a child is known, and not only after the next health checks.
async fn keep_running(
    supervisors: &mut [Supervisor],
    metrics: &Metrics,
    [streamlit, api]: [&watch::Sender<Readiness>; 2],
) -> ChildFailure {
    let mut running: Vec<_> = supervisors
        .iter_mut()
        .map(|supervisor| {
            let upstream = supervisor.upstream();
            let readiness = match upstream {
                Upstream::Streamlit => streamlit,
                Upstream::Api => api,
            };
            Box::pin(supervisor.keep_running(metrics, move |title: &str| {
                metrics.upstream_ready(upstream, false);
                health::has_ended(readiness, title);
            }))
        })
        .collect();
    std::future::poll_fn(|context| {
        let failed = running
            .iter_mut()
            .find_map(|running| match running.as_mut().poll(context) {
                std::task::Poll::Ready(failure) => Some(failure),
                std::task::Poll::Pending => None,
            });
        failed.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

/// Stops the children, all at the same time.
async fn stop_children(supervisors: &mut [Supervisor]) {
    let mut stopping: Vec<_> = supervisors
        .iter_mut()
        .map(|supervisor| Box::pin(supervisor.stop()))
        .collect();
    std::future::poll_fn(|context| {
        stopping.retain_mut(|stopping| stopping.as_mut().poll(context).is_pending());
        if stopping.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// Adds the metrics whose values are kept in the shared state.
fn register_gauges(shared: &Arc<Shared>, live: watch::Receiver<Live>) {
    // The shared state owns the metrics, so they must not keep it alive.
    let queue = Arc::downgrade(shared);
    shared.metrics.watch_gauge(
        "fluxlit_gateway_queue_length",
        "Requests that wait for an upstream connection",
        move || {
            let shared = queue.upgrade();
            shared.map_or(0, |shared| shared.admission.waiting() as u64)
        },
    );
    shared.metrics.watch_gauge(
        "fluxlit_gateway_websocket_header_limit_bytes",
        "Maximum length of a header line of a WebSocket handshake for Streamlit",
        move || live.borrow().settings.limits.websocket_line_bytes as u64,
    );
    if let Some(tls) = &shared.tls {
        shared.metrics.watch_gauge(
            "fluxlit_gateway_tls_certificate_expiry_timestamp_seconds",
            "When the TLS certificate expires, in seconds since 1970",
            tls.expiry(),
        );
    }
}

async fn check_api(
    check: Option<HealthCheck>,
    readiness: watch::Sender<Readiness>,
    metrics: &Metrics,
) {
    match check {
        Some(check) => check.run(readiness, metrics).await,
        None => std::future::pending().await,
    }
}

/// Calls `ready` once the app is ready for the first time.
async fn call_when_ready(mut app: watch::Receiver<Readiness>, ready: impl FnOnce()) {
    let is_ready = |readiness: &Readiness| *readiness == Readiness::Ready;
    if app.wait_for(is_ready).await.is_ok() {
        ready();
    }
    std::future::pending::<()>().await;
}

/// Notes when all programs that the gateway starts are ready.
async fn notice_start(mut programs: Vec<watch::Receiver<Readiness>>, has_started: &AtomicBool) {
    let is_ready = |readiness: &Readiness| *readiness == Readiness::Ready;
    while !programs.iter().all(|program| is_ready(&program.borrow())) {
        for program in &mut programs {
            if program.wait_for(is_ready).await.is_err() {
                // The gateway is stopping.
                return std::future::pending::<()>().await;
            }
        }
    }
    has_started.store(true, Ordering::Relaxed);
    std::future::pending::<()>().await;
}

/// Reloads the settings on SIGHUP, and the certificate on an interval as well.
async fn watch_files(tls: Option<&Tls>, mut hang_ups: Signal, reloader: &Reloader<'_>) {
    let now = Notify::new();
    let hang_ups = async {
        while hang_ups.recv().await.is_some() {
            reloader.reload();
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

/// Runs `work` on a new thread with its own runtime.
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
                Err(error) => tracing::error!(%error, "cannot start a worker"),
            }
        })
        .map_err(GatewayError::Worker)
}

/// Serves connections until the worker stops, then waits for those that are open.
async fn run_worker(
    listener: TcpListener,
    admin: Option<TcpListener>,
    worker: Rc<Worker>,
    (draining, mut live): (watch::Receiver<bool>, watch::Receiver<Live>),
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
    let reloader = {
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            while live.changed().await.is_ok() {
                let Live { settings, logger } = live.borrow_and_update().clone();
                worker.observer.log_with(logger);
                worker.use_settings(settings);
            }
        })
    };
    let open = listener::accept(listener, &worker, draining).await;
    let grace_period = worker.current().settings.grace_period;
    let deadline = Instant::now() + grace_period;
    let drained = timeout_at(deadline, async {
        // A tunnel does not end by itself. The browser reconnects elsewhere.
        worker.tunnels.close_all(grace_period).await;
        while open.count() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    });
    if drained.await.is_err() {
        tracing::warn!(
            connections = open.count(),
            "the grace period is over; open connections are cut off"
        );
    }
    sweeper.abort();
    reloader.abort();
}

/// The settings that name the programs of an app.
const PYTHON: &str = "FLUXLIT_PYTHON";
const STREAMLIT: &str = "FLUXLIT_STREAMLIT_COMMAND";

/// Extra time after the grace period for a worker to end.
const WORKER_MARGIN: Duration = Duration::from_millis(500);

/// How often idle upstream connections are checked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last log lines and spans may take to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the certificate files are read.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
