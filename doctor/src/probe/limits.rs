//! Measures the limits of header sizes and uploads (P15, P16).

use std::time::Duration;

use crate::client::{Ask, Failure};
use crate::outcome::Outcome;
use crate::probe::context::{Context, has_status};
use crate::probe::cures::{BODY, HEADER_SIZE, METHODS, STREAMLIT_HEADERS};
use crate::probe::front::Hop;
use crate::probe::replicas::{self, INVENTED, XSRF};
use crate::probe::sent_upload;
use crate::probe::upload::{self, Answer, size};

/// What a request of some size has got.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reply {
    Passed,
    Refused(u16, Hop),
    Silent(String),
}

/// P15: long cookies and many lines, for a page and for the handshake.
pub(crate) async fn header_size(context: &Context, outcome: &mut Outcome) {
    let handshake = context.handshake_status(&context.handshake()).await;
    if !has_status(&handshake, 101) {
        outcome
            .skip("the page's own WebSocket does not open, so only the page is measured; see P08");
    }
    let own = context.client.cookie_line();
    let sized = |ask: Ask, bytes: usize| {
        let filler = "x".repeat(bytes.saturating_sub(own.len()));
        let cookie = if own.is_empty() {
            format!("doctor={filler}")
        } else {
            format!("{own}; doctor={filler}")
        };
        ask.field("Cookie", cookie)
    };
    let page = |bytes| sized(Ask::get(context.client.site.path("/_stcore/health")), bytes);
    let (page_limit, page_reply) = largest(context, &page, context.health.status).await;
    let health = Ask::get(context.client.site.path("/_stcore/health"));
    let page_lines = most_lines(context, &health, context.health.status).await;
    if let Err((lines, how)) = &page_lines {
        outcome.fail(
            format!("a GET with {lines} additional header lines gets {how}"),
            HEADER_SIZE.hint(context.front),
        );
    }
    if !has_status(&handshake, 101) {
        return;
    }
    let socket = |bytes| sized(context.handshake(), bytes).limit(PATIENCE);
    let (socket_limit, socket_reply) = largest(context, &socket, 101).await;
    match &socket_reply {
        Reply::Silent(how) => {
            // The same size as a plain request tells whether only the handshake is affected.
            outcome.fail(
                format!("a GET passes with {page_limit} bytes of cookies, but the WebSocket handshake only with {socket_limit}: beyond that it gets {how}, so a page with longer cookies waits for ever"),
                STREAMLIT_HEADERS.hint(context.front),
            );
        }
        Reply::Refused(status, by) if socket_limit < SMALL => outcome.warn(
            format!("the WebSocket handshake passes with {socket_limit} bytes of cookies, and a GET with {page_limit}; beyond that {} answers {status}: the session of an auth proxy may not fit", by.name()),
            HEADER_SIZE.hint(context.hop(*by)),
        ),
        Reply::Refused(status, by) => outcome.right(format!("{socket_limit} bytes of cookies pass with the handshake, beyond that {} answers {status}", by.name())),
        Reply::Passed => outcome.right(format!("{socket_limit} bytes of cookies pass with the handshake")),
    }
    if let Reply::Refused(status, by) = &page_reply
        && page_limit < SMALL
        && !matches!(socket_reply, Reply::Refused(..) if socket_limit < SMALL)
    {
        outcome.warn(
            format!(
                "a GET passes with {page_limit} bytes of cookies; beyond that {} answers {status}",
                by.name()
            ),
            HEADER_SIZE.hint(context.hop(*by)),
        );
    }
    match (
        page_lines,
        most_lines(context, &context.handshake(), 101).await,
    ) {
        (_, Err((lines, how))) => outcome.fail(
            format!("a WebSocket handshake with {lines} additional header lines gets {how}"),
            STREAMLIT_HEADERS.hint(context.front),
        ),
        (Ok(page), Ok(socket)) => outcome.right(format!(
            "a GET passes with {} additional header lines, and the handshake with {}",
            lines(page),
            lines(socket)
        )),
        (Err(_), Ok(_)) => {}
    }
}

fn lines(most: usize) -> String {
    let [least, ..] = LINES;
    if most < least {
        format!("fewer than {least}")
    } else {
        most.to_string()
    }
}

/// Returns how many additional lines pass, of those that are tried. More may be refused, because a browser sends about fifteen
/// lines in all. `Err` has the number of lines that get no answer.
async fn most_lines(context: &Context, ask: &Ask, wanted: u16) -> Result<usize, (usize, String)> {
    let mut most = 0;
    for lines in LINES {
        let mut ask = ask.clone().limit(PATIENCE);
        for _ in 0..lines {
            ask = ask.field("X-Doctor", "x");
        }
        match reply(context, &ask, wanted).await {
            Reply::Passed => most = lines,
            Reply::Refused(..) => break,
            Reply::Silent(how) => return Err((lines, how)),
        }
    }
    Ok(most)
}

/// Returns the largest number of bytes that passes, and what happens beyond it.
async fn largest(context: &Context, ask: &impl Fn(usize) -> Ask, wanted: u16) -> (usize, Reply) {
    let (mut low, mut high, mut beyond) = (0, None, Reply::Passed);
    for bytes in SIZES {
        match reply(context, &ask(bytes), wanted).await {
            Reply::Passed => low = bytes,
            other => {
                beyond = other;
                high = Some(bytes);
                break;
            }
        }
    }
    let Some(mut high) = high else {
        return (low, Reply::Passed);
    };
    while high.saturating_sub(low) > PRECISION {
        let middle = low.midpoint(high);
        // Silence was confirmed once; to confirm it for each size would take minutes.
        let found = if matches!(beyond, Reply::Silent(_)) {
            reply_once(context, &ask(middle), wanted).await
        } else {
            reply(context, &ask(middle), wanted).await
        };
        match found {
            Reply::Passed => low = middle,
            other => {
                if !matches!(beyond, Reply::Silent(_)) {
                    beyond = other;
                }
                high = middle;
            }
        }
    }
    (low, beyond)
}

/// Sends a request. If there is no answer, a short handshake is asked and the request is repeated with more time, because a
/// server that is busy is slow with every request.
async fn reply(context: &Context, ask: &Ask, wanted: u16) -> Reply {
    match reply_once(context, ask, wanted).await {
        Reply::Silent(_) => {
            let short = context.handshake_status(&context.handshake()).await;
            match reply_once(context, &ask.clone().limit(LONG_PATIENCE), wanted).await {
                Reply::Silent(how) => {
                    Reply::Silent(format!("{how} (a short one: {})", context.describe(&short)))
                }
                other => other,
            }
        }
        other => other,
    }
}

async fn reply_once(context: &Context, ask: &Ask, wanted: u16) -> Reply {
    match context.handshake_status(ask).await {
        Ok(response) if response.status == wanted => Reply::Passed,
        Ok(response) => Reply::Refused(response.status, context.by(&response)),
        Err(failure) => Reply::Silent(failure.to_string()),
    }
}

/// P16: the largest upload that every hop lets through.
pub(crate) async fn upload_size(context: &Context, outcome: &mut Outcome) {
    let small = match announce(context, 1024).await {
        Ok(small) => small,
        Err(failure) => {
            return outcome.skip(format!("an upload of 1 kB gets no answer: {failure}"));
        }
    };
    let small = if small.status == 100 {
        // A hop that says so itself may still refuse the request.
        match send_small(context).await {
            Ok(sent) if sent.is_of_app() => small,
            Ok(sent) => sent,
            Err(failure) => {
                return outcome.skip(format!("an upload of 2 bytes gets no answer: {failure}"));
            }
        }
    } else {
        small
    };
    if !small.is_of_app() && !context.health.is_healthy() {
        return outcome.skip(format!(
            "an upload of 1 kB is answered {}, and the health check fails; see P05",
            small.status
        ));
    }
    if !small.is_of_app() && !depends_on_token(context, small.status).await {
        outcome.fail(
            format!(
                "an upload of 1 kB is answered {}, before it reaches Streamlit",
                small.text
            ),
            METHODS.hint(context.hop(small.by)),
        );
        return;
    }
    let mut low = 1024;
    let refused = match announce(context, STREAMLIT_LIMIT).await {
        Ok(answer) if answer.status == 413 => Some(answer.by),
        Ok(_) => None,
        Err(failure) => {
            return outcome.skip(format!("an upload of 200 MB gets no answer: {failure}"));
        }
    };
    let Some(mut by) = refused else {
        let sent = match sent_upload::largest(context, outcome).await {
            Some(largest) => format!(", and one of {} whose bytes are sent", size(largest)),
            None => "; no bytes of one could be sent, which a hop may count".to_owned(),
        };
        return outcome.right(format!(
            "an upload of 200 MB, Streamlit's default limit, passes every hop when it is announced{sent}"
        ));
    };
    let mut high = STREAMLIT_LIMIT;
    while high.saturating_sub(low) > 1024.max(high / 128) {
        let middle = low.midpoint(high);
        match announce(context, middle).await {
            Ok(answer) if answer.status == 413 => {
                by = answer.by;
                high = middle;
            }
            Ok(_) => low = middle,
            Err(failure) => {
                return outcome.skip(format!(
                    "an upload of {middle} bytes gets no answer: {failure}"
                ));
            }
        }
    }
    outcome.warn(
        format!("uploads over about {} are answered 413 by {}, a hop before Streamlit, whose own limit is 200 MB by default", size(low), by.name()),
        BODY.hint(if by == Hop::Gateway { by } else { context.hop(by) }),
    );
}

/// Announces an upload to a session that does not exist, and sends no body.
async fn announce(context: &Context, bytes: u64) -> Result<Answer, Failure> {
    let ask = upload(context)
        .field("Expect", "100-continue")
        .field("Content-Length", bytes.to_string());
    upload::answer(context, &ask).await
}

/// Sends an upload without a file to a session that does not exist.
async fn send_small(context: &Context) -> Result<Answer, Failure> {
    let mut ask = upload(context);
    ask.body = b"\r\n".to_vec();
    upload::answer(context, &ask).await
}

/// Returns true if the XSRF token changes the status of an upload: then the app has refused it, even if the front shows a page of
/// its own.
async fn depends_on_token(context: &Context, status: u16) -> bool {
    let Some(token) = context.client.cookie(XSRF) else {
        return false;
    };
    let with = replicas::upload(context, INVENTED, &token, false).await;
    with.is_ok_and(|with| status == 403 && with.status == 400)
}

fn upload(context: &Context) -> Ask {
    let path = "/_stcore/upload_file/doctor-invented-session/doctor";
    Ask::new("PUT", context.client.site.path(path))
        .field("Content-Type", "multipart/form-data; boundary=doctor")
}

/// A shorter limit than that of other requests, because the measured silence is only asked for again.
const PATIENCE: Duration = Duration::from_secs(3);
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// The sizes of cookies, from the least to the most.
const SIZES: [usize; 5] = [4_000, 7_500, 16_000, 30_000, 60_000];

/// The numbers of additional lines: servers often accept about a hundred.
const LINES: [usize; 3] = [90, 110, 130];

/// Below this, sessions that auth proxies keep in cookies do not fit.
const SMALL: usize = 7_000;

const PRECISION: usize = 512;

/// `server.maxUploadSize`, by default 200 MB.
const STREAMLIT_LIMIT: u64 = 200 * 1024 * 1024;
