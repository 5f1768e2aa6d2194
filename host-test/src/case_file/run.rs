//! What comes of a case under this host?
//!
//! Each case has a process of its own. A request is presented as Envoy would present it, see [`crate::envoy`]. While the
//! filter holds a message back, time moves on to the next tick, answer or time-out, so that a call-out's answer comes
//! without anybody waiting; what is still held when nothing more can come was left paused for ever.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use fluxlit_cases::{Case, CaseFile, Exchange, Version, latin1};

use super::connections;
use super::convert::{self, borrow};
use super::schedule::{Frames, Schedule};
use super::start::{NotStarted, Started, enqueue};
use crate::abi::property::{Properties, Value};
use crate::chain::{ChainOutcome, ChainStream};
use crate::envoy;
use crate::envoy::codec::{self, Refusal};
use crate::envoy::profile::Profile;
use crate::plugin::{Plugin, Refused, StartOptions};
use crate::process::{Metric, Process};
use crate::stream::{Flow, Side};
use crate::vm::exchange::Event;
use crate::vm::failure::Failure;
use crate::vm::filter::{Filter, LoadError, LoadOptions};
use crate::vm::outcome::{Message, Outcome};
use crate::vm::state::LogLine;

/// Runs cases through a module.
pub struct Runner {
    pub(super) filter: Filter,
    /// What every case starts with before its own settings: profile, fuel, faults.
    pub options: StartOptions,
    /// What other modules of a chain may be loaded in spite of.
    pub load_options: LoadOptions,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// How it went.
    pub ending: Ending,
    /// What came of its connections, if it has any.
    pub connections: Vec<Outcome>,
    /// For each exchange, how many milliseconds the filter held its messages back.
    pub held_ms: Vec<u64>,
    /// What the plugin itself logged.
    pub logs: Vec<LogLine>,
    /// The metrics.
    pub metrics: BTreeMap<String, Metric>,
    /// What the metrics were before the first exchange.
    pub metrics_at_start: BTreeMap<String, Metric>,
    /// Whether plugins have asked for ticks: then what they do depends on how much time passes.
    pub has_ticks: bool,
    /// The values of the shared data that the case asks for.
    pub shared_data: BTreeMap<String, Option<Vec<u8>>>,
    /// The messages in each of the queues that the case asks for, in the case's order.
    pub queues: Vec<Option<Vec<Vec<u8>>>>,
    /// How a VM of the tested plugin failed, if one did.
    pub failure: Option<Failure>,
}

/// How a case went.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The configuration was refused, with this message.
    Refused(String),
    /// The configuration was accepted, and its exchanges went like this.
    Served(Vec<ChainOutcome>),
}

impl Runner {
    /// Runs cases through `filter`.
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            options: StartOptions::default(),
            load_options: LoadOptions::default(),
        }
    }

    /// The module.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Runs a case of `file`, which was read from `path`, and says in what it misses its expectation: one readable line
    /// a miss.
    ///
    /// # Errors
    ///
    /// A module of a chain cannot be loaded.
    pub fn misses(
        &self,
        path: &Path,
        file: &CaseFile,
        case: &Case,
        schedule: Schedule,
    ) -> Result<Vec<String>, LoadError> {
        let ran = self.run(path, file, case, schedule)?;
        Ok(ran.misses(case))
    }

    /// Runs a case of `file`, which was read from `path`.
    ///
    /// # Errors
    ///
    /// A module of a chain cannot be loaded.
    pub fn run(
        &self,
        path: &Path,
        file: &CaseFile,
        case: &Case,
        schedule: Schedule,
    ) -> Result<Ran, LoadError> {
        Ok(match self.start(path, file, case)? {
            Ok(started) => run_started(&started, case, schedule),
            Err(NotStarted {
                process,
                vm_id,
                refused,
            }) => {
                let ending = Ending::Refused(refusal_text(&refused));
                let (shared_data, queues) = left_behind(&process, &vm_id, case);
                Ran {
                    ending,
                    connections: Vec::new(),
                    held_ms: Vec::new(),
                    logs: refused.logs,
                    metrics: process.metrics(),
                    metrics_at_start: BTreeMap::new(),
                    has_ticks: false,
                    shared_data,
                    queues,
                    failure: None,
                }
            }
        })
    }

    /// The profile that cases are run under.
    pub fn profile(&self) -> Profile {
        self.options.profile
    }
}

fn run_started(started: &Started, case: &Case, schedule: Schedule) -> Ran {
    let (mut outcomes, mut held_ms) = (Vec::new(), Vec::new());
    let metrics_at_start = started.process.metrics();
    for group in case.groups() {
        for (outcome, held) in serve(started, &group, schedule) {
            outcomes.push(outcome);
            held_ms.push(held);
        }
    }
    let connections = case
        .connections
        .iter()
        .map(|connection| connections::run(started, connection))
        .collect();
    let process = &started.process;
    process.advance(Duration::from_millis(case.finally.after_ms));
    let (shared_data, queues) = left_behind(process, &started.vm_id, case);
    Ran {
        ending: Ending::Served(outcomes),
        connections,
        held_ms,
        logs: started.logs(),
        metrics: process.metrics(),
        metrics_at_start,
        has_ticks: process.has_ticks(),
        shared_data,
        queues,
        failure: started.all_tested().find_map(Plugin::failure),
    }
}

type SharedData = BTreeMap<String, Option<Vec<u8>>>;
type Queues = Vec<Option<Vec<Vec<u8>>>>;

/// What the case asks for in the end.
fn left_behind(process: &Process, vm_id: &str, case: &Case) -> (SharedData, Queues) {
    let keys = case.finally.shared_data.keys();
    let shared_data = keys
        .map(|key| {
            let value = process.shared_data(vm_id, &latin1::bytes(key));
            (key.clone(), value)
        })
        .collect();
    let queues = case.finally.queues.iter();
    let queues = queues
        .map(|queue| {
            let vm_id = queue.vm_id.as_deref().unwrap_or(vm_id);
            process.queue(vm_id, &latin1::bytes(&queue.name))
        })
        .collect();
    (shared_data, queues)
}

/// One stream, while it is served.
struct Serving<'a> {
    exchange: &'a Exchange,
    stream: ChainStream,
    held: u64,
    /// What Envoy answers in place of the upstream.
    refusal: Option<Refusal>,
}

/// Serves an exchange and those alongside; returns what came of each, and the milliseconds that it was held back.
pub(super) fn serve(
    started: &Started,
    group: &Exchange,
    schedule: Schedule,
) -> Vec<(ChainOutcome, u64)> {
    play(started, group, &Prepared::of(started, group, schedule))
}

/// An exchange in this host's own types.
#[derive(Clone)]
pub(super) struct Prepared<'a> {
    exchange: &'a Exchange,
    properties: Properties,
    request: VecDeque<Event>,
    answer: VecDeque<Event>,
}

impl<'a> Prepared<'a> {
    /// The exchange `group` and those alongside it.
    pub(super) fn of(started: &Started, group: &'a Exchange, schedule: Schedule) -> Vec<Self> {
        let recorded_as = started.recorded_as.as_deref();
        std::iter::once(group)
            .chain(&group.alongside)
            .map(|exchange| {
                let request = &exchange.request;
                let (tls, own) = (request.tls, &request.properties);
                let protocol = Value::Text(request.http.name().to_owned());
                Self {
                    exchange,
                    properties: convert::properties(request.peer, tls, own, recorded_as)
                        .with(&["request", "protocol"], protocol),
                    request: request_events(exchange, schedule),
                    answer: answer_events(exchange, schedule),
                }
            })
            .collect()
    }
}

/// Plays exchanges at the same time; returns what came of each and for how many milliseconds it was held.
pub(super) fn play(
    started: &Started,
    group: &Exchange,
    prepared: &[Prepared<'_>],
) -> Vec<(ChainOutcome, u64)> {
    let process = &started.process;
    process.advance(Duration::from_millis(group.after_ms));
    let mut all: Vec<Serving<'_>> = prepared.iter().map(|each| open(started, each)).collect();
    let requests = prepared.iter().map(|each| each.request.clone()).collect();
    feed(process, &mut all, Side::Request, requests);
    // The upstream answers when it has been asked, whether or not the request is complete by then.
    let mut answers = Vec::new();
    for (each, prepared) in all.iter_mut().zip(prepared) {
        let asked = each.stream.headers(Side::Request);
        each.refusal = asked
            .as_ref()
            .filter(|_| started.profile.refuses_broken_messages())
            .and_then(codec::refused_request);
        answers.push(match (asked, &each.refusal) {
            (None, _) => VecDeque::new(),
            (Some(_), _) if each.stream.flow(Side::Request) == Flow::Reset => VecDeque::new(),
            (Some(_), Some(refusal)) => refusal.events(),
            (Some(_), None) => {
                process.advance(Duration::from_millis(each.exchange.answer.delay_ms));
                prepared.answer.clone()
            }
        });
    }
    feed(process, &mut all, Side::Response, answers);
    all.into_iter()
        .map(|each| {
            let held = each.held / NANOSECONDS;
            (finish(started.profile, each), held)
        })
        .collect()
}

/// Ends a stream; what left the filters is as their peers receive it.
fn finish(profile: Profile, each: Serving<'_>) -> ChainOutcome {
    let mut outcome = each.stream.finish();
    if profile.refuses_broken_messages() {
        outcome.upstream = match each.refusal {
            Some(_) => None,
            None => outcome.upstream.map(|message| Message {
                headers: codec::sent_request(&message.headers),
                ..message
            }),
        };
        let is_http2 = each.exchange.request.http == Version::Http2;
        outcome.downstream = outcome
            .downstream
            .and_then(|message| codec::sent_response(message, is_http2));
    }
    outcome
}

fn open<'a>(started: &Started, prepared: &Prepared<'a>) -> Serving<'a> {
    let exchange = prepared.exchange;
    enqueue(&started.process, &started.vm_id, &exchange.enqueue);
    Serving {
        exchange,
        stream: started.chain(exchange.worker).stream(&prepared.properties),
        held: 0,
        refusal: None,
    }
}

fn request_events(exchange: &Exchange, schedule: Schedule) -> VecDeque<Event> {
    let request = &exchange.request;
    let frames = Frames {
        body: &request.body,
        frames: &request.frames,
        size: request.frame_size,
        trailers: &request.trailers,
    };
    schedule.cut(convert::request_headers(request), &frames)
}

fn answer_events(exchange: &Exchange, schedule: Schedule) -> VecDeque<Event> {
    let answer = &exchange.answer;
    let fields = latin1::fields(&answer.headers);
    let frames = Frames {
        body: &answer.body,
        frames: &answer.frames,
        size: answer.frame_size,
        trailers: &answer.trailers,
    };
    schedule.cut(
        envoy::response_headers(answer.status, borrow(&fields)),
        &frames,
    )
}

/// Feeds messages, an event of each in turn; while one is held back at the end, time moves on.
fn feed(
    process: &Process,
    all: &mut [Serving<'_>],
    side: Side,
    mut messages: Vec<VecDeque<Event>>,
) {
    while messages.iter().any(|events| !events.is_empty()) {
        for (each, events) in all.iter_mut().zip(&mut messages) {
            if let Some(event) = events.pop_front() {
                each.stream.feed(side, event);
            }
        }
    }
    let patience = u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
    let deadline = process.now().saturating_add(patience);
    loop {
        let held: Vec<bool> = all
            .iter_mut()
            .map(|each| each.stream.flow(side) == Flow::Paused)
            .collect();
        let before = process.now();
        let is_waiting = held.contains(&true) && before < deadline;
        if !is_waiting || !process.advance_to_next(PATIENCE) {
            return;
        }
        let passed = process.now().saturating_sub(before);
        for (each, _) in all.iter_mut().zip(held).filter(|(_, held)| *held) {
            each.held = each.held.saturating_add(passed);
        }
    }
}

fn refusal_text(refused: &Refused) -> String {
    let mut lines: Vec<String> = refused.logs.iter().map(|line| line.text.clone()).collect();
    lines.push(refused.to_string());
    if let Some(failure) = &refused.failure {
        lines.push(failure.to_string());
    }
    lines.join("\n")
}

/// How long a held message is waited for: as long as Envoy's route waits for the upstream.
const PATIENCE: Duration = Duration::from_secs(15);

/// Nanoseconds of a millisecond.
const NANOSECONDS: u64 = 1_000_000;
