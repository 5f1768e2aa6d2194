//! Which keys does a case file have?

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::expectation::{
    CallExpectation, Downstream, Finally, LogExpectation, ReplyExpectation, Upstream,
};
use super::latin1;
use super::misses::whole;
use super::stimulus::{Answer, CallAnswer, Request, is_default};
use crate::abi::LogLevel;

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
    /// How the plugin and its VM are set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Plugin>,
    /// Plugins behind the one that is tested, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Chained>,
    /// The services that the plugin may call, with their answers in order; the last one is given to all further calls.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstreams: BTreeMap<String, Vec<CallAnswer>>,
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
    /// Set-up of this case alone, in place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Plugin>,
    /// Services in addition to the file's, or in place of those of the same name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstreams: BTreeMap<String, Vec<CallAnswer>>,
    /// Shared data that is there before the plugin starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shared_data: BTreeMap<String, String>,
    /// Texts: the configuration must be refused with a message that contains each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// The request as it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
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
    /// What must be so when all exchanges are over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub finally: Finally,
    /// Hosts the case is not run in (`wasm`, `envoy` and others), each with the reason.
    #[serde(default, skip_serializing_if = "is_default")]
    pub except: BTreeMap<String, String>,
}

/// A request, and what must come of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Milliseconds that pass before the request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub after_ms: u64,
    /// The request as it arrives.
    pub request: Request,
    /// What the upstream must receive. Absent: the request must be answered without asking the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// What the upstream answers.
    #[serde(default)]
    pub answer: Answer,
    /// What the client must get.
    #[serde(default)]
    pub downstream: Downstream,
    /// The filter must answer itself, like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyExpectation>,
    /// Lines that must be logged while the stream's callbacks run, or must not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogExpectation>,
    /// The call-outs that the stream's callbacks must make: all of them, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Vec<CallExpectation>>,
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
    pub log_level: Option<String>,
    /// The time when the plugin starts, in seconds since the Unix epoch; 2026-01-01 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_s: Option<u64>,
    /// Start of the random sequence.
    #[serde(skip_serializing_if = "is_default")]
    pub random_seed: u64,
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

/// A plugin behind the one that is tested.
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
        match (&self.config, &case.config) {
            (Some(Config::Object(shared)), Some(Config::Object(own))) => {
                let mut config = shared.clone();
                config.extend(own.clone());
                Config::Object(config).to_bytes()
            }
            (_, Some(own)) => own.to_bytes(),
            (Some(shared), None) => shared.to_bytes(),
            (None, None) => b"{}".to_vec(),
        }
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

    /// Says which case contradicts itself, and how.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let mut seen = BTreeSet::new();
        for case in &self.cases {
            let problem = |problem: String| (case.name.clone(), problem);
            if !seen.insert(&case.name) {
                return Err(problem("the name is used twice".to_owned()));
            }
            case.check().map_err(problem)?;
        }
        Ok(())
    }
}

impl Case {
    /// The exchanges in order; none if the configuration must be refused.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let Some(request) = &self.request else {
            return Vec::new();
        };
        let first = Exchange {
            after_ms: 0,
            request: request.clone(),
            upstream: self.upstream.clone(),
            answer: self.answer.clone().unwrap_or_default(),
            downstream: self.downstream.clone().unwrap_or_default(),
            reply: self.reply.clone(),
            logs: self.logs.clone(),
            calls: self.calls.clone(),
            paused: self.paused,
            reset: self.reset,
            fails: self.fails.clone(),
        };
        std::iter::once(first)
            .chain(self.then.iter().cloned())
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let expects_exchange = self.upstream.is_some()
            || self.answer.is_some()
            || self.downstream.is_some()
            || self.reply.is_some()
            || !self.then.is_empty();
        match &self.request {
            Some(_) if !self.refused.is_empty() => {
                return Err("a refused configuration serves no `request`".to_owned());
            }
            None if expects_exchange => {
                return Err(
                    "`upstream`, `answer`, `downstream`, `reply` and `then` need a `request`"
                        .to_owned(),
                );
            }
            None if self.refused.is_empty() && self.finally == Finally::default() => {
                return Err(
                    "needs a `request`, `refused` if the configuration must not load, or `finally`"
                        .to_owned(),
                );
            }
            _ => {}
        }
        for exchange in self.exchanges() {
            exchange.check()?;
        }
        check_logs(&self.finally.logs)
    }
}

impl Exchange {
    fn check(&self) -> Result<(), String> {
        let (request, answer) = (&self.request, &self.answer);
        for (body, frames) in [
            (&request.body, &request.frames),
            (&answer.body, &answer.frames),
        ] {
            if !body.is_empty() && !frames.is_empty() {
                return Err("give `body` or `frames`, not both".to_owned());
            }
        }
        let lines = [
            &request.headers,
            &request.trailers,
            &answer.headers,
            &answer.trailers,
        ];
        let texts = lines
            .into_iter()
            .flatten()
            .flat_map(|(name, value)| [name, value])
            .chain([
                &request.method,
                &request.target,
                &request.body,
                &answer.body,
            ])
            .chain(&request.host)
            .chain(request.frames.iter().chain(&answer.frames));
        for text in texts {
            latin1::check(text)?;
        }
        let upstream = self.upstream.clone().unwrap_or_default();
        let downstream = &self.downstream;
        let regexes = upstream
            .matches
            .values()
            .chain(&upstream.body_matches)
            .chain(downstream.matches.values())
            .chain(&downstream.body_matches);
        for regex in regexes {
            whole(regex)?;
        }
        check_logs(&self.logs)
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
    fn from_bytes(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).map_or_else(|_| Self::Text(latin1::text(bytes)), Self::Object)
    }

    /// A text under `key`, if this is an object that has one.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Object(map) => map.get(key)?.as_str(),
        }
    }
}

fn check_logs(logs: &[LogExpectation]) -> Result<(), String> {
    for log in logs {
        if let Some(level) = &log.level
            && LogLevel::named(level).is_none()
        {
            return Err(format!("`{level}` is not a log level"));
        }
        if let Some(regex) = &log.matches {
            whole(regex)?;
        }
    }
    Ok(())
}
