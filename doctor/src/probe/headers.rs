//! Checks redirects to TLS, HSTS and cookies (P02, P03, P17).

use crate::client::{Ask, Failure, Response, Site, hash};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::front::{FORWARDED, HSTS, Hop};

const XSRF: &str = "_streamlit_xsrf";

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
            "let the front redirect to https with the same host and the whole path (nginx: return 308 https://$host$request_uri;)",
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
            "a malformed request",
            Ask::get(site.path("/")).field("Transfer-Encoding", "x"),
        ),
        (
            "a request with too long headers",
            Ask::get(site.path("/")).field("X-Doctor", long),
        ),
    ];
    let mut seen: Vec<(&str, u16, Hop, Vec<String>)> = Vec::new();
    for (name, ask) in requests {
        // Some servers close without an answer, which says nothing about HSTS.
        if let Ok(response) = context.client.send(&ask).await {
            let lines = response.lines(STS).collect();
            seen.push((name, response.status, Hop::of(&response), lines));
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

/// P17: the cookies that are set.
pub(crate) async fn cookies(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    let fresh = context
        .client
        .send(&Ask::get(site.path("/_stcore/health")).anonymous())
        .await;
    let handshake = context.handshake_status(&context.handshake()).await;
    let responses = [Some(context.page.clone()), fresh.ok(), handshake.ok()];
    let lines: Vec<String> = responses
        .iter()
        .flatten()
        .flat_map(|response: &Response| response.lines("set-cookie").collect::<Vec<_>>())
        .collect();
    for response in responses.iter().flatten() {
        let cookie_names: Vec<String> = response
            .lines("set-cookie")
            .map(|line| name_of(&line))
            .collect();
        for (index, name) in cookie_names.iter().enumerate() {
            if cookie_names.iter().take(index).any(|other| other == name) {
                outcome.warn(
                    format!("the cookie `{name}` is set twice in one response"),
                    "let one hop set it",
                );
            }
        }
    }
    for line in &lines {
        let name = name_of(line);
        let attributes: Vec<String> = line
            .split(';')
            .skip(1)
            .map(|part| part.trim().to_ascii_lowercase())
            .collect();
        let path = line.split(';').skip(1).find_map(|part| {
            let (key, value) = part.trim().split_once('=')?;
            key.eq_ignore_ascii_case("path")
                .then(|| value.trim_end_matches('/').to_owned())
        });
        let is_streamlits = name.starts_with("_streamlit");
        if is_streamlits
            && !site.mount.is_empty()
            && path
                .as_deref()
                .is_some_and(|path| path != site.mount && site.mount.starts_with(path))
        {
            outcome.warn(
                format!("the cookie `{name}` has the path `{}/`, wider than the mount: apps on this host see and replace each other's", path.unwrap_or_default()),
                "FLUXLIT_COOKIE_PATH=confine (nginx: proxy_cookie_path / /apps/my-app/;)",
            );
        }
        // Scripts read the XSRF token, and Streamlit sets no Secure for it unless it has TLS itself.
        if site.is_tls && name != XSRF && !attributes.iter().any(|attribute| attribute == "secure")
        {
            outcome.warn(
                format!("the cookie `{name}` has no Secure on https"),
                "let the front add it (nginx: proxy_cookie_flags ~ secure;)",
            );
        }
        if name == XSRF {
            let value = line
                .split(';')
                .next()
                .and_then(|pair| pair.split_once('='))
                .map_or("", |(_, value)| value);
            if !value.contains('|') {
                outcome.fail(
                    format!("the value of `{name}` is re-encoded on its way (sha256 {}…): uploads get 403", hash(value.as_bytes())),
                    "let no hop encode or quote cookies",
                );
            }
        }
    }
    if lines.is_empty() {
        outcome.fail(
            "the health check sets no cookie, but Streamlit's does: a hop answers it or removes Set-Cookie, and uploads get 403",
            "let the front pass `/_stcore/health` under the mount to the app, and Set-Cookie back (nginx: no proxy_hide_header Set-Cookie, no proxy_cache)",
        );
    }
    outcome.right(format!("{} cookies are set within the mount", lines.len()));
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

fn name_of(line: &str) -> String {
    let pair = line.split(';').next().unwrap_or_default();
    pair.split('=').next().unwrap_or_default().trim().to_owned()
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
