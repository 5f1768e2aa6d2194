//! Forwards a request to its upstream.
//!
//! It waits for admission, takes an idle connection or opens one, and retries if the idle connection turns out to be closed
//! and the request may be sent twice.

use std::cell::Cell;
use std::time::Instant;

use fluxlit_policy::Exchange;

use crate::http::body::{Bounds, PumpError, Source, pump};
use crate::observe::upstream::Upstream;
use crate::observe::{Ending, Phase};
use crate::proxy::downstream::Downstream;
use crate::proxy::failure::{Failure, Rejection, ResponseError};
use crate::proxy::local_reply::LocalReply;
use crate::proxy::outcome::Outcome;
use crate::proxy::request::{Forward, Progress, RequestInfo, Timers};
use crate::upstream::pool::{Connection, Pool};
use crate::worker::Worker;
use crate::worker::admission::{Permit, QueueFull};

/// Forwards one request.
pub(super) struct Forwarder<'a> {
    pub(super) worker: &'a Worker,
    pub(super) info: &'a RequestInfo,
    pub(super) exchange: &'a Exchange,
    pub(super) forward: &'a Forward,
    pub(super) progress: &'a Progress,
}

impl Forwarder<'_> {
    /// Sends the request and passes the response on.
    pub(super) async fn run(
        &self,
        source: &mut impl Source,
        down: &mut impl Downstream,
        timers: &mut Timers,
    ) -> Result<Outcome, Failure> {
        let is_websocket = self.forward.accept.is_some();
        // Read again only after a wait, because reading the clock costs more than taking a connection.
        let mut now = self.info.started;
        let _permit = if is_websocket {
            None
        } else if let Some(permit) = self.worker.shared.admission.try_admit() {
            Some(permit)
        } else {
            let permit = self.admit(source, timers).await?;
            now = Instant::now();
            Some(permit)
        };
        loop {
            // A handshake must not be sent twice, so its connection is always new.
            let pooled = if is_websocket {
                None
            } else {
                self.pool().take_idle(now)
            };
            let connection = match pooled {
                Some(connection) => connection,
                None => {
                    let connection = self.connect(source, timers).await?;
                    now = Instant::now();
                    connection
                }
            };
            let attempt = self.attempt(connection, now, source, down, timers);
            match attempt.await {
                Ok(outcome) => return Ok(outcome),
                Err(AttemptError::Stale) => {
                    self.worker.observer.counters.upstream_retried();
                    now = Instant::now();
                }
                Err(AttemptError::Failed(failure)) => return Err(failure),
            }
        }
    }

    fn pool(&self) -> &Pool {
        self.worker.pool(self.forward.upstream)
    }

    /// Waits until the request is admitted.
    async fn admit(
        &self,
        source: &mut impl Source,
        timers: &mut Timers,
    ) -> Result<Permit<'_>, Failure> {
        let admission = &self.worker.shared.admission;
        self.progress.phase.set(Phase::Queue);
        let wait = async {
            tokio::select! {
                permit = admission.admit() => permit.map_err(Some),
                _ = source.closed() => Err(None),
            }
        };
        let limit = self.worker.settings.limits.queue_wait;
        let admitted = timers.up.within(limit, wait).await;
        match admitted.unwrap_or(Err(Some(QueueFull))) {
            Ok(permit) => Ok(permit),
            Err(None) => Err(Failure::client_left()),
            Err(Some(QueueFull)) => Err(Rejection::too_many_requests().into()),
        }
    }

    async fn connect(
        &self,
        source: &mut impl Source,
        timers: &mut Timers,
    ) -> Result<Connection, Failure> {
        self.progress.phase.set(Phase::Connect);
        let connect = async {
            tokio::select! {
                biased;
                connection = self.pool().connect() => connection.map_err(Some),
                _ = source.closed() => Err(None),
            }
        };
        let limit = self.worker.settings.connect_timeout;
        let (ending, reason) = match timers.up.within(limit, connect).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(None)) => return Err(Failure::client_left()),
            Ok(Err(Some(error))) => (Ending::UpstreamConnect, error.to_string()),
            Err(_) => (
                Ending::ConnectTimeout,
                "the connection timed out".to_owned(),
            ),
        };
        let name = self.name();
        tracing::warn!(reason, upstream = name, "the upstream cannot be reached");
        let reply = if self.worker.is_ready(self.forward.upstream) {
            LocalReply::failure(502, &format!("{name} cannot be reached."))
        } else {
            let text = format!("{name} is not ready yet.");
            LocalReply::not_ready(self.forward.wants_page, &text)
        };
        Err(Failure::connect(ending, reply))
    }

    fn name(&self) -> &'static str {
        match self.forward.upstream {
            Upstream::Api => "The API",
            Upstream::Streamlit => "The app",
        }
    }

    /// Sends the request over one connection and passes the response on.
    async fn attempt(
        &self,
        mut connection: Connection,
        now: Instant,
        source: &mut impl Source,
        down: &mut impl Downstream,
        timers: &mut Timers,
    ) -> Result<Outcome, AttemptError> {
        let Self {
            worker,
            forward,
            progress,
            ..
        } = self;
        let limits = &worker.settings.limits;
        let is_reused = connection.is_reused;
        progress.phase.set(if forward.length.is_empty() {
            Phase::Wait
        } else {
            Phase::Send
        });
        let writer = &mut connection.writer;
        writer.head.clear();
        writer.head.extend_from_slice(&forward.head);
        writer.begin(forward.length);
        let upload_progress = UploadProgress {
            state: Cell::new(if forward.expects_continue {
                Upload::AwaitsContinue
            } else {
                Upload::Sending
            }),
            ended: Cell::new(None),
        };
        let upload_state = &upload_progress.state;
        let Timers {
            up: up_timer,
            down: down_timer,
        } = timers;
        let upload = async {
            let moved = loop {
                let bounds = Bounds {
                    idle: limits.idle,
                    max: limits.body_bytes,
                    passed: &progress.received,
                };
                let awaited_continue = self.upload_state(upload_state) == Upload::AwaitsContinue;
                // An upstream that does not read trailers would take them for the next request, RFC 9112 §7.1.2.
                let moved = pump(source, writer, up_timer, bounds, |_| Vec::new());
                match moved.await {
                    // A client that awaits 100 (Continue) is not idle.
                    Err(PumpError::SourceIdle)
                        if awaited_continue && progress.received.get() == 0 => {}
                    moved => break moved,
                }
            };
            match moved {
                Ok(()) => {
                    upload_state.set(Upload::Complete);
                    if progress.phase.get() == Phase::Send {
                        progress.phase.set(Phase::Wait);
                    }
                }
                // An upstream that stops reading may have sent a response that says why.
                Err(PumpError::Sink(_) | PumpError::SinkIdle) => upload_state.set(Upload::Failed),
                Err(error) => return error,
            }
            if !forward.length.is_empty() {
                upload_progress.ended.set(Some(Instant::now()));
            }
            PumpError::Source(source.closed().await)
        };
        let reader = &mut connection.reader;
        let response = self.pass_response(reader, down, down_timer, &upload_progress, now);
        let result = tokio::select! {
            biased;
            error = upload => Err(error),
            result = response => Ok(result),
        };
        let is_uploaded = upload_state.get() == Upload::Complete;
        match result {
            Ok(Ok(Passed::Tunnel)) => Ok(Outcome::Tunnel(Box::new(connection))),
            Ok(Ok(Passed::Complete { persists })) => {
                let now = Instant::now();
                if persists && is_uploaded {
                    self.pool().give_back(connection, now);
                }
                Ok(Outcome::Complete {
                    ending: Ending::Complete,
                    at: now,
                })
            }
            Ok(Err(ResponseError::Closed))
                if is_reused
                    && forward.length.is_empty()
                    && (forward.is_idempotent || !connection.writer.has_begun()) =>
            {
                Err(AttemptError::Stale)
            }
            Ok(Err(error)) => Err(AttemptError::Failed(error.into_failure(self.name()))),
            Err(error) => {
                let failure = Failure::of_upload(&error, limits.body_bytes);
                Err(AttemptError::Failed(failure))
            }
        }
    }

    /// Returns how far the upload is. A client may send its body without waiting for 100 (Continue).
    pub(super) fn upload_state(&self, state: &Cell<Upload>) -> Upload {
        match state.get() {
            Upload::AwaitsContinue if self.progress.received.get() > 0 => Upload::Sending,
            state => state,
        }
    }
}

/// How far the upload of a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    /// The client waits for 100 (Continue), RFC 9110 §10.1.1.
    AwaitsContinue,
    Sending,
    Complete,
    /// The upstream stopped reading.
    Failed,
}

/// What is known of an upload while the response is awaited.
pub(super) struct UploadProgress {
    pub(super) state: Cell<Upload>,
    /// When it ended; `None` before, and if there is no body.
    pub(super) ended: Cell<Option<Instant>>,
}

/// The error of one attempt.
enum AttemptError {
    Failed(Failure),
    /// The idle connection was closed, and the request may be sent again.
    Stale,
}

/// A response that was passed on.
pub(super) enum Passed {
    Complete { persists: bool },
    Tunnel,
}
