//! Which keys does a case file have?

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::connection::Connection;
use crate::expectation::{
    CallExpectation, Downstream, Finally, LogExpectation, Queue, ReplyExpectation, Upstream,
};
use crate::input::{Answer, CallAnswer, Request, is_default};
use crate::latin1;

/// One file of cases that share a topic and, where it helps, a configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The schema, for editors.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What the cases of this file are about, in a sentence or two.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The plugin configuration of every case; `{}` if nothing is said, and `""` for none at all. A case's own object
    /// replaces keys of an object here, and a text all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// A file with the configuration, relative to this file. Read with it, in place of `config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// How the plugin and its VM are set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Plugin>,
    /// Plugins behind the one that is tested, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Chained>,
    /// The services that the plugin may call, with their answers in order; the last one is given to all further calls.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstreams: BTreeMap<String, Vec<CallAnswer>>,
    /// A recording, relative to the file: what it expects of a case of the same name must come of that case as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<String>,
    /// The cases, in reading order.
    pub cases: Vec<Case>,
}

/// One configuration with what must come of it: one exchange, further ones in `then`, or a refusal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique in its file; what is printed when the case fails.
    pub name: String,
    /// What would go wrong if the case failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The rule's source, such as an RFC section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Configuration of this case alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// A file with that configuration, relative to the case file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// Set-up of this case alone, in place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Plugin>,
    /// Services in addition to the file's, or in place of those of the same name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstreams: BTreeMap<String, Vec<CallAnswer>>,
    /// Shared data that is there before the plugin starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shared_data: BTreeMap<String, String>,
    /// Shared queues that are there before the plugin starts, with messages that nobody was told of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<Queue>,
    /// Start the plugins as Envoy does with this many workers: to check the configuration, on the main thread, and on
    /// each worker, all with the same shared data, queues and metrics. One VM alone if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<NonZeroUsize>,
    /// Texts: the configuration must be refused with a message that contains each of them.
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
    /// What the upstream must receive. Absent: the request must be answered without asking the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// What the upstream answers; 200 without a body if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What the client must get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downstream: Option<Downstream>,
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
    /// Connections through a network filter, one after the other; in place of `request`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    /// What must be so when all exchanges are over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub finally: Finally,
    /// Hosts the case is not run in (`wasm`, `envoy` and others), each with the reason.
    #[serde(default, skip_serializing_if = "is_default")]
    pub except: BTreeMap<String, String>,
    /// What the recording expects, if the file names one that has this case.
    #[serde(skip)]
    pub golden: Option<Box<Case>>,
}

/// A request, and what must come of it.
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
    /// Messages that somebody else puts into shared queues before the request, and whose readers are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enqueue: Vec<Queue>,
    /// The request as it arrives.
    pub request: Request,
    /// Exchanges at the same time: the frames of all requests come in turn, then those of all answers. What a filter
    /// mixes up between streams shows here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alongside: Vec<Exchange>,
    /// What the upstream must receive. Absent: the request must be answered without asking the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// What the upstream answers.
    #[serde(default)]
    pub answer: Answer,
    /// What the client must get.
    #[serde(default)]
    pub downstream: Downstream,
    /// The filter must answer itself, like this. An answer in place of the upstream's own is a miss without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyExpectation>,
    /// Lines that must be logged while the stream's callbacks run, or must not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// The call-outs that the stream's callbacks must make: all of them, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Vec<CallExpectation>>,
    /// The stream's filter state at its end: values by key, or null for a key that must not be there. A property that a
    /// filter sets has the key `wasm.` and its path.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filter_state: BTreeMap<String, Option<String>>,
    /// Milliseconds that the filter must hold the request and the answer back, both together, before it lets them go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// The filter must leave the stream paused for ever.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paused: bool,
    /// The filter must reset the stream.
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
    /// Text that the filter gets as it is, bytes as Latin-1.
    Text(String),
    /// JSON that the filter gets as text.
    Object(Map<String, Value>),
}

/// How a plugin and its VM are set up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Plugin {
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
    /// Whether held headers let the body's callbacks go on.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_on_headers_stop_iteration: bool,
    /// What becomes of requests when the VM has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<Policy>,
    /// The lowest level that is logged; `trace` if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<Level>,
    /// The host functions and callbacks that the plugin may use, by their full names, such as `proxy_log` or
    /// `fd_write`; all if nothing is said. A function that is not named answers INTERNAL_FAILURE, one of WASI 76, and a
    /// callback that is not named is not called.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_capabilities: BTreeSet<String>,
    /// The time when the plugin starts, in seconds since the Unix epoch; 2026-01-01 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_s: Option<u64>,
    /// Start of the random sequence.
    #[serde(skip_serializing_if = "is_default")]
    pub random_seed: u64,
    /// Foreign functions by name, with what each answers, in place of Envoy's own.
    #[serde(skip_serializing_if = "is_default")]
    pub foreign_functions: BTreeMap<String, ForeignAnswer>,
}

/// What a foreign function answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ForeignAnswer {
    /// The status.
    #[serde(skip_serializing_if = "is_default")]
    pub status: Status,
    /// The result.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub result: String,
}

/// What a host function of the ABI answers.
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

/// Severity of a log line.
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
pub enum Policy {
    /// 503 for every further request.
    Closed,
    /// Every further request passes the filter by.
    Open,
    /// A new VM, at most once a second.
    Reload,
}

/// A plugin behind the one that is tested. As in Envoy, plugins of the same module, `vm_id` and VM configuration are in one
/// VM, and those that have the same names and configuration as well are one plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Chained {
    /// The module, relative to the file; the tested one if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// How it is set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Plugin>,
}

impl CaseFile {
    /// The configuration of a case, as the filter gets it.
    pub fn config_of(&self, case: &Case) -> Vec<u8> {
        self.merged_config(case)
            .map_or_else(|| b"{}".to_vec(), |config| config.to_bytes())
    }

    /// A file with one case: a plain GET.
    pub fn of_one_get() -> Self {
        Self {
            cases: vec![Case {
                name: "GET".to_owned(),
                request: Some(Request::default()),
                upstream: Some(Upstream::default()),
                ..Case::default()
            }],
            ..Self::default()
        }
    }

    /// Gives the file this configuration if it has none.
    pub fn config_by_default(&mut self, config: &[u8]) {
        self.config
            .get_or_insert_with(|| Config::from_bytes(config));
    }

    /// Gives the file and all of its cases this configuration.
    pub fn replace_config(&mut self, config: &[u8]) {
        self.config = Some(Config::from_bytes(config));
        for case in &mut self.cases {
            case.config = None;
        }
    }

    /// The cases, each with what the file says for all of them, so that it stands alone.
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
    /// The exchanges in order, each followed by those alongside; none if there is no request.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.groups()
            .into_iter()
            .flat_map(|mut exchange| {
                let alongside = std::mem::take(&mut exchange.alongside);
                std::iter::once(exchange).chain(alongside)
            })
            .collect()
    }

    /// The exchanges in order, with those alongside in them.
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

    /// Puts these groups in place of the exchanges that the case has.
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

    /// The configuration as the filter gets it, if the case stands alone, see [`CaseFile::into_cases`].
    pub fn config_text(&self) -> String {
        self.config
            .as_ref()
            .map_or_else(String::new, |config| latin1::text(&config.to_bytes()))
    }

    /// Whether the case is run in this host.
    pub fn runs_in(&self, host: &str) -> bool {
        !self.except.contains_key(host)
    }

    /// Whether a host without a VM can play the case: it has requests, answers and messages, and nothing else.
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
    /// The configuration as the filter gets it.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => latin1::bytes(text),
            Self::Object(map) => Value::Object(map.clone()).to_string().into_bytes(),
        }
    }

    /// JSON if it is an object, else text.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).map_or_else(|_| Self::Text(latin1::text(bytes)), Self::Object)
    }

    /// A text under `key`, if this is an object that has one.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Object(map) => map.get(key)?.as_str(),
        }
    }
}
