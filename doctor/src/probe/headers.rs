//! Checks redirects to TLS and HSTS (P02, P03).

use crate::client::{Ask, Failure, Site};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::{FORWARDED, HSTS};
use crate::probe::front::Hop;

const MALFORMED: &str = "a malformed request";
const TOO_LONG: &str = "a request with too long headers";

/// Requests that some servers answer before any configuration applies.
const UNREADABLE: [&str; 2] = [MALFORMED, TOO_LONG];

const STS: &str = "strict-transport-security";

/// P02: what plain HTTP does.
pub(crate) async fn http_first(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    if !site.is_tls {
        return outcome.skip("the URL is http");
    }
    if site.port != 443 {
        return outcome
            .skip("the URL has a port of its own, and the one for plain HTTP is unknown");
    }
    let plain = Site {
        is_tls: false,
        port: 80,
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
    let by = Hop::of(&response);
    let location = response.first("location");
    let wanted = [site.url(), site.path("/")];
    if !matches!(response.status, 301 | 302 | 307 | 308) {
        outcome.warn(
            format!(
                "plain HTTP is answered {} by {}, not redirected to https",
                response.status,
                by.name()
            ),
            "let the front redirect to https with status 308",
        );
    } else if location == wanted[0] || location.starts_with(&format!("{}?", wanted[0])) {
        outcome.right("plain HTTP redirects to the same app over TLS");
    } else {
        outcome.fail(
            format!("plain HTTP redirects to `{location}` instead of `{}`", wanted[0]),
            "let the front redirect to https with the same host and the whole path (nginx: write `return 308 https://$host$request_uri;`)",
        );
    }
    if response.lines(STS).next().is_some() {
        outcome.warn(
            "Strict-Transport-Security is sent over plain HTTP, where browsers ignore it: the hop that sends it takes the scheme for https",
            "let the front set X-Forwarded-Proto to the real scheme",
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
    let mut seen: Vec<(&str, u16, Hop, Vec<String>)> = Vec::new();
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
                seen.push((name, response.status, by, lines));
            }
        }
    }
    if !site.is_tls {
        let over_http = seen.iter().find(|(_, _, _, lines)| !lines.is_empty());
        match over_http {
            Some((name, ..)) => outcome.warn(
                format!("{name} has Strict-Transport-Security over plain HTTP: the hop that sends it takes the scheme for https"),
                FORWARDED.hint(context.front),
            ),
            None => outcome.skip("the URL is http, where HSTS has no meaning"),
        }
        return;
    }
    let twice: Vec<&str> = names(&seen, |lines| {
        lines.len() > 1 || lines.iter().any(|line| line.contains(','))
    });
    if !twice.is_empty() {
        outcome.fail(
            format!("{} have Strict-Transport-Security twice: browsers take the first line, and ignore a joined one (RFC 6797 §8.1)", twice.join(", ")),
            HSTS.hint(context.front),
        );
    }
    let invalid: Vec<&str> = names(&seen, |lines| {
        lines.iter().any(|line| max_age(line).is_none())
    });
    if !invalid.is_empty() && twice.is_empty() {
        outcome.fail(
            format!(
                "{} have an invalid Strict-Transport-Security, which browsers ignore",
                invalid.join(", ")
            ),
            HSTS.hint(context.front),
        );
    }
    let without: Vec<String> = seen
        .iter()
        .filter(|(_, _, _, lines)| lines.is_empty())
        .map(|(name, status, hop, _)| format!("{name} ({status} by {})", hop.name()))
        .collect();
    if without.len() == seen.len() {
        outcome.warn(
            "no response has Strict-Transport-Security",
            HSTS.hint(context.front),
        );
    } else if without.is_empty() {
        outcome.right("every response has one Strict-Transport-Security");
    } else {
        outcome.warn(
            format!(
                "Strict-Transport-Security is missing on {}",
                without.join(", ")
            ),
            HSTS.hint(context.front),
        );
    }
    let includes = seen.iter().flat_map(|(.., lines)| lines);
    if !site.mount.is_empty()
        && includes
            .clone()
            .any(|line| line.to_ascii_lowercase().contains("includesubdomains"))
    {
        outcome.warn(
            "HSTS has includeSubDomains on a host that is shared by several apps: it decides for all of them",
            "leave includeSubDomains to the owner of the host",
        );
    }
}

fn names<'a>(
    seen: &[(&'a str, u16, Hop, Vec<String>)],
    is_so: impl Fn(&[String]) -> bool,
) -> Vec<&'a str> {
    seen.iter()
        .filter(|(.., lines)| is_so(lines))
        .map(|(name, ..)| *name)
        .collect()
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
