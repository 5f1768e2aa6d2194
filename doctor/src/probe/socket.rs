//! Checks the WebSocket of Streamlit's page (P08, P10, P11, P13).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Ask, Ended, Failure, Response};
use crate::outcome::Outcome;
use crate::probe::context::{Context, has_status};
use crate::probe::cures::{
    FORWARDED, HOST, IDLE, LOGIN, ORIGIN, PROTOCOL_LINE, RELOAD, ROUTE, SOCKET_ROUTE,
    STREAMLIT_HEADERS, UPGRADE,
};
use crate::probe::front::Hop;
use crate::probe::obstacle;
use crate::probe::redirect::Redirect;

/// P08: the handshake of the app's own page, and why it fails.
pub(crate) async fn handshake(context: &Context, outcome: &mut Outcome) {
    let own = context.open_as_browser().await;
    let response = match &own {
        Ok(response) if response.status == 101 => {
            if !response.first("upgrade").eq_ignore_ascii_case("websocket") {
                outcome.fail(
                    "the handshake is accepted without `Upgrade: websocket`: a hop removes the fields of the response",
                    UPGRADE.hint(context.front),
                );
            }
            return outcome.right("the page's own WebSocket opens");
        }
        Ok(response) => response,
        Err(failure) => return silence(context, failure, outcome).await,
    };
    let by = context.by(response);
    let hop = context.hop(by);
    let path = context.stream_path();
    let is_healthy = context.health.is_healthy();
    let answer = format!("the handshake is answered {}", context.answer(response));
    if context.is_like_health(response) {
        return outcome.skip(format!("{answer}, like the health check; see P05"));
    }
    if let Some(redirect) = Redirect::of(&context.client.site, &path, response) {
        let ask = context.handshake();
        let (finding, hint) = redirect
            .explain(context, "the handshake", &ask, response)
            .await;
        return outcome.fail(format!("{finding}; a page cannot follow it there"), hint);
    }
    let (finding, hint) = match response.status {
        200 if is_healthy && response.has_page() => {
            let plain = context.client.get(&path).await;
            let same = plain
                .as_ref()
                .is_ok_and(|plain| plain.status == 200 && plain.body == response.body);
            let comparison = if same {
                ", exactly as a GET without an upgrade"
            } else {
                ""
            };
            (
                format!(
                    "the handshake is answered with a page{comparison}: the front loses the upgrade, so the app sees a plain GET"
                ),
                UPGRADE.hint(hop),
            )
        }
        200 if !is_healthy => (
            format!("{answer}, and the health check fails too: the path `{path}` leads elsewhere"),
            ROUTE.hint(hop),
        ),
        401 if context.client.has_credentials() => (
            format!("{answer}: a login stands before the WebSocket"),
            LOGIN.hint(hop),
        ),
        403 => return refused(context, response, outcome).await,
        400 | 426 | 501 | 505 => (
            format!(
                "{answer}, although the plain page is answered {}: a hop in front changes the HTTP version or the hop-by-hop fields",
                context.page.status
            ),
            UPGRADE.hint(hop),
        ),
        200 | 404 | 405 | 410 | 502..=504 if is_healthy => (
            format!(
                "{answer}, although the health check beside it works: the front has another route for the WebSocket, or the hop behind it does not pass upgrades"
            ),
            format!(
                "{}. Otherwise {}",
                SOCKET_ROUTE.hint(hop),
                UPGRADE.hint(hop)
            ),
        ),
        404 | 405 | 410 => {
            let without_mount = context
                .handshake_status(
                    &Ask::handshake("/_stcore/stream")
                        .field("Origin", context.client.site.origin()),
                )
                .await;
            let is_at_root =
                !context.client.site.mount.is_empty() && has_status(&without_mount, 101);
            let comparison = if is_at_root {
                "; without the mount it is accepted"
            } else {
                ""
            };
            (
                format!("{answer}{comparison}: the path is not routed to the app"),
                ROUTE.hint(hop),
            )
        }
        _ => match obstacle::explain(context, response) {
            Some((reason, hint)) => (format!("{answer}: {reason}"), hint),
            None => (
                answer,
                "look at the log of this hop for the request with the User-Agent fluxlit-doctor"
                    .to_owned(),
            ),
        },
    };
    outcome.fail(finding, hint);
}

/// Finds out why a handshake gets 403.
async fn refused(context: &Context, refusal: &Response, outcome: &mut Outcome) {
    let by = context.by(refusal);
    let author = context.author(refusal);
    let path = context.stream_path();
    let without = context.handshake_status(&Ask::handshake(&path)).await;
    // Streamlit accepts this origin whatever the host is; our gateway and others that compare Origin and Host do not.
    let local = context
        .handshake_status(&Ask::handshake(&path).field("Origin", "http://localhost"))
        .await;
    let origin = context.client.site.origin();
    let other = match origin.split_once("://") {
        Some(("https", host)) => format!("http://{host}"),
        Some((_, host)) => format!("https://{host}"),
        None => String::new(),
    };
    let of_other_scheme = context
        .handshake_status(&Ask::handshake(&path).field("Origin", other.as_str()))
        .await;
    if has_status(&of_other_scheme, 101) {
        outcome.fail(
            format!("the handshake with the page's own Origin `{origin}` is answered 403 by {author}, and accepted with `{other}`: the app is told another scheme than browsers use"),
            format!("let the front set X-Forwarded-Proto to the scheme that browsers use, and {}", FORWARDED.hint(context.hop(by))),
        );
        return;
    }
    if has_status(&without, 101) || has_status(&local, 101) {
        let changed = if has_status(&without, 101) {
            "without Origin"
        } else {
            "with the Origin http://localhost"
        };
        outcome.fail(
            format!("the handshake with the page's own Origin `{origin}` is answered 403 by {author}, and accepted {changed}: the Host that the app gets is not the public one, or the origin is not allowed"),
            format!("{}. If the host is right: add {origin} to FLUXLIT_GATEWAY_ALLOWED_ORIGINS and to Streamlit's server.corsAllowedOrigins", HOST.hint(context.hop(by))),
        );
        return;
    }
    if matches!(by, Hop::Envoy | Hop::Istio) && context.health.is_healthy() {
        outcome.fail(
            format!("the handshake is answered 403 by {author} with and without Origin, and the health check works: its connection manager does not accept upgrades"),
            UPGRADE.hint(by),
        );
        return;
    }
    if by == Hop::Gateway && refusal.text().contains("Origin") {
        outcome.fail(
            format!("the handshake is answered 403 by the gateway because of its Origin, whatever Origin it has (`{origin}`, `{other}`, none): a hop sets another one"),
            ORIGIN.hint(context.front),
        );
        return;
    }
    if let Some((reason, hint)) = obstacle::explain(context, refusal) {
        outcome.fail(
            format!("the handshake is answered 403 by {author} with and without Origin: {reason}"),
            hint,
        );
        return;
    }
    let health = if context.health.is_healthy() {
        "the health check works"
    } else {
        "the health check fails too"
    };
    outcome.fail(
        format!("the handshake is answered 403 by {author} with and without Origin, and {health}: the path `{path}` is wrong for the app, or an access rule or server.allowedHosts refuses it"),
        format!("{}. If the path is right: list the public host in Streamlit's server.allowedHosts, and {}", ROUTE.hint(context.hop(by)), ORIGIN.hint(context.hop(by))),
    );
}

/// Finds out why there is no answer.
async fn silence(context: &Context, failure: &Failure, outcome: &mut Outcome) {
    let plain = context.client.get(context.stream_path()).await;
    let plain = match &plain {
        Ok(response) => format!(
            "a GET without an upgrade is answered {}",
            context.answer(response)
        ),
        Err(failure) => format!("a GET without an upgrade fails too ({failure})"),
    };
    let cookie_bytes = context.client.cookie_line().len();
    let anonymous = if context.client.has_credentials() {
        let without = context
            .handshake_status(&context.handshake().anonymous())
            .await;
        if has_status(&without, 101) {
            outcome.fail(
                format!("the handshake fails with your cookies and fields ({failure}; {cookie_bytes} bytes of cookies), and is accepted without them: they are too long for Streamlit"),
                STREAMLIT_HEADERS.hint(context.front),
            );
            return;
        }
        "; without your cookies it fails too"
    } else {
        ""
    };
    outcome.fail(
        format!("the handshake fails: {failure}; {plain}{anonymous}"),
        UPGRADE.hint(context.front),
    );
}

/// P10: a handshake of a foreign page.
pub(crate) async fn foreign_origin(context: &Context, outcome: &mut Outcome) {
    let own = context.handshake_status(&context.handshake()).await;
    if !has_status(&own, 101) {
        return outcome.skip("the page's own WebSocket does not open; see P08");
    }
    let foreign = Ask::handshake(context.stream_path()).field("Origin", "https://probe.invalid");
    match context.handshake_status(&foreign).await {
        Ok(response) if response.status == 101 => outcome.fail(
            "a page of another site can open the WebSocket with the cookies of a user (cross-site WebSocket hijacking)",
            format!("let the gateway check the Origin (FLUXLIT_GATEWAY_ALLOWED_ORIGINS not `*`), do not turn off Streamlit's server.enableCORS, and {}", ORIGIN.hint(context.front)),
        ),
        Ok(response) => outcome.right(format!("a foreign Origin is refused with {}", context.answer(&response))),
        Err(failure) => outcome.warn(
            format!("a handshake with a foreign Origin gets no answer ({failure}): Streamlit may be looking for its external address"),
            "let the gateway check the Origin, so that Streamlit is not asked",
        ),
    }
}

/// P11: the protocol line and extensions.
pub(crate) async fn protocol(context: &Context, outcome: &mut Outcome) {
    let extension = "permessage-deflate; client_max_window_bits";
    let three = "streamlit, PLACEHOLDER_AUTH_TOKEN, 00000000-0000-0000-0000-000000000000";
    let ask = context
        .handshake()
        .field("Sec-WebSocket-Protocol", three)
        .field("Sec-WebSocket-Extensions", extension);
    let response = match context.handshake_status(&ask).await {
        Ok(response) if response.status == 101 => response,
        other => {
            let own = context.handshake_status(&context.handshake()).await;
            if has_status(&own, 101) {
                outcome.fail(
                    format!("the handshake with three protocol values and an extension is answered {}, and one with two values is accepted", context.describe(&other)),
                    PROTOCOL_LINE.hint(context.front),
                );
            } else {
                outcome.skip("the page's own WebSocket does not open; see P08");
            }
            return;
        }
    };
    let protocols: Vec<String> = response.lines("sec-websocket-protocol").collect();
    if protocols == ["streamlit"] {
        outcome.right(
            "Streamlit's protocol is agreed; whether token and session follow it shows in P12",
        );
    } else {
        let got = if protocols.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", protocols.join("`, `"))
        };
        outcome.fail(
            format!("Streamlit's protocol `streamlit` is not in the response ({got}): a hop terminates the WebSocket or splits the protocol line, so login and reconnects fail"),
            PROTOCOL_LINE.hint(context.front),
        );
    }
    let agreed: Vec<String> = response.lines("sec-websocket-extensions").collect();
    if !agreed.is_empty() {
        outcome.right(format!("compression is agreed ({})", agreed.join(", ")));
    }
}

/// P13: how long a silent WebSocket stays open.
///
/// One that is closed is followed by a second one: a time limit ends both after the same time, a reload of a hop only the
/// first.
pub(crate) async fn hold(context: &Context, outcome: &mut Outcome) {
    let hold = context.options.hold;
    if hold.is_zero() {
        return outcome.skip("--hold is 0");
    }
    let first = match hold_once(context, hold).await {
        Ok(held) => held,
        Err(reason) => {
            return outcome.skip(format!("the WebSocket does not open ({reason}); see P08"));
        }
    };
    let pings = first.pings;
    let Some(ended) = first.ended else {
        if pings == 0 && hold >= TWO_PINGS {
            outcome.warn(
                format!("the WebSocket stays open for {} s, but none of Streamlit's pings (every 30 s) arrives: a hop terminates the WebSocket", hold.as_secs()),
                "let the front pass WebSocket frames unchanged",
            );
        }
        outcome.right(format!("a silent WebSocket stays open for {} s ({pings} pings); longer was not waited for (--hold 330, --hold 3700)", hold.as_secs()));
        return;
    };
    let seconds = first.time.as_secs();
    let how = match ended {
        Ended::Closed(Some(code)) => format!("with code {code}"),
        Ended::Closed(None) => "with a close frame without a code".to_owned(),
        Ended::Cut => "without a close frame".to_owned(),
    };
    let sentence =
        format!("a silent WebSocket is closed after {seconds} s {how}, {pings} pings were seen");
    let longer = first.time + MARGIN.min(hold);
    let mut next = hold_again(context, longer).await;
    // A time limit ends each after the same time. A server that restarts may accept another one just before it ends.
    if let Ok(held) = &next
        && held.ended.is_some()
        && held.time.abs_diff(first.time) > SAME_TIME
    {
        next = hold_again(context, longer).await;
    }
    match next {
        Ok(Held { ended: None, .. }) => outcome.warn(
            format!("{sentence}, but the next one stays open for {} s: no time limit, but a reload or restart of a hop or of the app ends WebSockets", longer.as_secs()),
            RELOAD.hint(context.front),
        ),
        Ok(next) => outcome.fail(
            format!("{sentence}, and the next one after {} s{}", next.time.as_secs(), usual_owner(context.front, seconds)),
            IDLE.hint(context.front),
        ),
        Err(reason) => outcome.fail(
            format!("{sentence}, and then none opens ({reason})"),
            "look at whether the front and the app still run, and run this check again",
        ),
    }
}

/// A WebSocket that was held.
struct Held {
    time: Duration,
    pings: usize,
    /// How it has ended; `None` if it was still open.
    ended: Option<Ended>,
}

/// Holds a WebSocket for at most this time, or says why none opens.
async fn hold_once(context: &Context, most: Duration) -> Result<Held, String> {
    let opened = context.client.open(&context.handshake()).await;
    let (response, mut socket) = opened.map_err(|failure| failure.to_string())?;
    if response.status != 101 {
        return Err(response.status.to_string());
    }
    let start = Instant::now();
    let ended = loop {
        match socket.message(start + most).await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(ended) => break Some(ended),
        }
    };
    let held = Held {
        time: start.elapsed(),
        pings: socket.pings,
        ended,
    };
    if held.ended.is_none() {
        socket.close().await;
    }
    Ok(held)
}

/// The same after a WebSocket that was closed: what was restarted may need some time until it listens again.
async fn hold_again(context: &Context, most: Duration) -> Result<Held, String> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match hold_once(context, most).await {
            Ok(held) => return Ok(held),
            Err(reason) => last = reason,
        }
        sleep(PAUSE).await;
    }
    Err(last)
}

/// Says whose time limit this often is: one of the front, or of a hop that does not show itself.
fn usual_owner(front: Hop, seconds: u64) -> String {
    let found = OWNERS.iter().find(|(limit, hop, _)| {
        seconds.abs_diff(*limit) <= 3 && (*hop == front || *hop == Hop::Unknown)
    });
    found.map_or_else(String::new, |(limit, _, owner)| {
        format!("; often {owner} ({limit} s)")
    })
}

/// Usual limits in seconds, and the hop that shows that it is in the path; `Unknown` for those that pass everything on unseen.
const OWNERS: [(u64, Hop, &str); 11] = [
    (15, Hop::Envoy, "the route timeout of Envoy"),
    (15, Hop::Istio, "the route timeout of Istio"),
    (
        30,
        Hop::LoadBalancer,
        "the backend timeout of a Google load balancer",
    ),
    (60, Hop::Nginx, "proxy_read_timeout of nginx"),
    (60, Hop::Apache, "ProxyTimeout of Apache"),
    (60, Hop::Unknown, "the idle timeout of an AWS load balancer"),
    (100, Hop::Cdn, "the limit of a CDN"),
    (
        240,
        Hop::Unknown,
        "the idle timeout of an Azure load balancer",
    ),
    (300, Hop::Envoy, "stream_idle_timeout of Envoy"),
    (300, Hop::Istio, "stream_idle_timeout of Envoy"),
    (3600, Hop::Unknown, "a maximum duration of one hour"),
];

/// How much longer the second WebSocket is held than the first one was open.
const MARGIN: Duration = Duration::from_secs(15);

/// How much the times until two WebSockets are closed by the same limit may differ.
const SAME_TIME: Duration = Duration::from_secs(5);

/// How often the second WebSocket is tried.
const ATTEMPTS: usize = 15;
const PAUSE: Duration = Duration::from_secs(2);

/// Streamlit pings every 30 s.
const TWO_PINGS: Duration = Duration::from_secs(70);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_owner_is_named_near_its_limit() {
        for (front, seconds, part) in [
            (Hop::Envoy, 15, "Envoy"),
            (Hop::Nginx, 61, "nginx"),
            (Hop::HaProxy, 59, "AWS"),
            (Hop::Cdn, 98, "CDN"),
            (Hop::Caddy, 240, "Azure"),
            (Hop::Unknown, 3601, "one hour"),
        ] {
            assert!(usual_owner(front, seconds).contains(part), "{seconds}");
        }
        assert_eq!(usual_owner(Hop::HaProxy, 30), "");
        assert_eq!(usual_owner(Hop::Nginx, 42), "");
    }
}
