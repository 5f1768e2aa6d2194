//! Compares the outcome of a case in one host with what the case expects.
//!
//! A mismatch is one readable line: what is compared, what the case wants, and the actual value. Only the keys that a case
//! has are compared.

use std::collections::BTreeSet;

use crate::expectation::{DownstreamExpectation, Headers, Matches, UpstreamExpectation};
use crate::format::{Case, Exchange};
use crate::pattern::matches_whole;

/// The outcome of a case in one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The configuration was rejected with this message.
    Refused(String),
    /// The configuration was accepted, and the exchanges have these outcomes.
    Served(Vec<ExchangeOutcome>),
}

/// The outcome of one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeOutcome {
    /// The request that the upstream received; `None` if it received none.
    pub upstream: Option<UpstreamRequest>,
    /// The response that the client received.
    pub downstream: DownstreamResponse,
}

/// A request as the upstream received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamRequest {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The `Host` field or `:authority`.
    pub host: Option<String>,
    /// Field lines in wire order, without `Host`; Latin-1 text.
    pub headers: Vec<(String, String)>,
    /// The body; Latin-1 text.
    pub body: String,
    /// Trailer field lines in wire order; Latin-1 text.
    pub trailers: Vec<(String, String)>,
}

/// A response as the client received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownstreamResponse {
    /// The status.
    pub status: u16,
    /// Field lines in wire order; Latin-1 text.
    pub headers: Vec<(String, String)>,
    /// The body; Latin-1 text.
    pub body: String,
    /// Trailer field lines in wire order; Latin-1 text.
    pub trailers: Vec<(String, String)>,
}

impl Outcome {
    /// Returns the mismatches with `case`, one readable line each; empty if the outcome is as expected.
    pub fn mismatches(&self, case: &Case) -> Vec<String> {
        match self {
            Self::Refused(message) if case.refused.is_empty() => {
                vec![format!(
                    "configuration: want it accepted, but it was refused: `{message}`"
                )]
            }
            Self::Refused(message) => case
                .refused
                .iter()
                .filter(|text| !message.contains(text.as_str()))
                .map(|text| format!("refusal: want a message with `{text}`, got `{message}`"))
                .collect(),
            Self::Served(_) if !case.refused.is_empty() => {
                vec!["configuration: want it refused, but it was accepted".to_owned()]
            }
            Self::Served(served) => {
                let exchanges = case.exchanges();
                let mut mismatches = Vec::new();
                if exchanges.len() != served.len() {
                    mismatches.push(format!(
                        "exchanges: want {}, got {}",
                        exchanges.len(),
                        served.len()
                    ));
                }
                for (number, (exchange, served)) in exchanges.iter().zip(served).enumerate() {
                    let found = served.mismatches(exchange).into_iter();
                    mismatches.extend(found.map(|mismatch| match exchanges.len() {
                        1 => mismatch,
                        _ => format!("exchange {}: {mismatch}", number + 1),
                    }));
                }
                mismatches
            }
        }
    }

    /// Returns the differences between two hosts' outcomes of the same case, one readable line each.
    ///
    /// Ignores fields that a proxy adds for its own hop, listed in `TRANSPORT`, and the message of a rejection, which each
    /// host words differently.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        match (self, other) {
            (Self::Refused(_), Self::Refused(_)) => Vec::new(),
            (Self::Served(one), Self::Served(two)) => {
                let mut differences = Vec::new();
                if one.len() != two.len() {
                    differences.push(format!("exchanges: {} / {}", one.len(), two.len()));
                }
                for (one, two) in one.iter().zip(two) {
                    one.differences(two, &mut differences);
                }
                differences
            }
            (one, two) => vec![format!("{one:?} / {two:?}")],
        }
    }
}

impl ExchangeOutcome {
    fn mismatches(&self, exchange: &Exchange) -> Vec<String> {
        let mut mismatches = match (&exchange.upstream, &self.upstream) {
            (None, None) => Vec::new(),
            (None, Some(received)) => vec![received.unexpected()],
            (Some(_), None) => vec![self.downstream.in_place_of_upstream()],
            (Some(want), Some(got)) => want.mismatches(got),
        };
        mismatches.extend(exchange.downstream.mismatches(&self.downstream));
        mismatches
    }

    fn differences(&self, other: &Self, differences: &mut Vec<String>) {
        match (&self.upstream, &other.upstream) {
            (Some(one), Some(two)) => {
                let heads = [one, two].map(|side| (&side.method, &side.target, &side.host));
                if heads[0] != heads[1] {
                    differences.push(format!("upstream: {:?} / {:?}", heads[0], heads[1]));
                }
                differing_lines("upstream", &one.headers, &two.headers, differences);
                differing_lines(
                    "upstream trailer",
                    &one.trailers,
                    &two.trailers,
                    differences,
                );
            }
            (None, None) => {}
            (one, two) => differences.push(format!("upstream: {one:?} / {two:?}")),
        }
        if self.downstream.status != other.downstream.status {
            differences.push(format!(
                "downstream status: {} / {}",
                self.downstream.status, other.downstream.status
            ));
        }
        differing_lines(
            "downstream",
            &self.downstream.headers,
            &other.downstream.headers,
            differences,
        );
    }
}

impl UpstreamRequest {
    /// Returns the mismatch of a request that must not reach the upstream.
    pub fn unexpected(&self) -> String {
        let Self { method, target, .. } = self;
        format!("upstream: want no request, got {method} {target}")
    }
}

impl DownstreamResponse {
    /// Returns the mismatch of a response that was sent in place of the upstream's.
    pub fn in_place_of_upstream(&self) -> String {
        format!(
            "upstream: want a request, got the local reply {}",
            self.status
        )
    }
}

impl UpstreamExpectation {
    /// Returns the mismatches of a request.
    pub fn mismatches(&self, got: &UpstreamRequest) -> Vec<String> {
        let Self {
            method,
            target,
            host,
            headers,
            matches,
            unlike,
            order,
            body,
            body_file: _,
            body_matches,
            trailers,
        } = self;
        let mut mismatches = Vec::new();
        for (what, want, got) in [
            ("method", method, Some(&got.method)),
            ("target", target, Some(&got.target)),
            ("host", host, got.host.as_ref()),
        ] {
            if want.is_some() && want.as_ref() != got {
                let want = want.as_deref().unwrap_or_default();
                let got = got.map_or("none", String::as_str);
                mismatches.push(format!("upstream {what}: want `{want}`, got `{got}`"));
            }
        }
        line_mismatches("upstream", headers, &got.headers, &mut mismatches);
        pattern_mismatches("upstream", matches, unlike, &got.headers, &mut mismatches);
        order_mismatches("upstream", order, &got.headers, &mut mismatches);
        body_mismatches("upstream", (body, body_matches), &got.body, &mut mismatches);
        line_mismatches("upstream trailer", trailers, &got.trailers, &mut mismatches);
        mismatches
    }
}

impl DownstreamExpectation {
    /// Returns the mismatches of a response.
    pub fn mismatches(&self, got: &DownstreamResponse) -> Vec<String> {
        let Self {
            status,
            headers,
            matches,
            unlike,
            order,
            body,
            body_file: _,
            body_matches,
            trailers,
        } = self;
        let mut mismatches = Vec::new();
        if let Some(status) = status
            && *status != got.status
        {
            mismatches.push(format!(
                "downstream status: want {status}, got {}",
                got.status
            ));
        }
        line_mismatches("downstream", headers, &got.headers, &mut mismatches);
        pattern_mismatches("downstream", matches, unlike, &got.headers, &mut mismatches);
        order_mismatches("downstream", order, &got.headers, &mut mismatches);
        body_mismatches(
            "downstream",
            (body, body_matches),
            &got.body,
            &mut mismatches,
        );
        line_mismatches(
            "downstream trailer",
            trailers,
            &got.trailers,
            &mut mismatches,
        );
        mismatches
    }
}

/// Adds the mismatches of the named fields, each prefixed by `side`.
pub fn line_mismatches(
    side: &str,
    want: &Headers,
    got: &[(String, String)],
    mismatches: &mut Vec<String>,
) {
    for (name, want) in want {
        let got = lines(got, name);
        if *want != got {
            mismatches.push(format!("{side} `{name}`: want {want:?}, got {got:?}"));
        }
    }
}

fn pattern_mismatches(
    side: &str,
    matches: &Matches,
    unlike: &Matches,
    got: &[(String, String)],
    mismatches: &mut Vec<String>,
) {
    let is_there = |name: &str, regex: &str| {
        lines(got, name)
            .iter()
            .any(|line| matches_whole(regex, line))
    };
    for (name, regex) in matches {
        if !is_there(name, regex) {
            let got = lines(got, name);
            mismatches.push(format!(
                "{side} `{name}`: want a line like `{regex}`, got {got:?}"
            ));
        }
    }
    for (name, regex) in unlike {
        if is_there(name, regex) {
            let got = lines(got, name);
            mismatches.push(format!(
                "{side} `{name}`: want no line like `{regex}`, got {got:?}"
            ));
        }
    }
}

fn order_mismatches(
    side: &str,
    want: &[String],
    got: &[(String, String)],
    mismatches: &mut Vec<String>,
) {
    let is_named = |name: &&str| want.iter().any(|want| want.eq_ignore_ascii_case(name));
    let got: Vec<&str> = got
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(is_named)
        .collect();
    let is_same = want.len() == got.len()
        && want
            .iter()
            .zip(&got)
            .all(|(want, got)| want.eq_ignore_ascii_case(got));
    if !is_same {
        mismatches.push(format!("{side} order: want {want:?}, got {got:?}"));
    }
}

fn body_mismatches(
    side: &str,
    (want, regex): (&Option<String>, &Option<String>),
    got: &str,
    mismatches: &mut Vec<String>,
) {
    if let Some(want) = want
        && want != got
    {
        mismatches.push(format!("{side} body: want {want:?}, got {got:?}"));
    }
    if let Some(regex) = regex
        && !matches_whole(regex, got)
    {
        mismatches.push(format!("{side} body: want it like `{regex}`, got {got:?}"));
    }
}

fn differing_lines(
    side: &str,
    one: &[(String, String)],
    two: &[(String, String)],
    differences: &mut Vec<String>,
) {
    let names: BTreeSet<String> = one
        .iter()
        .chain(two)
        .map(|(name, _)| name.to_ascii_lowercase())
        .filter(|name| !TRANSPORT.contains(&name.as_str()))
        .collect();
    for name in names {
        let (one, two) = (lines(one, &name), lines(two, &name));
        if one != two {
            differences.push(format!("{side} `{name}`: {one:?} / {two:?}"));
        }
    }
}

fn lines(headers: &[(String, String)], name: &str) -> Vec<String> {
    headers
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.clone())
        .collect()
}

/// Fields of the transport of one hop, and those that Envoy adds to every message it forwards.
const TRANSPORT: [&str; 12] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "keep-alive",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-upstream-service-time",
    "x-request-id",
];
