//! Checks the files of Streamlit's page (P06, P24, P25, P26).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Ask, Client, Failure, Response, hash};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::{AFFINITY, CONTENT_TYPE, REWRITES, ROUTE};
use crate::probe::obstacle;
use crate::probe::page::{Misplaced, Page};
use crate::probe::paths;
use crate::probe::redirect::Redirect;

/// P06: the scripts of the page, over several connections.
pub(crate) async fn scripts(context: &Context, outcome: &mut Outcome) {
    let page = Page::read(&context.page.text(), &context.client.site);
    if let Some(first) = page.misplaced.first()
        && context.page.is_page()
    {
        return misplaced(context, first, page.misplaced.len(), outcome).await;
    }
    let files = page.files;
    if !context.page.is_page() || files.is_empty() {
        if context.is_like_health(&context.page) {
            return outcome.skip(format!(
                "the page is answered {}, like the health check; see P05",
                context.answer(&context.page)
            ));
        }
        let (finding, hint) = other_page(context).await;
        return outcome.fail(finding, hint);
    }
    let mut loaded: BTreeSet<&String> = BTreeSet::new();
    let mut failed: BTreeMap<(&String, Flaw), usize> = BTreeMap::new();
    for file in files.iter().take(3).cycle().take(CONNECTIONS) {
        let target = context.client.site.path(&format!("/{file}"));
        match context.client.get(&target).await {
            Ok(response) if context.is_like_health(&response) => {
                return outcome.skip(format!(
                    "`{target}` is answered {}, like the health check; see P05",
                    context.answer(&response)
                ));
            }
            Ok(response) => match Flaw::of(context, file, &response) {
                None => {
                    loaded.insert(file);
                }
                Some(flaw) => {
                    let count = failed.entry((file, flaw)).or_default();
                    *count = count.saturating_add(1);
                }
            },
            Err(failure) => return outcome.skip(format!("`{target}`: {failure}")),
        }
    }
    let total: usize = failed.values().sum();
    if !failed.is_empty() && paths::changes_case(context).await {
        return outcome.skip("a hop changes the case of paths; see P05");
    }
    if let Some(((file, flaw), count)) = failed.first_key_value() {
        let (finding, hint) = match flaw {
            Flaw::Html if loaded.contains(file) || differs_again(context, file).await => (
                format!(
                    "`{file}` of the page is answered with HTML {count} times, but other connections get it, or another page: several versions of the app answer"
                ),
                ROLLOUT.to_owned(),
            ),
            Flaw::Html => (
                format!(
                    "`{file}` of the page is answered 200 with HTML: a hop or another version of Streamlit answers unknown files with a page, and the browser stays blank"
                ),
                ROUTE.hint(context.front),
            ),
            Flaw::MediaType(media_type) => (
                format!(
                    "`{file}` of the page arrives as `{media_type}`: a hop changes Content-Type, and browsers do not use the file"
                ),
                CONTENT_TYPE.hint(context.front),
            ),
            Flaw::Missing(answer) if total < CONNECTIONS => (
                format!(
                    "{total} of {CONNECTIONS} requests for files of the page fail, such as `{file}` ({answer}): several versions of the app answer, or one file is routed elsewhere"
                ),
                format!(
                    "{ROLLOUT}. If it is always the same file: {}",
                    ROUTE.hint(context.front)
                ),
            ),
            Flaw::Missing(answer) => (
                format!(
                    "no file of the page can be loaded, such as `{file}` ({answer}): {}",
                    leads_elsewhere(context, file, answer).await
                ),
                ROUTE.hint(context.front),
            ),
        };
        outcome.fail(finding, hint);
    }
    outcome.right(format!(
        "{CONNECTIONS} of {CONNECTIONS} files of the page are loaded"
    ));
}

/// Asks for a file and for the page on more connections, some of which may reach another version of the app: one that has the
/// file, or whose page does not name it.
async fn differs_again(context: &Context, file: &String) -> bool {
    let site = &context.client.site;
    let (target, mount) = (site.path(&format!("/{file}")), site.path("/"));
    for _ in 0..CONNECTIONS {
        let response = context.client.get(&target).await;
        if response.is_ok_and(|response| Flaw::of(context, file, &response).is_none()) {
            return true;
        }
    }
    // Not in turn with the file: upstreams that answer in turn would give the file to one and the page to the other.
    for _ in 0..CONNECTIONS {
        let page = context.client.get(&mount).await;
        let is_other = |page: &Response| {
            page.is_page() && !Page::read(&page.text(), site).files.contains(file)
        };
        if page.is_ok_and(|page| is_other(&page)) {
            return true;
        }
    }
    false
}

/// Why a file of the page cannot be used.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flaw {
    Html,
    /// Browsers take no script of another media type than that of scripts.
    MediaType(String),
    /// The status, with the hop that has answered.
    Missing(String),
}

impl Flaw {
    fn of(context: &Context, file: &str, response: &Response) -> Option<Self> {
        let media_type = response.first("content-type").to_ascii_lowercase();
        let expected = if file.ends_with(".css") {
            "css"
        } else {
            "javascript"
        };
        match response.status {
            200 if response.has_markup() => Some(Self::Html),
            200 if !media_type.contains(expected) => Some(Self::MediaType(media_type)),
            200 => None,
            _ => Some(Self::Missing(context.answer(response))),
        }
    }
}

/// Says which rule routes a file away from the app: one for most paths, for the ending of its name, or for its folder.
async fn leads_elsewhere(context: &Context, file: &str, answer: &str) -> String {
    let ending = file.rsplit('.').next().unwrap_or_default();
    for (path, rule) in [
        (
            "/doctor".to_owned(),
            "only some paths of the mount reach the app".to_owned(),
        ),
        (
            format!("/doctor.{ending}"),
            format!("the front routes all names that end with `.{ending}` elsewhere"),
        ),
    ] {
        let target = context.client.site.path(&path);
        let other = context.client.get(&target).await;
        if other.is_ok_and(|other| context.is_of_front(&other) && context.answer(&other) == answer)
        {
            return format!("so is `{target}`, so {rule}");
        }
    }
    "`/static/` under the mount leads elsewhere".to_owned()
}

/// Describes what is in the place of Streamlit's page.
async fn other_page(context: &Context) -> (String, String) {
    let page = &context.page;
    let path = context.client.site.path("/");
    if let Some(redirect) = Redirect::of(&context.client.site, &path, page) {
        let (what, ask) = (format!("`{path}`"), Ask::get(&path));
        return redirect.explain(context, &what, &ask, page).await;
    }
    let answer = context.answer(page);
    if page.has_page() {
        return (
            format!(
                "`{path}` is Streamlit's page, but arrives as `{}` instead of text/html: a hop changes Content-Type, and browsers show its source or save it",
                page.first("content-type")
            ),
            CONTENT_TYPE.hint(context.front),
        );
    }
    if let Some((reason, hint)) = obstacle::explain(context, page) {
        return (format!("`{path}` is answered {answer}: {reason}"), hint);
    }
    (
        format!("`{path}` is not Streamlit's page: {answer}"),
        ROUTE.hint(context.hop(context.by(page))),
    )
}

/// Reports files that the page names outside of the mount.
async fn misplaced(context: &Context, first: &Misplaced, count: usize, outcome: &mut Outcome) {
    let site = &context.client.site;
    let place = if first.is_below_mount {
        "at a place that Streamlit does not have"
    } else {
        "outside of the mount"
    };
    let is_own = first.url.as_str().starts_with(&site.origin());
    let got = if is_own {
        // As a browser does, which sends its cookies there.
        match context.client.get(first.url.path()).await {
            Ok(response) if response.status == 200 && !response.is_html() => {
                "; it is there at the moment, but of whatever app is published there".to_owned()
            }
            Ok(response) if response.status == 200 => {
                "; there, HTML is the answer, and the browser stays blank".to_owned()
            }
            Ok(response) => format!(
                "; there, {} is the answer, and the browser stays blank",
                context.answer(&response)
            ),
            Err(failure) => format!("; there: {failure}"),
        }
    } else {
        String::new()
    };
    // Its place differs from the one that it has in the page.
    let how = if first.written.starts_with("./static/") {
        format!(
            "because of a `<base>`: `{}` is looked for at `{}`",
            first.written,
            first.url.path()
        )
    } else {
        format!(
            "such as `{}`, where Streamlit writes `./static/`",
            first.written
        )
    };
    outcome.fail(
        format!("the page names {count} files {place}, {how}: a hop rewrites the page{got}"),
        REWRITES.hint(context.front),
    );
}

/// P24: whether a large file is streamed.
pub(crate) async fn streaming(context: &Context, outcome: &mut Outcome) {
    let Some(direct) = context.options.direct.clone() else {
        return outcome
            .skip("buffering shows only in comparison with the app itself; use --direct URL");
    };
    let page = Page::read(&context.page.text(), &context.client.site);
    let Some(file) = page.files.into_iter().find(|file| file.ends_with(".js")) else {
        return outcome.skip("the page has no scripts; see P06");
    };
    let direct = match context.client.for_site(direct).await {
        Ok(direct) => direct,
        Err(failure) => return outcome.skip(format!("--direct: {failure}")),
    };
    let through_front = timing(&context.client, &file).await;
    let alone = timing(&direct, &file).await;
    let (Ok(front), Ok(alone)) = (through_front, alone) else {
        return outcome.skip("the file cannot be loaded both ways; see P06");
    };
    compare_timing(&file, &front, &alone, outcome);
}

/// When the head and the end of a file arrive, after the request.
#[derive(Debug, Clone, Copy)]
struct Timing {
    first: Duration,
    last: Duration,
}

fn compare_timing(file: &str, front: &Timing, alone: &Timing, outcome: &mut Outcome) {
    // Only a long transfer tells anything: what the app sends at once arrives at once, also out of a buffer.
    let is_short = |timing: &Timing| timing.last < Duration::from_secs(1);
    if is_short(front) || is_short(alone) {
        return outcome.skip(format!(
            "`{file}` arrives within a second, so it does not show whether a hop buffers; that matters to apps whose API sends a response in parts"
        ));
    }
    let is_late = |timing: &Timing| timing.first > timing.last.mul_f32(0.9);
    if is_late(front) && !is_late(alone) {
        outcome.warn(
            format!("the first byte of `{file}` comes at the end ({} of {} ms), and not so without the front: a hop buffers the response", front.first.as_millis(), front.last.as_millis()),
            "proxy_buffering off; (nginx), flush_interval -1 (Caddy), no buffer filter (Envoy)",
        );
    }
    outcome.right("a large response is streamed");
}

async fn timing(client: &Client, file: &str) -> Result<Timing, Failure> {
    let mut connection = client.connect().await?;
    client.pace().await;
    let start = Instant::now();
    let target = client.site.path(&format!("/{file}"));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nConnection: close\r\n\r\n",
        client.site.authority(),
        client.user_agent().text()
    );
    connection.write(request.as_bytes()).await?;
    let limit = Duration::from_secs(60);
    connection.head(start + limit, limit).await?;
    let first = start.elapsed();
    connection.drain(start + limit, limit).await?;
    Ok(Timing {
        first,
        last: start.elapsed(),
    })
}

/// P25: one version of the page.
pub(crate) async fn versions(context: &Context, outcome: &mut Outcome) {
    if !context.page.is_page() {
        return outcome.skip("the page is not Streamlit's; see P06");
    }
    let path = context.client.site.path("/");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..VERSION_CONNECTIONS {
        match context.client.send(&Ask::get(&path).anonymous()).await {
            // A page that needs a login has no version without one.
            Ok(response) if response.is_page() => {
                let page = Page::read(&response.text(), &context.client.site);
                let version = page.files.join(" ");
                let count = seen.entry(hash(version.as_bytes())).or_default();
                *count = count.saturating_add(1);
            }
            Ok(_) => {}
            Err(failure) => return outcome.skip(format!("the page: {failure}")),
        }
    }
    match seen.len() {
        0 => outcome.skip("without credentials the page is not shown"),
        1 => outcome.right(format!("{VERSION_CONNECTIONS} connections get the same version of the page")),
        count => outcome.warn(
            format!("{VERSION_CONNECTIONS} connections get {count} versions of the page: files of one are missing in the other (`Failed to fetch dynamically imported module`)"),
            format!("finish the rollout. Until then: {}", AFFINITY.hint(context.front)),
        ),
    }
}

/// P26: whether a hop changes the page.
pub(crate) async fn transforms(context: &Context, outcome: &mut Outcome) {
    if !context.page.is_page() {
        return outcome.skip("the page is not Streamlit's; see P06");
    }
    let text = context.page.text();
    let page = Page::read(&text, &context.client.site);
    let marks = [
        "cdn-cgi/",
        "rocket-loader",
        "data-cfasync",
        "pagespeed",
        "beacon.min.js",
        "newrelic",
    ];
    if let Some(mark) = marks.iter().find(|mark| text.contains(**mark)) {
        outcome.warn(
            format!(
                "the page contains `{mark}`, which Streamlit does not send: a hop injects scripts"
            ),
            "switch the optimization of HTML and scripts off for the app's path",
        );
    } else if let Some(script) = page.foreign.first() {
        outcome.warn(
            format!("the page loads the script `{script}`, which Streamlit's page does not name: a hop injects it, or Streamlit's own index.html is edited"),
            REWRITES.hint(context.front),
        );
    }
    let coding = context.page.first("content-encoding");
    if !coding.is_empty() && coding != "identity" {
        outcome.warn(
            format!("the page is encoded with {coding} although the request does not accept that"),
            "let the hop compress only if Accept-Encoding allows it",
        );
    }
    let charset = context.page.first("content-type").to_ascii_lowercase();
    if charset.contains("charset=") && !charset.contains("utf-8") {
        outcome.warn(
            format!("the media type of the page is `{charset}`, and Streamlit sends utf-8"),
            CONTENT_TYPE.hint(context.front),
        );
    }
    if let Some(direct) = context.options.direct.clone()
        && let Ok(direct) = context.client.for_site(direct).await
        && let Ok(alone) = direct.get(direct.site.path("/")).await
        && alone.is_page()
        && alone.body != context.page.body
        && Page::read(&alone.text(), &direct.site).files == page.files
    {
        outcome.warn(
            "the page differs from the one without the front, although both name the same files: a hop changes HTML",
            "switch the optimization of HTML off for the app's path",
        );
    }
    outcome.right("the page shows no change by a hop");
}

const ROLLOUT: &str = "finish the rollout, or add affinity (P18); see P25";

const CONNECTIONS: usize = 10;
const VERSION_CONNECTIONS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::PROBE;
    use crate::finding::Status;

    /// The cases of P24 in which a real front would decide by its speed.
    #[test]
    fn a_response_is_buffered_if_only_the_front_delays_its_head() {
        let timing = |first, last| Timing {
            first: Duration::from_millis(first),
            last: Duration::from_millis(last),
        };
        let [check, ..] = &PROBE;
        for (front, alone, wanted) in [
            (timing(1900, 2000), timing(10, 2000), Status::Warn),
            (timing(1900, 2000), timing(1900, 2000), Status::Pass),
            (timing(100, 2000), timing(10, 2000), Status::Pass),
            (timing(900, 990), timing(10, 2000), Status::Skipped),
            (timing(1900, 2000), timing(1, 2), Status::Skipped),
        ] {
            let mut outcome = Outcome::default();
            compare_timing("static/a.js", &front, &alone, &mut outcome);
            let findings = outcome.findings(check);
            let statuses: Vec<Status> = findings.iter().map(|finding| finding.status).collect();
            assert_eq!(statuses, [wanted], "{front:?} {alone:?}");
            if wanted == Status::Warn {
                let hint = findings[0].hint.as_deref().unwrap_or_default();
                assert!(
                    findings[0].finding.contains("1900 of 2000 ms"),
                    "{findings:?}"
                );
                assert!(hint.contains("proxy_buffering off"), "{findings:?}");
            }
        }
    }
}
