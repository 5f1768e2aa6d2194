//! Recognizes a front that speaks HTTP/2 only, over which browsers open no WebSocket unless it offers that (RFC 8441).

use crate::check::{Check, PROBE};
use crate::client::{Client, Failure};
use crate::finding::Finding;
use crate::outcome::Outcome;
use crate::probe::cures::HTTP1;
use crate::probe::front::Hop;
use crate::probe::http2::{self, Answer};
use crate::probe::tls;
use crate::selection::CheckSelection;

/// Returns what the front answers over HTTP/2, if it does, and each request over HTTP/1.1 fails. `failure`: of the first one.
pub(crate) async fn refused(client: &Client, failure: &Failure) -> Option<Answer> {
    let may_be_refused = matches!(
        failure,
        Failure::Closed | Failure::Malformed | Failure::Silent(_) | Failure::Tls(..)
    );
    if !client.site.is_tls || !may_be_refused {
        return None;
    }
    let answer = http2::ask(client).await.ok()?;
    // Otherwise it was for a moment.
    let again = client.get(client.site.path("/_stcore/health")).await;
    again.is_err().then_some(answer)
}

/// Returns the findings: only the certificate can be checked as well. P08 is reported even if it is not selected.
pub(crate) async fn findings(
    client: &Client,
    failure: &Failure,
    answer: &Answer,
    selection: &CheckSelection,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in &PROBE {
        if check.id == SOCKET {
            findings.push(explain(check, client, failure, answer));
        } else if selection.includes(check) {
            let mut outcome = Outcome::default();
            if check.id == CERTIFICATE {
                tls::certificate(client, &mut outcome).await;
            } else {
                outcome.skip("the front does not speak HTTP/1.1; see P08");
            }
            findings.extend(outcome.findings(check));
        }
    }
    findings
}

fn explain(check: &'static Check, client: &Client, failure: &Failure, answer: &Answer) -> Finding {
    let target = client.site.path("/_stcore/health");
    let both = format!(
        "the front does not speak HTTP/1.1 ({failure}), only HTTP/2, in which `{target}` is answered {}",
        answer.health
    );
    let finding = match &answer.websocket {
        Some(Ok(200)) => Finding::warn(
            check,
            format!(
                "{both}: a WebSocket opens inside HTTP/2 (RFC 8441), but for nobody who opens it over HTTP/1.1, and nothing else can be checked"
            ),
        ),
        Some(other) => {
            let got = match other {
                Ok(status) => status.to_string(),
                Err(reason) => reason.clone(),
            };
            Finding::fail(
                check,
                format!(
                    "{both}, and a WebSocket {got} (RFC 8441): no browser can open the WebSocket of the page"
                ),
            )
        }
        None => Finding::fail(
            check,
            format!(
                "{both}, and which offers no WebSockets (RFC 8441): no browser can open that of the page"
            ),
        ),
    };
    let front = Hop::of_server(&answer.server).unwrap_or(Hop::Unknown);
    finding.hint(HTTP1.hint(front))
}

const CERTIFICATE: &str = "P01";
const SOCKET: &str = "P08";
