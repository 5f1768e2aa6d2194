//! What comes of a case under this host?
//!
//! Each case has a process of its own. A request is presented as Envoy would present it, see [`crate::envoy`]. While the
//! filter holds a message back, time moves on to the next tick, answer or time-out, so that a call-out's answer comes
//! without anybody waiting; what is still held when nothing more can come was left paused for ever.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::format::{Case, CaseFile, Chained, Config, Exchange, Plugin as Setup, Policy};
use super::latin1;
use super::schedule::{Part, Schedule};
use super::stimulus::{Request, Version, to_upstreams};
use crate::abi::LogLevel;
use crate::chain::{Chain, ChainOutcome, ChainStream};
use crate::envoy::{self, RequestHead};
use crate::failure::FailurePolicy;
use crate::filter::{Filter, LoadError, LoadOptions};
use crate::header_map::HeaderMap;
use crate::host::LogLine;
use crate::plugin::{Clock, Plugin, Refused, StartOptions};
use crate::process::{Metric, Process};
use crate::profile::Profile;
use crate::property::{Properties, Value};
use crate::stream::{Flow, Side};

/// Runs cases through a module.
pub struct Runner {
    filter: Filter,
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
    /// What the plugin itself logged.
    pub logs: Vec<LogLine>,
    /// The metrics.
    pub metrics: BTreeMap<String, Metric>,
    /// The values of the shared data that the case asks for.
    pub shared_data: BTreeMap<String, Option<Vec<u8>>>,
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
        let options = self.case_options(file, case);
        let vm_id = options.vm_id.clone();
        let process = process_of(case, &options);
        let mut plugins = Vec::new();
        let mut refusal = None;
        match process.start(&self.filter, options) {
            Ok(plugin) => plugins.push(plugin),
            Err(refused) => refusal = Some(refused),
        }
        for chained in &file.chain {
            match process.start(&self.chained_filter(path, chained)?, self.chained(chained)) {
                Ok(plugin) => plugins.push(plugin),
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        let ending = match &refusal {
            Some(refused) => Ending::Refused(refusal_text(refused)),
            None => {
                let recorded_as = recorded_as(file, case);
                let chain = Chain::new(plugins.iter().cloned());
                let exchanges = case.exchanges();
                Ending::Served(
                    exchanges
                        .iter()
                        .map(|exchange| {
                            serve(&process, &chain, exchange, schedule, recorded_as.as_deref())
                        })
                        .collect(),
                )
            }
        };
        let asked = case.finally.shared_data.keys();
        Ok(Ran {
            ending,
            logs: plugins.first().map_or_else(
                || refusal.map_or_else(Vec::new, |refused| refused.logs),
                Plugin::logs,
            ),
            metrics: process.metrics(),
            shared_data: asked
                .map(|key| {
                    let value = process.shared_data(&vm_id, &latin1::bytes(key));
                    (key.clone(), value)
                })
                .collect(),
        })
    }

    /// Starts the plugin of a case; returns its process as well, and where the listener records the peer.
    pub(super) fn start(
        &self,
        file: &CaseFile,
        case: &Case,
    ) -> Result<(Process, Plugin, Option<String>), Refused> {
        let options = self.case_options(file, case);
        let process = process_of(case, &options);
        let plugin = process.start(&self.filter, options)?;
        Ok((process, plugin, recorded_as(file, case)))
    }

    fn case_options(&self, file: &CaseFile, case: &Case) -> StartOptions {
        let setup = case.plugin.as_ref().or(file.plugin.as_ref());
        let mut upstreams = file.upstreams.clone();
        upstreams.extend(case.upstreams.clone());
        let mut options = self.options(setup);
        options.plugin_configuration = file.config_of(case);
        options.upstreams = to_upstreams(&upstreams);
        options
    }

    fn options(&self, setup: Option<&Setup>) -> StartOptions {
        let mut options = self.options.clone();
        let Some(setup) = setup else {
            return options;
        };
        options.root_id.clone_from(&setup.root_id);
        options.plugin_name.clone_from(&setup.name);
        options.vm_id.clone_from(&setup.vm_id);
        options.vm_configuration = latin1::bytes(&setup.vm_config);
        options.environment = setup.environment.clone().into_iter().collect();
        options.allow_on_headers_stop_iteration = setup.allow_on_headers_stop_iteration;
        options.failure_policy = match setup.failure_policy {
            None | Some(Policy::Closed) => FailurePolicy::Closed,
            Some(Policy::Open) => FailurePolicy::Open,
            Some(Policy::Reload) => FailurePolicy::Reload {
                backoff: Duration::from_secs(1),
            },
        };
        if let Some(level) = setup.log_level.as_deref().and_then(LogLevel::named) {
            options.log_level = level;
        }
        if let Some(seconds) = setup.start_s {
            options.clock = Clock::Virtual {
                start: seconds.saturating_mul(1_000_000_000),
            };
        }
        options.random_seed = setup.random_seed;
        options
    }

    fn chained(&self, chained: &Chained) -> StartOptions {
        let mut options = self.options(chained.plugin.as_ref());
        let config = chained.config.as_ref();
        options.plugin_configuration = config.map_or_else(Vec::new, Config::to_bytes);
        options
    }

    fn chained_filter(&self, path: &Path, chained: &Chained) -> Result<Filter, LoadError> {
        match &chained.module {
            None => Ok(self.filter.clone()),
            Some(module) => {
                let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
                Filter::load_with(&folder.join(module), self.load_options)
            }
        }
    }

    /// The profile that cases are run under.
    pub fn profile(&self) -> Profile {
        self.options.profile
    }
}

/// The process of a case, with the shared data that it begins with.
fn process_of(case: &Case, options: &StartOptions) -> Process {
    let process = Process::new(options.clock);
    for (key, value) in &case.shared_data {
        process.set_shared_data(&options.vm_id, &latin1::bytes(key), &latin1::bytes(value));
    }
    process
}

/// The one configuration key that the host knows: it names where the listener records its peer.
fn recorded_as(file: &CaseFile, case: &Case) -> Option<String> {
    let mut configs = [&case.config, &file.config].into_iter().flatten();
    configs.find_map(|config| config.text("peer_filter_state_key").map(str::to_owned))
}

pub(super) fn serve(
    process: &Process,
    chain: &Chain,
    exchange: &Exchange,
    schedule: Schedule,
    recorded_as: Option<&str>,
) -> ChainOutcome {
    process.advance(Duration::from_millis(exchange.after_ms));
    let request = &exchange.request;
    let mut stream = chain.stream(&properties(request, recorded_as));
    let headers = present_request(request);
    let parts = schedule.cut(
        &latin1::bytes(&request.body),
        &frames(&request.frames),
        latin1::fields(&request.trailers),
    );
    feed(process, &mut stream, Side::Request, &headers, parts);
    // The upstream answers when it has been asked, whether or not the request is complete by then.
    let is_asked = stream.headers(Side::Request).is_some();
    if is_asked && stream.flow(Side::Request) != Flow::Reset {
        let answer = &exchange.answer;
        let fields = latin1::fields(&answer.headers);
        let headers = envoy::response_headers(answer.status, borrow(&fields));
        let parts = schedule.cut(
            &latin1::bytes(&answer.body),
            &frames(&answer.frames),
            latin1::fields(&answer.trailers),
        );
        feed(process, &mut stream, Side::Response, &headers, parts);
    }
    stream.finish()
}

/// Feeds a message, part by part; while it is held back at the end, time moves on.
fn feed(
    process: &Process,
    stream: &mut ChainStream,
    side: Side,
    headers: &HeaderMap,
    parts: Vec<Part>,
) {
    for part in parts {
        let is_request = side == Side::Request;
        match part {
            Part::Headers(end) if is_request => stream.request_headers(headers.clone(), end),
            Part::Headers(end) => stream.response_headers(headers.clone(), end),
            Part::Frame(frame, end) if is_request => stream.request_body(frame, end),
            Part::Frame(frame, end) => stream.response_body(frame, end),
            Part::Trailers(lines) => {
                let trailers = envoy::trailers(borrow(&lines));
                if is_request {
                    stream.request_trailers(trailers)
                } else {
                    stream.response_trailers(trailers)
                }
            }
        };
    }
    let deadline = process.now().saturating_add(nanoseconds(PATIENCE));
    while stream.flow(side) == Flow::Paused
        && process.now() < deadline
        && process.advance_to_next(PATIENCE)
    {}
}

fn properties(request: &Request, recorded_as: Option<&str>) -> Properties {
    let peer = request.peer.0;
    let mut properties = envoy::connection_properties(peer, request.tls).with(
        &["request", "protocol"],
        Value::Text(request.http.name().to_owned()),
    );
    if let Some(key) = recorded_as {
        properties = envoy::with_recorded_peer(properties, key, peer);
    }
    for property in &request.properties {
        let path: Vec<&str> = property.path.iter().map(String::as_str).collect();
        properties = properties.with(&path, property.value.to_value());
    }
    properties
}

/// Presents a request's headers. `Host` lines among the fields count as the request's host: HTTP/1 has Envoy join them
/// with a comma, HTTP/2 has it drop them in favour of `:authority`.
fn present_request(request: &Request) -> HeaderMap {
    let (hosts, fields): (Vec<_>, Vec<_>) = latin1::fields(&request.headers)
        .into_iter()
        .partition(|(name, _)| name.eq_ignore_ascii_case(b"host"));
    let host = request.host.as_deref().map(latin1::bytes);
    let further = hosts.into_iter().map(|(_, value)| value);
    let hosts: Vec<Vec<u8>> = match request.http {
        Version::Http2 => host.into_iter().chain(further).take(1).collect(),
        Version::Http10 | Version::Http11 => host.into_iter().chain(further).collect(),
    };
    let host = (!hosts.is_empty()).then(|| hosts.join(&b","[..]));
    let head = RequestHead {
        method: &latin1::bytes(&request.method),
        target: &latin1::bytes(&request.target),
        host: host.as_deref(),
        is_tls: request.tls,
    };
    envoy::request_headers(head, borrow(&fields))
}

fn refusal_text(refused: &Refused) -> String {
    let mut lines: Vec<String> = refused.logs.iter().map(|line| line.text.clone()).collect();
    lines.push(refused.to_string());
    if let Some(failure) = &refused.failure {
        lines.push(failure.to_string());
    }
    lines.join("\n")
}

fn frames(frames: &[String]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| latin1::bytes(frame)).collect()
}

fn borrow(fields: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How long a held message is waited for: as long as Envoy's route waits for the upstream.
const PATIENCE: Duration = Duration::from_secs(15);
