//! Checks which paths lead to the app (P04, P05, P07, P20).

use crate::client::{Ask, Response};
use crate::outcome::Outcome;
use crate::probe::context::{Context, NOWHERE};
use crate::probe::cures::{
    BOUNDARY, CASE, CONTENT_TYPE, ERROR_PAGES, FORWARDED, PATH_AS_SENT, ROUTE, SAME_PAGE, SHAPE,
    SLASH,
};
use crate::probe::front::Hop;
use crate::probe::obstacle;
use crate::probe::redirect::{Change, Redirect};
use crate::probe::replicas;

/// P04: the mount without its last slash.
pub(crate) async fn bare_mount(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    if site.mount.is_empty() {
        return outcome.skip("the app is at the root of its host");
    }
    let target = format!("{}?doctor=1", site.mount);
    let Some(plain) = answered(context, &Ask::get(&target), outcome).await else {
        return;
    };
    let redirect = Redirect::of(site, &target, &plain);
    let is_like_health = context.is_like_health(&plain);
    if is_like_health || redirect.is_none() && !context.health.is_healthy() {
        return outcome.skip("the health check fails as well; see P05");
    }
    if plain.status == 200 && plain.is_page() {
        outcome.fail(
            format!("`{}` shows the page without redirecting to the trailing slash: its relative links lead out of the mount, and the page stays blank", site.mount),
            SLASH.hint(context.front),
        );
        return;
    }
    let Some(redirect) = redirect else {
        outcome.fail(
            format!(
                "`{}` is answered {}, not redirected to the trailing slash",
                site.mount,
                context.answer(&plain)
            ),
            BOUNDARY.hint(context.front),
        );
        return;
    };
    if redirect.change() == Change::Slash {
        let home = site.path("/");
        let next = Redirect::of(site, &home, &context.page);
        if next.is_some_and(|next| next.stays_at_mount(site)) {
            outcome.skip(format!("`{home}` is redirected as well; see P06"));
        }
        outcome.right("the mount without its slash redirects to itself");
        if !plain.first("location").contains("doctor=1") {
            outcome.warn(
                "the redirect of the mount loses the query",
                format!("keep it: {}", SLASH.hint(context.front)),
            );
        }
    } else {
        let what = format!("`{}`", site.mount);
        let ask = Ask::get(&target);
        let (finding, hint) = redirect.explain(context, &what, &ask, &plain).await;
        outcome.fail(finding, hint);
    }
    let forged = [
        ("X-Forwarded-Host", "probe.invalid"),
        ("X-Forwarded-Proto", "doctor"),
        ("X-Forwarded-Port", "4444"),
        ("X-Forwarded-Prefix", "/probe-invalid"),
        ("Forwarded", "host=probe.invalid;proto=doctor"),
    ];
    for (name, value) in forged {
        let Some(response) =
            answered(context, &Ask::get(&target).field(name, value), outcome).await
        else {
            return;
        };
        let changed = response.first("location");
        if ["probe.invalid", "probe-invalid", ":4444", "doctor://"]
            .iter()
            .any(|mark| changed.contains(mark))
        {
            outcome.fail(
                format!("a client's {name} appears in the redirect: `{changed}`"),
                FORWARDED.hint(context.front),
            );
        }
    }
}

/// P05: which paths lead to the health check.
pub(crate) async fn shapes(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    let target = site.path("/_stcore/health");
    if context.is_same_everywhere {
        let hop = context.hop(context.by(&context.health));
        return outcome.fail(
            format!(
                "`{target}`, `{}` and `{}` are answered {} with the same page, which is not Streamlit's: the front answers every path itself, as with a page for maintenance or a login, or leads to another app",
                site.path("/"),
                site.path(NOWHERE),
                context.answer(&context.health)
            ),
            format!("{}. If it is a login: send the session of a user with --cookie-file", SAME_PAGE.hint(hop)),
        );
    }
    if !context.health.is_healthy() {
        let answer = format!("`{target}` is answered {}", context.answer(&context.health));
        if let Some(redirect) = Redirect::of(site, &target, &context.health) {
            let (what, ask) = (format!("`{target}`"), Ask::get(&target));
            let (finding, hint) = redirect
                .explain(context, &what, &ask, &context.health)
                .await;
            return outcome.fail(finding, hint);
        }
        if context.health.says_ok() {
            outcome.fail(
                format!("`{target}` is answered 200 with `ok`, but as `{}` instead of text/plain: a hop changes Content-Type", context.health.first("content-type")),
                CONTENT_TYPE.hint(context.front),
            );
            return;
        }
        if obstacle::is_guard(&context.health) {
            outcome.fail(
                format!("{answer}: the FluxLit filter is not in the chain of this route, or does not run"),
                "Envoy: the filter first in http_filters of every listener, remove `disabled: true`; look at its log for why the module does not start, and see F02 and F03 of `doctor --lint`",
            );
            return;
        }
        if let Some((reason, hint)) = obstacle::explain(context, &context.health) {
            let page = if context.page.is_page() {
                ", although the page is shown"
            } else {
                ""
            };
            return outcome.fail(format!("{answer}{page}: {reason}"), hint);
        }
        let what = if context.health.has_markup() {
            "a page, not `ok`"
        } else {
            "something else than `ok`"
        };
        let at_root = context
            .client
            .get("/_stcore/health")
            .await
            .is_ok_and(|root| root.is_healthy());
        let doubled = context
            .client
            .get(format!("{0}{0}/_stcore/health", site.mount))
            .await;
        let doubled = !site.mount.is_empty() && doubled.is_ok_and(|doubled| doubled.is_healthy());
        let place = match (at_root && !site.mount.is_empty(), doubled) {
            (_, true) => {
                "; it answers under the doubled mount: the mount is removed in front although the app expects it"
            }
            (true, _) => {
                "; it answers at the root of the host: the app does not know its mount, or the mount is not routed"
            }
            _ => "",
        };
        let shape = if context.is_of_app(&context.health) && !site.mount.is_empty() {
            SHAPE
        } else {
            ""
        };
        outcome.fail(
            format!("{answer}, with {what}{place}"),
            format!(
                "{}{shape}",
                ROUTE.hint(context.hop(context.by(&context.health)))
            ),
        );
        return;
    }
    let changes_case = changes_case(context).await;
    if changes_case {
        outcome.fail(
            format!(
                "`{}` reaches the app like `{target}`, which Streamlit does not have in capital letters: a hop changes the case of paths, so files with capital letters in their names are missing",
                site.path(CAPITALS)
            ),
            CASE.hint(context.front),
        );
    }
    if site.mount.is_empty() {
        outcome.right("the health check responds at the root");
        return;
    }
    let mount = &site.mount;
    let upper = mount.to_ascii_uppercase();
    let tests = [
        (format!("{mount}X/_stcore/health"), "the near miss"),
        (
            format!("{mount}{mount}/_stcore/health"),
            "the doubled mount",
        ),
        (format!("{upper}/_stcore/health"), "the mount in upper case"),
        (
            format!("{mount}/%2e%2e{mount}X/_stcore/health"),
            "a path with encoded dots",
        ),
        ("/_stcore/health".to_owned(), "the root"),
    ];
    for (target, name) in tests {
        let Some(response) = answered(context, &Ask::get(&target), outcome).await else {
            continue;
        };
        if !response.is_healthy() {
            continue;
        }
        match name {
            "the near miss" => outcome.fail(
                format!("`{target}` reaches the app: the prefix is matched without a boundary, so another app's name can begin with this one's"),
                BOUNDARY.hint(context.front),
            ),
            "the doubled mount" => outcome.warn(
                format!("`{target}` reaches the app: the mount is removed by two hops, or the shape of the path is found by itself"),
                "remove the mount in one place only: if the front removes it, write `FLUXLIT_ROOT_PATH_SHAPE=stripped` in the settings of the gateway",
            ),
            "the mount in upper case" if changes_case || upper == *mount => {}
            // Its own rules ignore the case of paths as well, so none is evaded.
            "the mount in upper case" if context.front == Hop::Caddy => {}
            // It may be another app's.
            "the root" if !replicas::is_same_app(context, "").await => {}
            "the root" => outcome.warn(
                format!("`{target}` reaches this app as well: it has the session of a WebSocket that was opened under `{mount}`. The front passes other paths than those of the mount on, and rules of the front for `{mount}`, such as a login, can be evaded"),
                "let the front pass only the mount to this app, and set FLUXLIT_ROOT_PATH_SHAPE=full in its gateway, or stripped if the front removes the mount",
            ),
            _ => outcome.warn(
                format!("`{target}`, {name}, reaches the app: access rules for paths of the front can be evaded"),
                BOUNDARY.hint(context.front),
            ),
        }
    }
    outcome.right("only the mount itself leads to the app");
}

/// Returns true if the health check responds under its name in capital letters.
pub(crate) async fn changes_case(context: &Context) -> bool {
    let target = context.client.site.path(CAPITALS);
    let response = context.client.get(target).await;
    response.is_ok_and(|response| response.is_healthy())
}

const CAPITALS: &str = "/_STCORE/HEALTH";

/// P07: the health check below a page.
pub(crate) async fn deep_link(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    let target = site.path("/doctor/_stcore/health");
    let Some(response) = answered(context, &Ask::get(&target), outcome).await else {
        return;
    };
    match response.status {
        status if !context.health.is_healthy() => outcome.skip(format!(
            "the health check fails as well ({status}); see P05"
        )),
        404 => outcome.right("a nested health check responds 404, so links to pages work"),
        _ => outcome.fail(
            format!(
                "`{target}` is answered {} instead of 404: a link to a page of the app stays blank",
                context.answer(&response)
            ),
            ERROR_PAGES.hint(context.front),
        ),
    }
}

/// P20: paths that could lead out of the mount, or are changed on their way.
pub(crate) async fn odd_paths(context: &Context, outcome: &mut Outcome) {
    let site = &context.client.site;
    let inside = [
        "/../",
        "/%2e%2e/",
        "/..%2f",
        "/%252e%252e/",
        "/..;/",
        "/..\\",
        "/.%5c../",
    ];
    let plain_target = site.path("/doctor-x");
    let Some(plain) = answered(context, &Ask::get(&plain_target), outcome).await else {
        return;
    };
    let Some(root) = answered(context, &Ask::get("/"), outcome).await else {
        return;
    };
    for odd in inside {
        let target = site.path(odd);
        let Some(response) = answered(context, &Ask::get(&target), outcome).await else {
            continue;
        };
        // A front that resolves the dots before it looks at its rules answers as it does at `/`.
        let is_of_app = response.is_page() || response.body == plain.body;
        if response.status == 200 && root.status != 200 && !is_of_app && !site.mount.is_empty() {
            outcome.warn(
                format!(
                    "`{target}` shows something that is not of the app, and `/` is answered {}: a hop resolves the dots after the rules for paths were applied, so rules for paths outside of `{}` can be evaded",
                    context.answer(&root),
                    site.mount
                ),
                "normalize paths before they are matched, and reject escaped slashes (Envoy: normalize_path: true, path_with_escaped_slashes_action: REJECT_REQUEST; HAProxy: http-request normalize-uri path-strip-dotdot full)",
            );
        }
    }
    for target in [
        format!("//probe.invalid{}", site.path("/x/")),
        site.path("//probe.invalid/.."),
    ] {
        let Some(response) = answered(context, &Ask::get(&target), outcome).await else {
            continue;
        };
        let location = response.first("location");
        if location.starts_with("//probe.invalid") || location.contains("://probe.invalid") {
            outcome.fail(
                format!("`{target}` redirects to another site: `{location}`"),
                "merge slashes in front of the app (Envoy: merge_slashes: true; nginx: merge_slashes on;)",
            );
        }
    }
    for encoded in ["/doctor%20x", "/doctor%C3%A9x"] {
        let target = site.path(encoded);
        let Some(response) = answered(context, &Ask::get(&target), outcome).await else {
            continue;
        };
        if response.status != plain.status {
            outcome.fail(
                format!(
                    "`{target}` is answered {}, and `{plain_target}` {}: a hop decodes the path before it passes it on",
                    context.answer(&response),
                    plain.status
                ),
                PATH_AS_SENT.hint(context.front),
            );
        }
    }
    outcome.right("odd paths stay within the mount");
}

/// Sends a request; notes a missing response as skipped.
async fn answered(context: &Context, ask: &Ask, outcome: &mut Outcome) -> Option<Response> {
    match context.client.send(ask).await {
        Ok(response) => Some(response),
        Err(failure) => {
            outcome.skip(format!("`{}`: {failure}", ask.target));
            None
        }
    }
}
