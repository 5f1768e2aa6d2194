//! Checks the cookies that are set, and those of other apps on the same host (P17).

use crate::client::{Ask, Response, hash};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::{COOKIE_PATH, COOKIES, REQUEST_COOKIES};
use crate::probe::replicas;

/// The cookie with which Streamlit's page proves that an upload is its own.
///
/// Streamlit sets it for the whole host, whatever its base path is. That alone is harmless: every Streamlit accepts the token
/// of any other, because it only compares it with the field of the request.
const XSRF: &str = "_streamlit_xsrf";

/// P17: the cookies that are set.
pub(crate) async fn cookies(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    let health = Ask::get(site.path("/_stcore/health")).anonymous();
    // Streamlit sets no cookie that it has received, so the request has none, unless the front requires a login.
    let fresh = context.client.send(&health).await.ok();
    let fresh = fresh.filter(Response::is_healthy);
    let is_anonymous = fresh.is_some();
    let fresh = fresh.unwrap_or_else(|| context.health.clone());
    let handshake = context.handshake_status(&context.handshake()).await;
    let responses = [Some(context.page.clone()), Some(fresh), handshake.ok()];
    let mut all = Vec::new();
    for response in responses.iter().flatten() {
        let cookies = SetCookie::all(response);
        for (index, cookie) in cookies.iter().enumerate() {
            let before = cookies.get(..index).unwrap_or_default();
            if before.iter().any(|other| other.name == cookie.name) {
                outcome.warn(
                    format!("the cookie `{}` is set twice in one response", cookie.name),
                    "let one hop set it",
                );
            }
        }
        all.extend(cookies);
    }
    if all.is_empty() && !context.health.is_healthy() {
        return outcome.skip("the health check, which sets the cookie, fails; see P05");
    }
    if all.is_empty() && !is_anonymous {
        return outcome.skip(
            "without credentials the health check is refused, and with them it sets no cookie",
        );
    }
    if all.is_empty() {
        outcome.fail(
            "the health check sets no cookie, but Streamlit's does: a hop answers it or removes Set-Cookie, and uploads get 403",
            COOKIES.hint(context.front),
        );
    }
    for cookie in &all {
        judge(context, cookie, outcome);
    }
    widened(context, &all, outcome).await;
    if let Some(token) = context.client.cookie(XSRF)
        && let Ok(refused) = replicas::upload(context, replicas::INVENTED, &token, false).await
        && refused.status == 403
        && !context.is_of_front(&refused)
    {
        outcome.fail(
            format!("an upload with the XSRF token and its cookie is answered {}: a hop removes or changes Cookie or X-Xsrftoken", context.answer(&refused)),
            REQUEST_COOKIES.hint(context.front),
        );
    }
    let own = all.iter().find(|cookie| cookie.name == XSRF);
    if own.is_some_and(|own| own.path_for(&health.target) == site.mount) {
        other_apps(context, outcome).await;
    }
    if context.client.given_cookies(XSRF) > 1 {
        outcome.fail(
            format!("the browser of the cookie file sends `{XSRF}` twice: {MISMATCH}"),
            COOKIE_PATH.hint(context.front),
        );
    }
    let is_for_host = |cookie: &SetCookie| {
        let path = cookie.path.as_deref();
        path.is_some_and(|path| is_outer(path, &site.mount))
    };
    let unknown = match all.iter().find(|cookie| is_for_host(cookie)) {
        Some(cookie) if context.options.direct.is_none() => format!(
            ". Whether the app itself sends `{}` for a path wider than the mount, as Streamlit does, shows only with --direct URL",
            cookie.name
        ),
        _ => String::new(),
    };
    outcome.right(format!(
        "{} cookies are set, and no other app's replaces them{unknown}",
        all.len()
    ));
}

/// Judges one cookie by itself.
fn judge(context: &Context, cookie: &SetCookie, outcome: &mut Outcome) {
    let site = &context.client.site;
    let name = &cookie.name;
    let covers_mount = cookie
        .path
        .as_deref()
        .is_none_or(|path| path == site.mount || is_outer(path, &site.mount));
    if name.starts_with("_streamlit") && !covers_mount {
        outcome.fail(
            format!("the cookie `{name}` has the path `{}/`, which does not cover the app, so browsers do not send it there and uploads get 403", cookie.path.as_deref().unwrap_or_default()),
            COOKIES.hint(context.front),
        );
    }
    if name.starts_with("_streamlit")
        && let Some(domain) = &cookie.domain
    {
        outcome.fail(
            format!("the cookie `{name}` has `Domain={domain}`, which a hop adds, Streamlit does not: it is sent to every host below that domain, and browsers refuse it if this host is not one"),
            COOKIES.hint(context.front),
        );
    }
    if name == XSRF {
        if !cookie.value.contains('|') {
            outcome.fail(
                format!(
                    "the value of `{name}` is re-encoded on its way (sha256 {}…): uploads get 403",
                    hash(cookie.value.as_bytes())
                ),
                COOKIES.hint(context.front),
            );
        }
        if cookie.is_http_only {
            outcome.fail(
                format!("the cookie `{name}` has HttpOnly, so the page cannot read the token in it, and uploads get 403: a hop adds it, Streamlit does not"),
                COOKIES.hint(context.front),
            );
        }
        return;
    }
    let is_wider = cookie
        .path
        .as_deref()
        .is_some_and(|path| is_outer(path, &site.mount));
    if name.starts_with("_streamlit") && is_wider {
        outcome.warn(
            format!("the cookie `{name}` has the path `{}/`, wider than the mount: the logins of apps on this host replace each other", cookie.path.as_deref().unwrap_or_default()),
            COOKIE_PATH.hint(context.front),
        );
    }
    // Scripts read the XSRF token, and Streamlit sets no Secure for it unless it has TLS itself.
    if site.is_tls && !cookie.is_secure {
        outcome.warn(
            format!("the cookie `{name}` has no Secure on https"),
            "let the front add it (nginx: proxy_cookie_flags ~ secure;)",
        );
    }
}

/// Compares the paths of the cookies with those that the app sends without the front, if its URL is given.
async fn widened(context: &Context, all: &[SetCookie], outcome: &mut Outcome) {
    let Some(direct) = context.options.direct.clone() else {
        return;
    };
    let Ok(direct) = context.client.for_site(direct).await else {
        return;
    };
    let health = Ask::get(direct.site.path("/_stcore/health")).anonymous();
    let Ok(response) = direct.send(&health).await else {
        return;
    };
    for own in SetCookie::all(&response) {
        let cookie = all.iter().find(|cookie| cookie.name == own.name);
        if let Some((path, own_path)) = cookie.and_then(|cookie| cookie.path.as_ref()).zip(own.path)
            && is_outer(path, &own_path)
        {
            outcome.fail(
                format!("the cookie `{}` has the path `{path}/`, and `{own_path}/` without the front: a hop widens it, so other apps of this host get it", own.name),
                COOKIES.hint(context.front),
            );
        }
    }
}

/// Looks for a Streamlit above the mount whose XSRF cookie browsers send to this app as well, in addition to the app's own.
async fn other_apps(context: &Context, outcome: &mut Outcome) {
    let mount = &context.client.site.mount;
    for (end, _) in mount.match_indices('/') {
        let outer = mount.get(..end).unwrap_or_default();
        let target = format!("{outer}/_stcore/health");
        let Ok(response) = context.client.send(&Ask::get(&target).anonymous()).await else {
            continue;
        };
        let cookies = SetCookie::all(&response);
        let other = cookies.iter().find(|cookie| cookie.name == XSRF);
        if response.is_healthy()
            && let Some(path) = other.map(|other| other.path_for(&target))
            && is_outer(&path, mount)
        {
            outcome.fail(
                format!("another app, at `{outer}/`, sets `{XSRF}` for the path `{path}/`, so browsers send its cookie to this app as well: {MISMATCH}"),
                COOKIE_PATH.hint(context.front),
            );
        }
    }
}

/// Returns true if a path covers the mount and more.
fn is_outer(path: &str, mount: &str) -> bool {
    mount
        .strip_prefix(path)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// What is read of a `Set-Cookie` line.
#[derive(Debug, PartialEq, Eq)]
struct SetCookie {
    name: String,
    value: String,
    /// The path without its last slash; `None` if there is none.
    path: Option<String>,
    /// The domain as it is written; `None` if there is none.
    domain: Option<String>,
    is_secure: bool,
    is_http_only: bool,
}

impl SetCookie {
    fn all(response: &Response) -> Vec<Self> {
        let lines = response.lines("set-cookie");
        lines.map(|line| Self::parse(&line)).collect()
    }

    fn parse(line: &str) -> Self {
        let mut parts = line.split(';').map(str::trim);
        let pair = parts.next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut cookie = Self {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
            path: None,
            domain: None,
            is_secure: false,
            is_http_only: false,
        };
        for attribute in parts {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            if key.trim().eq_ignore_ascii_case("secure") {
                cookie.is_secure = true;
            }
            if key.trim().eq_ignore_ascii_case("httponly") {
                cookie.is_http_only = true;
            }
            if key.trim().eq_ignore_ascii_case("domain") && !value.trim().is_empty() {
                cookie.domain = Some(value.trim().to_owned());
            }
            if key.trim().eq_ignore_ascii_case("path") && value.trim().starts_with('/') {
                cookie.path = Some(value.trim().trim_end_matches('/').to_owned());
            }
        }
        cookie
    }

    /// Returns the path for which a browser keeps the cookie of a response to `target`, without its last slash: by default
    /// that of the target up to its last slash (RFC 6265 §5.1.4).
    fn path_for(&self, target: &str) -> String {
        let of_target = || target.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.path.as_deref().unwrap_or_else(of_target).to_owned()
    }
}

const MISMATCH: &str =
    "Streamlit reads the last one and its page the first, and uploads get 403 if they differ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_cookie_is_read_with_its_attributes() {
        for (line, name, value, path, domain, is_secure, is_http_only) in [
            ("a=b; Path=/m/; Secure", "a", "b", Some("/m"), None, true, false),
            ("a = b=c ;path=/", "a", "b=c", Some(""), None, false, false),
            ("a; Path=m; httponly", "a", "", None, None, false, true),
            ("a=; Path=/x; PATH=/y", "a", "", Some("/y"), None, false, false),
            ("a=b; domain=.x.y ", "a", "b", None, Some(".x.y"), false, false),
            ("a=b; Domain=", "a", "b", None, None, false, false),
        ] {
            let expected = SetCookie {
                name: name.to_owned(),
                value: value.to_owned(),
                path: path.map(str::to_owned),
                domain: domain.map(str::to_owned),
                is_secure,
                is_http_only,
            };
            assert_eq!(SetCookie::parse(line), expected, "{line}");
        }
    }

    #[test]
    fn the_default_path_is_that_of_the_target() {
        for (line, target, expected) in [
            ("a=b; Path=/m", "/x/_stcore/health", "/m"),
            ("a=b; Path=/", "/x/_stcore/health", ""),
            ("a=b", "/x/_stcore/health", "/x/_stcore"),
            ("a=b", "/x", ""),
        ] {
            assert_eq!(SetCookie::parse(line).path_for(target), expected, "{line}");
        }
    }

    #[test]
    fn outer_paths_cover_the_mount_by_whole_segments() {
        for (path, mount, expected) in [
            ("", "/apps/a", true),
            ("/apps", "/apps/a", true),
            ("/apps/a", "/apps/a", false),
            ("/app", "/apps/a", false),
            ("/apps/a/b", "/apps/a", false),
            ("", "", false),
        ] {
            assert_eq!(is_outer(path, mount), expected, "{path} {mount}");
        }
    }
}
