//! What becomes of the calls that a filter makes to other services?
//!
//! Nobody is really called: each upstream that a plugin knows has a script of answers, and a call may also be answered
//! by hand. An answer comes when the callback is over and its delay has passed on the clock, never within the call.
//! Failures look as in Envoy 1.40, where they are responses: refused and reset are a 503 with a text, a time-out is a
//! 504. A filter that looks for "no headers", the specification's sign of failure, lets them pass.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::abi::Status;
use crate::abi::header_map::{HeaderMap, lines};
use crate::envoy::profile::Profile;

/// A service that a plugin may call, by the name that Envoy's configuration gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstream {
    /// The cluster's name.
    pub name: String,
    /// Answers in order; the last one is given to every further call. None: calls wait for their time-out, or for
    /// [`crate::Plugin::answer`].
    pub answers: Vec<DelayedAnswer>,
}

/// An answer and when it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedAnswer {
    /// Time after the call, on the virtual clock.
    pub delay: Duration,
    /// The answer.
    pub answer: Answer,
}

/// How a call ends, or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Nobody listens.
    Refused,
    /// The connection broke before the response came.
    Reset,
    /// The response did not come in time.
    TimedOut,
    /// The call was given up on this side, so that there are no headers at all.
    NoHeaders,
    /// A response to an HTTP call.
    Http {
        /// Headers, `:status` first.
        headers: HeaderMap,
        /// The body.
        body: Vec<u8>,
        /// The trailers.
        trailers: HeaderMap,
    },
    /// What a gRPC service says. A unary call takes the first message, or the close.
    Grpc(Vec<GrpcEvent>),
}

/// Something that arrives for a gRPC call or stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcEvent {
    /// Metadata at the start; streams only.
    InitialMetadata(HeaderMap),
    /// A message.
    Message(Vec<u8>),
    /// Metadata at the end; streams only.
    TrailingMetadata(HeaderMap),
    /// The end, with its status.
    Close {
        /// 0 for success.
        status: u32,
        /// The text beside it.
        message: String,
    },
}

/// A call that a filter made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOut {
    /// The id that the filter was given.
    pub id: u32,
    /// What kind of call it is.
    pub kind: CallKind,
    /// The upstream's name.
    pub upstream: String,
    /// The request's headers; for gRPC the initial metadata.
    pub headers: HeaderMap,
    /// The body, or the messages sent so far, one after the other.
    pub body: Vec<u8>,
    /// The request's trailers.
    pub trailers: HeaderMap,
    /// The time-out; `None` for none.
    pub timeout: Option<Duration>,
}

/// What kind of call a filter made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallKind {
    /// `proxy_http_call`.
    Http,
    /// `proxy_grpc_call`.
    GrpcCall {
        /// The service.
        service: String,
        /// Its method.
        method: String,
    },
    /// `proxy_grpc_stream`.
    GrpcStream {
        /// The service.
        service: String,
        /// Its method.
        method: String,
    },
}

/// One callback that a call leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    Http {
        headers: HeaderMap,
        body: Vec<u8>,
        trailers: HeaderMap,
    },
    Grpc(GrpcEvent),
}

/// The calls of one VM.
#[derive(Default)]
pub(crate) struct Calls {
    upstreams: Vec<Upstream>,
    /// How many calls each upstream has had.
    counts: BTreeMap<String, usize>,
    next: u32,
    open: BTreeMap<u32, OpenCall>,
}

struct OpenCall {
    plugin: u32,
    call: CallOut,
    /// What will arrive and when; all of one answer comes at the same time, in order.
    arrivals: VecDeque<(u64, Arrival)>,
    deadline: Option<u64>,
}

impl CallKind {
    fn is_http(&self) -> bool {
        matches!(self, Self::Http)
    }

    fn is_unary(&self) -> bool {
        matches!(self, Self::GrpcCall { .. })
    }

    /// Envoy's tokens say in their lowest bits what they are for, so that a wrong one can be told from an unknown one.
    fn token(&self) -> u32 {
        match self {
            Self::Http => HTTP,
            Self::GrpcCall { .. } => GRPC_CALL,
            Self::GrpcStream { .. } => GRPC_STREAM,
        }
    }
}

impl Calls {
    pub(crate) fn know(&mut self, upstreams: Vec<Upstream>) {
        self.upstreams.extend(upstreams);
    }

    pub(crate) fn knows(&self, upstream: &str) -> bool {
        self.upstreams.iter().any(|known| known.name == upstream)
    }

    /// Opens a call of `plugin` at time `now`; returns its id.
    pub(crate) fn open(
        &mut self,
        plugin: u32,
        mut call: CallOut,
        now: u64,
        profile: Profile,
    ) -> u32 {
        self.next = self.next.wrapping_add(1);
        let id = self.next.wrapping_mul(TOKEN_STEP) | call.kind.token();
        call.id = id;
        let count = self.counts.entry(call.upstream.clone()).or_default();
        let script = self
            .upstreams
            .iter()
            .find(|upstream| upstream.name == call.upstream);
        let answer = script.and_then(|upstream| {
            let answers = &upstream.answers;
            answers.get(*count).or_else(|| answers.last())
        });
        *count += 1;
        let deadline = call
            .timeout
            .map(|timeout| now.saturating_add(nanoseconds(timeout)));
        let arrivals = answer.map_or_else(VecDeque::new, |DelayedAnswer { delay, answer }| {
            let due = now.saturating_add(nanoseconds(*delay));
            arrivals(&call.kind, answer, profile)
                .map(|arrival| (due, arrival))
                .collect()
        });
        self.open.insert(
            id,
            OpenCall {
                plugin,
                call,
                arrivals,
                deadline,
            },
        );
        id
    }

    /// Schedules an answer by hand; false if there is no such call.
    pub(crate) fn answer(&mut self, id: u32, answer: &Answer, now: u64, profile: Profile) -> bool {
        let Some(open) = self.open.get_mut(&id) else {
            return false;
        };
        let arrivals = arrivals(&open.call.kind, answer, profile);
        open.arrivals.extend(arrivals.map(|arrival| (now, arrival)));
        true
    }

    /// The calls that have not ended.
    pub(crate) fn open_calls(&self) -> impl Iterator<Item = &CallOut> {
        self.open.values().map(|open| &open.call)
    }

    /// Adds a message to a stream's own side.
    pub(crate) fn send(&mut self, id: u32, message: &[u8]) -> Result<(), Status> {
        if id & TOKEN_MASK != GRPC_STREAM {
            return Err(Status::BadArgument);
        }
        let open = self.open.get_mut(&id).ok_or(Status::NotFound)?;
        open.call.body.extend(message);
        Ok(())
    }

    /// Gives a gRPC call up: nothing more of it arrives.
    pub(crate) fn cancel(&mut self, id: u32) -> Result<(), Status> {
        if !matches!(id & TOKEN_MASK, GRPC_CALL | GRPC_STREAM) {
            return Err(Status::BadArgument);
        }
        self.open.remove(&id).map(|_| ()).ok_or(Status::NotFound)
    }

    /// Closes the own side: a unary call is given up, a stream still receives.
    pub(crate) fn close(&mut self, id: u32) -> Result<(), Status> {
        match id & TOKEN_MASK {
            GRPC_CALL => self.cancel(id),
            GRPC_STREAM => self.open.get(&id).map(|_| ()).ok_or(Status::NotFound),
            _ => Err(Status::BadArgument),
        }
    }

    /// When the next callback for a call is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.open.values().filter_map(OpenCall::due).min()
    }

    /// Takes the next callback that is due at `now`: plugin, call, what arrives.
    pub(crate) fn take_due(&mut self, now: u64, profile: Profile) -> Option<(u32, u32, Arrival)> {
        let id = self
            .open
            .iter()
            .filter_map(|(id, open)| open.due().map(|due| (due, *id)))
            .filter(|(due, _)| *due <= now)
            .min()
            .map(|(_, id)| id)?;
        let open = self.open.get_mut(&id)?;
        let is_late = open.arrival_due() > open.deadline;
        let arrival = match open.arrivals.pop_front() {
            Some((due, arrival)) if open.deadline.is_none_or(|deadline| due <= deadline) => arrival,
            _ => {
                debug_assert!(is_late || open.deadline.is_some());
                arrivals(&open.call.kind, &Answer::TimedOut, profile).next()?
            }
        };
        let plugin = open.plugin;
        let ends = match &arrival {
            Arrival::Http { .. } | Arrival::Grpc(GrpcEvent::Close { .. }) => true,
            Arrival::Grpc(GrpcEvent::Message(_)) => open.call.kind.is_unary(),
            Arrival::Grpc(_) => false,
        };
        if ends {
            self.open.remove(&id);
        }
        Some((plugin, id, arrival))
    }
}

impl OpenCall {
    fn arrival_due(&self) -> Option<u64> {
        self.arrivals.front().map(|(due, _)| *due)
    }

    fn due(&self) -> Option<u64> {
        match (self.arrival_due(), self.deadline) {
            (Some(due), Some(deadline)) => Some(due.min(deadline)),
            (due, deadline) => due.or(deadline),
        }
    }
}

/// The callbacks that `answer` leads to, in order.
fn arrivals(
    kind: &CallKind,
    answer: &Answer,
    profile: Profile,
) -> impl Iterator<Item = Arrival> + use<> {
    let arrivals = if kind.is_http() {
        vec![http_arrival(answer, profile)]
    } else {
        grpc_arrivals(kind, answer)
    };
    arrivals.into_iter()
}

fn http_arrival(answer: &Answer, profile: Profile) -> Arrival {
    let failure = |status, text: &str| {
        if profile.answers_for_failed_calls() {
            let length = text.len().to_string();
            Arrival::Http {
                headers: lines(&[
                    (":status", status),
                    ("content-length", &length),
                    ("content-type", "text/plain"),
                ]),
                body: text.as_bytes().to_vec(),
                trailers: HeaderMap::default(),
            }
        } else {
            no_headers()
        }
    };
    match answer {
        Answer::Refused => failure("503", REFUSED),
        Answer::Reset => failure("503", RESET),
        Answer::TimedOut => failure("504", TIMED_OUT),
        Answer::NoHeaders | Answer::Grpc(_) => no_headers(),
        Answer::Http {
            headers,
            body,
            trailers,
        } => Arrival::Http {
            headers: headers.clone(),
            body: body.clone(),
            trailers: trailers.clone(),
        },
    }
}

fn no_headers() -> Arrival {
    Arrival::Http {
        headers: HeaderMap::default(),
        body: Vec::new(),
        trailers: HeaderMap::default(),
    }
}

fn grpc_arrivals(kind: &CallKind, answer: &Answer) -> Vec<Arrival> {
    let close = |status, message: &str| {
        vec![Arrival::Grpc(GrpcEvent::Close {
            status,
            message: message.to_owned(),
        })]
    };
    match answer {
        Answer::Refused => close(GRPC_UNAVAILABLE, &format!("{REFUSED}{REFUSED_DETAILS}")),
        Answer::Reset => close(GRPC_UNAVAILABLE, &format!("{RESET}{RESET_DETAILS}")),
        Answer::TimedOut => close(GRPC_UNAVAILABLE, &format!("{TIMED_OUT}{TIMED_OUT_DETAILS}")),
        Answer::NoHeaders => close(GRPC_UNAVAILABLE, ""),
        Answer::Http { .. } => close(GRPC_UNKNOWN, "the answer is not gRPC"),
        Answer::Grpc(events) if kind.is_unary() => unary_arrival(events),
        Answer::Grpc(events) => events.iter().map(arrival_of).collect(),
    }
}

/// What a unary call ends in: the last message if the status is success, else a close. Metadata is not delivered.
fn unary_arrival(events: &[GrpcEvent]) -> Vec<Arrival> {
    let message = events
        .iter()
        .rfind(|event| matches!(event, GrpcEvent::Message(_)));
    let close = events
        .iter()
        .find(|event| matches!(event, GrpcEvent::Close { .. }));
    let without_text = |status| {
        Arrival::Grpc(GrpcEvent::Close {
            status,
            message: String::new(),
        })
    };
    vec![match (message, close) {
        (_, Some(close @ GrpcEvent::Close { status: 1.., .. })) => arrival_of(close),
        (Some(message), _) => arrival_of(message),
        (None, Some(_)) => without_text(GRPC_INTERNAL),
        (None, None) => without_text(GRPC_UNKNOWN),
    }]
}

/// The event as Envoy delivers it: behind the text of a status stands where it is from.
fn arrival_of(event: &GrpcEvent) -> Arrival {
    Arrival::Grpc(match event {
        GrpcEvent::Close { status, message } => GrpcEvent::Close {
            status: *status,
            message: if message.is_empty() {
                FROM_UPSTREAM.to_owned()
            } else {
                format!("{message}{{{FROM_UPSTREAM}}}")
            },
        },
        other => other.clone(),
    })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const HTTP: u32 = 0;
const GRPC_CALL: u32 = 1;
const GRPC_STREAM: u32 = 2;
const TOKEN_MASK: u32 = 3;
const TOKEN_STEP: u32 = 4;

const GRPC_UNKNOWN: u32 = 2;
const GRPC_INTERNAL: u32 = 13;
const GRPC_UNAVAILABLE: u32 = 14;

/// Envoy 1.40's word for a response that is the service's own.
const FROM_UPSTREAM: &str = "via_upstream";

/// Envoy 1.40's text in place of a response.
const REFUSED: &str = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
/// Envoy 1.40's text in place of a response.
const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
/// Envoy 1.40's text in place of a response.
const TIMED_OUT: &str = "upstream request timeout";

/// What follows the text in the message of a gRPC call, as seen in Envoy 1.40.
const REFUSED_DETAILS: &str = "{upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}}";
/// As [`REFUSED_DETAILS`]; by its pattern, not seen.
const RESET_DETAILS: &str = "{upstream_reset_before_response_started{connection_termination}}";
/// As [`REFUSED_DETAILS`].
const TIMED_OUT_DETAILS: &str = "{response_timeout}";
