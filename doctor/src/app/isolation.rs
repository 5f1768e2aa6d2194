//! Self-tests: forged headers never arrive (D11), and clients share nothing (D12).
//!
//! A second gateway with the same settings stands in front of an upstream of the doctor's own. D11 sends it every name that
//! the policy protects, from an address that the settings trust and from one that they do not.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fluxlit_policy::{Defaults, Peer, Policy};

use crate::app::echo::Echo;
use crate::app::instance::Instance;
use crate::app::subject::Subject;
use crate::outcome::Outcome;
use crate::wire::{exchange, handshake, request};

/// D11: no protected header of a client arrives.
pub(crate) async fn spoofing(subject: &Subject, outcome: &mut Outcome) {
    match run_spoofing(subject).await {
        Ok(run) if run.arrived.is_empty() => outcome.right(format!(
            "{} names in 4 forms, over HTTP and WebSocket, from {}: none arrives",
            run.names,
            run.peers.join(" and ")
        )),
        Ok(run) => {
            let some: Vec<&str> = run.arrived.iter().take(SHOWN).map(String::as_str).collect();
            outcome.fail(
                format!(
                    "{} forged headers arrive at the app, such as {}",
                    run.arrived.len(),
                    some.join(", ")
                ),
                if subject.policy.get("report_only") == Some(&true.into()) {
                    "remove FLUXLIT_REPORT_ONLY, which only counts what the policy would remove"
                } else {
                    "this is a fault of the gateway: report it with the output of `fluxlit-gateway config`"
                },
            );
        }
        Err(error) => outcome.skip(format!("the second gateway cannot be asked: {error}")),
    }
}

struct SpoofRun {
    names: usize,
    peers: Vec<String>,
    arrived: Vec<String>,
}

async fn run_spoofing(subject: &Subject) -> io::Result<SpoofRun> {
    let policy = Policy::from_settings(subject.policy.clone(), Defaults::GATEWAY)
        .map_err(|_| io::Error::other("the settings are invalid; see D01"))?;
    let echo = Echo::start("").await?;
    let gateway = Instance::in_front_of(subject, echo.address, &[]).await?;
    let names = names(subject);
    let mut run = SpoofRun {
        names: names.len(),
        peers: Vec::new(),
        arrived: Vec::new(),
    };
    for (peer, is_trusted) in peers(&policy) {
        run.peers.push(format!(
            "{peer} ({})",
            if is_trusted { "trusted" } else { "not trusted" }
        ));
        // Some room for the fields of the request itself.
        let at_once = subject.limits.fields.saturating_sub(12).max(1);
        let fields: Vec<Field> = names
            .iter()
            .filter(|name| !(is_trusted && may_pass(subject, name)))
            .flat_map(|name| forms(name))
            .collect();
        for batch in fields.chunks(at_once.min(FIELDS_AT_ONCE)) {
            for is_socket in [false, true] {
                send(subject, gateway.address, peer, batch, is_socket).await?;
                let received = echo.take();
                if received.is_empty() {
                    return Err(io::Error::other("a request did not arrive at the upstream"));
                }
                for (name, value) in received.iter().flat_map(|head| &head.headers) {
                    if contains(value, MARKER.as_bytes()) {
                        let protocol = if is_socket { "WebSocket" } else { "HTTP" };
                        run.arrived
                            .push(format!("`{name}` of {peer} over {protocol}"));
                    }
                }
            }
        }
    }
    Ok(run)
}

/// A forged field line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: String,
    value: Vec<u8>,
}

/// Returns the forms in which a name is forged: as it is, twice, with underscores, with an octet that is not ASCII.
fn forms(name: &str) -> Vec<Field> {
    let field = |name: String, value: &[u8]| Field {
        name,
        value: [MARKER.as_bytes(), value].concat(),
    };
    let twin = name.replace('-', "_");
    let mut forms = vec![
        field(name.to_owned(), b""),
        field(name.to_ascii_uppercase(), b"-2"),
        field(name.to_owned(), b"-\xe9"),
    ];
    if twin != name {
        forms.push(field(twin, b"-twin"));
    }
    forms
}

async fn send(
    subject: &Subject,
    gateway: SocketAddr,
    peer: IpAddr,
    fields: &[Field],
    is_socket: bool,
) -> io::Result<()> {
    let host = subject.public_authority();
    let target = format!("{}/", subject.mount);
    let head = if is_socket {
        handshake(&target, &host, &[])
    } else {
        request("GET", &target, &host, &[])
    };
    let mut bytes = head.strip_suffix(b"\r\n").unwrap_or(&head).to_vec();
    for field in fields {
        bytes.extend_from_slice(field.name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(&field.value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let wanted = if is_socket { 101 } else { 200 };
    let reply = exchange(gateway, Some(peer), &bytes).await?;
    if reply.status == wanted {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "the gateway answers {} instead of {wanted}",
            reply.status
        )))
    }
}

/// Returns the names to forge: the policy's own list, and those in the settings.
fn names(subject: &Subject) -> Vec<String> {
    let of_setting = |name: &str| -> Vec<String> {
        let list = subject.policy.get(name).and_then(|value| value.as_array());
        list.into_iter()
            .flatten()
            .filter_map(|item| item.as_str().map(str::to_ascii_lowercase))
            .collect()
    };
    let mut names: Vec<String> = fluxlit_policy::protected_headers()
        .map(|(_, name)| name)
        .collect();
    for setting in ["identity_headers", "strip_headers", "trusted_pass_headers"] {
        names.extend(of_setting(setting));
    }
    names.extend(
        subject
            .options
            .trusted_user_headers
            .iter()
            .map(|name| name.to_ascii_lowercase()),
    );
    names.sort_unstable();
    names.dedup();
    // A name that must not be sent twice in a request would make the request itself invalid.
    names.retain(|name| !FRAMING.contains(&name.as_str()));
    names
}

/// Returns true for a name that the settings let a trusted peer pass or choose the client by.
fn may_pass(subject: &Subject, name: &str) -> bool {
    let is_listed = |setting: &str| {
        let list = subject
            .policy
            .get(setting)
            .and_then(|value| value.as_array());
        list.into_iter().flatten().any(|item| {
            item.as_str()
                .is_some_and(|item| item.eq_ignore_ascii_case(name))
        })
    };
    is_listed("trusted_pass_headers") || subject.text("client_ip_header").eq_ignore_ascii_case(name)
}

/// Returns a loopback address that is not trusted, and one that is, as far as there are such.
fn peers(policy: &Policy) -> Vec<(IpAddr, bool)> {
    let addresses = (1..=9).map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last)));
    let (trusted, untrusted): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.partition(|address| policy.trusts(Peer::Ip(*address)));
    let first = |list: Vec<IpAddr>, is_trusted| {
        list.into_iter().next().map(|address| (address, is_trusted))
    };
    first(untrusted, false)
        .into_iter()
        .chain(first(trusted, true))
        .collect()
}

/// D12: what one client gets is not sent for another.
pub(crate) async fn cookies(subject: &Subject, outcome: &mut Outcome) {
    match run_cookies(subject).await {
        Ok(None) => outcome.right("the gateway keeps no cookie of one client for another"),
        Ok(Some(cookie)) => outcome.fail(
            format!(
                "client B's request carried the cookie `{cookie}`, which only client A received"
            ),
            "this is a fault of the gateway: report it with the output of `fluxlit-gateway config`",
        ),
        Err(error) => outcome.skip(format!("the second gateway cannot be asked: {error}")),
    }
}

async fn run_cookies(subject: &Subject) -> io::Result<Option<String>> {
    let echo = Echo::start("Set-Cookie: doctor-session=a; Path=/\r\n").await?;
    let gateway = Instance::in_front_of(subject, echo.address, &[]).await?;
    let host = subject.public_authority();
    let target = format!("{}/", subject.mount);
    for client in ["127.0.0.1", "127.0.0.2", "127.0.0.1"] {
        let own = client.parse().map_err(io::Error::other)?;
        let reply = exchange(
            gateway.address,
            Some(own),
            &request("GET", &target, &host, &[]),
        )
        .await?;
        if reply.status != 200 || reply.lines("set-cookie").next().is_none() {
            return Err(io::Error::other(format!(
                "the gateway answers {} without the upstream's cookie",
                reply.status
            )));
        }
    }
    let sent = echo.take();
    let cookie = sent
        .iter()
        .flat_map(|head| &head.headers)
        .find(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        .map(|(_, value)| {
            String::from_utf8_lossy(value)
                .split('=')
                .next()
                .unwrap_or_default()
                .to_owned()
        });
    Ok(cookie)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What every forged value begins with. It is no address and no host name, so nothing is made of it.
const MARKER: &str = "fluxlit_doctor!forged";

/// How many of the headers that arrived are named.
const SHOWN: usize = 5;

/// Keeps the head of a request well below the gateway's limit.
const FIELDS_AT_ONCE: usize = 80;

/// Names whose twins with underscores are protected, and which frame the request as they are.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "host"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_forged_in_four_forms() {
        let names: Vec<String> = forms("x-real-ip")
            .into_iter()
            .map(|field| field.name)
            .collect();
        assert_eq!(names, ["x-real-ip", "X-REAL-IP", "x-real-ip", "x_real_ip"]);
    }

    #[test]
    fn peers_are_loopback_addresses_of_both_kinds() {
        let peers = |settings: serde_json::Value| {
            let settings = settings.as_object().cloned().unwrap_or_default();
            peers(&Policy::from_settings(settings, Defaults::GATEWAY).unwrap())
        };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            peers(serde_json::json!({})),
            [(address("127.0.0.1"), false)]
        );
        let trusting = serde_json::json!({"trust_proxy": true, "forwarded_allow_ips": "127.0.0.1"});
        assert_eq!(
            peers(trusting),
            [(address("127.0.0.2"), false), (address("127.0.0.1"), true)]
        );
    }
}
