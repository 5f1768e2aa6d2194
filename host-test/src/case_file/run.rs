//! Runs the cases of a case file.
//!
//! Each case has its own process. A request is presented as Envoy would present it, see [`crate::envoy`]. While the filter
//! holds a message, time advances to the next tick, response or timeout, so that a test need not wait for call-outs; a
//! message that is still held when nothing more is due stays paused.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use fluxlit_cases::{Case, CaseFile, Exchange, InjectedFault, Request, Version, latin1};

use super::connections;
use super::convert::{self, borrow};
use super::result::{CaseResult, Ending, Queues, SharedData};
use super::schedule::{Frames, Schedule};
use super::start::{Base, StartFailure, StartedCase, enqueue, start};
use crate::abi::{CALLBACKS, Properties, Value};
use crate::chain::{ChainOutcome, ChainStream};
use crate::envoy;
use crate::envoy::codec::{self, ErrorReply};
use crate::envoy::profile::Profile;
use crate::event::{Event, Flow, Message, Side};
use crate::plugin::Plugin;
use crate::process::Process;
use crate::vm::failure::StartError;
use crate::vm::filter::{Filter, LoadError};
use crate::vm::host_functions;
use crate::vm::options::{LoadOptions, StartOptions};

/// Runs cases through a module.
pub struct Runner {
    filter: Filter,
    /// The options of every case, before its own settings: profile, fuel, faults.
    pub options: StartOptions,
    /// The options for loading other modules of a chain.
    pub load_options: LoadOptions,
}

impl Runner {
    /// Creates a runner for `filter`.
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            options: StartOptions::default(),
            load_options: LoadOptions::default(),
        }
    }

    /// Returns the module.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Runs a case of `file`, which was read from `path`, and returns its mismatches, one readable line each.
    ///
    /// # Errors
    ///
    /// If a module of a chain cannot be loaded.
    pub fn mismatches(
        &self,
        path: &Path,
        file: &CaseFile,
        case: &Case,
        schedule: Schedule,
    ) -> Result<Vec<String>, LoadError> {
        let result = self.run(path, file, case, schedule)?;
        let mut mismatches = unknown_faults(file, case);
        mismatches.extend(result.mismatches(case));
        Ok(mismatches)
    }

    /// Runs a case of `file`, which was read from `path`.
    ///
    /// # Errors
    ///
    /// If a module of a chain cannot be loaded.
    pub fn run(
        &self,
        path: &Path,
        file: &CaseFile,
        case: &Case,
        schedule: Schedule,
    ) -> Result<CaseResult, LoadError> {
        Ok(match start(&self.base(), path, file, case)? {
            Ok(started) => run_started(&started, case, schedule),
            Err(StartFailure {
                process,
                vm_id,
                error,
            }) => {
                let ending = Ending::Refused(refusal_text(&error));
                let (shared_data, queues) = final_state(&process, &vm_id, case);
                CaseResult {
                    ending,
                    connections: Vec::new(),
                    held_ms: Vec::new(),
                    logs: error.logs,
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

    /// Returns the inputs for starting any case.
    pub(super) fn base(&self) -> Base<'_> {
        Base {
            filter: &self.filter,
            options: &self.options,
            load_options: self.load_options,
        }
    }

    /// Returns the profile under which cases run.
    pub fn profile(&self) -> Profile {
        self.options.profile
    }
}

/// Returns an error for each fault at a point that does not exist, which would never happen.
fn unknown_faults(file: &CaseFile, case: &Case) -> Vec<String> {
    let plugin = case.plugin.as_ref().or(file.plugin.as_ref());
    let chained = file
        .chain
        .iter()
        .filter_map(|chained| chained.plugin.as_ref());
    let faults = plugin
        .into_iter()
        .chain(chained)
        .flat_map(|plugin| &plugin.faults);
    let is_known = |fault: &&InjectedFault| {
        fault.at == InjectedFault::ALLOCATION
            || host_functions().contains(&fault.at.as_str())
            || CALLBACKS.iter().any(|(name, _, _)| *name == fault.at)
    };
    faults
        .filter(|fault| !is_known(fault))
        .map(|fault| {
            format!(
                "faults: there is no host function or callback `{}`; names are those of the ABI, such as `proxy_get_property`",
                fault.at
            )
        })
        .collect()
}

fn run_started(started: &StartedCase, case: &Case, schedule: Schedule) -> CaseResult {
    let (mut outcomes, mut held_ms) = (Vec::new(), Vec::new());
    let metrics_at_start = started.process.metrics();
    for group in case.groups() {
        for (outcome, held) in run_group(started, &group, schedule) {
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
    let (shared_data, queues) = final_state(process, &started.vm_id, case);
    CaseResult {
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

/// Returns the shared data and queues that the case names.
fn final_state(process: &Process, vm_id: &str, case: &Case) -> (SharedData, Queues) {
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

/// An exchange with its open stream.
struct OpenExchange<'a> {
    exchange: &'a Exchange,
    stream: ChainStream,
    /// The nanoseconds for which the filter held its messages.
    held: u64,
    /// The response that Envoy sends in place of the upstream.
    error_reply: Option<ErrorReply>,
}

/// Runs an exchange and those alongside; returns the outcome of each, and the milliseconds for which it was held.
fn run_group(
    started: &StartedCase,
    group: &Exchange,
    schedule: Schedule,
) -> Vec<(ChainOutcome, u64)> {
    run_prepared(
        started,
        group,
        &PreparedExchange::of(started, group, schedule),
    )
}

/// An exchange converted to the types of this host.
#[derive(Clone)]
pub(super) struct PreparedExchange<'a> {
    exchange: &'a Exchange,
    properties: Properties,
    request: VecDeque<Event>,
    answer: VecDeque<Event>,
}

impl<'a> PreparedExchange<'a> {
    /// Converts the exchange `group` and those alongside it.
    pub(super) fn of(started: &StartedCase, group: &'a Exchange, schedule: Schedule) -> Vec<Self> {
        let peer_key = started.peer_key.as_deref();
        std::iter::once(group)
            .chain(&group.alongside)
            .map(|exchange| {
                let request = &exchange.request;
                let (tls, own) = (request.tls, &request.properties);
                let protocol = Value::Text(request.http.name().to_owned());
                Self {
                    exchange,
                    properties: convert::properties(request.peer, tls, own, peer_key)
                        .with(&["request", "protocol"], protocol),
                    request: request_events(exchange, schedule),
                    answer: answer_events(exchange, schedule),
                }
            })
            .collect()
    }
}

/// Runs exchanges at the same time; returns the outcome of each, and the milliseconds for which it was held.
pub(super) fn run_prepared(
    started: &StartedCase,
    group: &Exchange,
    prepared: &[PreparedExchange<'_>],
) -> Vec<(ChainOutcome, u64)> {
    let process = &started.process;
    process.advance(Duration::from_millis(group.after_ms));
    let mut all: Vec<OpenExchange<'_>> = prepared.iter().map(|each| open(started, each)).collect();
    let requests = prepared.iter().map(|each| each.request.clone()).collect();
    feed(process, &mut all, Side::Request, requests);
    // The upstream responds once it has the request headers, even if the request is not complete.
    let mut answers = Vec::new();
    for (each, prepared) in all.iter_mut().zip(prepared) {
        let forwarded = each.stream.headers(Side::Request);
        each.error_reply = forwarded
            .as_ref()
            .filter(|_| started.profile.rejects_broken_messages())
            .and_then(codec::check_request);
        answers.push(match (forwarded, &each.error_reply) {
            (None, _) => VecDeque::new(),
            (Some(_), _) if each.stream.flow(Side::Request) == Flow::Reset => VecDeque::new(),
            (Some(_), Some(reply)) => reply.events(),
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

/// Ends a stream and converts the forwarded messages to what the peers receive.
fn finish(profile: Profile, each: OpenExchange<'_>) -> ChainOutcome {
    let mut outcome = each.stream.finish();
    if profile.rejects_broken_messages() && each.error_reply.is_some() {
        outcome.upstream = None;
    }
    to_received(profile, &each.exchange.request, &mut outcome);
    outcome
}

/// Converts the messages that a filter forwarded to what the peers receive.
pub(super) fn to_received(profile: Profile, request: &Request, outcome: &mut ChainOutcome) {
    if profile.rejects_broken_messages() {
        outcome.upstream = outcome.upstream.take().map(|message| Message {
            headers: codec::sent_request(&message.headers),
            ..message
        });
        let is_http2 = request.http == Version::Http2;
        let downstream = outcome.downstream.take();
        outcome.downstream = downstream.and_then(|message| codec::sent_response(message, is_http2));
    }
}

fn open<'a>(started: &StartedCase, prepared: &PreparedExchange<'a>) -> OpenExchange<'a> {
    let exchange = prepared.exchange;
    enqueue(&started.process, &started.vm_id, &exchange.enqueue);
    OpenExchange {
        exchange,
        stream: started.chain(exchange.worker).stream(&prepared.properties),
        held: 0,
        error_reply: None,
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

/// Feeds messages, one event of each in turn. While one of them is held afterwards, advances time.
fn feed(
    process: &Process,
    all: &mut [OpenExchange<'_>],
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
    let max_wait = u64::try_from(MAX_WAIT.as_nanos()).unwrap_or(u64::MAX);
    let deadline = process.now().saturating_add(max_wait);
    loop {
        let held: Vec<bool> = all
            .iter_mut()
            .map(|each| each.stream.flow(side) == Flow::Paused)
            .collect();
        let before = process.now();
        let is_waiting = held.contains(&true) && before < deadline;
        if !is_waiting || !process.advance_to_next(MAX_WAIT) {
            return;
        }
        let passed = process.now().saturating_sub(before);
        for (each, _) in all.iter_mut().zip(held).filter(|(_, held)| *held) {
            each.held = each.held.saturating_add(passed);
        }
    }
}

/// Returns the log and the error of a plugin that did not start.
fn refusal_text(error: &StartError) -> String {
    let mut lines: Vec<String> = error.logs.iter().map(|line| line.text.clone()).collect();
    lines.push(error.to_string());
    if let Some(failure) = &error.failure {
        lines.push(failure.to_string());
    }
    lines.join("\n")
}

/// The maximum time to wait for a held message: the timeout of a route in Envoy.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// Nanoseconds in a millisecond.
const NANOSECONDS: u64 = 1_000_000;
