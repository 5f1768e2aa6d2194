//! Holds what the requests of one worker thread share: connection pools, buffers, limits and counters.
//!
//! Workers share nothing but the metrics, the connection limits and the rate limit of warnings. New settings reach a worker
//! as a message, so that a request reads them without a lock.
//!
//! May use `upstream`, `settings`, `http`, `observe` and `net`.

pub(crate) mod admission;
pub(crate) mod connection_limit;
pub(crate) mod date;
pub(crate) mod probes;
mod signal;
mod tunnels;
pub(crate) mod warnings;

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

use crate::net::buffer::BufferPool;
use crate::net::tls::Tls;
use crate::observe::Observer;
use crate::observe::debug::Debug;
use crate::observe::metrics::Metrics;
use crate::observe::upstream::Upstream;
use crate::settings::Settings;
use crate::upstream::health::Readiness;
use crate::upstream::pool::Pool;
use crate::worker::admission::Admission;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::date::DateClock;
use crate::worker::probes::Probes;
use crate::worker::signal::Signal;
use crate::worker::warnings::Warnings;
pub(crate) use tunnels::{TunnelGuard, Tunnels};

/// State that all workers share.
pub(crate) struct Shared {
    pub(crate) admission: Admission,
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    /// `None` if the gateway does not terminate TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) metrics: Arc<Metrics>,
    /// `None` unless the gateway is in debug mode.
    pub(crate) debug: Option<Arc<Debug>>,
    pub(crate) warnings: Warnings,
    /// Decides which requests for a decision record are answered.
    pub(crate) probes: Probes,
}

/// Results of the upstreams' health checks.
#[derive(Clone)]
pub(crate) struct UpstreamReadiness {
    pub(crate) streamlit: watch::Receiver<Readiness>,
    pub(crate) api: Option<watch::Receiver<Readiness>>,
    /// True once all programs that the gateway starts have been ready; if it starts none, from the beginning.
    pub(crate) has_started: Arc<AtomicBool>,
}

/// A worker with the settings of one moment. A request uses the same one until it ends, a tunnel until it is closed.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    state: Rc<State>,
}

/// State that the requests of one worker share, whatever their settings.
pub(crate) struct State {
    /// The settings for new requests.
    latest: RefCell<Arc<Settings>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) readiness: UpstreamReadiness,
    pub(crate) buffers: Rc<BufferPool>,
    streamlit: Pool,
    api: Option<Pool>,
    pub(crate) tunnels: Tunnels,
    /// Raised when the worker begins to stop.
    pub(crate) drain: Signal,
    pub(crate) observer: Observer,
    pub(crate) date: DateClock,
    /// Allocations of heads that were sent, kept for reuse.
    spare_heads: RefCell<Vec<Vec<u8>>>,
}

impl Worker {
    pub(crate) fn new(
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        readiness: UpstreamReadiness,
        observer: Observer,
    ) -> Self {
        let buffers = BufferPool::new(settings.limits.head_bytes.max(MIN_BUFFER));
        let pool = |authority: String| Pool::new(authority, Rc::clone(&buffers));
        let state = State {
            latest: RefCell::new(Arc::clone(&settings)),
            streamlit: pool(settings.upstream.authority()),
            api: settings
                .api
                .upstream
                .as_ref()
                .map(|api| pool(api.authority())),
            tunnels: Tunnels::default(),
            drain: Signal::default(),
            observer,
            date: DateClock::default(),
            spare_heads: RefCell::default(),
            buffers,
            readiness,
            shared,
        };
        Self {
            settings,
            state: Rc::new(state),
        }
    }

    /// Returns this worker with the settings for a new request.
    pub(crate) fn current(self: &Rc<Self>) -> Rc<Self> {
        let latest = self.latest.borrow();
        if Arc::ptr_eq(&self.settings, &latest) {
            return Rc::clone(self);
        }
        Rc::new(Self {
            settings: Arc::clone(&latest),
            state: Rc::clone(&self.state),
        })
    }
}

impl Deref for Worker {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl State {
    /// Uses other settings for new requests.
    pub(crate) fn use_settings(&self, settings: Arc<Settings>) {
        self.latest.replace(settings);
    }

    /// Returns the connections to an upstream.
    pub(crate) fn pool(&self, upstream: Upstream) -> &Pool {
        match (upstream, &self.api) {
            (Upstream::Api, Some(api)) => api,
            _ => &self.streamlit,
        }
    }

    /// Returns true if the last health check of an upstream succeeded.
    pub(crate) fn is_ready(&self, upstream: Upstream) -> bool {
        let readiness = match (upstream, &self.readiness.api) {
            (Upstream::Api, Some(api)) => api,
            _ => &self.readiness.streamlit,
        };
        !matches!(&*readiness.borrow(), Readiness::NotReady(_))
    }

    /// Returns an empty vector for the head of an upstream request, reusing memory if possible.
    pub(crate) fn spare_head(&self) -> Vec<u8> {
        let spare = self.spare_heads.borrow_mut().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(TYPICAL_HEAD))
    }

    /// Takes back the memory of a head that was sent.
    pub(crate) fn give_back_head(&self, mut head: Vec<u8>) {
        let mut spare = self.spare_heads.borrow_mut();
        if spare.len() < MAX_SPARE_HEADS && head.capacity() <= MAX_SPARE_HEAD {
            head.clear();
            spare.push(head);
        }
    }

    /// Closes idle upstream connections that are too old and reports the pools' sizes. Called once a second.
    pub(crate) fn sweep(&self) {
        let pools = [
            (Upstream::Streamlit, Some(&self.streamlit)),
            (Upstream::Api, self.api.as_ref()),
        ];
        for (upstream, pool) in pools {
            let Some(pool) = pool else {
                continue;
            };
            pool.sweep();
            let (idle, in_use) = pool.count();
            self.observer.counters.pool(upstream, idle, in_use);
        }
    }
}

/// Large enough to move a body in few system calls, small enough to stay in the CPU cache.
const MIN_BUFFER: usize = 64 * 1024;

/// Typical size of a head, in bytes.
const TYPICAL_HEAD: usize = 2048;

/// Largest head whose memory is kept, in bytes.
const MAX_SPARE_HEAD: usize = 8192;

/// Number of heads whose memory is kept.
const MAX_SPARE_HEADS: usize = 64;

#[cfg(test)]
impl Worker {
    /// Creates a worker with these settings, whose upstreams have not responded yet.
    pub(crate) fn with_settings(environment: &[(&str, &str)]) -> Self {
        use crate::observe::{Observability, Options};
        use crate::settings::Sources;

        let folder = tempfile::tempdir().expect("a folder");
        let upstream = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501");
        let environment = environment.iter().chain([&upstream]);
        let environment = environment.map(|(name, value)| ((*name).into(), (*value).into()));
        let sources = Sources::read(Vec::new(), None, folder.path(), environment);
        let settings = Settings::read(None, sources).expect("settings");
        let waiting = || Readiness::NotReady("not yet".to_owned());
        let observability = Observability::start(Options::default(), std::io::sink());
        let observability = observability.expect("metrics");
        let shared = Shared {
            admission: Admission::new(0, 0),
            connection_limit: Arc::new(ConnectionLimit::new(0, 0)),
            tls: None,
            metrics: Arc::clone(&observability.metrics),
            debug: None,
            warnings: Warnings::default(),
            probes: Probes::default(),
        };
        let readiness = UpstreamReadiness {
            streamlit: watch::channel(waiting()).1,
            api: settings
                .api
                .upstream
                .is_some()
                .then(|| watch::channel(waiting()).1),
            has_started: Arc::new(AtomicBool::new(settings.app.is_none())),
        };
        let observer = observability.observer();
        Self::new(Arc::new(settings), Arc::new(shared), readiness, observer)
    }
}
