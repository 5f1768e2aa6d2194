//! Lists what each variable of FluxLit 0.13.2 means for the gateway.
//!
//! FluxLit is one program; here the gateway takes the place of a part of it, and the app remains. So a variable is a setting of
//! the gateway, or one of the app, which gets it, or both. Of the others the operator learns why they have no effect, and
//! what to use.
//!
//! The names are those of `fluxlit-0.13.2-variables.txt`, and `docs/fluxlit.md` has the same table; a test compares the three.

/// What a variable of FluxLit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A setting of the gateway. The app gets it as well.
    Gateway,
    /// A setting of the app alone.
    App,
    /// Set for the app by the gateway, whatever the operator has set.
    SetForApp,
    /// It has no effect; the text says why, and what to use.
    NoEffect(&'static str),
    /// It is always as this variable asks for, so that it changes nothing.
    Always,
    /// It is an error; the text says why, and what to use.
    Refused(&'static str),
}

/// Returns what a variable of FluxLit means; `None` if FluxLit has no such variable.
pub(super) fn meaning(variable: &str) -> Option<Meaning> {
    let index = VARIABLES.binary_search_by(|(name, _)| (*name).cmp(variable));
    let (_, meaning) = VARIABLES.get(index.ok()?)?;
    Some(*meaning)
}

/// Returns the variables that the app may get.
pub(super) fn for_app() -> impl Iterator<Item = &'static str> {
    VARIABLES
        .iter()
        .filter(|(_, meaning)| matches!(meaning, Meaning::App | Meaning::Gateway))
        .map(|(name, _)| *name)
}

/// Returns the names of the variables, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|(name, _)| *name)
}

/// Returns true for variables whose value FluxLit reads as a JSON list.
pub(super) fn is_json_list(variable: &str) -> bool {
    JSON_LISTS.contains(&variable)
}

/// The variables, in order.
pub(super) const VARIABLES: [(&str, Meaning); 61] = {
    use Meaning::{Always, App, Gateway, NoEffect, Refused, SetForApp};
    [
        ("FLUXLIT_ALLOW_UNIFIED_UVICORN_MULTIWORKER", App),
        ("FLUXLIT_API_MOUNT_PATH", Gateway),
        ("FLUXLIT_API_PREFIX", SetForApp),
        ("FLUXLIT_APP", SetForApp),
        ("FLUXLIT_ASYNC_PAGE_DEPENDS", App),
        ("FLUXLIT_CORS_ALLOW_CREDENTIALS", App),
        ("FLUXLIT_CORS_ALLOW_ORIGINS", App),
        ("FLUXLIT_CORS_MIDDLEWARE_KWARGS", App),
        ("FLUXLIT_DEBUG", Gateway),
        ("FLUXLIT_DISABLE_URL_SESSION", App),
        ("FLUXLIT_ENABLE_GATEWAY_ACCESS_LOG", Gateway),
        ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", Gateway),
        ("FLUXLIT_ENABLE_REQUEST_LOGGING", App),
        ("FLUXLIT_ENABLE_SECURITY_HEADERS", Gateway),
        ("FLUXLIT_EXPERIMENTAL_YIELD_PAGES", App),
        ("FLUXLIT_FORCE_URL_SESSION_IN_TESTS", App),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", Gateway),
        (
            "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT",
            Gateway,
        ),
        ("FLUXLIT_GATEWAY_HOST", Gateway),
        ("FLUXLIT_GATEWAY_HTTPX_MAX_CONNECTIONS", Gateway),
        (
            "FLUXLIT_GATEWAY_HTTPX_MAX_KEEPALIVE_CONNECTIONS",
            NoEffect(
                "idle connections to an upstream are closed after three seconds; \
                 FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP limits how many are used at the same time",
            ),
        ),
        ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", Gateway),
        ("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", Gateway),
        ("FLUXLIT_GATEWAY_PORT", Gateway),
        ("FLUXLIT_GATEWAY_PROMETHEUS_METRICS_PATH", Gateway),
        ("FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S", Gateway),
        ("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", Gateway),
        (
            "FLUXLIT_GATEWAY_WS_CLOSE_TIMEOUT_S",
            NoEffect(
                "the browser and Streamlit close a WebSocket with each other; FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S ends one \
                 that is silent",
            ),
        ),
        (
            "FLUXLIT_GATEWAY_WS_MAX_MESSAGE_BYTES",
            NoEffect(
                "messages are forwarded in pieces, whatever their size; Streamlit limits them by \
                 STREAMLIT_SERVER_MAX_MESSAGE_SIZE",
            ),
        ),
        ("FLUXLIT_GATEWAY_WS_OPEN_TIMEOUT_S", Gateway),
        (
            "FLUXLIT_GATEWAY_WS_PING_INTERVAL_S",
            NoEffect(
                "the pings of Streamlit and of the browser are forwarded; FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S ends a silent \
                 WebSocket",
            ),
        ),
        (
            "FLUXLIT_GATEWAY_WS_PING_TIMEOUT_S",
            NoEffect(
                "the pings of Streamlit and of the browser are forwarded; FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S ends a silent \
                 WebSocket",
            ),
        ),
        ("FLUXLIT_INTERNAL_API_BASE", SetForApp),
        ("FLUXLIT_JWT_AUDIENCE", App),
        ("FLUXLIT_JWT_HS256_SECRET", App),
        ("FLUXLIT_JWT_ISSUER", App),
        ("FLUXLIT_JWT_JWKS_URL", App),
        ("FLUXLIT_JWT_LEEWAY_SECONDS", App),
        ("FLUXLIT_LOG_LEVEL", Gateway),
        ("FLUXLIT_NO_PIDFILE", Always),
        ("FLUXLIT_OIDC_BFF_SECRET", App),
        (
            "FLUXLIT_PIDFILE",
            NoEffect(
                "no PID file is written, which could name another process after a crash; stop the gateway by SIGTERM, with \
                 the process manager that started it",
            ),
        ),
        ("FLUXLIT_PUBLIC_BASE_URL", Gateway),
        ("FLUXLIT_ROOT_PATH", Gateway),
        (
            "FLUXLIT_STREAMLIT_HOST",
            NoEffect(
                "FluxLit does not use it either; a Streamlit that the gateway starts listens on 127.0.0.1, and \
                 FLUXLIT_STREAMLIT_UPSTREAM names one that is already running",
            ),
        ),
        ("FLUXLIT_STREAMLIT_PAGE_CONFIG", App),
        (
            "FLUXLIT_STREAMLIT_PORT",
            NoEffect(
                "FluxLit does not use it either; a Streamlit that the gateway starts gets a free port, and \
                 FLUXLIT_STREAMLIT_UPSTREAM names one that is already running",
            ),
        ),
        ("FLUXLIT_STREAMLIT_PUBLIC_PATH", Gateway),
        ("FLUXLIT_STREAMLIT_RUN_CLI_ARGS", Gateway),
        ("FLUXLIT_STREAMLIT_UPSTREAM", Gateway),
        (
            "FLUXLIT_STREAMLIT_UPSTREAM_FILE",
            Refused(
                "the upstream is not read from a file, because who can write the file could send every request to another \
                 server: set FLUXLIT_STREAMLIT_UPSTREAM to the URL, and unset this variable, which FluxLit sets for its own \
                 processes",
            ),
        ),
        ("FLUXLIT_STRICT_PAGE_SIGNATURES", App),
        ("FLUXLIT_STRICT_PUBLIC_BASE_URL", Gateway),
        ("FLUXLIT_STRICT_STARTUP", Gateway),
        ("FLUXLIT_TESTS", App),
        ("FLUXLIT_TEST_PAGE_OVERRIDES", App),
        ("FLUXLIT_TITLE", App),
        ("FLUXLIT_TRUST_PROXY", Gateway),
        ("FLUXLIT_URL_SESSION_QUERY_PARAM", Gateway),
        ("FLUXLIT_UVICORN_GRACEFUL_SHUTDOWN_TIMEOUT_S", Gateway),
        ("PUBLIC_BASE_URL", Gateway),
    ]
};

const JSON_LISTS: [&str; 3] = [
    "FLUXLIT_CORS_ALLOW_ORIGINS",
    "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT",
    "FLUXLIT_STREAMLIT_RUN_CLI_ARGS",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_variable_of_fluxlit_has_a_meaning() {
        let file = include_str!("fluxlit-0.13.2-variables.txt");
        let mut listed: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
        listed.sort_unstable();
        assert_eq!(names().collect::<Vec<_>>(), listed);
        assert_eq!(meaning("FLUXLIT_TITLE"), Some(Meaning::App));
        assert_eq!(meaning("FLUXLIT_HSTS"), None);
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let documentation = include_str!("../../../docs/fluxlit.md");
        let (_, table) = documentation
            .split_once("## Variables of FluxLit\n")
            .expect("the section");
        let table = table.split("\n## ").next().unwrap_or_default();
        let mut documented = BTreeMap::new();
        for line in table.lines().filter(|line| line.starts_with("| `")) {
            let mut cells = line.split('|').skip(1).map(str::trim);
            let (names, kind) = (cells.next().expect("a cell"), cells.next().expect("a cell"));
            for name in names.split(", ") {
                documented.insert(name.trim_matches('`'), kind);
            }
        }
        let expected: BTreeMap<&str, &str> = VARIABLES
            .iter()
            .map(|(name, meaning)| {
                let kind = match meaning {
                    Meaning::Gateway => "gateway",
                    Meaning::App => "app",
                    Meaning::SetForApp => "set by the gateway",
                    Meaning::NoEffect(_) => "no effect",
                    Meaning::Always => "always",
                    Meaning::Refused(_) => "refused",
                };
                (*name, kind)
            })
            .collect();
        assert_eq!(documented, expected);
    }
}
