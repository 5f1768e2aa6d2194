//! Simulates the HTTP and gRPC calls that a filter makes to other services.
//!
//! No call leaves the process: each cluster that a plugin knows has a script of responses, and a test may also respond to a
//! call itself. A response arrives after the callback has returned and its delay has passed on the clock, never within the
//! call. Failures are responses, as in Envoy 1.40: a refused or reset connection is a 503 with a text, a timeout is a 504.
//! A filter that checks for missing headers, the specification's sign of failure, does not notice them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::abi::{HeaderMap, Status, lines};
use crate::envoy::profile::Profile;

/// A service that a plugin may call, with its scripted responses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's name in Envoy's configuration.
    pub name: String,
    /// The responses in order; the last one is repeated for every further call. Without responses, calls wait for their
    /// timeout or for [`crate::Plugin::respond`].
    pub responses: Vec<DelayedResponse>,
}

/// A response and its delay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedResponse {
    /// The time from the call to the response, on the virtual clock.
    pub delay: Duration,
    /// The response.
    pub response: CallResponse,
}

/// A response to a call, or the way in which the call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallResponse {
    /// The connection was refused.
    Refused,
    /// The connection was reset before the response arrived.
    Reset,
    /// The response does not arrive before the call's timeout. A call without a timeout gets no response.
    TimedOut,
    /// The host cancelled the call, so the callback has no headers at all.
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
    /// The events of a gRPC service. A unary call delivers the last message, or the close.
    Grpc(Vec<GrpcEvent>),
}

/// An event of a gRPC call or stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcEvent {
    /// Initial metadata; streams only.
    InitialMetadata(HeaderMap),
    /// A message.
    Message(Vec<u8>),
    /// Trailing metadata; streams only.
    TrailingMetadata(HeaderMap),
    /// The end of the call.
    Close {
        /// The gRPC status; 0 for success.
        status: u32,
        /// The gRPC message.
        message: String,
    },
}

/// A call that a filter made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOut {
    /// The id that the filter received.
    pub id: u32,
    /// The kind of the call.
    pub kind: CallKind,
    /// The name of the cluster.
    pub cluster: String,
    /// The request's headers; for gRPC the initial metadata.
    pub headers: HeaderMap,
    /// The body, or the concatenated gRPC messages sent so far.
    pub body: Vec<u8>,
    /// The request's trailers.
    pub trailers: HeaderMap,
    /// The timeout; `None` for no timeout.
    pub timeout: Option<Duration>,
}

/// The kind of a call.
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

/// A callback that delivers a response or an event of a call.
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
    clusters: Vec<Cluster>,
    /// The number of calls to each cluster.
    counts: BTreeMap<String, usize>,
    next: u32,
    open: BTreeMap<u32, OpenCall>,
    /// The time of the next callback of each open call that has one, with the call's id.
    due: BTreeSet<(u64, u32)>,
}

/// The fuel used by callbacks that cause each other without time passing: a call-out's callback, that of a call which it
/// made, and so on.
#[derive(Clone, Default)]
pub(crate) struct Chain(Arc<AtomicU64>);

/// A callback that is due.
pub(crate) struct DueArrival {
    pub(crate) plugin: u32,
    /// The call's id.
    pub(crate) call: u32,
    pub(crate) arrival: Arrival,
    /// The chain to which calls belong that the callback makes.
    pub(crate) chain: Chain,
}

struct OpenCall {
    plugin: u32,
    call: CallOut,
    opened_at: u64,
    chain: Chain,
    /// The pending callbacks with their times. Those of one response are due at the same time, in order.
    arrivals: VecDeque<(u64, Arrival)>,
    deadline: Option<u64>,
}

impl Chain {
    /// Adds fuel and returns the sum.
    pub(crate) fn add(&self, fuel: u64) -> u64 {
        let before = self.0.fetch_add(fuel, Ordering::Relaxed);
        before.saturating_add(fuel)
    }
}

impl CallKind {
    fn is_http(&self) -> bool {
        matches!(self, Self::Http)
    }

    fn is_unary(&self) -> bool {
        matches!(self, Self::GrpcCall { .. })
    }

    /// Returns the low bits of Envoy's call ids, which distinguish an id of another kind from an unknown one.
    fn token(&self) -> u32 {
        match self {
            Self::Http => HTTP,
            Self::GrpcCall { .. } => GRPC_CALL,
            Self::GrpcStream { .. } => GRPC_STREAM,
        }
    }
}

impl Calls {
    pub(crate) fn add_clusters(&mut self, clusters: Vec<Cluster>) {
        self.clusters.extend(clusters);
    }

    pub(crate) fn has_cluster(&self, name: &str) -> bool {
        self.clusters.iter().any(|cluster| cluster.name == name)
    }

    /// Opens a call of `plugin` at time `now` and returns its id.
    pub(crate) fn open(
        &mut self,
        plugin: u32,
        mut call: CallOut,
        chain: Chain,
        now: u64,
        profile: Profile,
    ) -> u32 {
        self.next = self.next.wrapping_add(1);
        let id = self.next.wrapping_mul(TOKEN_STEP) | call.kind.token();
        call.id = id;
        let count = self.counts.entry(call.cluster.clone()).or_default();
        let cluster = self
            .clusters
            .iter()
            .find(|cluster| cluster.name == call.cluster);
        let response = cluster.and_then(|cluster| {
            let responses = &cluster.responses;
            responses.get(*count).or_else(|| responses.last())
        });
        *count += 1;
        let deadline = call
            .timeout
            .map(|timeout| now.saturating_add(nanoseconds(timeout)));
        let arrivals = match response {
            // The deadline is the end of such a call.
            None
            | Some(DelayedResponse {
                response: CallResponse::TimedOut,
                ..
            }) => VecDeque::new(),
            Some(DelayedResponse { delay, response }) => {
                let due = now.saturating_add(nanoseconds(*delay));
                arrivals(&call.kind, response, profile)
                    .map(|arrival| (due, arrival))
                    .collect()
            }
        };
        self.insert(
            id,
            OpenCall {
                plugin,
                call,
                opened_at: now,
                chain,
                arrivals,
                deadline,
            },
        );
        id
    }

    /// Schedules a response at time `now`. Returns false if there is no such call.
    pub(crate) fn respond(
        &mut self,
        id: u32,
        response: &CallResponse,
        now: u64,
        profile: Profile,
    ) -> bool {
        let Some(mut open) = self.remove(id) else {
            return false;
        };
        let arrivals = arrivals(&open.call.kind, response, profile);
        open.arrivals.extend(arrivals.map(|arrival| (now, arrival)));
        open.chain = Chain::default();
        self.insert(id, open);
        true
    }

    fn insert(&mut self, id: u32, open: OpenCall) {
        if let Some(due) = open.due() {
            self.due.insert((due, id));
        }
        self.open.insert(id, open);
    }

    fn remove(&mut self, id: u32) -> Option<OpenCall> {
        let open = self.open.remove(&id)?;
        if let Some(due) = open.due() {
            self.due.remove(&(due, id));
        }
        Some(open)
    }

    /// Returns the calls that have not ended.
    pub(crate) fn open_calls(&self) -> impl Iterator<Item = &CallOut> {
        self.open.values().map(|open| &open.call)
    }

    /// Sends a message on a gRPC stream.
    pub(crate) fn send(&mut self, id: u32, message: &[u8]) -> Result<(), Status> {
        if id & TOKEN_MASK != GRPC_STREAM {
            return Err(Status::BadArgument);
        }
        let open = self.open.get_mut(&id).ok_or(Status::NotFound)?;
        open.call.body.extend(message);
        Ok(())
    }

    /// Cancels a gRPC call: no further callback follows.
    pub(crate) fn cancel(&mut self, id: u32) -> Result<(), Status> {
        if !matches!(id & TOKEN_MASK, GRPC_CALL | GRPC_STREAM) {
            return Err(Status::BadArgument);
        }
        self.remove(id).map(|_| ()).ok_or(Status::NotFound)
    }

    /// Half-closes a gRPC stream, which still receives; cancels a unary call.
    pub(crate) fn close(&mut self, id: u32) -> Result<(), Status> {
        match id & TOKEN_MASK {
            GRPC_CALL => self.cancel(id),
            GRPC_STREAM => self.open.get(&id).map(|_| ()).ok_or(Status::NotFound),
            _ => Err(Status::BadArgument),
        }
    }

    /// Returns the time at which the next callback is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes the next callback that is due at `now`.
    pub(crate) fn take_due(&mut self, now: u64, profile: Profile) -> Option<DueArrival> {
        let (due, id) = self.due.first().copied().filter(|(due, _)| *due <= now)?;
        let mut open = self.remove(id)?;
        let is_in_time = |due: u64| open.deadline.is_none_or(|deadline| due <= deadline);
        let arrival = match open.arrivals.front() {
            Some((due, _)) if is_in_time(*due) => open.arrivals.pop_front()?.1,
            _ => arrivals(&open.call.kind, &CallResponse::TimedOut, profile).next()?,
        };
        // Time has passed since the call, so its callback begins a new chain.
        if due > open.opened_at {
            open.chain = Chain::default();
        }
        let (plugin, chain) = (open.plugin, open.chain.clone());
        let ends = match &arrival {
            Arrival::Http { .. } | Arrival::Grpc(GrpcEvent::Close { .. }) => true,
            Arrival::Grpc(GrpcEvent::Message(_)) => open.call.kind.is_unary(),
            Arrival::Grpc(_) => false,
        };
        if !ends {
            self.insert(id, open);
        }
        Some(DueArrival {
            plugin,
            call: id,
            arrival,
            chain,
        })
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

/// Returns the callbacks that `response` leads to, in order.
fn arrivals(
    kind: &CallKind,
    response: &CallResponse,
    profile: Profile,
) -> impl Iterator<Item = Arrival> + use<> {
    let arrivals = if kind.is_http() {
        vec![http_arrival(response, profile)]
    } else {
        grpc_arrivals(kind, response)
    };
    arrivals.into_iter()
}

fn http_arrival(response: &CallResponse, profile: Profile) -> Arrival {
    let failure = |status, text: &str| {
        if profile.responds_to_failed_calls() {
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
    match response {
        CallResponse::Refused => failure("503", REFUSED),
        CallResponse::Reset => failure("503", RESET),
        CallResponse::TimedOut => failure("504", TIMED_OUT),
        CallResponse::NoHeaders | CallResponse::Grpc(_) => no_headers(),
        CallResponse::Http {
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

fn grpc_arrivals(kind: &CallKind, response: &CallResponse) -> Vec<Arrival> {
    let close = |status, message: &str| {
        vec![Arrival::Grpc(GrpcEvent::Close {
            status,
            message: message.to_owned(),
        })]
    };
    match response {
        CallResponse::Refused => close(GRPC_UNAVAILABLE, &format!("{REFUSED}{REFUSED_DETAILS}")),
        CallResponse::Reset => close(GRPC_UNAVAILABLE, &format!("{RESET}{RESET_DETAILS}")),
        CallResponse::TimedOut => {
            close(GRPC_UNAVAILABLE, &format!("{TIMED_OUT}{TIMED_OUT_DETAILS}"))
        }
        CallResponse::NoHeaders => close(GRPC_UNAVAILABLE, ""),
        CallResponse::Http { .. } => close(GRPC_UNKNOWN, "the response is not gRPC"),
        CallResponse::Grpc(events) if kind.is_unary() => unary_arrival(events),
        CallResponse::Grpc(events) => events.iter().map(arrival_of).collect(),
    }
}

/// Returns the end of a unary call: the last message if the status is success, otherwise a close. Metadata are not delivered.
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

/// Returns the event as Envoy delivers it: the origin of a status is appended to its message.
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

/// Envoy 1.40's response code detail for a response that came from the service.
const FROM_UPSTREAM: &str = "via_upstream";

/// The body of Envoy 1.40's local reply.
const REFUSED: &str = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
/// The body of Envoy 1.40's local reply.
const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
/// The body of Envoy 1.40's local reply.
const TIMED_OUT: &str = "upstream request timeout";

/// The suffix of a gRPC message, as measured in Envoy 1.40.
const REFUSED_DETAILS: &str = "{upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}}";
/// Like [`REFUSED_DETAILS`], but derived from its pattern, not measured.
const RESET_DETAILS: &str = "{upstream_reset_before_response_started{connection_termination}}";
/// Like [`REFUSED_DETAILS`].
const TIMED_OUT_DETAILS: &str = "{response_timeout}";
