//! How does a request get its answer from the upstream?
//!
//! The request's body goes up while the answer comes down, so an answer may come early and a body may be endless. When
//! the client leaves, everything here is dropped, and the upstream's connection with it.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use fluxlit_policy::Exchange;

use crate::admission::Full;
use crate::body::{BodyError, Bounds, PumpError, Source, pump};
use crate::downstream::{AnswerHead, Downstream};
use crate::hop;
use crate::http1::head::{ResponseHead, Version, all, only};
use crate::http1::reader::{Body, ReadError, Reader};
use crate::http1::transport::{Length, Transport};
use crate::observe::Ending;
use crate::plan::{Facts, Forward, Plan, Step, too_large};
use crate::refusal::{BAD_BODY, BODY_TOO_LARGE, TOO_MANY};
use crate::reply::{self, Reply};
use crate::timer::Timer;
use crate::upstream::Connection;
use crate::worker::Worker;

/// What has happened of an exchange so far.
#[derive(Default)]
pub(crate) struct Progress {
    /// Bytes of the request's body.
    pub(crate) received: Cell<u64>,
    /// Bytes of the answer's body.
    pub(crate) sent: Cell<u64>,
    /// The status of the answer; 0 before it has begun.
    pub(crate) status: Cell<u16>,
    /// When the head of the upstream's answer was there.
    pub(crate) answered: Cell<Option<std::time::Instant>>,
}

/// The two timers of an exchange: one for each direction.
#[derive(Default)]
pub(crate) struct Timers {
    up: Timer,
    down: Timer,
}

/// How an exchange has ended.
pub(crate) enum End {
    /// The answer is complete.
    Complete,
    /// The answer is not, and the connection or stream must end.
    Broken,
    /// Both sides have switched to WebSocket.
    Tunnel(Box<Connection>),
}

/// Carries a plan out.
pub(crate) async fn carry_out(
    worker: &Worker,
    plan: &mut Plan,
    source: &mut impl Source,
    down: &mut impl Downstream,
    timers: &mut Timers,
    progress: &Progress,
) -> (End, Ending) {
    let Plan {
        facts,
        exchange,
        step,
    } = plan;
    let failure = match step {
        Step::Answer(reply) => Failure {
            ending: facts.refused.map_or(Ending::Complete, Ending::Refused),
            reply: Some(reply.clone()),
        },
        Step::Forward(forward) => {
            let mut way = Way {
                worker,
                facts,
                exchange,
                forward,
                progress,
            };
            match way.forward(source, down, timers).await {
                Ok(end) => return (end, Ending::Complete),
                Err(failure) => failure,
            }
        }
    };
    match failure.reply {
        Some(reply) if progress.status.get() == 0 => {
            let answered = answer(worker, facts, exchange, &reply, down, timers, progress).await;
            let ending = match answered {
                Ok(()) => failure.ending,
                Err(ending) => ending,
            };
            let end = answered.map_or(End::Broken, |()| End::Complete);
            (end, ending)
        }
        _ => (End::Broken, failure.ending),
    }
}

/// Sends an answer of our own.
async fn answer(
    worker: &Worker,
    facts: &Facts,
    exchange: &Exchange,
    reply: &Reply,
    down: &mut impl Downstream,
    timers: &mut Timers,
    progress: &Progress,
) -> Result<(), Ending> {
    let body = reply.body_for(&facts.request_id);
    let length = body.len().to_string();
    let date = worker.date();
    let mut fields: Vec<fluxlit_policy::Header<'_>> = vec![
        (b"content-type", reply.content_type.as_bytes()),
        (b"date", date.as_bytes()),
    ];
    fields.extend(
        reply
            .fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), &**value)),
    );
    let decision = worker.settings.policy.response(
        exchange,
        &fluxlit_policy::Response {
            status: reply.status,
            headers: &fields,
        },
    );
    progress.status.set(reply.status);
    down.begin(&AnswerHead {
        status: reply.status,
        reason: reply::reason(reply.status).as_bytes(),
        fields: &fields,
        edits: &decision.edits,
        length: if facts.to_head {
            Length::Empty
        } else {
            Length::Exact(body.len() as u64)
        },
        declared: facts.to_head.then_some(length.as_bytes()),
        request_id: Some(&facts.request_id),
    });
    let write = async {
        if !facts.to_head {
            down.data(&body).await?;
            progress.sent.set(body.len() as u64);
        }
        down.end(&[]).await
    };
    match timers.down.within(worker.settings.limits.idle, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ending::ClientLeft),
        Err(_) => Err(Ending::ClientTimeout),
    }
}

/// Why a request was not answered by the upstream.
struct Failure {
    ending: Ending,
    /// What the client is told, if it is still there and has been told nothing yet.
    reply: Option<Reply>,
}

/// What one forwarded request needs.
struct Way<'a> {
    worker: &'a Worker,
    facts: &'a Facts,
    exchange: &'a Exchange,
    forward: &'a Forward,
    progress: &'a Progress,
}

impl Way<'_> {
    async fn forward(
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

    fn pool(&self) -> &crate::upstream::Pool {
        match &self.worker.api {
            Some(api) if self.forward.is_api => api,
            _ => &self.worker.streamlit,
        }
    }

    async fn admit(
        &self,
        source: &mut impl Source,
        timers: &mut Timers,
    ) -> Result<crate::admission::Permit<'_>, Failure> {
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
                ending: Ending::Refused(TOO_MANY),
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
        let uploaded = Cell::new(None);
        let Timers {
            up: up_timer,
            down: down_timer,
        } = timers;
        let upload = async {
            let bounds = Bounds {
                idle: limits.idle,
                most: limits.body_bytes,
                passed: &progress.received,
            };
            let moved = pump(source, writer, up_timer, bounds, |trailers| {
                self.request_trailers(trailers)
            })
            .await;
            match moved {
                Ok(()) => uploaded.set(Some(Upload::Whole)),
                // An upstream that no longer reads may have answered why.
                Err(PumpError::Sink(_) | PumpError::SinkIdle) => uploaded.set(Some(Upload::Broken)),
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
        let is_uploaded = uploaded.get() == Some(Upload::Whole);
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
            Ok(Err(no_answer)) => Err(Attempt::Failed(self.explain(&no_answer))),
            Err(error) => Err(Attempt::Failed(Failure::upload(&error, limits.body_bytes))),
        }
    }

    /// Waits for the upstream's answer and passes it on.
    async fn pass_answer(
        &self,
        reader: &mut Reader,
        down: &mut impl Downstream,
        timer: &mut Timer,
        uploaded: &Cell<Option<Upload>>,
    ) -> Result<Passed, NoAnswer> {
        let limits = &self.worker.settings.limits;
        loop {
            let length = self.wait_for_head(reader, timer, uploaded).await?;
            let bytes = reader.bytes().get(..length).unwrap_or_default();
            let head = ResponseHead::read(bytes).map_err(|error| NoAnswer::bad(&error))?;
            if (100..200).contains(&head.status) && head.status != 101 {
                let interim = AnswerHead {
                    status: head.status,
                    reason: head.reason,
                    fields: &head.fields,
                    edits: &[],
                    length: Length::Empty,
                    declared: None,
                    request_id: None,
                };
                down.interim(&interim).await.map_err(NoAnswer::client)?;
                reader.consume(length);
                continue;
            }
            let transport = Transport::of(&head.fields);
            let body = transport
                .response_length(head.version, head.status, self.facts.to_head)
                .map_err(|error| NoAnswer::bad(&error))?;
            let switches = head.status == 101;
            if switches {
                self.check_switch(&head, &transport)?;
            }
            let persists =
                transport.persists(head.version) && body != Length::UntilEnd && !switches;
            self.begin_answer(&head, body, down)?;
            reader.consume(length);
            if switches {
                down.flush().await.map_err(NoAnswer::client)?;
                return Ok(Passed::Tunnel);
            }
            let mut body = Body::new(reader, body, limits.head_bytes);
            let bounds = Bounds {
                idle: self.worker.settings.read_timeout,
                most: 0,
                passed: &self.progress.sent,
            };
            let moved = pump(&mut body, down, timer, bounds, |section| {
                hop::trailers(section, |_| false)
            });
            moved.await.map_err(|error| NoAnswer::of_body(&error))?;
            return Ok(Passed::Whole { persists });
        }
    }

    /// Waits for a head; the time runs from when the request was sent.
    async fn wait_for_head(
        &self,
        reader: &mut Reader,
        timer: &mut Timer,
        uploaded: &Cell<Option<Upload>>,
    ) -> Result<usize, NoAnswer> {
        let settings = &self.worker.settings;
        let limit = match &self.forward.accept {
            Some(_) => settings.handshake_timeout,
            None => settings.read_timeout,
        };
        loop {
            let was_uploaded = uploaded.get().is_some();
            match timer.within(limit, reader.head()).await {
                Ok(Ok(0)) => return Err(NoAnswer::Ended),
                Ok(Ok(length)) => return Ok(length),
                Ok(Err(ReadError::Io(_) | ReadError::Ended)) if reader.bytes().is_empty() => {
                    return Err(NoAnswer::Ended);
                }
                Ok(Err(error)) => return Err(NoAnswer::bad(&error)),
                Err(_) if was_uploaded => return Err(NoAnswer::Timeout),
                Err(_) => {}
            }
        }
    }

    /// Only a 101 that proves the upstream has understood this very handshake opens a tunnel.
    fn check_switch(&self, head: &ResponseHead<'_>, transport: &Transport) -> Result<(), NoAnswer> {
        let proof = only(&head.fields, b"sec-websocket-accept");
        let expected = self.forward.accept.as_deref().map(str::as_bytes);
        if head.version == Version::Http11
            && transport.is_websocket()
            && expected.is_some()
            && proof == expected
        {
            Ok(())
        } else {
            Err(NoAnswer::Bad(
                "it switched protocols without accepting the WebSocket handshake".to_owned(),
            ))
        }
    }

    fn begin_answer(
        &self,
        head: &ResponseHead<'_>,
        length: Length,
        down: &mut impl Downstream,
    ) -> Result<(), NoAnswer> {
        let policy = &self.worker.settings.policy;
        let decision = policy.response(
            self.exchange,
            &fluxlit_policy::Response {
                status: head.status,
                headers: &head.fields,
            },
        );
        let declares = length == Length::Empty && !matches!(head.status, 100..=199 | 204);
        let declared = declares
            .then(|| all(&head.fields, b"content-length").next())
            .flatten();
        self.progress.status.set(head.status);
        self.progress.answered.set(Some(std::time::Instant::now()));
        down.begin(&AnswerHead {
            status: head.status,
            reason: head.reason,
            fields: &head.fields,
            edits: &decision.edits,
            length,
            declared,
            request_id: Some(&self.facts.request_id),
        });
        Ok(())
    }

    fn request_trailers(&self, section: &[u8]) -> Vec<u8> {
        let policy = &self.worker.settings.policy;
        hop::trailers(section, |name| {
            !policy.request_trailers(&[(name, b"")]).is_empty()
        })
    }

    fn explain(&self, no_answer: &NoAnswer) -> Failure {
        let name = self.name();
        let (ending, status, text) = match no_answer {
            NoAnswer::Timeout => (
                Ending::UpstreamTimeout,
                504,
                format!("{name} did not answer in time."),
            ),
            NoAnswer::Ended => (
                Ending::UpstreamBroke,
                502,
                format!("{name} broke off before its answer."),
            ),
            NoAnswer::Bad(reason) => {
                tracing::warn!(reason, "the upstream's answer cannot be passed on");
                (
                    Ending::UpstreamBroke,
                    502,
                    format!("{name} gave an answer that cannot be passed on."),
                )
            }
            NoAnswer::Body | NoAnswer::BodyTimeout | NoAnswer::Client(_) => (
                Ending::UpstreamBroke,
                502,
                format!("{name} broke off its answer."),
            ),
        };
        Failure {
            ending: match no_answer {
                NoAnswer::BodyTimeout => Ending::UpstreamTimeout,
                _ => ending,
            },
            reply: Some(Reply::failure(status, &text)),
        }
    }
}

/// How far a request's body got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upload {
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
enum Passed {
    Whole { persists: bool },
    Tunnel,
}

/// Why there is no answer, or no whole one.
enum NoAnswer {
    /// The upstream's answer is none that can be passed on.
    Bad(String),
    /// The answer has begun, and does not go on.
    Body,
    BodyTimeout,
    /// The client does not take it.
    Client(Ending),
    /// The connection ended before the answer.
    Ended,
    Timeout,
}

impl NoAnswer {
    fn bad(error: &dyn std::fmt::Display) -> Self {
        Self::Bad(error.to_string())
    }

    fn client(_: io::Error) -> Self {
        Self::Client(Ending::ClientLeft)
    }

    fn of_body(error: &PumpError) -> Self {
        match error {
            PumpError::Sink(_) => Self::Client(Ending::ClientLeft),
            PumpError::SinkIdle => Self::Client(Ending::ClientTimeout),
            PumpError::SourceIdle => Self::BodyTimeout,
            PumpError::Source(_) | PumpError::TooLarge => Self::Body,
        }
    }
}

impl Failure {
    fn client_left() -> Self {
        Self {
            ending: Ending::ClientLeft,
            reply: None,
        }
    }

    /// Why the request's body did not get through.
    fn upload(error: &PumpError, most: u64) -> Self {
        let (ending, status, text) = match error {
            PumpError::TooLarge => (Ending::Refused(BODY_TOO_LARGE), 413, too_large(most)),
            PumpError::Source(BodyError::Chunk(_)) => (
                Ending::Refused(BAD_BODY),
                400,
                "The body of the request is malformed.".to_owned(),
            ),
            PumpError::SourceIdle => (
                Ending::ClientTimeout,
                408,
                "The body of the request did not come in time.".to_owned(),
            ),
            PumpError::Sink(_) | PumpError::SinkIdle | PumpError::Source(_) => {
                return Self::client_left();
            }
        };
        Self {
            ending,
            reply: Some(Reply::failure(status, &text)),
        }
    }
}

/// How long a connection that will not be read any further is kept, so that its answer arrives before it is reset.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
