//! Plans how to run a case in Envoy, or gives the reason why it cannot run there.
//!
//! The case runs in the test host first, because the calls that the filter makes decide the protocol of the services and
//! how long they may take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use fluxlit_support::http1::{self, Content, Kind};
use fluxlit_support::player::http2_request;
use fluxlit_support::script::{ResponseMessage, ScriptedResponse};
use fluxlit_support::upstream::Protocol;
use host_test::case_file::{
    Answer, Case, CaseFile, CaseResult, Ending, Exchange, PluginSetup, Request, Runner, Schedule,
    Version,
};
use host_test::chain::ChainOutcome;
use host_test::vm::{CallKind, CallOut};

use super::setup::EnvoySetup;

/// A case with the setup that it needs in Envoy, and its result in the test host.
pub(super) struct Plan<'a> {
    pub(super) path: &'a Path,
    pub(super) file: &'a CaseFile,
    pub(super) case: &'a Case,
    pub(super) ran: CaseResult,
    pub(super) exchanges: Vec<Exchange>,
    /// One for each exchange.
    pub(super) setups: Vec<EnvoySetup>,
    /// The setup of a case that sends no request.
    pub(super) idle_setup: EnvoySetup,
    pub(super) services: Vec<Service>,
    /// The time that a stream may be idle before Envoy resets it.
    pub(super) idle_timeout: Duration,
}

/// A service that the filter may call.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) script: Vec<ScriptedResponse>,
    /// Fields that its responses have on the wire but not in the case. Envoy removes them.
    pub(super) added_fields: Vec<&'static str>,
}

impl<'a> Plan<'a> {
    /// Runs the case in the test host and plans its run in Envoy. Returns the reason if the case cannot run there.
    ///
    /// # Errors
    ///
    /// If a module of a chain cannot be loaded.
    pub(super) fn make(
        runner: &Runner,
        path: &'a Path,
        file: &'a CaseFile,
        case: &'a Case,
    ) -> anyhow::Result<Result<Self, String>> {
        if let Some(reason) = unplayable(file, case) {
            return Ok(Err(reason));
        }
        let ran = runner.run(path, file, case, Schedule::default())?;
        Ok(Self::of(path, file, case, ran))
    }

    fn of(
        path: &'a Path,
        file: &'a CaseFile,
        case: &'a Case,
        ran: CaseResult,
    ) -> Result<Self, String> {
        let exchanges = case.exchanges();
        let setups = exchanges
            .iter()
            .map(|exchange| {
                playable(&exchange.request)?;
                let Answer {
                    status,
                    body,
                    frames,
                    ..
                } = &exchange.answer;
                let is_bodiless = exchange.request.method == "HEAD" || matches!(status, 204 | 304);
                if is_bodiless && !(body.is_empty() && frames.is_empty()) {
                    return Err(
                        "no response to HEAD, or of status 204 or 304, has a body".to_owned()
                    );
                }
                EnvoySetup::of(&exchange.request)
            })
            .collect::<Result<_, _>>()?;
        let outcomes = match &ran.ending {
            Ending::Served(outcomes) => outcomes.as_slice(),
            Ending::Refused(_) => &[],
        };
        let calls = || outcomes.iter().flat_map(call_outs);
        let services = services(file, case, calls)?;
        let delays = services
            .iter()
            .flat_map(|service| &service.script)
            .map(|response| match response {
                ScriptedResponse::Respond(delay, _) => *delay,
                _ => Duration::ZERO,
            });
        let waits: Duration = calls().filter_map(|call| call.timeout).chain(delays).sum();
        let passes: Duration = exchanges
            .iter()
            .map(|exchange| Duration::from_millis(exchange.after_ms + exchange.answer.delay_ms))
            .sum();
        // Only a call that times out takes as long as its timeout.
        let times_out = services
            .iter()
            .flat_map(|service| &service.script)
            .any(|response| matches!(response, ScriptedResponse::Silence));
        let takes = passes + if times_out { waits } else { Duration::ZERO };
        if takes > LONGEST {
            return Err(format!("it would take {} s of real time", takes.as_secs()));
        }
        Ok(Self {
            path,
            file,
            case,
            ran,
            exchanges,
            setups,
            idle_setup: EnvoySetup::default(),
            services,
            idle_timeout: IDLE_TIMEOUT
                + if times_out {
                    waits
                } else {
                    waits.min(IDLE_TIMEOUT)
                },
        })
    }

    /// Returns true if the case needs its own Envoy: cluster names, VM ids and the log level belong to the process, and a
    /// rejected configuration keeps Envoy from starting.
    pub(super) fn needs_own_envoy(&self) -> bool {
        let plugins = self.plugins();
        let has_own = |plugin: &PluginSetup| !plugin.vm_id.is_empty() || plugin.log_level.is_some();
        !self.services.is_empty()
            || self.exchanges.is_empty()
            || matches!(self.ran.ending, Ending::Refused(_))
            || plugins.iter().any(has_own)
    }

    /// Returns the filter state keys to compare: those that filters set as properties, and those that the case expects, if
    /// Envoy's access log can show them.
    pub(super) fn filter_state_keys(&self) -> BTreeSet<String> {
        let outcomes = match &self.ran.ending {
            Ending::Served(outcomes) => outcomes.as_slice(),
            Ending::Refused(_) => &[],
        };
        let filters = outcomes.iter().flat_map(|outcome| &outcome.filters);
        let entries = || filters.clone().flat_map(|filter| &filter.filter_state);
        let set = entries().map(|(key, _)| String::from_utf8_lossy(key).into_owned());
        let expected = self
            .exchanges
            .iter()
            .flat_map(|each| each.filter_state.keys());
        let is_text = |key: &String| {
            let mut values = entries().filter(|(other, _)| *other == key.as_bytes());
            values.all(|(_, value)| value.iter().all(|byte| matches!(byte, b' '..=b'~')))
        };
        set.chain(expected.cloned())
            .filter(|key| key.starts_with("wasm."))
            .filter(|key| {
                key.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            })
            .filter(is_text)
            .collect()
    }

    /// Returns the setup of each plugin of the chain, the one under test first.
    pub(super) fn plugins(&self) -> Vec<PluginSetup> {
        let tested = self.case.plugin.clone().or(self.file.plugin.clone());
        let chained = self.file.chain.iter().map(|chained| chained.plugin.clone());
        std::iter::once(tested)
            .chain(chained)
            .map(Option::unwrap_or_default)
            .collect()
    }
}

/// Returns the calls that the filters of a chain made, in order.
pub(super) fn call_outs(outcome: &ChainOutcome) -> impl Iterator<Item = &CallOut> {
    outcome.filters.iter().flat_map(|filter| &filter.call_outs)
}

fn unplayable(file: &CaseFile, case: &Case) -> Option<String> {
    if let Some(reason) = case.except.get("envoy").or(case.except.get("wasm")) {
        return Some(reason.clone());
    }
    let setup = case.plugin.as_ref().or(file.plugin.as_ref());
    let chained = file
        .chain
        .iter()
        .filter_map(|chained| chained.plugin.as_ref());
    if setup
        .into_iter()
        .chain(chained)
        .any(|setup| !setup.faults.is_empty())
    {
        return Some("Envoy cannot be given faults of the host".to_owned());
    }
    if setup.is_some_and(|setup| setup.start_s.is_some()) {
        return Some("Envoy's clock cannot be set".to_owned());
    }
    if std::str::from_utf8(&file.config_of(case)).is_err() {
        return Some(
            "the configuration is not UTF-8, which Envoy's own configuration must be".to_owned(),
        );
    }
    if case.workers.is_some() || !case.queues.is_empty() {
        return Some(
            "Envoy's worker cannot be chosen, and its queues cannot be filled in advance"
                .to_owned(),
        );
    }
    if !case.connections.is_empty() {
        return Some("a network filter has no HTTP upstream".to_owned());
    }
    let has_more =
        |exchange: &Exchange| !exchange.alongside.is_empty() || !exchange.enqueue.is_empty();
    if case.groups().iter().any(has_more) {
        return Some(
            "concurrent requests, and queues filled from outside the filter, are not supported"
                .to_owned(),
        );
    }
    if case.request.is_none() && case.refused.is_empty() {
        return Some("without a request there is nothing to compare".to_owned());
    }
    None
}

/// Checks that a request can be sent.
fn playable(request: &Request) -> Result<(), String> {
    let ends_with_a_frame = request.frames.last().is_some_and(|frame| !frame.is_empty());
    if request.http != Version::Http2 && ends_with_a_frame && request.trailers.is_empty() {
        return Err("in HTTP/1 an empty frame ends a body that comes in frames".to_owned());
    }
    if request.http == Version::Http10
        && (!request.frames.is_empty() || !request.trailers.is_empty())
    {
        return Err("HTTP/1.0 has neither frames nor trailers".to_owned());
    }
    let has = |name: &str| {
        let mut headers = request.headers.iter();
        headers.any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    if has("content-length") && !has("transfer-encoding") {
        if request.http != Version::Http2 && !request.trailers.is_empty() {
            return Err("in HTTP/1 a request with `content-length` has no trailers".to_owned());
        }
        let length = Content::of_request(request)
            .frames
            .concat()
            .len()
            .to_string();
        let is_length = |(name, value): &(String, String)| {
            !name.eq_ignore_ascii_case("content-length") || *value == length
        };
        if !request.headers.iter().all(is_length) {
            return Err(format!(
                "its `content-length` is not {length}, the length of its body, so Envoy would look for its end elsewhere"
            ));
        }
    }
    match request.http {
        Version::Http2 => http2_request(request)
            .map(|_| ())
            .map_err(|error| format!("the HTTP/2 client cannot send the request: {error}")),
        Version::Http10 | Version::Http11 => Ok(()),
    }
}

fn services<'c, C: Iterator<Item = &'c CallOut>>(
    file: &CaseFile,
    case: &Case,
    calls: impl Fn() -> C,
) -> Result<Vec<Service>, String> {
    let mut scripts = BTreeMap::new();
    scripts.extend(&file.upstreams);
    scripts.extend(&case.upstreams);
    scripts
        .into_iter()
        .map(|(name, answers)| {
            let script = answers
                .iter()
                .map(ScriptedResponse::of_call)
                .collect::<Option<Vec<_>>>()
                .ok_or("no service can make Envoy cancel its own call")?;
            let refusal = script.iter().position(ScriptedResponse::is_refusal);
            if refusal
                .is_some_and(|place| script.iter().skip(place).any(|after| !after.is_refusal()))
            {
                return Err(
                    "a rejected call cannot be observed, so its result cannot be played".to_owned(),
                );
            }
            let is_grpc = answers.iter().any(|answer| answer.grpc.is_some())
                || calls().any(|call| call.cluster == *name && call.kind != CallKind::Http);
            let protocol = if is_grpc {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
            Ok(Service {
                name: name.clone(),
                protocol,
                added_fields: match protocol {
                    Protocol::Http1 => added_fields(&script)?,
                    Protocol::Http2 => Vec::new(),
                },
                script,
            })
        })
        .collect()
}

/// Returns the fields that an HTTP/1 service adds to its responses.
fn added_fields(script: &[ScriptedResponse]) -> Result<Vec<&'static str>, String> {
    let responses = || {
        script.iter().filter_map(|entry| match entry {
            ScriptedResponse::Respond(_, response) => Some(response),
            _ => None,
        })
    };
    let mut added: Vec<&'static str> = responses()
        .filter(|response| !is_bodiless(response.status))
        .filter_map(|response| {
            http1::added_field(&response.headers, &response.content, Kind::Response)
        })
        .map(|(name, _)| name)
        .collect();
    added.sort_unstable();
    added.dedup();
    let has = |response: &ResponseMessage, name: &str| {
        let mut headers = response.headers.iter();
        headers.any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    let is_own = |name: &&&str| responses().any(|response| has(response, name));
    if let Some(name) = added.iter().find(is_own) {
        return Err(format!(
            "some responses of a service have `{name}` and others do not; give it to all of them"
        ));
    }
    Ok(added)
}

/// Returns true if a response with this status has neither body nor length.
pub(super) fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..200 | 204 | 304)
}

/// The time that a stream may be idle, in addition to the time that calls take.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest time that a case may take.
const LONGEST: Duration = Duration::from_secs(10);
