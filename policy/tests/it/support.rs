//! Builds policies and decisions for tests, and applies edits.

use fluxlit_policy::{Decision, Defaults, Edit, Edits, Forward, Header, Peer, Policy, Request};

pub(crate) type Line = (Vec<u8>, Vec<u8>);

/// Builds a policy with the defaults of the filter.
pub(crate) fn policy(settings: &str) -> Policy {
    Policy::from_json(settings.as_bytes(), Defaults::FILTER).expect("valid settings")
}

/// Returns a plain `GET` from this peer.
pub(crate) fn get<'a>(peer: &str, target: &'a str, headers: &'a [Header<'a>]) -> Request<'a> {
    Request {
        peer: peer.parse().map_or(Peer::Unknown, Peer::Ip),
        identity: None,
        is_reentry: false,
        tls: false,
        method: b"GET",
        target: target.as_bytes(),
        host: Some(b"app.example"),
        headers,
    }
}

/// Returns how a request is forwarded.
#[track_caller]
pub(crate) fn forward(decision: &Decision) -> &Forward {
    let forward = match &decision.action {
        fluxlit_policy::Action::Forward(forward) => Ok(forward),
        fluxlit_policy::Action::Reply(reply) => Err(reply.reason),
    };
    forward.expect("the request is forwarded")
}

/// Applies edits to the lines of a message, as a host does.
pub(crate) fn apply(lines: &mut Vec<Line>, edits: &Edits) {
    for edit in edits.iter() {
        let (name, value) = match edit {
            Edit::Append(name, value) => (name, Some(value)),
            Edit::Remove(name) => (name, None),
            Edit::Set(name, value) => (name, Some(value)),
            Edit::Host(_) | Edit::Target(_) => continue,
        };
        if !matches!(edit, Edit::Append(..)) {
            lines.retain(|(other, _)| !other.eq_ignore_ascii_case(name.as_bytes()));
        }
        if let Some(value) = value {
            lines.push((name.as_bytes().to_vec(), value.to_vec()));
        }
    }
}

pub(crate) fn borrow(lines: &[Line]) -> Vec<Header<'_>> {
    lines
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .collect()
}

/// Returns an edit as text.
pub(crate) fn text(edit: Edit<'_>) -> String {
    let latin1 = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    match edit {
        Edit::Append(name, value) => format!("append {name}: {}", latin1(value)),
        Edit::Host(host) => format!("host {}", latin1(host)),
        Edit::Remove(name) => format!("remove {name}"),
        Edit::Set(name, value) => format!("set {name}: {}", latin1(value)),
        Edit::Target(target) => format!("target {}", latin1(target)),
    }
}

pub(crate) fn texts(edits: &Edits) -> Vec<String> {
    edits.iter().map(text).collect()
}
