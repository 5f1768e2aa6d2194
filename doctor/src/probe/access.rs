//! Checks what is reachable without a login, the health check, internal pages and embedding (P21, P22, P23, P27).

use url::Url;

use crate::api_documentation::ApiDocumentation;
use crate::client::{Ask, Response};
use crate::outcome::Outcome;
use crate::probe::content_policy::{Policy, allows};
use crate::probe::context::{Context, has_status};
use crate::probe::cures::{CACHE, HEAD, LOGIN, METRICS, SPELLING};
use crate::probe::same_site::Relation;
use crate::probe::spelling;

/// P21: the same requests without credentials.
pub(crate) async fn without_login(context: &Context, outcome: &mut Outcome) {
    if !context.client.has_credentials() {
        return outcome
            .skip("there are no credentials to leave out; use --cookie-file or --header-file");
    }
    let site = &context.client.site;
    let page = context
        .client
        .send(&Ask::get(site.path("/")).anonymous())
        .await;
    let socket = context
        .handshake_status(&context.handshake().anonymous())
        .await;
    let is_open = page.as_ref().is_ok_and(|page| page.is_page());
    let is_login = |page: &Response| matches!(page.status, 301..=308 | 401 | 403);
    if page.as_ref().is_ok_and(is_login)
        && let Some(target) = spelling::of_open_page(context).await
    {
        outcome.fail(
            format!(
                "without credentials `{}` is answered {}, but `{target}` shows the page: a rule of the front compares the path as it was sent, and a hop after it does not, so the login can be evaded",
                site.path("/"),
                context.describe(&page)
            ),
            SPELLING.hint(context.front),
        );
    }
    match (is_open, has_status(&socket, 101)) {
        (false, true) => outcome.fail(
            format!("without credentials the page is answered {}, but the WebSocket opens: the app can be used without a login", context.describe(&page)),
            LOGIN.hint(context.front),
        ),
        (true, true) => outcome.warn(
            "the page and the WebSocket need no credentials",
            "if the app should need a login, let the auth rule of the front cover the whole mount",
        ),
        (_, false) => {
            if let Ok(response) = &socket
                && (301..400).contains(&response.status)
            {
                outcome.warn(
                    format!("without credentials the WebSocket is answered {}: after the end of a session the page waits for ever instead of asking for a login", context.answer(response)),
                    LOGIN.hint(context.hop(context.by(response))),
                );
            }
            outcome.right(format!("without credentials the WebSocket is answered {}", context.describe(&socket)));
        }
    }
}

/// P22: the health check as load balancers use it.
pub(crate) async fn health(context: &Context, outcome: &mut Outcome) {
    let path = context.client.site.path("/_stcore/health");
    if !context.health.is_healthy() {
        return outcome.skip("the health check fails; see P05");
    }
    let head = context.client.send(&Ask::new("HEAD", &path)).await;
    if !has_status(&head, 200) {
        outcome.warn(
            format!("HEAD of the health check is answered {}, and GET 200: load balancers that use HEAD take the app for dead", context.describe(&head)),
            HEAD.hint(context.front),
        );
    }
    // Each response to a client without a cookie has another one.
    let mut own = Vec::new();
    for _ in 0..2 {
        let sent = context.client.send(&Ask::get(&path).anonymous()).await;
        own.extend(
            sent.ok()
                .and_then(|response| response.lines("set-cookie").next()),
        );
    }
    let is_repeated = matches!(&own[..], [first, second] if first == second);
    let control = context.health.first("cache-control").to_ascii_lowercase();
    let age = context.health.first("age");
    if is_repeated {
        outcome.fail(
            "two clients without a cookie get the same one with the health check, which Streamlit makes anew for each: a hop in front caches it, and different browsers get one XSRF token",
            CACHE.hint(context.front),
        );
    } else if !age.is_empty() {
        outcome.fail(
            format!("the health check has `Age: {age}`: a cache in front has answered, so it does not tell whether the app lives"),
            CACHE.hint(context.front),
        );
    } else if control.contains("public")
        || control.contains("max-age=") && !control.contains("max-age=0")
    {
        outcome.warn(
            format!("the health check has `Cache-Control: {control}`, which Streamlit does not send: caches may keep it, with the XSRF cookie of one browser"),
            CACHE.hint(context.front),
        );
    }
    outcome.right("the health check responds to GET and HEAD and is not cached");
}

/// P23: pages that are not for everybody.
pub(crate) async fn exposure(context: &Context, outcome: &mut Outcome) {
    let mount = &context.client.site.mount;
    let metrics = METRICS.hint(context.front);
    let pages: [(&str, &[&str], &str, &str); 8] = [
        (
            "/_stcore/metrics",
            &["# TYPE", "# EOF"],
            "Streamlit's metrics",
            "refuse the path in front, or let the gateway do it (nginx: write `location = /apps/my-app/_stcore/metrics { return 404; }`)",
        ),
        ("/metrics", &["# TYPE", "# HELP"], "metrics", &metrics),
        (
            "/__fluxlit/debug",
            &["\"settings\"", "\"effective\""],
            "the gateway's debug page",
            "turn FLUXLIT_DEBUG off",
        ),
        (
            "/config_dump",
            &["type.googleapis.com/envoy"],
            "Envoy's admin interface",
            "Envoy: bind the admin interface to 127.0.0.1",
        ),
        (
            "/nginx_status",
            &["Active connections:"],
            "nginx's status page",
            "nginx: write `location /nginx_status { stub_status; allow 127.0.0.1; deny all; }`",
        ),
        (
            "/server-status",
            &["Apache Server Status"],
            "Apache's status page",
            "Apache: write `Require ip 127.0.0.1 ::1` in <Location /server-status>",
        ),
        (
            "/api/rawdata",
            &["\"routers\""],
            "Traefik's API",
            "Traefik: remove `api:` and the router to api@internal, or give them an entry point of operators only",
        ),
        (
            "/stats",
            &["Statistics Report for HAProxy"],
            "HAProxy's statistics",
            "HAProxy: remove `stats` and `http-request allow if { path /stats }` from this frontend, and serve them on an address of operators only",
        ),
    ];
    for (path, marks, name, cure) in pages {
        let mut targets = vec![path.to_owned()];
        if !mount.is_empty() {
            targets.push(format!("{mount}{path}"));
        }
        for target in targets {
            let Ok(response) = context.client.send(&Ask::get(&target)).await else {
                continue;
            };
            let text = response.text();
            if response.status == 200
                && marks.iter().any(|mark| text.contains(mark))
                && !response.is_page()
            {
                outcome.warn(format!("`{target}` shows {name} to everybody"), cure);
            }
        }
    }
    let mut documentation = ApiDocumentation::default();
    for (target, mark) in ApiDocumentation::targets(&context.client.site.path(API)) {
        if let Ok(response) = context.client.send(&Ask::get(&target)).await {
            documentation.see(&target, mark, &response);
        }
    }
    outcome.right(documentation.sentence(
        "no internal page was found",
        "neither metrics nor the pages of a proxy were found",
    ));
}

/// Where FluxLit and the gateway have the API, unless their settings say otherwise.
const API: &str = "/api";

/// P27: whether a site may embed the page.
pub(crate) async fn embedding(context: &Context, outcome: &mut Outcome) {
    let Some(embedding) = &context.options.embed else {
        return outcome
            .skip("no site that embeds the page is given; use --embed https://site.example.com");
    };
    let site = &context.client.site;
    let (origin, url) = (embedding.origin(), embedding.url());
    let Ok(url) = Url::parse(&url) else {
        return outcome.skip(format!("`{url}` is not a URL"));
    };
    let policies = Policy::all(&context.page);
    let ancestors: Vec<&[String]> = policies
        .iter()
        .filter_map(|policy| policy.get("frame-ancestors"))
        .collect();
    let forbidding = ancestors
        .iter()
        .find(|sources| !sources.iter().any(|source| allows(source, &url, site)));
    let frame_options = context.page.first("x-frame-options");
    let is_own =
        frame_options.eq_ignore_ascii_case("sameorigin") && embedding.origin() == site.origin();
    if let Some(sources) = forbidding {
        outcome.fail(
            format!(
                "Content-Security-Policy allows frames only in `{}`, not in {origin}",
                sources.join(" ")
            ),
            format!("add {origin} to frame-ancestors"),
        );
    } else if ancestors.is_empty() && !frame_options.is_empty() && !is_own {
        // Browsers ignore X-Frame-Options if there is frame-ancestors.
        outcome.fail(
            format!("X-Frame-Options is `{frame_options}`, so no page of {origin} can embed the app"),
            format!("let the hop that sets it send `Content-Security-Policy: frame-ancestors {origin}` instead; in the gateway that is FLUXLIT_SECURITY_HEADERS"),
        );
    }
    let is_lax = context
        .health
        .lines("set-cookie")
        .any(|line| !line.to_ascii_lowercase().contains("samesite=none"));
    match Relation::of(embedding, site) {
        Relation::Other if is_lax => outcome.warn(
            "the XSRF cookie is not SameSite=None, so browsers do not send it in a frame of another site, and uploads get 403",
            "set Streamlit's server.xsrfCookieSameSite to none, over https",
        ),
        Relation::Below(domain) if is_lax => outcome.skip(format!(
            "whether uploads work in a frame of {origin} depends on who may have names below `{domain}`: if it belongs to one owner, browsers send the XSRF cookie there; if it is a public suffix, as github.io is, they do not, because the cookie is not SameSite=None. Then set Streamlit's server.xsrfCookieSameSite to none, over https"
        )),
        _ => {}
    }
    outcome.right(format!("pages of {origin} may embed the app"));
}
