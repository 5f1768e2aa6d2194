//! Checks that all requests of a browser reach the same replica (P18).

use crate::client::{Ask, Failure, Response};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::AFFINITY;
use crate::probe::session::{self, NoSession};

/// P18: uploads on new connections reach the replica that has the session.
pub(crate) async fn affinity(context: &Context, outcome: &mut Outcome) {
    let (id, socket) = match session::open(context, None).await {
        Ok(opened) => opened,
        Err(NoSession::Socket(reason) | NoSession::Message(reason)) => {
            return outcome.skip(format!("no session opens ({reason}); see P08 and P12"));
        }
    };
    let Some(token) = context.client.cookie(XSRF) else {
        return outcome.skip("the site sets no XSRF cookie, without which Streamlit does not say whether it has the session; see P17");
    };
    let unknown = match upload(context, INVENTED, &token, false).await {
        Ok(unknown) => unknown,
        Err(failure) => return outcome.skip(format!("an upload gets no answer: {failure}")),
    };
    if unknown.status != 400 {
        return outcome.skip(format!(
            "an upload to a session that does not exist is answered {}, not 400 as by Streamlit; see P16 and P17",
            unknown.status
        ));
    }
    if context.is_of_front(&unknown) {
        return outcome.skip(format!(
            "an upload to a session that does not exist is answered {}, which replaces what the app says: let the front pass error responses on (Apache: ProxyErrorOverride Off; nginx: proxy_intercept_errors off)",
            context.answer(&unknown)
        ));
    }
    let unknown = without(&unknown, INVENTED);
    for (is_anonymous, with) in [
        (false, "with the cookies of the browser"),
        (true, "without the front's cookies"),
    ] {
        let mut others = 0_usize;
        for _ in 0..ATTEMPTS {
            match upload(context, &id, &token, is_anonymous).await {
                Ok(answer) if without(&answer, &id) == unknown => others = others.saturating_add(1),
                Ok(_) => {}
                Err(failure) => {
                    return outcome.skip(format!("an upload gets no answer: {failure}"));
                }
            }
        }
        if others > 0 && !is_anonymous {
            outcome.fail(
                format!("{others} of {ATTEMPTS} uploads {with} reach another replica than the WebSocket: uploads, media and logins fail there"),
                AFFINITY.hint(context.front),
            );
            break;
        } else if is_anonymous && others == 0 {
            outcome.right(format!("{ATTEMPTS} of {ATTEMPTS} uploads reach the replica of the WebSocket, also {with}: there is one replica, or the front selects it by the client's address"));
        } else if others > 0 {
            outcome.right(format!("the replica is selected by a cookie: {ATTEMPTS} of {ATTEMPTS} uploads reach the one of the WebSocket"));
        }
    }
    socket.close().await;
}

/// Sends an upload without a file, which stores nothing.
pub(crate) async fn upload(
    context: &Context,
    session: &str,
    token: &str,
    is_anonymous: bool,
) -> Result<Response, Failure> {
    let mount = &context.client.site.mount;
    upload_below(context, mount, session, token, is_anonymous).await
}

/// Returns true if the app at another path of the host is the same: it has the session of a WebSocket that is opened under the mount.
pub(crate) async fn is_same_app(context: &Context, path: &str) -> bool {
    let Ok((id, socket)) = session::open(context, None).await else {
        return false;
    };
    let mut answers = Vec::new();
    if let Some(token) = context.client.cookie(XSRF) {
        for session in [&id, INVENTED] {
            let answer = upload_below(context, path, session, &token, false).await;
            answers.extend(answer.map(|answer| without(&answer, session)));
        }
    }
    socket.close().await;
    matches!(&answers[..], [own @ (400, _), invented @ (400, _)] if own != invented)
}

async fn upload_below(
    context: &Context,
    path: &str,
    session: &str,
    token: &str,
    is_anonymous: bool,
) -> Result<Response, Failure> {
    let target = format!("{path}/_stcore/upload_file/{session}/doctor");
    let mut ask = Ask::new("PUT", target)
        .field("X-Xsrftoken", token)
        .field("Content-Type", "multipart/form-data; boundary=doctor");
    ask.body = b"--doctor--\r\n".to_vec();
    if is_anonymous {
        ask = ask.anonymous().field("Cookie", format!("{XSRF}={token}"));
    }
    context.client.send(&ask).await
}

/// Returns the status and the text of a response without the session's name, so that two can be compared.
fn without(response: &Response, session: &str) -> (u16, String) {
    (response.status, response.text().replace(session, ""))
}

/// A session that does not exist.
pub(crate) const INVENTED: &str = "doctor-invented-session";

/// The cookie of Streamlit's XSRF token.
pub(crate) const XSRF: &str = "_streamlit_xsrf";
const ATTEMPTS: usize = 10;
