//! Sends the bytes of an upload, for hops that count them instead of believing the announced length (P16).
//!
//! The upload goes to the session of an open WebSocket, because Streamlit reads none to another one. It has no file: what follows
//! the end of a form is skipped, so nothing is stored.

use crate::client::{Ask, Failure};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::BODY;
use crate::probe::front::Hop;
use crate::probe::replicas::{INVENTED, XSRF};
use crate::probe::session;
use crate::probe::upload::{self, size};

/// Returns the largest upload that has passed, or reports the limit that one has met. `None`: nothing can be said, because a
/// session or the XSRF token is missing, or small uploads are refused as well.
pub(crate) async fn largest(context: &Context, outcome: &mut Outcome) -> Option<u64> {
    let Ok((id, socket)) = session::open(context, None).await else {
        // A hop that holds a request until it is complete opens no WebSocket, and refuses an upload before the app does. What
        // the app answers to this one says nothing: it has not read it. Some hops answer 502 if the app closes the connection
        // before they have passed the whole upload on, which says nothing about the app either.
        of_session(context, INVENTED, outcome).await;
        return None;
    };
    let largest = of_session(context, &id, outcome).await;
    socket.close().await;
    largest
}

async fn of_session(context: &Context, id: &str, outcome: &mut Outcome) -> Option<u64> {
    let token = context.client.cookie(XSRF)?;
    let send = async |bytes: u64| send(context, id, &token, bytes).await;
    if send(0).await != Reply::Passed {
        return None;
    }
    let sizes = if context.options.may_write {
        &SIZES[..]
    } else {
        SIZES.get(..1).unwrap_or_default()
    };
    let mut low = 0;
    for &bytes in sizes {
        match send(bytes).await {
            Reply::Passed => low = bytes,
            // A hop that restarts ends one connection.
            Reply::Other => return (low > 0).then_some(low),
            Reply::Refused(by) => {
                let mut high = bytes;
                while high.saturating_sub(low) > high / 16 {
                    let middle = low.midpoint(high);
                    match send(middle).await {
                        Reply::Passed => low = middle,
                        Reply::Refused(_) => high = middle,
                        Reply::Other => break,
                    }
                }
                outcome.warn(
                    format!(
                        "uploads over about {} are answered 413 by {}, a hop before Streamlit, whose own limit is 200 MB by default: it counts the bytes that arrive, so a larger upload that is only announced passes",
                        size(low),
                        by.name()
                    ),
                    BODY.hint(context.hop(by)),
                );
                return None;
            }
        }
    }
    Some(low)
}

/// What an upload gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Passed,
    /// It is too large.
    Refused(Hop),
    Other,
}

async fn send(context: &Context, session: &str, token: &str, bytes: u64) -> Reply {
    let path = format!("/_stcore/upload_file/{session}/doctor");
    let mut ask = Ask::new("PUT", context.client.site.path(&path))
        .field("X-Xsrftoken", token)
        .field("Content-Type", "multipart/form-data; boundary=doctor");
    ask.body = b"--doctor--\r\n".to_vec();
    if session == INVENTED {
        ask = ask.rationed();
    }
    let filler = usize::try_from(bytes).unwrap_or_default();
    ask.body
        .resize(ask.body.len().saturating_add(filler), b'\n');
    let answer: Result<_, Failure> = upload::answer(context, &ask).await;
    match answer {
        Ok(answer) if answer.status == 413 => Reply::Refused(answer.by),
        Ok(answer) if answer.is_of_app() => Reply::Passed,
        _ => Reply::Other,
    }
}

/// The sizes in bytes: the first one is sent to every site, because limits are often 1 MB, and the others with `--write`.
const SIZES: [u64; 3] = [2 * MB, 8 * MB, 32 * MB];
const MB: u64 = 1024 * 1024;
