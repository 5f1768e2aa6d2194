//! Builds the debug page: the settings, and where the last requests were forwarded to.
//!
//! The page is FluxLit's `/__fluxlit/debug`, with FluxLit's names. The values of settings whose name suggests a secret are
//! redacted, and so are user and password in a URL; of a request's target only the path is shown. `proxy/internal.rs` decides
//! who may see the page.
//!
//! Each worker remembers its own requests, so its lock is contended only while the page is built.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::{Record, redaction};
use crate::public_url::{PublicUrlTable, REDACTED, without_credentials};

/// The content of the debug page.
#[derive(Debug)]
pub(crate) struct Debug {
    gateway: Setup,
    settings: Mutex<BTreeMap<String, Value>>,
    streamlit_upstream_env: &'static str,
    memories: Mutex<Vec<Memory>>,
}

/// The last requests of a worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<VecDeque<(Instant, RecentRequest)>>>);

#[derive(Debug, Clone, Serialize)]
struct Setup {
    api_prefix: String,
    root_mount: String,
}

#[derive(Debug, Clone, Serialize)]
struct RecentRequest {
    request_id: String,
    dispatch: &'static str,
    path: String,
}

#[derive(Serialize)]
struct Page<'a> {
    fluxlit_debug: bool,
    gateway: &'a Setup,
    settings: &'a BTreeMap<String, Value>,
    streamlit_upstream_env: &'static str,
    /// The URLs of the app for the client of this request.
    public_urls: Option<PublicUrlTable>,
    recent_dispatches: Vec<RecentRequest>,
}

impl Debug {
    /// `settings`: each variable, such as `FLUXLIT_ROOT_PATH`, with its value. `is_upstream_set`: true if the gateway is
    /// configured with a running Streamlit instead of starting one.
    pub(crate) fn new(
        api_prefix: &str,
        root_mount: &str,
        settings: impl IntoIterator<Item = (String, Value)>,
        is_upstream_set: bool,
    ) -> Self {
        Self {
            gateway: Setup {
                api_prefix: api_prefix.to_owned(),
                root_mount: root_mount.to_owned(),
            },
            settings: Mutex::new(shown(settings)),
            streamlit_upstream_env: if is_upstream_set { "set" } else { "unset" },
            memories: Mutex::default(),
        }
    }

    /// Shows other settings from now on, in the form of [`Debug::new`].
    pub(crate) fn show(&self, settings: impl IntoIterator<Item = (String, Value)>) {
        *lock(&self.settings) = shown(settings);
    }

    /// Returns the memory of a new worker.
    pub(crate) fn memory(&self) -> Memory {
        let memory = Memory::default();
        lock(&self.memories).push(memory.clone());
        memory
    }

    /// Returns the page as JSON, with the oldest request first. `public_urls`: the URLs of the app for the client that asks.
    pub(crate) fn page(&self, public_urls: Option<PublicUrlTable>) -> String {
        let mut seen: Vec<(Instant, RecentRequest)> = lock(&self.memories)
            .iter()
            .flat_map(|memory| lock(&memory.0).iter().cloned().collect::<Vec<_>>())
            .collect();
        seen.sort_by_key(|(when, _)| *when);
        let too_many = seen.len().saturating_sub(MAX_REQUESTS);
        let page = Page {
            fluxlit_debug: true,
            gateway: &self.gateway,
            settings: &lock(&self.settings),
            streamlit_upstream_env: self.streamlit_upstream_env,
            public_urls,
            recent_dispatches: seen.drain(too_many..).map(|(_, seen)| seen).collect(),
        };
        // Values and lists of strings always serialize.
        serde_json::to_string(&page).unwrap_or_default()
    }
}

impl Memory {
    /// Remembers a request that has ended.
    pub(crate) fn add(&self, record: &Record<'_>) {
        let (path, _) = redaction::split(record.target);
        let path = path.get(..MAX_PATH).unwrap_or(path);
        let seen = RecentRequest {
            request_id: record.request_id.to_owned(),
            dispatch: record.dispatch.label(),
            path: path.escape_ascii().to_string(),
        };
        let mut memory = lock(&self.0);
        if memory.len() == MAX_REQUESTS {
            memory.pop_front();
        }
        memory.push_back((Instant::now(), seen));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the settings by FluxLit's names, without secrets.
fn shown(settings: impl IntoIterator<Item = (String, Value)>) -> BTreeMap<String, Value> {
    let settings = settings.into_iter().map(|(variable, value)| {
        let name = variable.strip_prefix("FLUXLIT_").unwrap_or(&variable);
        let name = name.to_ascii_lowercase();
        let value = redacted(&name, value);
        (name, value)
    });
    settings.collect()
}

/// Returns the value of a setting without secrets.
pub(super) fn redacted(name: &str, value: Value) -> Value {
    let Value::String(value) = value else {
        return value;
    };
    let is_secret = SECRETS.iter().any(|secret| name.contains(secret));
    if is_secret && !value.is_empty() {
        return REDACTED.into();
    }
    without_credentials(&value).into()
}

const SECRETS: [&str; 4] = ["secret", "token", "password", "key"];

/// The number of requests that are shown, as in FluxLit.
const MAX_REQUESTS: usize = 32;

/// Maximum octets of a path that is shown.
const MAX_PATH: usize = 1024;

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

    fn page(debug: &Debug) -> Value {
        serde_json::from_str(&debug.page(None)).expect("JSON")
    }

    #[test]
    fn the_page_has_fluxlit_s_names() {
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
            "public_urls": null,
            "recent_dispatches": [
                {"request_id": "0190", "dispatch": "streamlit", "path": "/apps/my-app/"},
                {"request_id": "0191", "dispatch": "api", "path": "/apps/my-app/api/\\xff"},
            ],
        });
        assert_eq!(page(&debug), expected);
    }

    #[test]
    fn the_last_requests_of_all_workers_are_shown_oldest_first() {
        let debug = debug(&[]);
        let workers = [debug.memory(), debug.memory()];
        let ids: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        for (worker, id) in workers.iter().cycle().zip(&ids) {
            worker.add(&Record {
                request_id: id,
                ..typical()
            });
        }
        let page = page(&debug);
        let seen = page["recent_dispatches"].as_array().expect("a list");
        let seen: Vec<&str> = seen
            .iter()
            .filter_map(|seen| seen["request_id"].as_str())
            .collect();
        assert_eq!(seen, ids[100 - MAX_REQUESTS..]);
    }

    #[test]
    fn secrets_are_redacted() {
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
            assert_eq!(redacted(name, value.into()), expected, "{name}={value}");
        }
    }
}
