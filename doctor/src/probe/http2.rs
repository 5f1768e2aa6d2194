//! Opens a WebSocket inside HTTP/2, if the site offers it (P09, RFC 8441).

use std::time::Duration;

use tokio::time::timeout;

use crate::client::{Client, is_refusal};
use crate::outcome::Outcome;
use crate::probe::context::{Context, has_status};
use crate::probe::front::Hop;
use crate::probe::refusal::Cause;

/// What a site has answered over HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status of the health check.
    pub(crate) health: u16,
    /// The `Server` field of that response.
    pub(crate) server: String,
    /// The status of a WebSocket; `None` if it is not offered.
    pub(crate) websocket: Option<Result<u16, String>>,
}

/// P09: extended CONNECT works if it is offered. `cause`: why requests are refused, as far as that is known.
pub(crate) async fn extended_connect(
    context: &Context,
    cause: Option<&Cause>,
    outcome: &mut Outcome,
) {
    if !context.client.site.is_tls {
        return outcome.skip("the URL is http, and browsers use HTTP/2 only with TLS");
    }
    let mut result = ask(&context.client).await.map(|answer| answer.websocket);
    for _ in 0..REPETITIONS {
        // It may be about an upstream that fails, not about WebSockets.
        if !matches!(result, Ok(Some(Ok(status))) if is_refusal(status)) {
            break;
        }
        if let Some(cause) = cause {
            return outcome.skip(cause.reason());
        }
        // Each attempt sends two requests, so with two upstreams that answer in turn the second always reaches the same one.
        let health = context.client.site.path("/_stcore/health");
        if let Err(failure) = context.client.get(&health).await {
            return outcome.skip(format!("`{health}`: {failure}"));
        }
        result = ask(&context.client).await.map(|answer| answer.websocket);
    }
    match result {
        Err(reason) => outcome.skip(reason),
        Ok(None) => {
            outcome.right("HTTP/2 does not offer WebSockets, so browsers use HTTP/1.1 for them");
        }
        Ok(Some(Ok(200))) => outcome.right("WebSockets inside HTTP/2 are offered and work"),
        Ok(Some(other)) => {
            let own = context.handshake_status(&context.handshake()).await;
            // Envoy has a setting for each.
            if !matches!(context.front, Hop::Envoy | Hop::Istio)
                && other.as_ref().is_ok_and(|status| has_status(&own, *status))
            {
                return outcome.skip("the WebSocket is refused without HTTP/2 as well; see P08");
            }
            let got = match other {
                Ok(status) => status.to_string(),
                Err(reason) => reason,
            };
            outcome.fail(
                format!("HTTP/2 offers WebSockets (RFC 8441), but one is answered {got}: browsers that use the offer, such as Firefox, wait for ever"),
                match context.front {
                    Hop::Envoy | Hop::Istio => "let browsers use HTTP/1.1 for them: the app's handshake needs a Sec-WebSocket-Key, which HTTP/2 does not have. Envoy: remove `http2_protocol_options: {allow_connect: true}`",
                    Hop::HaProxy => "HAProxy: write `h2-workaround-bogus-websocket-clients` in the global section",
                    _ => "let the front stop offering it (SETTINGS_ENABLE_CONNECT_PROTOCOL), or pass it to the app",
                },
            );
        }
    }
}

/// Asks for the health check, and for a WebSocket if it is offered.
///
/// # Errors
///
/// Why there is no response.
pub(crate) async fn ask(client: &Client) -> Result<Answer, String> {
    let asked = timeout(LIMIT, connect_and_ask(client)).await;
    asked.unwrap_or_else(|_| Err("HTTP/2 gets no answer within 20 s".to_owned()))
}

async fn connect_and_ask(client: &Client) -> Result<Answer, String> {
    let connected = client.connect_with(&[b"h2", b"http/1.1"]).await;
    let (connection, peer) = connected.map_err(|failure| failure.to_string())?;
    if peer.and_then(|peer| peer.protocol).as_deref() != Some(b"h2") {
        return Err("the site does not offer HTTP/2 (ALPN)".to_owned());
    }
    let said = |error: h2::Error| format!("HTTP/2 fails: {error}");
    let (sender, connection) = h2::client::handshake(connection.into_stream())
        .await
        .map_err(said)?;
    let driver = tokio::spawn(async move {
        // Its errors are reported by the requests.
        let _ = connection.await;
    });
    let result = requests(client, sender).await;
    driver.abort();
    result
}

async fn requests(
    client: &Client,
    sender: h2::client::SendRequest<bytes::Bytes>,
) -> Result<Answer, String> {
    let said = |error: h2::Error| format!("HTTP/2 fails: {error}");
    let site = &client.site;
    let uri = |path: &str| format!("https://{}{path}", site.authority());
    client.pace().await;
    // The first response comes after the settings.
    let request = http::Request::get(uri(&site.path("/_stcore/health")))
        .header("user-agent", client.user_agent().text());
    let request = request.body(()).map_err(|error| error.to_string())?;
    let mut sender = sender.ready().await.map_err(said)?;
    let (response, _) = sender.send_request(request, true).map_err(said)?;
    let health = response.await.map_err(said)?;
    let server = health.headers().get(http::header::SERVER);
    let answer = |websocket| Answer {
        health: health.status().as_u16(),
        server: server.map_or_else(String::new, |server| {
            String::from_utf8_lossy(server.as_bytes()).into_owned()
        }),
        websocket,
    };
    if !sender.is_extended_connect_protocol_enabled() {
        return Ok(answer(None));
    }
    client.pace().await;
    let mut request = http::Request::builder()
        .method(http::Method::CONNECT)
        .uri(uri(&site.path("/_stcore/stream")))
        .extension(h2::ext::Protocol::from_static("websocket"))
        .header("user-agent", client.user_agent().text())
        .header("origin", site.origin())
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", crate::client::PROTOCOL);
    let cookies = client.cookie_line();
    if !cookies.is_empty() {
        request = request.header("cookie", cookies);
    }
    let request = request.body(()).map_err(|error| error.to_string())?;
    let mut sender = sender.ready().await.map_err(said)?;
    let (response, _stream) = sender.send_request(request, false).map_err(said)?;
    Ok(answer(Some(match response.await {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) => Err(format!("with an error: {error}")),
    })))
}

const LIMIT: Duration = Duration::from_secs(20);

const REPETITIONS: usize = 3;
