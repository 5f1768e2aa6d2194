//! Defines the keys of a case file.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::connection::Connection;
use crate::expectation::{
    CallExpectation, DownstreamExpectation, Finally, LogExpectation, Queue, ReplyExpectation,
    UpstreamExpectation,
};
use crate::input::{Answer, CallAnswer, Request, is_default};
use crate::latin1;

/// A file of cases that share a topic and, where useful, a configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The JSON schema, for editors.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The topic of the cases in this file, in a sentence or two.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The plugin configuration of every case; `{}` by default, and `""` for an empty configuration. If a case has an object,
    /// its keys are added to those of an object here or replace them; if it has a text, it replaces the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// A file with the configuration, relative to this file; in place of `config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// The set-up of the plugin and its VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginSetup>,
    /// The plugins after the tested one, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<ChainedPlugin>,
    /// The services that the plugin may call, by cluster name, with their responses in order; the last response is repeated
    /// for all further calls.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstreams: BTreeMap<String, Vec<CallAnswer>>,
    /// A recording, relative to this file: a case must also meet the expectations of the recorded case of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<String>,
    /// The cases, in reading order.
    pub cases: Vec<Case>,
}

/// A configuration and what is expected with it: an exchange, further ones in `then`, or that it is refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The name, unique in its file, which is printed when the case fails.
    pub name: String,
    /// What would go wrong in production if the case failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The source of the rule, such as an RFC section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The configuration of this case only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// A file with that configuration, relative to the case file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// The set-up of this case, in place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginSetup>,
    /// Services in addition to those of the file, or in place of those with the same name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstreams: BTreeMap<String, Vec<CallAnswer>>,
    /// Shared data that exist before the plugin starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shared_data: BTreeMap<String, String>,
    /// Shared queues that exist before the plugin starts, with messages that are not notified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<Queue>,
    /// The number of workers. The plugins are started as in Envoy: to check the configuration, on the main thread, and on each
    /// worker, all with the same shared data, queues and metrics. By default there is only one VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<NonZeroUsize>,
    /// Texts: the configuration must be refused, with a message that contains each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub worker: usize,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enqueue: Vec<Queue>,
    /// The request as it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alongside: Vec<Exchange>,
    /// The request that the upstream must receive. If absent, the upstream must not receive a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamExpectation>,
    /// The response of the upstream; 200 without a body by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// The response that the client must receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downstream: Option<DownstreamExpectation>,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyExpectation>,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Vec<CallExpectation>>,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub filter_state: BTreeMap<String, Option<String>>,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub paused: bool,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub reset: bool,
    /// As in [`Exchange`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
    /// Further exchanges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Exchange>,
    /// Connections through a network filter, one after another; in place of `request`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    /// The state that is expected after all exchanges.
    #[serde(default, skip_serializing_if = "is_default")]
    pub finally: Finally,
    /// Hosts in which the case is not run (`wasm`, `envoy` and others), each with the reason.
    #[serde(default, skip_serializing_if = "is_default")]
    pub except: BTreeMap<String, String>,
    /// The recorded case, if the file names a recording that has it.
    #[serde(skip)]
    pub golden: Option<Box<Case>>,
}

/// A request and what is expected of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Milliseconds that pass before the request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub after_ms: u64,
    /// The worker that serves it, from 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub worker: usize,
    /// Messages that are put into shared queues before the request; their readers are notified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enqueue: Vec<Queue>,
    /// The request as it arrives.
    pub request: Request,
    /// Concurrent exchanges: the frames of all requests are interleaved, then those of all responses. This detects a filter that
    /// confuses the state of streams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alongside: Vec<Exchange>,
    /// The request that the upstream must receive. If absent, the upstream must not receive a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamExpectation>,
    /// The response of the upstream.
    #[serde(default)]
    pub answer: Answer,
    /// The response that the client must receive.
    #[serde(default)]
    pub downstream: DownstreamExpectation,
    /// The local reply that the filter must send. Without this key a local reply in place of the upstream's response is a
    /// mismatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyExpectation>,
    /// Lines that the stream's callbacks must or must not log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// The call-outs that the stream's callbacks must make: all of them, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Vec<CallExpectation>>,
    /// The stream's filter state at its end: values by key, or null for a key that must not exist. A property that a filter
    /// sets has the key `wasm.` followed by its path.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filter_state: BTreeMap<String, Option<String>>,
    /// The total number of milliseconds for which the filter must hold the request and the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// True if the filter must leave the stream paused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paused: bool,
    /// True if the filter must reset the stream.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reset: bool,
    /// The filter must trap, with a message that contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// A plugin configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Config {
    /// Text that the filter receives unchanged; bytes as Latin-1.
    Text(String),
    /// JSON that the filter receives as text.
    Object(Map<String, Value>),
}

/// The set-up of a plugin and its VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PluginSetup {
    /// Envoy's `root_id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root_id: String,
    /// Envoy's `name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Envoy's `vm_id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vm_id: String,
    /// The VM configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vm_config: String,
    /// Environment variables.
    #[serde(skip_serializing_if = "is_default")]
    pub environment: BTreeMap<String, String>,
    /// True if body callbacks run while headers are paused.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_on_headers_stop_iteration: bool,
    /// The maximum number of bytes of a body that the plugin may hold; 1 MiB by default. If it holds more, the client gets a 413
    /// for the request's body, a 500 for the response's, or a reset if it already has response headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_limit: Option<usize>,
    /// How requests are handled after the VM has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,
    /// The lowest level that is logged; `trace` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<Level>,
    /// The full names of the host functions and callbacks that the plugin may use, such as `proxy_log` or `fd_write`; all by
    /// default. Any other function returns INTERNAL_FAILURE, or 76 if it is one of WASI; any other callback is not called.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_capabilities: BTreeSet<String>,
    /// The time of the start in seconds since the Unix epoch; 2026-01-01 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_s: Option<u64>,
    /// The seed of the random sequence.
    #[serde(skip_serializing_if = "is_default")]
    pub random_seed: u64,
    /// The results of foreign functions by name, in place of Envoy's own functions.
    #[serde(skip_serializing_if = "is_default")]
    pub foreign_functions: BTreeMap<String, ForeignAnswer>,
    /// Faults of the host that the plugin meets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<InjectedFault>,
}

/// A fault of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InjectedFault {
    /// A host function that does nothing and returns `status`, such as `proxy_get_property`; a callback that traps before it
    /// begins, such as `proxy_on_log`; or `allocation`: the allocator of the module returns 0.
    pub at: String,
    /// The status that the host function returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The call at which it happens, counted from 1 for each function in each VM; 0, the default, for every call.
    #[serde(default, skip_serializing_if = "is_default")]
    pub occurrence: u32,
}

impl InjectedFault {
    /// The name of the point at which the module's allocator fails.
    pub const ALLOCATION: &str = "allocation";

    /// Returns true if the fault is at a callback.
    pub fn is_at_callback(&self) -> bool {
        self.at.starts_with("proxy_on_")
    }
}

/// The result of a foreign function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ForeignAnswer {
    /// The status.
    #[serde(skip_serializing_if = "is_default")]
    pub status: Status,
    /// The bytes that it returns.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub result: String,
}

/// The status that a host function returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the ABI's")]
pub enum Status {
    #[default]
    Ok,
    NotFound,
    BadArgument,
    SerializationFailure,
    ParseFailure,
    InvalidMemoryAccess,
    Empty,
    CasMismatch,
    InternalFailure,
    Unimplemented,
}

/// The severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// Envoy's failure policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FailurePolicy {
    /// 503 for every further request.
    Closed,
    /// Every further request bypasses the filter.
    Open,
    /// A new VM, at most once a second.
    Reload,
}

/// A plugin after the tested one. As in Envoy, plugins with the same module, `vm_id` and VM configuration share a VM, and those
/// that also have the same names and configuration are one plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ChainedPlugin {
    /// The module, relative to the file; by default the tested one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The plugin configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// The set-up of the plugin and its VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginSetup>,
}

impl CaseFile {
    /// Returns the configuration of a case as the filter receives it.
    pub fn config_of(&self, case: &Case) -> Vec<u8> {
        self.merged_config(case)
            .map_or_else(|| b"{}".to_vec(), |config| config.to_bytes())
    }

    /// Creates a file with one case: a plain GET.
    pub fn of_one_get() -> Self {
        Self {
            cases: vec![Case {
                name: "GET".to_owned(),
                request: Some(Request::default()),
                upstream: Some(UpstreamExpectation::default()),
                ..Case::default()
            }],
            ..Self::default()
        }
    }

    /// Sets the file's configuration if it has none.
    pub fn config_by_default(&mut self, config: &[u8]) {
        self.config
            .get_or_insert_with(|| Config::from_bytes(config));
    }

    /// Sets the configuration of the file and of all its cases.
    pub fn replace_config(&mut self, config: &[u8]) {
        self.config = Some(Config::from_bytes(config));
        for case in &mut self.cases {
            case.config = None;
        }
    }

    /// Returns the cases, each merged with the configuration of the file, so that it is self-contained.
    pub fn into_cases(self) -> Vec<Case> {
        let whole = |case: &Case| Case {
            config: Some(match self.merged_config(case) {
                Some(config) => config,
                None => Config::Object(Map::new()),
            }),
            ..case.clone()
        };
        self.cases.iter().map(whole).collect()
    }

    fn merged_config(&self, case: &Case) -> Option<Config> {
        match (&self.config, &case.config) {
            (Some(Config::Object(shared)), Some(Config::Object(own))) => {
                let mut config = shared.clone();
                config.extend(own.clone());
                Some(Config::Object(config))
            }
            (shared, own) => own.clone().or(shared.clone()),
        }
    }
}

impl Case {
    /// Returns the exchanges in order, each followed by those alongside; none if there is no request.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.groups()
            .into_iter()
            .flat_map(|mut exchange| {
                let alongside = std::mem::take(&mut exchange.alongside);
                std::iter::once(exchange).chain(alongside)
            })
            .collect()
    }

    /// Returns the exchanges in order, each containing those alongside.
    pub fn groups(&self) -> Vec<Exchange> {
        let Some(request) = &self.request else {
            return Vec::new();
        };
        let first = Exchange {
            after_ms: 0,
            worker: self.worker,
            enqueue: self.enqueue.clone(),
            request: request.clone(),
            alongside: self.alongside.clone(),
            upstream: self.upstream.clone(),
            answer: self.answer.clone().unwrap_or_default(),
            downstream: self.downstream.clone().unwrap_or_default(),
            reply: self.reply.clone(),
            logs: self.logs.clone(),
            calls: self.calls.clone(),
            filter_state: self.filter_state.clone(),
            held_ms: self.held_ms,
            paused: self.paused,
            reset: self.reset,
            fails: self.fails.clone(),
        };
        std::iter::once(first)
            .chain(self.then.iter().cloned())
            .collect()
    }

    /// Replaces the exchanges of the case with these.
    pub fn set_groups(&mut self, groups: impl IntoIterator<Item = Exchange>) {
        let mut groups = groups.into_iter();
        if let Some(first) = groups.next() {
            let Exchange {
                after_ms: _,
                worker,
                enqueue,
                request,
                alongside,
                upstream,
                answer,
                downstream,
                reply,
                logs,
                calls,
                filter_state,
                held_ms,
                paused,
                reset,
                fails,
            } = first;
            self.worker = worker;
            self.enqueue = enqueue;
            self.request = Some(request);
            self.alongside = alongside;
            self.upstream = upstream;
            self.answer = Some(answer);
            self.downstream = Some(downstream);
            self.reply = reply;
            self.logs = logs;
            self.calls = calls;
            self.filter_state = filter_state;
            self.held_ms = held_ms;
            self.paused = paused;
            self.reset = reset;
            self.fails = fails;
        }
        self.then = groups.collect();
    }

    /// Returns the configuration as the filter receives it, if the case is self-contained, see [`CaseFile::into_cases`].
    pub fn config_text(&self) -> String {
        self.config
            .as_ref()
            .map_or_else(String::new, |config| latin1::text(&config.to_bytes()))
    }

    /// Returns true if the case is run in this host.
    pub fn runs_in(&self, host: &str) -> bool {
        !self.except.contains_key(host)
    }

    /// Returns true if a host without a VM can run the case: it has only requests, responses and messages.
    pub fn is_plain(&self) -> bool {
        let plain = Self {
            name: self.name.clone(),
            why: self.why.clone(),
            source: self.source.clone(),
            config: self.config.clone(),
            refused: self.refused.clone(),
            request: self.request.clone(),
            upstream: self.upstream.clone(),
            answer: self.answer.clone(),
            downstream: self.downstream.clone(),
            then: self.then.clone(),
            except: self.except.clone(),
            ..Self::default()
        };
        *self == plain && self.exchanges().iter().all(Exchange::is_plain)
    }
}

impl Exchange {
    fn is_plain(&self) -> bool {
        let plain = Self {
            request: Request {
                frames: Vec::new(),
                frame_size: None,
                properties: Vec::new(),
                ..self.request.clone()
            },
            upstream: self.upstream.clone(),
            answer: Answer {
                delay_ms: 0,
                frames: Vec::new(),
                frame_size: None,
                ..self.answer.clone()
            },
            downstream: self.downstream.clone(),
            ..Self::default()
        };
        *self == plain
    }
}

impl Config {
    /// Returns the configuration as the filter receives it.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => latin1::bytes(text),
            Self::Object(map) => Value::Object(map.clone()).to_string().into_bytes(),
        }
    }

    /// Parses a JSON object; anything else is text.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).map_or_else(|_| Self::Text(latin1::text(bytes)), Self::Object)
    }

    /// Returns the text under `key`, if this is an object that has one.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Object(map) => map.get(key)?.as_str(),
        }
    }
}
