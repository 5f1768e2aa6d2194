use std::collections::{BTreeMap, BTreeSet};

use crate::{Case, Exchange, Expect, Lines};

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
}

impl Outcome {
    /// Says in what this outcome misses the expectation of `case`, one readable line a miss; empty if it is met.
    pub fn misses(&self, case: &Case) -> Vec<String> {
        match (&case.expect, self) {
            (Expect::Refused(texts), Self::Refused(message)) => texts
                .iter()
                .filter(|text| !message.contains(text.as_str()))
                .map(|text| format!("refusal: want a message with `{text}`, got `{message}`"))
                .collect(),
            (Expect::Refused(_), Self::Served(_)) => {
                vec!["configuration: want it refused, got it accepted".to_owned()]
            }
            (Expect::Served(_), Self::Refused(message)) => {
                vec![format!("configuration: want it accepted, got `{message}`")]
            }
            (Expect::Served(exchanges), Self::Served(served)) => {
                let mut misses = Vec::new();
                if exchanges.len() != served.len() {
                    misses.push(format!(
                        "exchanges: want {}, got {}",
                        exchanges.len(),
                        served.len()
                    ));
                }
                for (number, (exchange, served)) in exchanges.iter().zip(served).enumerate() {
                    let start = misses.len();
                    served.misses(exchange, &mut misses);
                    if exchanges.len() > 1 {
                        for miss in misses.iter_mut().skip(start) {
                            *miss = format!("exchange {}: {miss}", number + 1);
                        }
                    }
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
    fn misses(&self, exchange: &Exchange, misses: &mut Vec<String>) {
        match (&exchange.upstream, &self.upstream) {
            (None, None) => {}
            (None, Some(received)) => misses.push(format!(
                "upstream: want it not asked, got {} {}",
                received.method, received.target
            )),
            (Some(_), None) => misses.push(format!(
                "upstream: want it asked, got the local answer {}",
                self.downstream.status
            )),
            (Some(want), Some(got)) => {
                if let Some(target) = &want.target
                    && *target != got.target
                {
                    misses.push(format!(
                        "upstream target: want `{target}`, got `{}`",
                        got.target
                    ));
                }
                if want.host.is_some() && want.host != got.host {
                    misses.push(format!(
                        "upstream host: want {:?}, got {:?}",
                        want.host, got.host
                    ));
                }
                compare_lines("upstream", &want.headers, &got.headers, misses);
                compare_lines("upstream trailer", &want.trailers, &got.trailers, misses);
            }
        }
        if let Some(status) = exchange.downstream.status
            && status != self.downstream.status
        {
            misses.push(format!(
                "downstream status: want {status}, got {}",
                self.downstream.status
            ));
        }
        compare_lines(
            "downstream",
            &exchange.downstream.headers,
            &self.downstream.headers,
            misses,
        );
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

fn compare_lines(
    side: &str,
    want: &BTreeMap<String, Lines>,
    got: &[(String, String)],
    misses: &mut Vec<String>,
) {
    for (name, want) in want {
        let got = lines(got, name);
        if *want != got {
            misses.push(format!("{side} `{name}`: want {want:?}, got {got:?}"));
        }
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
