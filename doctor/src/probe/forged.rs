//! Sends forged headers, and asks the filter and the gateway what they have decided (P19).

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fluxlit_policy::{
    DecisionReport, Hop, PROBE_FIELD, PROBE_PATH, Probe, ProbeKey, SEAL_FIELD, Scheme,
    TrustOutcome, protected_headers,
};

use tokio::time::{Instant, sleep};

use crate::client::{Ask, Failure};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::{FORWARDED, HOST};
use crate::probe::front::Hop as Front;

/// P19: which forged headers pass, and what the hops believe.
pub(crate) async fn decision_records(context: &Context, outcome: &mut Outcome) {
    let Some(key) = context.options.key.clone() else {
        return outcome.skip("without the probe key (--token-file) nobody tells which headers arrive; P03 and P04 show indirect signs only");
    };
    let mut answered = Vec::new();
    let mut has_filter = false;
    let mut is_unknown = false;
    for hop in [Hop::Filter, Hop::Gateway] {
        match ask(context, &key, hop, &[], b"").await {
            Err(reason) => {
                is_unknown = true;
                outcome.skip(format!(
                    "the {} is asked for its record: {reason}",
                    hop.label()
                ));
            }
            Ok(Answer::Other(_)) => {}
            Ok(Answer::Record(report)) => {
                has_filter |= hop == Hop::Filter;
                answered.push(format!(
                    "the {} {} answers (configuration {})",
                    hop.label(),
                    report.version,
                    report.config_hash
                ));
                judge(context, &report, outcome);
                forge(context, &key, hop, outcome).await;
                send_odd_octets(context, &key, hop, outcome).await;
            }
        }
    }
    if answered.is_empty() && is_unknown {
        return;
    }
    if answered.is_empty() {
        outcome.fail(
            "neither the filter nor the gateway answers with a decision record: neither is in the path of these requests, or both have another probe key, or their clock is wrong by more than a minute",
            "look at the route of this host (F02 of `doctor --lint`), and set probe_key of the filter and FLUXLIT_PROBE_KEY of the gateway to the key of --token-file",
        );
        return;
    }
    if !has_filter && matches!(context.front, Front::Envoy | Front::Istio) {
        outcome.warn(
            format!("the filter does not answer, although {} is in front: requests reach the gateway without it", context.front.name()),
            "Envoy: the filter first in http_filters, remove `disabled: true` and FAIL_OPEN, in every filter chain and route (F02 and F03 of `doctor --lint`), with probe_key set to the key of --token-file. If this Envoy should not have the filter, leave the check out with --skip P19",
        );
    }
    outcome.right(answered.join("; "));
}

/// Compares what a hop believes with what is true.
fn judge(context: &Context, report: &DecisionReport, outcome: &mut Outcome) {
    let site = &context.client.site;
    let name = report.hop.label();
    let is_tls = report.scheme == Scheme::Https;
    if is_tls != site.is_tls {
        outcome.fail(
            format!(
                "the {name} takes the scheme for {}, but it is {}",
                if is_tls { "https" } else { "http" },
                site.scheme()
            ),
            FORWARDED.hint(context.front),
        );
    }
    let host = site.host.to_string();
    if report.host.as_deref().is_some_and(|seen| {
        !seen
            .trim_matches(['[', ']'])
            .eq_ignore_ascii_case(host.trim_matches(['[', ']']))
    }) {
        outcome.fail(
            format!(
                "the {name} takes the host for `{}`, but browsers use `{host}`",
                report.host.as_deref().unwrap_or_default()
            ),
            HOST.hint(context.front),
        );
    }
    if report.forwarded_ignored {
        outcome.warn(
            format!("the {name} ignores the forwarded headers of its peer, which it does not trust: client address and scheme are those of the last hop"),
            "list the address of the front: trusted_peers of the filter, FLUXLIT_FORWARDED_ALLOW_IPS of the gateway",
        );
    }
    if report.trust == TrustOutcome::TrustedPeer {
        outcome.warn(
            format!("the {name} trusts its peer, which names no client: the app takes the address of the front for that of every client"),
            FORWARDED.hint(context.front),
        );
    }
    if report.report_only {
        outcome.warn(
            format!("the {name} is in report-only mode: it changes and rejects nothing"),
            "turn report_only off",
        );
    }
}

/// Sends every protected name, in parts that fit the limits of servers.
async fn forge(context: &Context, key: &ProbeKey, hop: Hop, outcome: &mut Outcome) {
    let names: Vec<String> = protected_headers()
        .map(|(_, name)| name)
        .filter(|name| !KEPT.contains(&name.as_str()))
        .collect();
    let mut passed: Vec<String> = Vec::new();
    let mut removed = 0_usize;
    for part in names.chunks(PART) {
        match ask(context, key, hop, part, FORGED.as_bytes()).await {
            Ok(Answer::Record(report)) => {
                removed = removed.saturating_add(report.removed.len());
                passed.extend(
                    report
                        .passed
                        .iter()
                        .filter(|name| part.contains(&name.to_ascii_lowercase()))
                        .cloned(),
                );
                if report
                    .client
                    .is_some_and(|client| client.to_string() == FORGED)
                {
                    outcome.fail(
                        format!(
                            "the {} takes the address of a forged header for the client's ({})",
                            hop.label(),
                            FORGED
                        ),
                        FORWARDED.hint(context.front),
                    );
                    return;
                }
            }
            Ok(Answer::Other(_)) => {
                return outcome.skip(format!(
                    "a request with {} forged headers got no record from the {}",
                    part.len(),
                    hop.label()
                ));
            }
            Err(reason) => {
                return outcome.skip(format!("the forged headers cannot be sent: {reason}"));
            }
        }
    }
    passed.sort_unstable();
    passed.dedup();
    if passed.is_empty() {
        outcome.right(format!(
            "the {} passes none of {} forged headers on ({removed} lines removed)",
            hop.label(),
            names.len()
        ));
    } else {
        outcome.warn(
            format!(
                "the {} passes these headers of clients on: {}",
                hop.label(),
                passed.join(", ")
            ),
            "take them out of trusted_pass_headers (FLUXLIT_TRUSTED_PASS_HEADERS) unless a hop in front sets or removes them",
        );
    }
}

/// Sends fields with an octet that is not ASCII, which has taken filters down that expect text. A hop may refuse them, but must
/// neither fail nor be gone. An upstream that fails is not taken for that, because both requests are repeated.
async fn send_odd_octets(context: &Context, key: &ProbeKey, hop: Hop, outcome: &mut Outcome) {
    let name = hop.label();
    let names = ODD_NAMES.map(str::to_owned);
    let answer = ask(context, key, hop, &names, ODD_VALUE).await;
    let is_refused = matches!(answer, Ok(Answer::Other(400..500)));
    let got = match answer {
        Ok(Answer::Record(_)) => {
            return outcome.right(format!("the {name} reads fields that are not ASCII"));
        }
        Ok(Answer::Other(status)) => format!("answered {status}"),
        Err(reason @ Unanswered::Limited) => {
            return outcome.skip(format!(
                "the {name} is sent no fields that are not ASCII: {reason}"
            ));
        }
        Err(reason) => format!("not answered ({reason})"),
    };
    let next = ask(context, key, hop, &[], b"").await;
    let is_gone = !matches!(next, Ok(Answer::Record(_)));
    if is_gone || !is_refused {
        outcome.fail(
            format!(
                "a request with fields that are not ASCII ({}) is {got}, and the next one {} a record of the {name}",
                ODD_NAMES.join(", "),
                if is_gone { "gets no longer" } else { "gets" }
            ),
            "look at the log of each hop for a failure at this time, and update the hop that has failed; the filter needs FAIL_RELOAD and a VM of its own (F03 of `doctor --lint`)",
        );
    } else {
        outcome.right(format!(
            "a hop refuses fields that are not ASCII, and the {name} goes on"
        ));
    }
}

/// What a hop answers.
enum Answer {
    Record(Box<DecisionReport>),
    /// No record, but a response with this status.
    Other(u16),
}

/// Why a hop has not answered.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// There is no response.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Every time, it has answered too many before.
    #[error("it has answered too many (429); try again in a minute")]
    Limited,
    /// No request can be made, or its response tells nothing about this hop.
    #[error("{0}")]
    Unknown(String),
}

impl Unanswered {
    fn unknown(reason: &dyn Display) -> Self {
        Self::Unknown(reason.to_string())
    }
}

/// Asks a hop for its record, with forged fields of this value. It is asked again if it has given too many answers, and if the
/// request fails or is refused as by an upstream that fails, because another one may be selected the next time.
async fn ask(
    context: &Context,
    key: &ProbeKey,
    hop: Hop,
    forged: &[String],
    value: &[u8],
) -> Result<Answer, Unanswered> {
    let start = Instant::now();
    let (mut limited, mut failed) = (0, 0);
    loop {
        let answer = ask_once(context, key, hop, forged, value).await;
        let pause = match &answer {
            Err(Unanswered::Limited) if limited < REPETITIONS => {
                limited += 1;
                PAUSE
            }
            Err(Unanswered::Failed(_)) | Ok(Answer::Other(502..=504))
                if failed < FEW && start.elapsed() < ENOUGH =>
            {
                failed += 1;
                SHORT_PAUSE
            }
            _ => return answer,
        };
        sleep(pause).await;
    }
}

async fn ask_once(
    context: &Context,
    key: &ProbeKey,
    hop: Hop,
    forged: &[String],
    value: &[u8],
) -> Result<Answer, Unanswered> {
    let site = &context.client.site;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|error| Unanswered::unknown(&error))?;
    let nonce = uuid::Uuid::new_v4().into_bytes();
    let probe = Probe::new(hop, &site.authority(), now.as_secs(), nonce)
        .ok_or_else(|| Unanswered::unknown(&"the host is not valid"))?;
    let mut ask = Ask::get(site.path(PROBE_PATH))
        .rationed()
        .field(PROBE_FIELD, probe.field(key));
    for name in forged {
        ask = ask.field(name, value);
    }
    let response = context.client.send(&ask).await?;
    if response.status == 429 {
        return Err(Unanswered::Limited);
    }
    let seal = response.first(SEAL_FIELD);
    if let Ok(report) = DecisionReport::open(key, &probe, seal.as_bytes(), &response.body) {
        return Ok(Answer::Record(Box::new(report)));
    }
    if context.is_like_health(&response) {
        return Err(Unanswered::unknown(&format_args!(
            "{}, like the health check; see P05",
            context.answer(&response)
        )));
    }
    Ok(Answer::Other(response.status))
}

/// An address for documentation (RFC 5737).
const FORGED: &str = "203.0.113.77";

/// Fields with an octet that is not ASCII: those that hops read, and one that they pass on.
const ODD_NAMES: [&str; 4] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "forwarded",
    "x-doctor",
];
const ODD_VALUE: &[u8] = b"doctor-\xe9";

/// Names that frame the message or carry the probe.
const KEPT: [&str; 4] = [
    "content-length",
    "transfer-encoding",
    PROBE_FIELD,
    SEAL_FIELD,
];

/// Servers often accept 100 lines; each other request has about ten.
const PART: usize = 40;

/// Records are given once a second after the first ones.
const PAUSE: Duration = Duration::from_secs(1);
const REPETITIONS: u32 = 20;

/// How often a request that fails is repeated, if the failures take no longer than [`ENOUGH`]. With two upstreams of which one
/// fails, it is less likely than one in a hundred that all reach that one.
const FEW: u32 = 8;
const ENOUGH: Duration = Duration::from_secs(30);

/// Together they are longer than the second after which Envoy loads a filter again that has failed (FAIL_RELOAD).
const SHORT_PAUSE: Duration = Duration::from_millis(250);
