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
mod sent_upload;
mod session;
mod socket;
mod tls;
mod upload;
mod upstream;
mod user_agent;

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
    if let Some(reason) = context.reason_of_front()
        && !matches!(check.id, CERTIFICATE | USER_AGENT)
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
            // A future is as large as the largest check, and the stacks of threads are small.
            Box::pin(check_one(id, context, watch, &mut outcome)).await;
            if let Some(reason) = context.reason_of_front()
                && id != USER_AGENT
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

async fn check_one(id: &str, context: &Context, watch: &Watch, outcome: &mut Outcome) {
    match id {
        "P01" => tls::certificate(&context.client, outcome).await,
        "P02" => headers::http_first(context, outcome).await,
        "P03" => headers::hsts(context, outcome).await,
        "P04" => paths::bare_mount(context, outcome).await,
        "P05" => paths::shapes(context, outcome).await,
        "P06" => assets::scripts(context, outcome).await,
        "P07" => paths::deep_link(context, outcome).await,
        "P08" => socket::handshake(context, outcome).await,
        "P09" => http2::extended_connect(context, watch.cause.as_ref(), outcome).await,
        "P10" => socket::foreign_origin(context, outcome).await,
        "P11" => socket::protocol(context, outcome).await,
        "P12" => session::resume(context, outcome).await,
        "P13" => socket::hold(context, outcome).await,
        "P14" => session::big_message(context, outcome).await,
        "P15" => limits::header_size(context, outcome).await,
        "P16" => limits::upload_size(context, outcome).await,
        "P17" => cookies::cookies(context, outcome).await,
        "P18" => replicas::affinity(context, outcome).await,
        "P19" => forged::decision_records(context, outcome).await,
        "P20" => paths::odd_paths(context, outcome).await,
        "P21" => access::without_login(context, outcome).await,
        "P22" => access::health(context, outcome).await,
        "P23" => access::exposure(context, outcome).await,
        "P24" => assets::streaming(context, outcome).await,
        "P25" => assets::versions(context, outcome).await,
        "P26" => assets::transforms(context, outcome).await,
        "P27" => access::embedding(context, outcome).await,
        "P28" => tls::families(context, outcome).await,
        "P29" => content_policy::policy(context, outcome).await,
        USER_AGENT => user_agent::check(context, outcome).await,
        _ => {}
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
