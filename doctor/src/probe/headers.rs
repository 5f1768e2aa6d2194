//! Checks redirects to TLS and HSTS (P02, P03).

use std::fmt::Display;

use crate::client::{Ask, ConnectTo, Failure, Site};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::{FORWARDED, HSTS, HSTS_OVER_HTTP};

const MALFORMED: &str = "a malformed request";
const TOO_LONG: &str = "a request with too long headers";

/// Requests that some servers answer before any configuration applies.
const UNREADABLE: [&str; 2] = [MALFORMED, TOO_LONG];

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

const STS: &str = "strict-transport-security";

/// P02: what plain HTTP does.
pub(crate) async fn http_first(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    if !site.is_tls {
        return outcome.skip("the URL is http");
    }
    let is_given = |entry: &ConnectTo| entry.port == Some(HTTP_PORT);
    if site.port != HTTPS_PORT && !site.connect_to.iter().any(is_given) {
        return outcome.skip("the URL has a port of its own, and the one for plain HTTP is unknown; `--connect-to 80=ADDRESS:PORT` gives it");
    }
    let plain = Site {
        is_tls: false,
        port: HTTP_PORT,
        ..site.clone()
    };
    let client = match context.client.for_site(plain).await {
        Ok(client) => client,
        Err(failure) => return outcome.skip(format!("plain HTTP: {failure}")),
    };
    // A secret must not be sent in the clear.
    let response = match client.send(&Ask::get(site.path("/")).anonymous()).await {
        Ok(response) => response,
        Err(Failure::Connect(_)) => return outcome.right("nothing listens on port 80"),
        Err(failure) => return outcome.skip(format!("plain HTTP: {failure}")),
    };
    let port = match site.port {
        HTTPS_PORT => String::new(),
        port => format!(":{port}"),
    };
    let location = response.first("location");
    let wanted = [site.url(), site.path("/")];
    if !matches!(response.status, 301 | 302 | 307 | 308) {
        outcome.warn(
            format!(
                "plain HTTP is answered {}, not redirected to https",
                context.answer(&response)
            ),
            "let the front redirect to https with status 308",
        );
    } else if location == wanted[0] || location.starts_with(&format!("{}?", wanted[0])) {
        outcome.right("plain HTTP redirects to the same app over TLS");
    } else {
        outcome.fail(
            format!("plain HTTP redirects to `{location}` instead of `{}`", wanted[0]),
            format!("let the front redirect to https with the same host and the whole path (nginx: write `return 308 https://$host{port}$request_uri;`)"),
        );
    }
    if response.lines(STS).next().is_some() {
        let by = context.hop(context.by(&response));
        let (reason, hint) = if context.is_of_front(&response) {
            (
                format!("a line of {} adds it there as well", by.name()),
                HSTS_OVER_HTTP.hint(by),
            )
        } else {
            (
                "the hop that sends it takes the scheme for https".to_owned(),
                FORWARDED.hint(by),
            )
        };
        outcome.warn(
            format!("Strict-Transport-Security is sent over plain HTTP, where browsers ignore it: {reason}"),
            hint,
        );
    }
}

/// P03: HSTS on all kinds of responses.
pub(crate) async fn hsts(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    let long = "x".repeat(150 * 1024);
    let requests = [
        ("the page", Ask::get(site.path("/"))),
        ("the health check", Ask::get(site.path("/_stcore/health"))),
        ("a 404", Ask::get(site.path("/component/none/none"))),
        (
            "the bare mount",
            Ask::get(if site.mount.is_empty() {
                "/"
            } else {
                &site.mount
            }),
        ),
        (
            MALFORMED,
            Ask::get(site.path("/")).field("Transfer-Encoding", "x"),
        ),
        (TOO_LONG, Ask::get(site.path("/")).field("X-Doctor", long)),
    ];
    let mut seen: Vec<Seen> = Vec::new();
    for (name, ask) in requests {
        // Some servers close without an answer, which says nothing about HSTS.
        if let Ok(response) = context.client.send(&ask).await {
            let lines = response.lines(STS).collect();
            let by = context.by(&response);
            let is_fixed = UNREADABLE.contains(&name) && by.has_fixed_errors();
            if is_fixed && response.status >= 400 {
                outcome.right(format!(
                    "{} answers {name} without fields of any configuration",
                    by.name()
                ));
            } else {
                let answer = context.answer(&response);
                seen.push(Seen {
                    name,
                    answer,
                    lines,
                });
            }
        }
    }
    if !site.is_tls {
        let over_http = seen.iter().find(|seen| !seen.lines.is_empty());
        match over_http {
            Some(seen) => outcome.warn(
                format!("{seen} has Strict-Transport-Security over plain HTTP: the hop that sends it takes the scheme for https"),
                FORWARDED.hint(context.front),
            ),
            None => outcome.skip("the URL is http, where HSTS has no meaning"),
        }
        return;
    }
    let with = |is_so: &dyn Fn(&Seen) -> bool| {
        let names: Vec<String> = seen
            .iter()
            .filter(|it| is_so(it))
            .map(Seen::to_string)
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let value = |seen: &Seen| seen.lines.first().map(|line| Hsts::parse(line));
    let is_twice =
        |seen: &Seen| seen.lines.len() > 1 || seen.lines.iter().any(|line| line.contains(','));
    if let Some(twice) = with(&is_twice) {
        outcome.fail(
            format!("{twice} have Strict-Transport-Security twice: browsers take the first line, and ignore a joined one (RFC 6797 §8.1)"),
            HSTS.hint(context.front),
        );
    } else if let Some(invalid) =
        with(&|seen| value(seen).is_some_and(|hsts| hsts.max_age.is_none()))
    {
        outcome.fail(
            format!("{invalid} have an invalid Strict-Transport-Security, which browsers ignore"),
            HSTS.hint(context.front),
        );
    } else {
        judge_values(context, &seen, outcome);
    }
    match with(&|seen| seen.lines.is_empty()) {
        None => outcome.right("every response has one Strict-Transport-Security"),
        Some(_) if seen.iter().all(|seen| seen.lines.is_empty()) => outcome.warn(
            "no response has Strict-Transport-Security",
            HSTS.hint(context.front),
        ),
        Some(without) => outcome.warn(
            format!("Strict-Transport-Security is missing on {without}"),
            HSTS.hint(context.front),
        ),
    }
}

/// Judges the values, of which each response has one that is valid, or none.
fn judge_values(context: &Context, seen: &[Seen], outcome: &mut Outcome) {
    let mut distinct: Vec<(&str, &Seen)> = Vec::new();
    for seen in seen {
        if let Some(line) = seen.lines.first()
            && !distinct
                .iter()
                .any(|(known, _)| Hsts::parse(known) == Hsts::parse(line))
        {
            distinct.push((line, seen));
        }
    }
    if distinct.len() > 1 {
        let values: Vec<String> = distinct
            .iter()
            .map(|(line, seen)| format!("`{line}` on {seen}"))
            .collect();
        outcome.warn(
            format!("Strict-Transport-Security differs, and browsers keep the last value that they have seen: {}", values.join(", ")),
            HSTS.hint(context.front),
        );
    }
    for (line, seen) in distinct {
        let hsts = Hsts::parse(line);
        if hsts.max_age == Some(0) {
            outcome.warn(
                format!("`{line}` on {seen} switches HSTS off"),
                HSTS.hint(context.front),
            );
        }
        if hsts.has_preload && !hsts.includes_subdomains {
            outcome.warn(
                format!("`{line}` on {seen} has preload without includeSubDomains, so no browser adds the host to its list"),
                HSTS.hint(context.front),
            );
        }
        if hsts.includes_subdomains && !context.client.site.mount.is_empty() {
            outcome.warn(
                format!("`{line}` on {seen} has includeSubDomains on a host that is shared by several apps: it decides for all of them"),
                format!("leave includeSubDomains to the owner of the host: {}", HSTS.hint(context.front)),
            );
        }
    }
}

/// A response whose fields are judged.
struct Seen {
    /// What was asked for.
    name: &'static str,
    /// The status, with the hop that has answered.
    answer: String,
    /// Its lines with HSTS.
    lines: Vec<String>,
}

impl Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.answer)
    }
}

/// The directives of a Strict-Transport-Security that are read.
#[derive(Debug, PartialEq, Eq)]
struct Hsts {
    /// Seconds; `None` if the value is invalid without it.
    max_age: Option<u64>,
    includes_subdomains: bool,
    has_preload: bool,
}

impl Hsts {
    fn parse(line: &str) -> Self {
        let line = line.to_ascii_lowercase();
        let has = |name| line.split(';').any(|part| part.trim() == name);
        Self {
            max_age: max_age(&line),
            includes_subdomains: has("includesubdomains"),
            has_preload: has("preload"),
        }
    }
}

/// Returns the seconds of `max-age` of a valid field value.
fn max_age(line: &str) -> Option<u64> {
    let directive = line.split(';').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("max-age")
            .then(|| value.trim().trim_matches('"').to_owned())
    });
    directive?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_max_age_is_read_as_browsers_do() {
        for (line, expected) in [
            ("max-age=31536000; includeSubDomains", Some(31_536_000)),
            ("includeSubDomains; Max-Age=\"10\"", Some(10)),
            ("max-age=1, max-age=2", None),
            ("includeSubDomains", None),
        ] {
            assert_eq!(max_age(line), expected, "{line}");
        }
    }
}
