//! What came of a case in one host, and in what does it miss the expectation?
//!
//! One readable line a miss: what is looked at, what was wanted, what came. Only what a case names is compared.

use std::collections::BTreeSet;

use crate::expectation::{Downstream, Headers, Matches, Upstream};
use crate::format::{Case, Exchange};
use crate::pattern::matches_whole;

/// What came of a case in one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The configuration was refused, with this message.
    Refused(String),
    /// The configuration was accepted, and its exchanges went like this.
    Served(Vec<Served>),
}

/// What came of one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What the upstream received; `None` if it was not asked.
    pub upstream: Option<Received>,
    /// What the client got.
    pub downstream: Reply,
}

/// A request as the upstream received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
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

/// A response as the client got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
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
    /// Says in what this outcome misses the expectation of `case`, one readable line a miss; empty if it is met.
    pub fn misses(&self, case: &Case) -> Vec<String> {
        match self {
            Self::Refused(message) if case.refused.is_empty() => {
                vec![format!("configuration: want it accepted, got `{message}`")]
            }
            Self::Refused(message) => case
                .refused
                .iter()
                .filter(|text| !message.contains(text.as_str()))
                .map(|text| format!("refusal: want a message with `{text}`, got `{message}`"))
                .collect(),
            Self::Served(_) if !case.refused.is_empty() => {
                vec!["configuration: want it refused, got it accepted".to_owned()]
            }
            Self::Served(served) => {
                let exchanges = case.exchanges();
                let mut misses = Vec::new();
                if exchanges.len() != served.len() {
                    misses.push(format!(
                        "exchanges: want {}, got {}",
                        exchanges.len(),
                        served.len()
                    ));
                }
                for (number, (exchange, served)) in exchanges.iter().zip(served).enumerate() {
                    let found = served.misses(exchange).into_iter();
                    misses.extend(found.map(|miss| match exchanges.len() {
                        1 => miss,
                        _ => format!("exchange {}: {miss}", number + 1),
                    }));
                }
                misses
            }
        }
    }

    /// Says in what two hosts' outcomes of the same case differ, one readable line a difference.
    ///
    /// Fields that a proxy adds for its own hop (listed in `TRANSPORT`) are left out, and so is the text of a refusal,
    /// since each host wraps it in words of its own.
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

impl Served {
    fn misses(&self, exchange: &Exchange) -> Vec<String> {
        let mut misses = match (&exchange.upstream, &self.upstream) {
            (None, None) => Vec::new(),
            (None, Some(received)) => vec![received.is_unwanted()],
            (Some(_), None) => vec![self.downstream.is_instead()],
            (Some(want), Some(got)) => want.misses(got),
        };
        misses.extend(exchange.downstream.misses(&self.downstream));
        misses
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

impl Received {
    /// The miss of a request that should not have reached the upstream.
    pub fn is_unwanted(&self) -> String {
        let Self { method, target, .. } = self;
        format!("upstream: want it not asked, got {method} {target}")
    }
}

impl Reply {
    /// The miss of an answer that came in place of the upstream's.
    pub fn is_instead(&self) -> String {
        format!(
            "upstream: want it asked, got the local answer {}",
            self.status
        )
    }
}

impl Upstream {
    /// Says in what a request misses this.
    pub fn misses(&self, got: &Received) -> Vec<String> {
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
        let mut misses = Vec::new();
        for (what, want, got) in [
            ("method", method, Some(&got.method)),
            ("target", target, Some(&got.target)),
            ("host", host, got.host.as_ref()),
        ] {
            if want.is_some() && want.as_ref() != got {
                let want = want.as_deref().unwrap_or_default();
                let got = got.map_or("none", String::as_str);
                misses.push(format!("upstream {what}: want `{want}`, got `{got}`"));
            }
        }
        line_misses("upstream", headers, &got.headers, &mut misses);
        pattern_misses("upstream", matches, unlike, &got.headers, &mut misses);
        order_misses("upstream", order, &got.headers, &mut misses);
        body_misses("upstream", (body, body_matches), &got.body, &mut misses);
        line_misses("upstream trailer", trailers, &got.trailers, &mut misses);
        misses
    }
}

impl Downstream {
    /// Says in what a response misses this.
    pub fn misses(&self, got: &Reply) -> Vec<String> {
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
        let mut misses = Vec::new();
        if let Some(status) = status
            && *status != got.status
        {
            misses.push(format!(
                "downstream status: want {status}, got {}",
                got.status
            ));
        }
        line_misses("downstream", headers, &got.headers, &mut misses);
        pattern_misses("downstream", matches, unlike, &got.headers, &mut misses);
        order_misses("downstream", order, &got.headers, &mut misses);
        body_misses("downstream", (body, body_matches), &got.body, &mut misses);
        line_misses("downstream trailer", trailers, &got.trailers, &mut misses);
        misses
    }
}

/// Adds in what the lines of the named fields miss what is wanted; `side` begins each miss.
pub fn line_misses(side: &str, want: &Headers, got: &[(String, String)], misses: &mut Vec<String>) {
    for (name, want) in want {
        let got = lines(got, name);
        if *want != got {
            misses.push(format!("{side} `{name}`: want {want:?}, got {got:?}"));
        }
    }
}

fn pattern_misses(
    side: &str,
    matches: &Matches,
    unlike: &Matches,
    got: &[(String, String)],
    misses: &mut Vec<String>,
) {
    let is_there = |name: &str, regex: &str| {
        lines(got, name)
            .iter()
            .any(|line| matches_whole(regex, line))
    };
    for (name, regex) in matches {
        if !is_there(name, regex) {
            let got = lines(got, name);
            misses.push(format!(
                "{side} `{name}`: want a line like `{regex}`, got {got:?}"
            ));
        }
    }
    for (name, regex) in unlike {
        if is_there(name, regex) {
            let got = lines(got, name);
            misses.push(format!(
                "{side} `{name}`: want no line like `{regex}`, got {got:?}"
            ));
        }
    }
}

fn order_misses(side: &str, want: &[String], got: &[(String, String)], misses: &mut Vec<String>) {
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
        misses.push(format!("{side} order: want {want:?}, got {got:?}"));
    }
}

fn body_misses(
    side: &str,
    (want, regex): (&Option<String>, &Option<String>),
    got: &str,
    misses: &mut Vec<String>,
) {
    if let Some(want) = want
        && want != got
    {
        misses.push(format!("{side} body: want {want:?}, got {got:?}"));
    }
    if let Some(regex) = regex
        && !matches_whole(regex, got)
    {
        misses.push(format!("{side} body: want it like `{regex}`, got {got:?}"));
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

/// Fields that belong to one hop's transport, or that Envoy adds to every message it forwards.
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
