//! What do the requests of one worker share?
//!
//! A worker is a thread. What it has is its own, but for what is counted over all of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{Notify, watch};

use crate::admission::{Admission, Connections};
use crate::buffer::Buffers;
use crate::exchange::{Ending, Progress};
use crate::health::Readiness;
use crate::plan::Plan;
use crate::reply::Reply;
use crate::settings::Settings;
use crate::tunnel::Tunnels;
use crate::upstream::Pool;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) admission: Admission,
    pub(crate) connections: Arc<Connections>,
}

/// What the upstreams' probes have found.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) streamlit: watch::Receiver<Readiness>,
    pub(crate) api: Option<watch::Receiver<Readiness>>,
}

/// What the requests of one worker share.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) readiness: Watched,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) streamlit: Pool,
    pub(crate) api: Option<Pool>,
    pub(crate) tunnels: Rc<Tunnels>,
    pub(crate) drain: Drain,
    date: RefCell<(u64, String)>,
}

/// Whether the worker is stopping.
#[derive(Default)]
pub(crate) struct Drain {
    has_begun: Cell<bool>,
    begins: Notify,
}

impl Worker {
    pub(crate) fn new(settings: Arc<Settings>, shared: Arc<Shared>, readiness: Watched) -> Self {
        let buffers = Buffers::new(settings.limits.head_bytes.max(SMALLEST_BUFFER));
        let pool = |authority: String| Pool::new(authority, Rc::clone(&buffers));
        Self {
            streamlit: pool(settings.upstream.authority()),
            api: settings
                .api
                .upstream
                .as_ref()
                .map(|api| pool(api.authority())),
            tunnels: Rc::default(),
            drain: Drain::default(),
            date: RefCell::default(),
            buffers,
            readiness,
            shared,
            settings,
        }
    }

    /// Whether the probe of an upstream has found it ready.
    pub(crate) fn is_ready(&self, is_api: bool) -> bool {
        let readiness = match &self.readiness.api {
            Some(api) if is_api => api,
            _ => &self.readiness.streamlit,
        };
        !matches!(&*readiness.borrow(), Readiness::NotReady(_))
    }

    /// The time as `Date` has it, RFC 9110 §5.6.7.
    pub(crate) fn date(&self) -> String {
        let now = SystemTime::now();
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            *date = (second, httpdate::fmt_http_date(now));
        }
        date.1.clone()
    }

    /// Answers for a path of the gateway's own.
    pub(crate) fn internal(&self, _path: &[u8], _is_read: bool, _is_admin: bool) -> Reply {
        Reply::json(404, &serde_json::json!({"detail": "Not Found"}))
    }

    /// A request has ended.
    pub(crate) fn ended(&self, _plan: &Plan, _progress: &Progress, _ending: Ending) {}

    /// What came was no request.
    pub(crate) fn refused(&self, _status: u16) {}

    /// A stale connection was found out by using it.
    pub(crate) fn note_retry(&self) {}

    /// Closes what has been idle for too long; called once a second.
    pub(crate) fn sweep(&self) {
        self.streamlit.sweep();
        if let Some(api) = &self.api {
            api.sweep();
        }
    }
}

impl Drain {
    /// Tells everybody who waits that the worker is stopping.
    pub(crate) fn begin(&self) {
        self.has_begun.set(true);
        self.begins.notify_waiters();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Waits until the worker is stopping.
    pub(crate) async fn wait(&self) {
        let begins = self.begins.notified();
        if !self.has_begun() {
            begins.await;
        }
    }
}

/// Large enough that a body is moved in few system calls, small enough to stay in the cache.
const SMALLEST_BUFFER: usize = 64 * 1024;
