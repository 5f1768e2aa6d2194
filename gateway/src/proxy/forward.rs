//! How does a request get to the upstream?
//!
//! When it is its turn, over a connection that is open already or a new one, and once more if that connection proves to be
//! gone and the request may be done twice.

use std::cell::Cell;

use fluxlit_policy::Exchange;

use crate::http::body::{Bounds, PumpError, Source, pump};
use crate::http::framing::Length;
use crate::http::hop_by_hop;
use crate::observe::Ending;
use crate::observe::reject_reason::RejectReason;
use crate::proxy::decide::{Facts, Forward};
use crate::proxy::downstream::Downstream;
use crate::proxy::exchange::{End, Progress, Timers};
use crate::proxy::failure::{Failure, NoAnswer};
use crate::proxy::local_reply::Reply;
use crate::upstream::pool::{Connection, Pool};
use crate::worker::Worker;
use crate::worker::admission::{Full, Permit};

/// What one forwarded request needs.
pub(super) struct Way<'a> {
    pub(super) worker: &'a Worker,
    pub(super) facts: &'a Facts,
    pub(super) exchange: &'a Exchange,
    pub(super) forward: &'a Forward,
    pub(super) progress: &'a Progress,
}

impl Way<'_> {
    /// Sends the request and passes the answer on.
    pub(super) async fn forward(
        &mut self,
        source: &mut impl Source,
        down: &mut impl Downstream,
        timers: &mut Timers,
    ) -> Result<End, Failure> {
        let is_websocket = self.forward.accept.is_some();
        let _permit = if is_websocket {
            None
        } else {
            Some(self.admit(source, timers).await?)
        };
        loop {
            // A handshake is never done twice, so its connection is always new.
            let pooled = if is_websocket {
                None
            } else {
                self.pool().take_idle()
            };
            let connection = match pooled {
                Some(connection) => connection,
                None => self.connect(source, timers).await?,
            };
            match self.attempt(connection, source, down, timers).await {
                Ok(end) => return Ok(end),
                Err(Attempt::Again) => self.worker.observer.counters.upstream_retried(),
                Err(Attempt::Failed(failure)) => return Err(failure),
            }
        }
    }

    fn pool(&self) -> &Pool {
        match &self.worker.api {
            Some(api) if self.forward.is_api => api,
            _ => &self.worker.streamlit,
        }
    }

    async fn admit(
        &self,
        source: &mut impl Source,
        timers: &mut Timers,
    ) -> Result<Permit<'_>, Failure> {
        let admission = &self.worker.shared.admission;
        if let Some(permit) = admission.enter_now() {
            return Ok(permit);
        }
        let wait = async {
            tokio::select! {
                permit = admission.enter() => permit.map_err(Some),
                _ = source.left() => Err(None),
            }
        };
        let entered = timers
            .up
            .within(self.worker.settings.limits.queue_wait, wait)
            .await;
        match entered.unwrap_or(Err(Some(Full))) {
            Ok(permit) => Ok(permit),
            Err(None) => Err(Failure::client_left()),
            Err(Some(Full)) => Err(Failure {
                ending: Ending::Refused(RejectReason::TooManyRequests),
                reply: Some(
                    Reply::failure(503, "Too many requests are under way; try again.")
                        .with("retry-after", b"1".as_slice()),
                ),
            }),
        }
    }

    async fn connect(
        &self,
        source: &mut impl Source,
        timers: &mut Timers,
    ) -> Result<Connection, Failure> {
        let connect = async {
            tokio::select! {
                biased;
                connection = self.pool().connect() => connection.map_err(Some),
                _ = source.left() => Err(None),
            }
        };
        let limit = self.worker.settings.connect_timeout;
        let reason = match timers.up.within(limit, connect).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(None)) => return Err(Failure::client_left()),
            Ok(Err(Some(error))) => error.to_string(),
            Err(_) => "the connection timed out".to_owned(),
        };
        tracing::warn!(
            reason,
            upstream = self.name(),
            "the upstream cannot be reached"
        );
        let reply = if self.worker.is_ready(self.forward.is_api) {
            Reply::failure(502, &format!("{} cannot be reached.", self.name()))
        } else {
            Reply::not_ready(
                self.forward.wants_page,
                &format!("{} is not ready yet.", self.name()),
            )
        };
        Err(Failure {
            ending: Ending::UpstreamConnect,
            reply: Some(reply),
        })
    }

    fn name(&self) -> &'static str {
        if self.forward.is_api {
            "The API"
        } else {
            "The app"
        }
    }

    /// Sends the request over one connection and passes its answer on.
    async fn attempt(
        &self,
        mut connection: Connection,
        source: &mut impl Source,
        down: &mut impl Downstream,
        timers: &mut Timers,
    ) -> Result<End, Attempt> {
        let Self {
            worker,
            forward,
            progress,
            ..
        } = self;
        let limits = &worker.settings.limits;
        let is_reused = connection.is_reused;
        let writer = &mut connection.writer;
        writer.head.clear();
        writer.head.extend_from_slice(&forward.head);
        writer.begin(forward.length);
        let uploaded = Cell::new(if forward.expects_continue {
            Upload::Held
        } else {
            Upload::UnderWay
        });
        let Timers {
            up: up_timer,
            down: down_timer,
        } = timers;
        let upload = async {
            let moved = loop {
                let bounds = Bounds {
                    idle: limits.idle,
                    most: limits.body_bytes,
                    passed: &progress.received,
                };
                let was_held = self.progress_of(&uploaded) == Upload::Held;
                let moved = pump(source, writer, up_timer, bounds, |trailers| {
                    self.request_trailers(trailers)
                });
                match moved.await {
                    // A client that waits to be asked for its body keeps nobody waiting.
                    Err(PumpError::SourceIdle) if was_held && progress.received.get() == 0 => {}
                    moved => break moved,
                }
            };
            match moved {
                Ok(()) => uploaded.set(Upload::Whole),
                // An upstream that no longer reads may have answered why.
                Err(PumpError::Sink(_) | PumpError::SinkIdle) => uploaded.set(Upload::Broken),
                Err(error) => return error,
            }
            PumpError::Source(source.left().await)
        };
        let answer = self.pass_answer(&mut connection.reader, down, down_timer, &uploaded);
        let outcome = tokio::select! {
            biased;
            error = upload => Err(error),
            outcome = answer => Ok(outcome),
        };
        let is_uploaded = uploaded.get() == Upload::Whole;
        match outcome {
            Ok(Ok(Passed::Tunnel)) => Ok(End::Tunnel(Box::new(connection))),
            Ok(Ok(Passed::Whole { persists })) => {
                if persists && is_uploaded {
                    self.pool().give_back(connection);
                }
                Ok(End::Complete)
            }
            Ok(Err(NoAnswer::Client(ending))) => Err(Attempt::Failed(Failure {
                ending,
                reply: None,
            })),
            Ok(Err(NoAnswer::Ended))
                if is_reused
                    && forward.length == Length::Empty
                    && (forward.is_idempotent || !connection.writer.has_begun()) =>
            {
                Err(Attempt::Again)
            }
            Ok(Err(no_answer)) => Err(Attempt::Failed(no_answer.explain(self.name()))),
            Err(error) => Err(Attempt::Failed(Failure::upload(&error, limits.body_bytes))),
        }
    }

    /// How far a request's body is. Nobody has to wait to be asked for it.
    pub(super) fn progress_of(&self, uploaded: &Cell<Upload>) -> Upload {
        match uploaded.get() {
            Upload::Held if self.progress.received.get() > 0 => Upload::UnderWay,
            uploaded => uploaded,
        }
    }

    fn request_trailers(&self, section: &[u8]) -> Vec<u8> {
        let policy = &self.worker.settings.policy;
        hop_by_hop::trailers(section, |name| {
            !policy.request_trailers(&[(name, b"")]).is_empty()
        })
    }
}

/// How far a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    /// The client waits until the upstream asks for it, RFC 9110 §10.1.1.
    Held,
    UnderWay,
    Whole,
    /// The upstream did not take all of it.
    Broken,
}

/// What came of one attempt.
enum Attempt {
    /// The connection was stale, and the request may be done again.
    Again,
    Failed(Failure),
}

/// An answer that was passed on.
pub(super) enum Passed {
    Whole { persists: bool },
    Tunnel,
}
