//! Runs a case in the policy itself, and applies its decisions as a host does.

use fluxlit_cases::{
    Case, DownstreamResponse, Exchange, ExchangeOutcome, Outcome, Peer, UpstreamRequest, Version,
    latin1,
};
use fluxlit_policy::{
    self as policy, Action, Decision, Defaults, Edit, Edits, Policy, Request, Response,
};

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// Runs a case with the defaults of the filter.
pub(crate) fn run(case: &Case) -> Outcome {
    let policy = match Policy::from_json(case.config_text().as_bytes(), Defaults::FILTER) {
        Ok(policy) => policy,
        Err(errors) => return Outcome::Refused(errors.to_string()),
    };
    let exchanges = case.exchanges();
    let served = exchanges.iter().map(|exchange| serve(&policy, exchange));
    Outcome::Served(served.collect())
}

fn serve(policy: &Policy, exchange: &Exchange) -> ExchangeOutcome {
    let request = &exchange.request;
    let headers = to_lines(&request.headers);
    let borrowed = borrow(&headers);
    let host = request.host.as_deref().map(latin1::bytes);
    let Decision {
        action,
        exchange: facts,
        ..
    } = policy.request(&Request {
        peer: match request.peer {
            Peer::Ip(address) => policy::Peer::Ip(address),
            Peer::Unix => policy::Peer::Unix,
            Peer::Unknown => policy::Peer::Unknown,
        },
        identity: None,
        is_reentry: false,
        tls: request.tls,
        method: request.method.as_bytes(),
        target: &latin1::bytes(&request.target),
        host: host.as_deref(),
        headers: &borrowed,
    });
    // A body is forwarded as it is. The body of a reply is written by the host, so it is empty here.
    let mut body = String::new();
    let (upstream, status, mut response_headers) = match action {
        Action::Forward(forward) => {
            let mut received = Message {
                target: latin1::bytes(&request.target),
                host,
                lines: headers.clone(),
            };
            received.apply(&forward.edits);
            let trailers = to_lines(&request.trailers);
            let trailer_edits = policy.request_trailers(&borrow(&trailers));
            let mut trailers = Message {
                lines: trailers,
                ..Message::default()
            };
            trailers.apply(&trailer_edits);
            let upstream = UpstreamRequest {
                method: request.method.clone(),
                target: latin1::text(&received.target),
                host: received.host.as_deref().map(latin1::text),
                headers: to_text(&received.lines),
                body: request.body.clone(),
                trailers: to_text(&trailers.lines),
            };
            let answer = &exchange.answer;
            body = answer.body.clone();
            (Some(upstream), answer.status, to_lines(&answer.headers))
        }
        Action::Reply(reply) => {
            let status = reply.status(|| request.http == Version::Http10);
            let location = reply
                .location
                .map(|location| (b"location".to_vec(), location));
            (None, status, location.into_iter().collect())
        }
    };
    let edits = policy.response(
        &facts,
        &Response {
            status,
            headers: &borrow(&response_headers),
        },
    );
    let mut response = Message {
        lines: std::mem::take(&mut response_headers),
        ..Message::default()
    };
    response.apply(&edits.edits);
    ExchangeOutcome {
        upstream,
        downstream: DownstreamResponse {
            status,
            headers: to_text(&response.lines),
            body,
            trailers: exchange.answer.trailers.clone(),
        },
    }
}

#[derive(Default)]
struct Message {
    target: Vec<u8>,
    host: Option<Vec<u8>>,
    lines: Lines,
}

impl Message {
    fn apply(&mut self, edits: &Edits) {
        for edit in edits.iter() {
            match edit {
                Edit::Append(name, value) => {
                    self.lines.push((name.as_bytes().to_vec(), value.to_vec()));
                }
                Edit::Host(host) => self.host = Some(host.to_vec()),
                Edit::Remove(name) => self.remove(name),
                Edit::Set(name, value) => {
                    self.remove(name);
                    self.lines.push((name.as_bytes().to_vec(), value.to_vec()));
                }
                Edit::Target(target) => self.target = target.to_vec(),
            }
        }
    }

    fn remove(&mut self, name: &str) {
        self.lines
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name.as_bytes()));
    }
}

/// Trims values as HTTP parsers do, RFC 9110 §5.5.
fn to_lines(headers: &[(String, String)]) -> Lines {
    headers
        .iter()
        .map(|(name, value)| {
            let value = value.trim_matches([' ', '\t']);
            (latin1::bytes(name), latin1::bytes(value))
        })
        .collect()
}

fn borrow(lines: &Lines) -> Vec<(&[u8], &[u8])> {
    lines
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .collect()
}

fn to_text(lines: &Lines) -> Vec<(String, String)> {
    lines
        .iter()
        .map(|(name, value)| (latin1::text(name).to_ascii_lowercase(), latin1::text(value)))
        .collect()
}
