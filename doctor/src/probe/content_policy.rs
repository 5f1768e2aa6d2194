//! Checks whether a Content-Security-Policy lets Streamlit's page work (P29).
//!
//! Streamlit sends no policy, so one that is there comes from a hop, the gateway or the app's own code. What the page needs was
//! found with a browser, see `docs/csp.md`. Policies that only report block nothing.

use url::Url;

use crate::client::{Response, Site};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::POLICY;

/// P29: what a policy of the page blocks.
pub(crate) async fn policy(context: &Context, outcome: &mut Outcome) {
    if !context.page.is_page() {
        return outcome.skip("the page is not Streamlit's; see P06");
    }
    let policies = Policy::all(&context.page);
    if policies.is_empty() {
        return outcome.right("the page has no Content-Security-Policy, as Streamlit sends it");
    }
    let page = context.page.text();
    let needs = needs(&context.client.site);
    let mut is_fatal = false;
    let mut blocked: Vec<String> = Vec::new();
    let mut of_some: Vec<String> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for policy in &policies {
        for need in &needs {
            let Some((found, sources)) = policy.governing(need.names) else {
                continue;
            };
            if need.is_met(sources, &page, &context.client.site) {
                continue;
            }
            is_fatal |= need.is_fatal;
            let sentence = format!("{} ({found} without {})", need.what, need.source);
            let list = if need.is_of_each_page {
                &mut blocked
            } else {
                &mut of_some
            };
            if !list.contains(&sentence) {
                list.push(sentence);
            }
        }
        lines.extend(policy.corrected(&needs, &page, &context.client.site));
        if let Some(flags) = policy.get("sandbox")
            && !["allow-scripts", "allow-same-origin"]
                .iter()
                .all(|flag| flags.iter().any(|found| found.eq_ignore_ascii_case(flag)))
        {
            is_fatal = true;
            blocked.push("every script (sandbox)".to_owned());
            lines.push("no `sandbox`".to_owned());
        }
    }
    if blocked.is_empty() && of_some.is_empty() {
        return outcome.right("the Content-Security-Policy lets the page work");
    }
    let mut parts = Vec::new();
    if !blocked.is_empty() {
        parts.push(format!("it blocks: {}", blocked.join("; ")));
    }
    if !of_some.is_empty() {
        parts.push(format!(
            "if the app has them, it blocks: {}",
            of_some.join("; ")
        ));
    }
    let finding = format!(
        "the page has a Content-Security-Policy{}; {}",
        origin(context).await,
        parts.join(". And ")
    );
    lines.dedup();
    let hint = format!(
        "write in the policy {}; {} (if the gateway sends it: FLUXLIT_CONTENT_SECURITY_POLICY)",
        lines.join(", "),
        POLICY.hint(context.front)
    );
    if is_fatal {
        outcome.fail(finding, hint);
    } else {
        outcome.warn(finding, hint);
    }
}

/// Says who has added the policy, as far as a page without the front tells.
async fn origin(context: &Context) -> &'static str {
    let unknown = " that Streamlit does not send";
    let Some(direct) = context.options.direct.clone() else {
        return unknown;
    };
    let Ok(direct) = context.client.for_site(direct).await else {
        return unknown;
    };
    match direct.get(direct.site.path("/")).await {
        Ok(page) if page.is_page() && Policy::all(&page).is_empty() => {
            " that the page without the front does not have"
        }
        Ok(page) if page.is_page() => " that the page without the front has as well",
        _ => unknown,
    }
}

/// What the page needs.
struct Need {
    /// The directive to write, if only a more general one is there.
    directive: &'static str,
    /// The directives that govern it, the most special first.
    names: &'static [&'static str],
    what: &'static str,
    source: &'static str,
    allows: Allows,
    /// Each page needs it, not only one with certain components.
    is_of_each_page: bool,
    /// The page does not work at all without it.
    is_fatal: bool,
}

enum Allows {
    /// To load or connect to a URL.
    Url(Url),
    /// Scripts or styles in the page.
    Inline,
    /// One of these sources.
    Any(&'static [&'static str]),
}

impl Need {
    fn is_met(&self, sources: &[String], page: &str, site: &Site) -> bool {
        let has = |wanted: &str| {
            sources
                .iter()
                .any(|found| found.eq_ignore_ascii_case(wanted))
        };
        // A hop may write its nonce into the page as well.
        let has_nonce = sources.iter().any(|source| {
            let nonce = source.strip_prefix("'nonce-");
            let nonce = nonce.and_then(|nonce| nonce.strip_suffix('\''));
            nonce.is_some_and(|nonce| !nonce.is_empty() && page.contains(nonce))
        });
        let is_strict = self.directive == "script-src" && has("'strict-dynamic'");
        match &self.allows {
            Allows::Url(_) if is_strict => has_nonce,
            Allows::Url(url) => has_nonce || sources.iter().any(|source| allows(source, url, site)),
            Allows::Inline => {
                let has_hash = sources.iter().any(|source| source.starts_with("'sha"));
                let has_other = has_hash || sources.iter().any(|it| it.starts_with("'nonce-"));
                has_nonce || has_hash || has("'unsafe-inline'") && !has_other && !is_strict
            }
            Allows::Any(any) => any.iter().any(|source| has(source)),
        }
    }
}

#[rustfmt::skip]
fn needs(site: &Site) -> Vec<Need> {
    const SCRIPT: &[&str] = &["script-src-elem", "script-src", "default-src"];
    const EVAL: &[&str] = &["script-src", "default-src"];
    const STYLE: &[&str] = &["style-src-elem", "style-src", "default-src"];
    const CONNECT: &[&str] = &["connect-src", "default-src"];
    const WORKER: &[&str] = &["worker-src", "child-src", "script-src", "default-src"];
    const IMAGE: &[&str] = &["img-src", "default-src"];
    const FONT: &[&str] = &["font-src", "default-src"];
    const FRAME: &[&str] = &["frame-src", "child-src", "default-src"];
    let url = |scheme: &str, path: &str| {
        Url::parse(&format!("{scheme}://{}{}", site.authority(), site.path(path))).ok().map(Allows::Url)
    };
    let any = |sources| Some(Allows::Any(sources));
    let socket = if site.is_tls { "wss" } else { "ws" };
    let need = |directive, names, what, source, allows: Option<Allows>, is_fatal| {
        allows.map(|allows| Need { directive, names, what, source, allows, is_of_each_page: true, is_fatal })
    };
    let need_of_some = |directive, names, what, source, allows| {
        need(directive, names, what, source, allows, false).map(|need| Need { is_of_each_page: false, ..need })
    };
    [
        need("script-src", SCRIPT, "the scripts of the page", "'self'", url(site.scheme(), "/static/js/index.js"), true),
        need("script-src", SCRIPT, "scripts in the page itself", "'unsafe-inline'", Some(Allows::Inline), false),
        need("script-src", EVAL, "WebAssembly (eval)", "'wasm-unsafe-eval'", any(&["'wasm-unsafe-eval'", "'unsafe-eval'"]), false),
        need("style-src", STYLE, "the style sheets of the page", "'self'", url(site.scheme(), "/static/css/index.css"), true),
        need("style-src", STYLE, "the styles that components write into the page", "'unsafe-inline'", Some(Allows::Inline), true),
        need("connect-src", CONNECT, "requests to the app", "'self'", url(site.scheme(), "/_stcore/health"), true),
        need("connect-src", CONNECT, "the WebSocket", "'self'", url(socket, "/_stcore/stream"), true),
        need_of_some("worker-src", WORKER, "workers, of maps", "blob:", any(&["blob:"])),
        need_of_some("img-src", IMAGE, "images in maps", "data:", any(&["data:"])),
        need_of_some("img-src", IMAGE, "images that charts and maps make", "blob:", any(&["blob:"])),
        need("font-src", FONT, "fonts in the style sheets", "data:", any(&["data:"]), false),
        need_of_some("frame-src", FRAME, "components", "'self'", url(site.scheme(), "/component/x/index.html")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A policy: its directives in their order, with their sources.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Policy(Vec<(String, Vec<String>)>);

impl Policy {
    /// Returns the policies that a browser enforces; all of them have to allow something.
    pub(crate) fn all(response: &Response) -> Vec<Self> {
        let lines: Vec<String> = response.lines("content-security-policy").collect();
        let texts = lines.iter().flat_map(|line| line.split(','));
        let policies = texts.map(Self::parse);
        policies.filter(|policy| !policy.0.is_empty()).collect()
    }

    fn parse(text: &str) -> Self {
        let mut directives: Vec<(String, Vec<String>)> = Vec::new();
        for part in text.split(';') {
            let mut words = part.split_ascii_whitespace().map(str::to_owned);
            let Some(name) = words.next().map(|name| name.to_ascii_lowercase()) else {
                continue;
            };
            // Browsers ignore a directive that is there already.
            if !directives.iter().any(|(known, _)| *known == name) {
                directives.push((name, words.collect()));
            }
        }
        Self(directives)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&[String]> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, sources)| &sources[..])
    }

    /// Returns the first of these directives that is there, which governs the load, and its sources; `None` if all is allowed.
    fn governing(&self, names: &[&'static str]) -> Option<(&'static str, &[String])> {
        let mut names = names.iter();
        names.find_map(|name| self.get(name).map(|sources| (*name, sources)))
    }

    /// Returns the directives to write: what they allow, and what the page needs.
    fn corrected(&self, needs: &[Need], page: &str, site: &Site) -> Vec<String> {
        let mut corrected: Vec<(&'static str, Vec<String>)> = Vec::new();
        for need in needs {
            let Some((found, sources)) = self.governing(need.names) else {
                continue;
            };
            if need.is_met(sources, page, site) {
                continue;
            }
            // The fallback of others must not be loosened for one of them.
            let name = match found {
                "default-src" | "child-src" => need.directive,
                "script-src" if need.directive == "worker-src" => need.directive,
                found => found,
            };
            let place = corrected.iter().position(|(known, _)| *known == name);
            let place = place.unwrap_or_else(|| {
                let kept = sources
                    .iter()
                    .filter(|source| !source.eq_ignore_ascii_case("'none'"));
                corrected.push((name, kept.cloned().collect()));
                corrected.len().saturating_sub(1)
            });
            let Some((_, sources)) = corrected.get_mut(place) else {
                continue;
            };
            // With these, browsers ignore the source.
            match need.allows {
                Allows::Inline => sources.retain(|source| {
                    !source.starts_with("'nonce-")
                        && !source.starts_with("'sha")
                        && source != "'strict-dynamic'"
                }),
                Allows::Url(_) => sources.retain(|source| source != "'strict-dynamic'"),
                Allows::Any(_) => {}
            }
            if !sources.iter().any(|known| known == need.source) {
                sources.push(need.source.to_owned());
            }
        }
        let lines = corrected.into_iter();
        lines
            .map(|(name, sources)| format!("`{name} {}`", sources.join(" ")))
            .collect()
    }
}

/// Returns true if a source allows a URL, per Content Security Policy Level 3 §6.7.2.
pub(crate) fn allows(source: &str, url: &Url, site: &Site) -> bool {
    let source = source.to_ascii_lowercase();
    let is_upgrade = |from: &str, to: &str| {
        from == to
            || matches!(
                (from, to),
                ("http", "https") | ("ws", "wss" | "http" | "https") | ("wss", "https")
            )
    };
    // A host without a scheme, and `'self'`, cover the WebSockets of the page's scheme.
    let is_own_scheme = || match site.scheme() {
        "https" => matches!(url.scheme(), "https" | "wss"),
        _ => true,
    };
    match source.as_str() {
        "*" => return true,
        "'self'" => {
            let port = url.port_or_known_default();
            let is_own = url.host_str() == Some(&site.host.to_string()) && port == Some(site.port);
            return is_own && is_own_scheme();
        }
        _ if source.starts_with('\'') => return false,
        _ => {}
    }
    if let Some(scheme) = source.strip_suffix(':') {
        return is_upgrade(scheme, url.scheme());
    }
    let (is_scheme, rest) = match source.split_once("://") {
        Some((scheme, rest)) => (is_upgrade(scheme, url.scheme()), rest),
        None => (is_own_scheme(), source.as_str()),
    };
    let (authority, path) = rest
        .find('/')
        .map_or((rest, ""), |start| rest.split_at(start));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let own = url.host_str().unwrap_or_default();
    let is_host = match host.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => own.ends_with(suffix),
        None => own == host,
    };
    let is_port = match port {
        Some("*") => true,
        Some(port) => url
            .port_or_known_default()
            .is_some_and(|own| own.to_string() == port),
        None => url.port().is_none(),
    };
    let is_path = match path {
        "" => true,
        folder if folder.ends_with('/') => url.path().to_ascii_lowercase().starts_with(folder),
        file => url.path().eq_ignore_ascii_case(file),
    };
    is_scheme && is_host && is_port && is_path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site::parse("https://portal.example.com/apps/my-app").expect("a URL")
    }

    /// Returns what the policy blocks, by directive, and what to write.
    fn judge(policy: &str) -> (Vec<&'static str>, Vec<String>) {
        let (policy, site) = (Policy::parse(policy), site());
        let needs = needs(&site);
        let page = "<script nonce=\"of-the-page\">";
        let unmet = needs.iter().filter(|need| {
            let governing = policy.governing(need.names);
            governing.is_some_and(|(_, sources)| !need.is_met(sources, page, &site))
        });
        let unmet = unmet.map(|need| need.what).collect();
        (unmet, policy.corrected(&needs, page, &site))
    }

    #[test]
    fn what_a_policy_blocks_is_found_with_what_to_write() {
        const WORKERS: &str = "workers, of maps";
        const WASM: &str = "WebAssembly (eval)";
        for (policy, blocked, lines) in [
            ("frame-ancestors 'self'", &[][..], &[][..]),
            (
                "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data: blob:; connect-src 'self' wss:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; frame-ancestors 'self'",
                &[],
                &[],
            ),
            (
                "script-src 'self' 'unsafe-inline'; worker-src blob:",
                &[WASM],
                &["`script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'`"],
            ),
            (
                "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
                &[WORKERS],
                &["`worker-src 'self' 'unsafe-inline' 'unsafe-eval' blob:`"],
            ),
            ("connect-src 'self'", &[], &[]),
            (
                "connect-src https:",
                &["the WebSocket"],
                &["`connect-src https: 'self'`"],
            ),
            (
                "connect-src 'none'",
                &["requests to the app", "the WebSocket"],
                &["`connect-src 'self'`"],
            ),
            (
                "style-src 'self' 'nonce-other' 'unsafe-inline'",
                &["the styles that components write into the page"],
                &["`style-src 'self' 'unsafe-inline'`"],
            ),
            (
                "style-src 'self' 'nonce-other'",
                &["the styles that components write into the page"],
                &["`style-src 'self' 'unsafe-inline'`"],
            ),
            (
                "script-src 'nonce-other' 'strict-dynamic' 'unsafe-eval' blob:",
                &["the scripts of the page", "scripts in the page itself"],
                &["`script-src 'unsafe-eval' blob: 'self' 'unsafe-inline'`"],
            ),
            ("style-src 'self' 'nonce-of-the-page'", &[], &[]),
            (
                "script-src-elem https://portal.example.com/apps/my-app/ 'unsafe-inline'",
                &[],
                &[],
            ),
            (
                "frame-src *.example.com:443; connect-src portal.example.com",
                &[],
                &[],
            ),
        ] {
            let (found, written) = judge(policy);
            assert_eq!(found, blocked, "{policy}");
            assert_eq!(written, lines, "{policy}");
        }
    }

    /// What Chromium 156 has blocked on a page with text only under `default-src 'self'`, next to requests to other hosts; with a map,
    /// workers and images with `data:` too. Streamlit's files for Mermaid charts and for maps of Plotly make images with `blob:`.
    #[test]
    fn what_each_page_needs_is_what_a_browser_blocks() {
        let (policy, site) = (Policy::parse("default-src 'self'"), site());
        let needs = needs(&site);
        let unmet = needs.iter().filter(|need| {
            let governing = policy.governing(need.names);
            governing.is_some_and(|(_, sources)| !need.is_met(sources, "", &site))
        });
        let (of_each, of_some): (Vec<&Need>, Vec<&Need>) =
            unmet.partition(|need| need.is_of_each_page);
        let named = |needs: Vec<&Need>| -> Vec<String> {
            let names = needs.iter();
            names
                .map(|need| format!("{} {}", need.directive, need.source))
                .collect()
        };
        assert_eq!(
            named(of_each),
            [
                "script-src 'unsafe-inline'",
                "script-src 'wasm-unsafe-eval'",
                "style-src 'unsafe-inline'",
                "font-src data:",
            ]
        );
        assert_eq!(
            named(of_some),
            ["worker-src blob:", "img-src data:", "img-src blob:"]
        );
    }

    #[test]
    fn each_of_several_policies_is_read() {
        let head = "HTTP/1.1 200 OK\r\nContent-Security-Policy: img-src *, connect-src *\r\nContent-Security-Policy: ;\r\nContent-Security-Policy-Report-Only: default-src 'none'\r\nContent-Security-Policy: img-src 'none'; img-src *\r\n\r\n";
        let response = Response::parse(head.as_bytes()).expect("a response");
        let texts = ["img-src *", "connect-src *", "img-src 'none'"];
        assert_eq!(Policy::all(&response), texts.map(Policy::parse));
    }
}
