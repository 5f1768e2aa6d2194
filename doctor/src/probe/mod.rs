//! Checks a deployed edge from outside (P01 to P32), whoever made it.
//!
//! A step that fails is repeated with one thing changed, and the finding names that thing.

mod access;
mod assets;
mod client_certificate;
mod connections;
mod content_policy;
mod context;
mod cookies;
mod cures;
mod difference;
mod forged;
mod front;
mod headers;
mod http1;
mod http2;
mod limits;
mod obstacle;
mod options;
mod page;
mod paths;
mod rate;
mod redirect;
mod refusal;
mod repeated;
mod replicas;
mod retry;
mod same_site;
mod sent_upload;
mod session;
mod socket;
mod spelling;
mod tls;
mod upload;
mod upstream;
mod user_agent;

use std::pin::Pin;

use crate::check::{Check, PROBE};
use crate::client::{Client, Failure, Site};
use crate::finding::{Finding, Step};
use crate::outcome::Outcome;
use crate::selection::CheckSelection;
use context::Context;
use refusal::Watch;

pub use options::Options;

/// The error when a site cannot be probed.
#[derive(Debug, thiserror::Error)]
#[error("{url} cannot be reached: {failure}")]
pub struct Unreachable {
    url: String,
    failure: Failure,
}

/// Runs all selected checks of a site, one after the other. `progress` is called before and after each.
///
/// # Errors
///
/// If the site does not answer at all.
pub async fn run(
    site: Site,
    options: Options,
    selection: &CheckSelection,
    mut progress: impl FnMut(Step<'_>),
) -> Result<Vec<Finding>, Unreachable> {
    let url = site.url();
    let unreachable = |failure| Unreachable {
        url: url.clone(),
        failure,
    };
    let (credentials, tls) = (options.credentials.clone(), options.tls.clone());
    let client = Client::new(site, credentials.clone(), tls.clone());
    let client = client.await.map_err(unreachable)?;
    let site = client.site.clone();
    if let Some(check) = PROBE.iter().find(|check| check.id == UPSTREAMS) {
        // It takes some time if the front does not reach the app.
        progress(Step::Begins(check));
    }
    let context = match Context::look(client, options).await {
        Ok(context) => context,
        Err(failure) => {
            let client = Client::new(site, credentials, tls).await;
            let client = client.map_err(unreachable)?;
            if let Some(answer) = http1::refused(&client, &failure).await {
                return Ok(http1::findings(&client, &failure, &answer, selection).await);
            }
            if let Failure::Tls(fault, _) = failure {
                let cure = tls::cure(fault, &client.site);
                return Ok(without_tls(&failure, &cure, selection));
            }
            return Err(unreachable(failure));
        }
    };
    let mount = context.client.site.mount.clone();
    let mut watch = Watch::new(&context).await;
    let mut findings: Vec<(usize, Vec<Finding>)> = Vec::new();
    let numbered = PROBE.iter().enumerate();
    let (last, first): (Vec<_>, Vec<_>) = numbered.partition(|(_, check)| LAST.contains(&check.id));
    for (place, check) in first.into_iter().chain(last) {
        // The check to which those that are skipped refer is not left out.
        let is_cause = watch
            .cause
            .as_ref()
            .is_some_and(|it| it.check() == check.id)
            || check.id == USER_AGENT && context.difference().is_some();
        if !selection.includes(check) && !is_cause {
            continue;
        }
        progress(Step::Begins(check));
        let outcome = run_one(check, &context, &mut watch).await;
        let mut found = outcome.findings(check);
        for hint in found.iter_mut().filter_map(|finding| finding.hint.as_mut()) {
            *hint = cures::with_mount(hint, &mount);
        }
        progress(Step::Ended(&found));
        findings.push((place, found));
    }
    findings.sort_by_key(|(place, _)| *place);
    Ok(findings
        .into_iter()
        .flat_map(|(_, findings)| findings)
        .collect())
}

/// Runs one check, unless the front does not reach the app and the check needs it.
async fn run_one(check: &Check, context: &Context, watch: &mut Watch) -> Outcome {
    let mut outcome = Outcome::default();
    let needs_front = !matches!(check.id, CERTIFICATE | USER_AGENT);
    if let Some(reason) = context.reason_of_front()
        && needs_front
    {
        outcome.skip(reason);
        return outcome;
    }
    match check.id {
        RATE => repeated::quickly(context, watch, &mut outcome).await,
        UPSTREAMS => repeated::reach(context, watch, &mut outcome).await,
        id => {
            if let Some(reason) = watch.reason_for_all(id)
                && !WITHOUT_APP.contains(&id)
            {
                outcome.skip(reason);
                return outcome;
            }
            check_one(id, context, watch, &mut outcome).await;
            if let Some(reason) = context.reason_of_front()
                && needs_front
            {
                outcome = Outcome::default();
                outcome.skip(reason);
            } else if let Some(reason) = watch.reason(context).await {
                // What it has found is about the requests that were refused.
                outcome = Outcome::default();
                outcome.skip(reason);
            }
        }
    }
    outcome
}

/// Returns the future of a check. It is made here, because the stack of `run_one` would hold the futures of all checks otherwise.
fn check_one<'a>(
    id: &str,
    context: &'a Context,
    watch: &'a Watch,
    outcome: &'a mut Outcome,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    match id {
        "P01" => Box::pin(tls::certificate(&context.client, outcome)),
        "P02" => Box::pin(headers::http_first(context, outcome)),
        "P03" => Box::pin(headers::hsts(context, outcome)),
        "P04" => Box::pin(paths::bare_mount(context, outcome)),
        "P05" => Box::pin(paths::shapes(context, outcome)),
        "P06" => Box::pin(assets::scripts(context, outcome)),
        "P07" => Box::pin(paths::deep_link(context, outcome)),
        "P08" => Box::pin(socket::handshake(context, outcome)),
        "P09" => Box::pin(http2::extended_connect(
            context,
            watch.cause.as_ref(),
            outcome,
        )),
        "P10" => Box::pin(socket::foreign_origin(context, outcome)),
        "P11" => Box::pin(socket::protocol(context, outcome)),
        "P12" => Box::pin(session::resume(context, outcome)),
        "P13" => Box::pin(socket::hold(context, outcome)),
        "P14" => Box::pin(session::big_message(context, outcome)),
        "P15" => Box::pin(limits::header_size(context, outcome)),
        "P16" => Box::pin(limits::upload_size(context, outcome)),
        "P17" => Box::pin(cookies::cookies(context, outcome)),
        "P18" => Box::pin(replicas::affinity(context, outcome)),
        "P19" => Box::pin(forged::decision_records(context, outcome)),
        "P20" => Box::pin(paths::odd_paths(context, outcome)),
        "P21" => Box::pin(access::without_login(context, outcome)),
        "P22" => Box::pin(access::health(context, outcome)),
        "P23" => Box::pin(access::exposure(context, outcome)),
        "P24" => Box::pin(assets::streaming(context, outcome)),
        "P25" => Box::pin(assets::versions(context, outcome)),
        "P26" => Box::pin(assets::transforms(context, outcome)),
        "P27" => Box::pin(access::embedding(context, outcome)),
        "P28" => Box::pin(tls::families(context, outcome)),
        "P29" => Box::pin(content_policy::policy(context, outcome)),
        USER_AGENT => Box::pin(user_agent::check(context, outcome)),
        _ => Box::pin(std::future::ready(())),
    }
}

/// Returns the findings for a site with which TLS fails: nothing else can be checked. P01 is reported even if it is not
/// selected.
fn without_tls(failure: &Failure, cure: &str, selection: &CheckSelection) -> Vec<Finding> {
    let reported = PROBE
        .iter()
        .filter(|check| check.id == CERTIFICATE || selection.includes(check));
    let findings = reported.map(|check| {
        if check.id == CERTIFICATE {
            Finding::fail(check, failure.to_string()).hint(cure)
        } else {
            Finding::skipped(check, "TLS fails, see P01")
        }
    });
    findings.collect()
}

const CERTIFICATE: &str = "P01";
const RATE: &str = "P30";
const UPSTREAMS: &str = "P31";
const USER_AGENT: &str = "P32";

/// They take long, or report what all others have met.
const LAST: [&str; 3] = ["P13", RATE, UPSTREAMS];

/// The front answers these itself.
const WITHOUT_APP: [&str; 2] = [CERTIFICATE, "P02"];
