//! Finds what the upstream is, and under which path it serves the app (D02, D03, D04).

use std::io;

use crate::app::instance::Instance;
use crate::app::server::Server;
use crate::app::subject::Subject;
use crate::client::Response;
use crate::outcome::Outcome;
use crate::wire::{exchange, request};

/// What was found about the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) generation: Generation,
    /// The base path under which its health check responds.
    pub(crate) base: String,
}

/// The web server inside Streamlit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Starlette on uvicorn, since version 1.53.
    Starlette,
    /// Tornado, before.
    Tornado,
}

/// D02: the upstream is a Streamlit, and which kind.
pub(crate) async fn generation(
    server: &Server,
    subject: &Subject,
    outcome: &mut Outcome,
) -> Option<Found> {
    let candidates = candidates(subject);
    let mut first = None;
    for base in &candidates {
        match health(server, base, "GET").await {
            Err(error) => {
                outcome.fail(
                    format!(
                        "Streamlit at {} cannot be reached: {error}",
                        server.authority
                    ),
                    "start it, or correct FLUXLIT_STREAMLIT_UPSTREAM",
                );
                return None;
            }
            Ok(reply) if is_ok(&reply) => {
                let found = Found {
                    generation: generation_of(&reply),
                    base: base.clone(),
                };
                if !has_host_config(server, base).await {
                    break;
                }
                match found.generation {
                    Generation::Starlette => outcome.right("Streamlit runs on Starlette"),
                    Generation::Tornado => outcome.warn(
                        "Streamlit is of the Tornado generation, which differs in limits, cookies and paths of its WebSocket",
                        "nothing has to be changed; upgrade Streamlit when you can",
                    ),
                }
                return Some(found);
            }
            Ok(reply) => {
                first.get_or_insert(reply);
            }
        }
    }
    let seen = first.map_or(
        "it answers `ok` to a health check, but has no /_stcore/host-config".to_owned(),
        |reply| describe(&reply),
    );
    outcome.fail(
        format!(
            "the upstream at {} is not Streamlit: {seen}",
            server.authority
        ),
        "correct FLUXLIT_STREAMLIT_UPSTREAM; curl its /_stcore/health, whose body must be `ok`",
    );
    None
}

/// Waits until a Streamlit that was just started responds; false if it does not, or if its gateway ends before.
pub(crate) async fn is_ready(server: &Server, subject: &Subject, gateway: &mut Instance) -> bool {
    for _ in 0..ATTEMPTS {
        for base in candidates(subject) {
            if health(server, &base, "GET")
                .await
                .is_ok_and(|reply| is_ok(&reply))
            {
                return true;
            }
        }
        if gateway.has_ended() {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

/// D03: the health check under each path.
pub(crate) async fn health_check(
    server: &Server,
    subject: &Subject,
    found: &Found,
    outcome: &mut Outcome,
) {
    let expected = &subject.base;
    if found.base != *expected {
        let seen = match health(server, expected, "GET").await {
            Ok(reply) => describe(&reply),
            Err(error) => error.to_string(),
        };
        outcome.fail(
            format!(
                "the health check responds `ok` only at `{}/_stcore/health`, not at `{expected}/_stcore/health` ({seen})",
                found.base
            ),
            base_hint(subject, found),
        );
        return;
    }
    match health(server, expected, "HEAD").await {
        Ok(reply) if reply.status == 200 => {}
        Ok(reply) => outcome.warn(
            format!("HEAD on the health check responds with {}", reply.status),
            "let load balancers use GET, or the gateway's /api/healthz",
        ),
        Err(error) => outcome.warn(
            format!("HEAD on the health check fails: {error}"),
            "let load balancers use GET",
        ),
    }
    let doubled = format!("{expected}{expected}");
    if !expected.is_empty()
        && let Ok(reply) = health(server, &doubled, "GET").await
        && is_ok(&reply)
    {
        outcome.warn(
            format!("the health check responds under the doubled path `{doubled}` too, so something in front of Streamlit removes paths"),
            "let the gateway reach Streamlit directly",
        );
    }
    outcome.right(format!("`{expected}/_stcore/health` responds `ok`"));
}

/// D04: mount and base path agree.
pub(crate) fn base_and_mount(subject: &Subject, found: &Found, outcome: &mut Outcome) {
    let shape = match subject.text("root_path_shape") {
        "" => "auto",
        shape => shape,
    };
    let state = format!(
        "Streamlit has {}, the gateway {} (root_path_shape {shape}), and forwards to {}",
        named("base path", &found.base),
        named("mount", &subject.mount),
        if subject.base.is_empty() {
            "the root".to_owned()
        } else {
            format!("`{}`", subject.base)
        }
    );
    if found.base == subject.base && (subject.base.is_empty() || subject.base == subject.mount) {
        outcome.right(state);
    } else {
        outcome.fail(
            format!("{state}, so pages or their files are not found"),
            base_hint(subject, found),
        );
    }
}

fn named(what: &str, path: &str) -> String {
    if path.is_empty() {
        format!("no {what}")
    } else {
        format!("the {what} `{path}`")
    }
}

fn base_hint(subject: &Subject, found: &Found) -> String {
    let authority = &subject.authority;
    if found.base.is_empty() {
        format!(
            "Streamlit has no base path: set FLUXLIT_STREAMLIT_UPSTREAM=http://{authority}, or start Streamlit with \
             --server.baseUrlPath {}",
            subject.base.trim_start_matches('/')
        )
    } else if found.base == subject.mount {
        format!(
            "set FLUXLIT_STREAMLIT_UPSTREAM=http://{authority}{}",
            found.base
        )
    } else {
        format!(
            "set FLUXLIT_ROOT_PATH={0} and FLUXLIT_STREAMLIT_UPSTREAM=http://{authority}{0}, or remove server.baseUrlPath from \
             Streamlit",
            found.base
        )
    }
}

/// Returns the base paths to try, the expected one first.
fn candidates(subject: &Subject) -> Vec<String> {
    let mut all = vec![subject.base.clone(), subject.mount.clone(), String::new()];
    all.extend(subject.base_path_option());
    let mut once = Vec::new();
    for base in all {
        if !once.contains(&base) {
            once.push(base);
        }
    }
    once
}

async fn health(server: &Server, base: &str, method: &str) -> io::Result<Response> {
    let target = format!("{base}/_stcore/health");
    exchange(
        server.address,
        None,
        &request(method, &target, &server.authority, &[]),
    )
    .await
}

async fn has_host_config(server: &Server, base: &str) -> bool {
    let target = format!("{base}/_stcore/host-config");
    let reply = exchange(
        server.address,
        None,
        &request("GET", &target, &server.authority, &[]),
    )
    .await;
    reply.is_ok_and(|reply| {
        let config: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        reply.status == 200 && !config["allowedOrigins"].is_null()
    })
}

/// Returns true for the response of a healthy Streamlit. Its pages answer 200 on every path, so the body decides.
pub(crate) fn is_ok(reply: &Response) -> bool {
    reply.status == 200 && reply.body.trim_ascii() == b"ok"
}

fn generation_of(reply: &Response) -> Generation {
    let server = reply.lines("server").next().unwrap_or_default();
    if server.starts_with("TornadoServer") {
        Generation::Tornado
    } else {
        Generation::Starlette
    }
}

fn describe(reply: &Response) -> String {
    let kind = reply
        .lines("content-type")
        .next()
        .unwrap_or_else(|| "no content type".to_owned());
    let is_page = reply.status == 200 && kind.starts_with("text/html");
    if is_page {
        "its health check responds with a page instead of `ok`".to_owned()
    } else {
        format!("its health check responds with {} ({kind})", reply.status)
    }
}

/// How often a Streamlit that starts is asked; together a minute.
const ATTEMPTS: usize = 300;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
