//! Checks that Streamlit's protection against cross-site requests is on (D08), and the limits of uploads (D13).

use uuid::Uuid;

use crate::app::server::Server;
use crate::app::streamlit::Found;
use crate::app::subject::Subject;
use crate::client::Response;
use crate::outcome::Outcome;
use crate::wire::{exchange, request};

/// D08: an upload without a token is refused. The session is invented, so nothing is stored in any case.
pub(crate) async fn xsrf(server: &Server, subject: &Subject, found: &Found, outcome: &mut Outcome) {
    let host = subject.public_authority();
    let without = upload(server, found, &host, None).await;
    match without {
        Ok(reply) if reply.status == 403 => {}
        Ok(reply) if reply.status == 400 => {
            outcome.fail(
                "Streamlit accepts uploads without an XSRF token: its XSRF protection is off, so any website can upload into a \
                 session of its visitors",
                "remove enableXsrfProtection = false (server.enableXsrfProtection) from Streamlit's options; if uploads then \
                 fail with 403, a proxy in front loses the cookie _streamlit_xsrf",
            );
            return;
        }
        Ok(reply) => {
            outcome.skip(format!(
                "an upload to an invented session is answered with {}",
                reply.status
            ));
            return;
        }
        Err(error) => {
            outcome.skip(format!("an upload to an invented session fails: {error}"));
            return;
        }
    }
    let Some(token) = token(server, found, &host).await else {
        outcome.fail(
            "Streamlit's health check sets no cookie _streamlit_xsrf, so browsers cannot upload",
            "let the gateway reach Streamlit directly; something in between removes Set-Cookie",
        );
        return;
    };
    match upload(server, found, &host, Some(&token)).await {
        Ok(reply) if reply.status == 403 => outcome.fail(
            "Streamlit refuses an upload that carries its own token",
            "something between the gateway and Streamlit removes the field X-Xsrftoken or the cookie",
        ),
        Ok(_) => outcome.right("Streamlit refuses uploads without its token, and accepts its token"),
        Err(error) => outcome.skip(format!("an upload with a token fails: {error}")),
    }
}

async fn token(server: &Server, found: &Found, host: &str) -> Option<String> {
    let target = format!("{}/_stcore/health", found.base);
    let reply = exchange(server.address, None, &request("GET", &target, host, &[]))
        .await
        .ok()?;
    let cookies: Vec<String> = reply.lines("set-cookie").collect();
    cookies.iter().find_map(|cookie| {
        let value = cookie.strip_prefix("_streamlit_xsrf=")?.split(';').next()?;
        Some(value.trim_matches('"').to_owned())
    })
}

async fn upload(
    server: &Server,
    found: &Found,
    host: &str,
    token: Option<&str>,
) -> std::io::Result<Response> {
    let boundary = "fluxlit-doctor";
    let body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nx\r\n--{boundary}--\r\n"
    );
    let target = format!(
        "{}/_stcore/upload_file/{}/{}",
        found.base,
        Uuid::new_v4(),
        Uuid::new_v4()
    );
    let content_type = format!("multipart/form-data; boundary={boundary}");
    let length = body.len().to_string();
    let cookie = token.map(|token| format!("_streamlit_xsrf={token}"));
    let mut headers = vec![
        ("Content-Type", content_type.as_str()),
        ("Content-Length", length.as_str()),
    ];
    if let (Some(cookie), Some(token)) = (&cookie, token) {
        headers.push(("Cookie", cookie));
        headers.push(("X-Xsrftoken", token));
    }
    let bytes = [request("PUT", &target, host, &headers), body.into_bytes()].concat();
    exchange(server.address, None, &bytes).await
}

/// D13: the gateway lets pass what Streamlit accepts.
pub(crate) fn limits(subject: &Subject, outcome: &mut Outcome) {
    let (megabytes, place) = subject
        .options
        .max_upload_size
        .clone()
        .unwrap_or((STREAMLIT_UPLOAD_MB, "Streamlit's default".to_owned()));
    let wanted = megabytes
        .saturating_mul(1024 * 1024)
        .saturating_add(MULTIPART);
    let limit = subject.limits.body_bytes;
    if limit != 0 && limit < wanted {
        outcome.warn(
            format!(
                "the gateway's limit for a request's body is {limit} bytes, below Streamlit's server.maxUploadSize of \
                 {megabytes} MB ({place}): larger uploads get 413 from the gateway"
            ),
            format!(
                "set FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES={wanted}, or server.maxUploadSize = {}",
                limit.saturating_sub(MULTIPART) / (1024 * 1024)
            ),
        );
    } else {
        outcome.right(format!(
            "uploads of {megabytes} MB ({place}) pass the gateway"
        ));
    }
}

/// The default of `server.maxUploadSize`.
const STREAMLIT_UPLOAD_MB: u64 = 200;

/// What the multipart form adds to a file, generously.
const MULTIPART: u64 = 64 * 1024;
