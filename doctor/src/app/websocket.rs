//! Checks Streamlit's WebSocket: whose pages may open it, its protocol, its limits (D05, D06, D07).

use std::io;
use std::time::Duration;

use crate::app::server::Server;
use crate::app::streamlit::Found;
use crate::app::subject::Subject;
use crate::client::{PROTOCOL, Response};
use crate::outcome::Outcome;
use crate::wire::{Connection, exchange, handshake};

/// D05: which origins may open the WebSocket.
pub(crate) async fn origins(
    server: &Server,
    subject: &Subject,
    found: &Found,
    outcome: &mut Outcome,
) {
    let host = subject.public_authority();
    let own = subject.public_origin();
    let ask = async |host: &str, origin: Option<&str>| {
        let mut headers = vec![("Sec-WebSocket-Protocol", PROTOCOL)];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        status(server, found, host, &headers).await
    };
    let same = ask(&host, Some(&own)).await;
    match same {
        Ok(101) => {}
        Ok(status) => {
            // One thing is changed at a time, so that the finding can name it.
            let without_origin = ask(&host, None).await;
            let with_own_host = ask(&server.authority, None).await;
            let cause = match (without_origin, with_own_host) {
                (Ok(101), _) => format!("the Origin `{own}`"),
                (_, Ok(101)) => format!("the Host `{host}`"),
                // The path is right: the health check has responded under the same base path.
                _ => format!(
                    "the Host `{host}`, and `{}` is refused as well",
                    server.authority
                ),
            };
            outcome.fail(
                format!("Streamlit refuses the WebSocket of the app's own page with {status}, because of {cause}"),
                "name the public host in Streamlit's server.allowedHosts, and its origin in server.corsAllowedOrigins, if they are set",
            );
            return;
        }
        Err(error) => {
            outcome.fail(
                format!("Streamlit does not answer the WebSocket handshake of the app's own page: {error}"),
                "look at Streamlit's log",
            );
            return;
        }
    }
    let foreign = ask(&host, Some("https://doctor.invalid")).await;
    match foreign {
        Ok(101) => outcome.warn(
            "Streamlit accepts WebSockets of foreign pages: its CORS protection is off. The gateway still refuses them, but \
             whatever reaches Streamlit directly does not",
            "remove enableCORS = false (server.enableCORS, --server.enableCORS) from Streamlit's options",
        ),
        Ok(_) => outcome.right("Streamlit accepts the page's own origin and refuses foreign ones"),
        Err(error) => outcome.warn(
            format!("Streamlit does not answer a handshake with a foreign Origin: {error}"),
            "look at Streamlit's log; it may try to find its external address",
        ),
    }
}

/// D06: the protocol line arrives at Streamlit as it was sent.
pub(crate) async fn protocol(
    server: &Server,
    subject: &Subject,
    found: &Found,
    outcome: &mut Outcome,
) {
    let host = subject.public_authority();
    let headers = [("Sec-WebSocket-Protocol", PROTOCOL)];
    match exchange_handshake(server, found, &host, &headers).await {
        Ok(reply) if reply.status == 101 => {
            let chosen: Vec<String> = reply.lines("sec-websocket-protocol").collect();
            if chosen == ["streamlit"] {
                outcome.right(
                    "Streamlit receives the protocol line, which carries its token and session",
                );
            } else {
                outcome.fail(
                    format!(
                        "Streamlit does not answer with the protocol `streamlit` ({}), so something in between changes the \
                         protocol line: login and reconnects fail",
                        if chosen.is_empty() { "no protocol at all".to_owned() } else { chosen.join(", ") }
                    ),
                    "let the gateway reach Streamlit directly, or forward Sec-WebSocket-Protocol unchanged",
                );
            }
            let extensions: Vec<String> = reply.lines("sec-websocket-extensions").collect();
            if !extensions.is_empty() {
                outcome.warn(
                    format!(
                        "an extension was agreed that was not offered: {}",
                        extensions.join(", ")
                    ),
                    "let the gateway reach Streamlit directly",
                );
            }
        }
        Ok(reply) => outcome.skip(format!(
            "the handshake is refused with {}; see D05",
            reply.status
        )),
        Err(error) => outcome.skip(format!("the handshake fails: {error}; see D05")),
    }
}

/// D07: Streamlit answers every handshake that the gateway lets through.
pub(crate) async fn header_limits(
    server: &Server,
    subject: &Subject,
    found: &Found,
    outcome: &mut Outcome,
) {
    let probe = Probe {
        server,
        found,
        host: subject.public_authority(),
    };
    match probe.answers(&Handshake::default()).await {
        Ok(true) => {}
        Ok(false) => return outcome.skip("even a short handshake is not answered; see D05"),
        Err(error) => return outcome.skip(format!("a short handshake fails: {error}; see D05")),
    }
    let line = subject.limits.websocket_line_bytes;
    let of_line = |bytes| Handshake {
        line_bytes: bytes,
        fields: 0,
    };
    match probe.largest(SHORT_LINE, line, of_line).await {
        Ok(largest) if largest == line => {
            let own = probe.own_limit(line, LINES, of_line).await;
            outcome.right(format!(
                "Streamlit answers handshakes with header lines of {line} bytes, the gateway's limit{}",
                match own {
                    Own::NotLower => String::new(),
                    Own::AtLeast(bytes) => format!(
                        ", and of {bytes}: if pages with long cookies get 431, set FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES={bytes}"
                    ),
                    Own::Between(bytes, silent) => format!(
                        "; its own is between {bytes} and {silent}. If pages with long cookies get 431, set \
                         WEBSOCKETS_MAX_LINE_LENGTH=65536 in Streamlit's environment together with \
                         FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES=65536"
                    ),
                }
            ));
        }
        Ok(largest) => outcome.fail(
            format!(
                "Streamlit never answers a handshake with a header line over {largest} bytes, but the gateway forwards up to \
                 {line}: a page whose cookies are longer waits for ever"
            ),
            format!(
                "start Streamlit with WEBSOCKETS_MAX_LINE_LENGTH=65536 and WEBSOCKETS_MAX_NUM_HEADERS=256 in its environment; \
                 until then set FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES={largest}, or drop cookies with FLUXLIT_DROP_COOKIES"
            ),
        ),
        Err(error) => outcome.skip(format!("the limit cannot be measured: {error}")),
    }
    // The limit for all requests holds for handshakes as well.
    let fields = subject.limits.websocket_fields.min(subject.limits.fields);
    let of_fields = |fields| Handshake {
        line_bytes: 0,
        fields,
    };
    match probe.largest(FEW_FIELDS, fields, of_fields).await {
        Ok(most) if most == fields => {
            let own = probe.own_limit(fields, FIELDS, of_fields).await;
            outcome.right(format!(
                "Streamlit answers handshakes with {fields} header lines, the gateway's limit{}",
                match own {
                    Own::NotLower => String::new(),
                    Own::AtLeast(most) => format!(
                        ", and with {most}: FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT={most} and \
                         FLUXLIT_GATEWAY_MAX_HEADER_COUNT={most} let them pass"
                    ),
                    Own::Between(most, silent) => format!(
                        "; its own is between {most} and {silent}. WEBSOCKETS_MAX_NUM_HEADERS=256 in Streamlit's environment \
                         together with FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT=256 and \
                         FLUXLIT_GATEWAY_MAX_HEADER_COUNT=256 lets more pass"
                    ),
                }
            ));
        }
        Ok(most) => outcome.fail(
            format!(
                "Streamlit never answers a handshake with more than {most} header lines, but the gateway forwards up to {fields}"
            ),
            format!(
                "start Streamlit with WEBSOCKETS_MAX_NUM_HEADERS=256 in its environment; until then set \
                 FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT={most}"
            ),
        ),
        Err(error) => outcome.skip(format!("the limit cannot be measured: {error}")),
    }
}

/// The size of a handshake. Zero leaves a part as it is.
#[derive(Debug, Clone, Copy, Default)]
struct Handshake {
    /// The length of the longest line, its end included.
    line_bytes: usize,
    /// The number of field lines.
    fields: usize,
}

/// The limit of Streamlit itself, if it is not below that of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    /// The gateway's limit is as high as those that are looked for.
    NotLower,
    /// This size is answered, the largest that is looked for.
    AtLeast(usize),
    /// The first size is answered, the second is not.
    Between(usize, usize),
}

struct Probe<'a> {
    server: &'a Server,
    found: &'a Found,
    host: String,
}

impl Probe<'_> {
    /// Returns the largest size between two limits that is answered; `low` is known to be.
    async fn largest(
        &self,
        low: usize,
        high: usize,
        of: impl Fn(usize) -> Handshake,
    ) -> io::Result<usize> {
        if self.answers(&of(high)).await? {
            return Ok(high);
        }
        let (low, _) = self.between(low.min(high), high, PRECISION, of).await?;
        Ok(low)
    }

    /// Returns two sizes that are close to each other, of which the first is answered and the second is not, as it is with `low`
    /// and `high`.
    async fn between(
        &self,
        mut low: usize,
        mut high: usize,
        precision: usize,
        of: impl Fn(usize) -> Handshake,
    ) -> io::Result<(usize, usize)> {
        while high.saturating_sub(low) > (high / precision).max(1) {
            let middle = low.midpoint(high);
            if self.answers(&of(middle)).await? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok((low, high))
    }

    /// Returns what Streamlit answers beyond `known`, which it answers. Each size that it does not answer takes a second, so the
    /// result is coarse.
    async fn own_limit(
        &self,
        known: usize,
        [near, high]: [usize; 2],
        of: impl Fn(usize) -> Handshake,
    ) -> Own {
        // Streamlit is silent, or ends the connection: neither is an error.
        let answers = async |size| self.answers(&of(size)).await.unwrap_or(false);
        if known >= high {
            return Own::NotLower;
        }
        if answers(high).await {
            return Own::AtLeast(high);
        }
        let low = known.max(near);
        if low > known && !answers(low).await {
            return Own::Between(known, low);
        }
        let between = self.between(low, high, COARSE, &of).await;
        let (low, high) = between.unwrap_or((low, high));
        Own::Between(low, high)
    }

    /// Returns true if Streamlit answers. It is silent if it has answered three later handshakes, and this one not.
    async fn answers(&self, size: &Handshake) -> io::Result<bool> {
        let mut connection = Connection::open(self.server.address, None).await?;
        connection.send(&self.bytes(size)).await?;
        for _ in 0..LATER_HANDSHAKES {
            if connection.has_answer_within(PAUSE).await {
                return Ok(connection.response_head().await?.status == 101);
            }
            let headers = [("Sec-WebSocket-Protocol", PROTOCOL)];
            exchange_handshake(self.server, self.found, &self.host, &headers).await?;
        }
        if connection.has_answer_within(PAUSE).await {
            return Ok(connection.response_head().await?.status == 101);
        }
        Ok(false)
    }

    fn bytes(&self, size: &Handshake) -> Vec<u8> {
        let own_fields = handshake("/", "x", &[])
            .iter()
            .filter(|octet| **octet == b'\n')
            .count()
            .saturating_sub(2);
        let cookie = "Cookie: doctor=\r\n".len();
        let value = format!(
            "doctor={}",
            "x".repeat(size.line_bytes.saturating_sub(cookie))
        );
        let mut headers = vec![("Sec-WebSocket-Protocol", PROTOCOL)];
        if size.line_bytes > 0 {
            headers.push(("Cookie", &value));
        }
        let missing = size
            .fields
            .saturating_sub(own_fields.saturating_add(headers.len()));
        headers.extend(std::iter::repeat_n(("X-Doctor", "x"), missing));
        handshake(&path(self.found), &self.host, &headers)
    }
}

async fn status(
    server: &Server,
    found: &Found,
    host: &str,
    headers: &[(&str, &str)],
) -> io::Result<u16> {
    Ok(exchange_handshake(server, found, host, headers)
        .await?
        .status)
}

async fn exchange_handshake(
    server: &Server,
    found: &Found,
    host: &str,
    headers: &[(&str, &str)],
) -> io::Result<Response> {
    exchange(
        server.address,
        None,
        &handshake(&path(found), host, headers),
    )
    .await
}

fn path(found: &Found) -> String {
    format!("{}/_stcore/stream", found.base)
}

/// A measured limit is exact to this fraction; one that nothing depends on to the other.
const PRECISION: usize = 512;
const COARSE: usize = 16;

/// Sizes just above the limits of a Streamlit with its defaults, and those that the gateway gives a Streamlit that it starts.
const LINES: [usize; 2] = [8500, 65536];
const FIELDS: [usize; 2] = [135, 256];

/// Sizes that every server answers.
const SHORT_LINE: usize = 256;
const FEW_FIELDS: usize = 10;

/// How many handshakes are answered before a silent one counts as never answered. The server handles them in one thread, in
/// the order in which they arrive, so a slow machine delays both.
const LATER_HANDSHAKES: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);
