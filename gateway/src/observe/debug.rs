//! What does a gateway in debug mode tell about itself?
//!
//! FluxLit's `/__fluxlit/debug`, with its names: how the gateway is set up, and where the last requests went. Settings
//! whose name speaks of a secret are blanked, and so are user and password in a URL; of a request's target only the path
//! is told. Whoever may ask for it is decided elsewhere.
//!
//! Each worker remembers its own requests. The lock around them is taken by that worker alone, until somebody asks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::{Record, redaction};

/// What there is to tell.
#[derive(Debug)]
pub(crate) struct Debug {
    gateway: Setup,
    settings: BTreeMap<String, Value>,
    streamlit_upstream_env: &'static str,
    memories: Mutex<Vec<Memory>>,
}

/// Where the last requests of a worker went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<VecDeque<(Instant, Seen)>>>);

#[derive(Debug, Clone, Serialize)]
struct Setup {
    api_prefix: String,
    root_mount: String,
}

#[derive(Debug, Clone, Serialize)]
struct Seen {
    request_id: String,
    dispatch: &'static str,
    path: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    fluxlit_debug: bool,
    gateway: &'a Setup,
    settings: &'a BTreeMap<String, Value>,
    streamlit_upstream_env: &'static str,
    recent_dispatches: Vec<Seen>,
}

impl Debug {
    /// `settings`: each by its variable, such as `FLUXLIT_ROOT_PATH`, as it was understood. `is_upstream_set`: whether the
    /// environment names a Streamlit that runs already.
    pub(crate) fn new(
        api_prefix: &str,
        root_mount: &str,
        settings: impl IntoIterator<Item = (String, Value)>,
        is_upstream_set: bool,
    ) -> Self {
        let settings = settings.into_iter().map(|(variable, value)| {
            let name = variable.strip_prefix("FLUXLIT_").unwrap_or(&variable);
            let name = name.to_ascii_lowercase();
            let value = blanked(&name, value);
            (name, value)
        });
        Self {
            gateway: Setup {
                api_prefix: api_prefix.to_owned(),
                root_mount: root_mount.to_owned(),
            },
            settings: settings.collect(),
            streamlit_upstream_env: if is_upstream_set { "set" } else { "unset" },
            memories: Mutex::default(),
        }
    }

    /// What a new worker remembers with.
    pub(crate) fn memory(&self) -> Memory {
        let memory = Memory::default();
        lock(&self.memories).push(memory.clone());
        memory
    }

    /// The answer, as JSON; the oldest request first.
    pub(crate) fn answer(&self) -> String {
        let mut seen: Vec<(Instant, Seen)> = lock(&self.memories)
            .iter()
            .flat_map(|memory| lock(&memory.0).iter().cloned().collect::<Vec<_>>())
            .collect();
        seen.sort_by_key(|(when, _)| *when);
        let too_many = seen.len().saturating_sub(REMEMBERED);
        let answer = Answer {
            fluxlit_debug: true,
            gateway: &self.gateway,
            settings: &self.settings,
            streamlit_upstream_env: self.streamlit_upstream_env,
            recent_dispatches: seen.drain(too_many..).map(|(_, seen)| seen).collect(),
        };
        // Values and lists of text are always JSON.
        serde_json::to_string(&answer).unwrap_or_default()
    }
}

impl Memory {
    /// Remembers a request that has ended.
    pub(crate) fn add(&self, record: &Record<'_>) {
        let (path, _) = redaction::split(record.target);
        let path = path.get(..LONGEST_PATH).unwrap_or(path);
        let seen = Seen {
            request_id: record.request_id.to_owned(),
            dispatch: record.dispatch.label(),
            path: path.escape_ascii().to_string(),
        };
        let mut memory = lock(&self.0);
        if memory.len() == REMEMBERED {
            memory.pop_front();
        }
        memory.push_back((Instant::now(), seen));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A setting's value without what must not be told.
fn blanked(name: &str, value: Value) -> Value {
    let Value::String(value) = value else {
        return value;
    };
    let is_secret = SECRETS.iter().any(|secret| name.contains(secret));
    if is_secret && !value.is_empty() {
        return REDACTED.into();
    }
    let mut parts = value.split("://");
    let mut blanked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['/', '?', '#', ',', ' ']).unwrap_or(part.len());
        let (authority, rest) = part.split_at_checked(end).unwrap_or((part, ""));
        blanked.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => blanked.extend([REDACTED, "@", host]),
            None => blanked.push_str(authority),
        }
        blanked.push_str(rest);
    }
    blanked.into()
}

const SECRETS: [&str; 4] = ["secret", "token", "password", "key"];
const REDACTED: &str = "[REDACTED]";

/// As many as FluxLit remembers.
const REMEMBERED: usize = 32;

/// In octets. A path may be longer, but then its end tells little.
const LONGEST_PATH: usize = 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::typical;
    use super::super::{Dispatch, Record};
    use super::*;

    fn debug(settings: &[(&str, &str)]) -> Debug {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        Debug::new("/api", "/apps/my-app", settings, true)
    }

    fn answer(debug: &Debug) -> Value {
        serde_json::from_str(&debug.answer()).expect("JSON")
    }

    #[test]
    fn the_answer_has_fluxlit_s_names() {
        let debug = debug(&[("FLUXLIT_ROOT_PATH", "/apps/my-app")]);
        debug.memory().add(&typical());
        debug.memory().add(&Record {
            request_id: "0191",
            dispatch: Dispatch::Api,
            target: b"/apps/my-app/api/\xff?token=abc",
            ..typical()
        });
        let expected = json!({
            "fluxlit_debug": true,
            "gateway": {"api_prefix": "/api", "root_mount": "/apps/my-app"},
            "settings": {"root_path": "/apps/my-app"},
            "streamlit_upstream_env": "set",
            "recent_dispatches": [
                {"request_id": "0190", "dispatch": "streamlit", "path": "/apps/my-app/"},
                {"request_id": "0191", "dispatch": "api", "path": "/apps/my-app/api/\\xff"},
            ],
        });
        assert_eq!(answer(&debug), expected);
    }

    #[test]
    fn the_last_requests_of_all_workers_are_told_oldest_first() {
        let debug = debug(&[]);
        let workers = [debug.memory(), debug.memory()];
        let ids: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        for (worker, id) in workers.iter().cycle().zip(&ids) {
            worker.add(&Record {
                request_id: id,
                ..typical()
            });
        }
        let answer = answer(&debug);
        let seen = answer["recent_dispatches"].as_array().expect("a list");
        let seen: Vec<&str> = seen
            .iter()
            .filter_map(|seen| seen["request_id"].as_str())
            .collect();
        assert_eq!(seen, ids[100 - REMEMBERED..]);
    }

    #[test]
    fn secrets_are_blanked() {
        let table = [
            ("oidc_bff_secret", "hunter2", "[REDACTED]"),
            ("bearer_token_file", "/run/t", "[REDACTED]"),
            ("tls_key", "/etc/key.pem", "[REDACTED]"),
            ("jwt_hs256_secret", "", ""),
            ("gateway_port", "8000", "8000"),
            (
                "api_upstream",
                "http://me:pw@api:80/a@b",
                "http://[REDACTED]@api:80/a@b",
            ),
            (
                "public_base_url",
                "https://portal.example/a",
                "https://portal.example/a",
            ),
            (
                "origins",
                "https://a@b, https://c@d",
                "https://[REDACTED]@b, https://[REDACTED]@d",
            ),
            ("mail", "someone@portal.example", "someone@portal.example"),
        ];
        for (name, value, expected) in table {
            assert_eq!(blanked(name, value.into()), expected, "{name}={value}");
        }
    }
}
