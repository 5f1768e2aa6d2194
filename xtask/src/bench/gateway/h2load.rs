//! Runs `h2load` over TLS, with HTTP/2 or HTTP/1.1, and reads its results.
//!
//! Like `wrk`, it sends the next request of a connection or stream when the response to the previous one has arrived.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use fluxlit_envoy::MOUNT;
use fluxlit_support::process::Process;

use super::Bench;
use super::proxies::Programs;
use super::wrk::Outcome;
use crate::bench::{BROWSER, FROM_THE_EDGE};

/// The requests to send.
pub(super) struct Load {
    /// Path below the mount.
    pub(super) file: &'static str,
    pub(super) connections: u32,
    /// Requests for each second. A number, because h2load does not always end after a time.
    pub(super) requests: u32,
    /// Requests at the same time on each connection; `None` for HTTP/1.1.
    pub(super) streams: Option<u32>,
}

/// Sends requests to an address for about `seconds`, and calls `meanwhile` ten times a second.
pub(super) fn run(
    bench: &Bench<'_>,
    programs: &Programs,
    address: SocketAddr,
    load: &Load,
    seconds: u32,
    meanwhile: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let (output, log) = (
        bench.folder.join("h2load.out"),
        bench.folder.join("h2load.log"),
    );
    // h2load appends to the log.
    let _ = std::fs::remove_file(&log);
    let mut command = Command::new(&programs.h2load);
    command
        .arg("--threads=1")
        .arg(format!("--clients={}", load.connections))
        .arg(format!("--requests={}", load.requests * seconds))
        .arg(format!("--log-file={}", log.display()));
    match load.streams {
        Some(streams) => command.arg(format!("--max-concurrent-streams={streams}")),
        None => command.arg("--h1"),
    };
    for field in BROWSER.into_iter().chain(FROM_THE_EDGE) {
        // h2load sends its own host in addition to a field with that name.
        match field.strip_prefix("Host:") {
            Some(host) => command.args(["--header", &format!(":authority:{host}")]),
            None => command.args(["--header", field]),
        };
    }
    command
        .arg(format!("https://{address}{MOUNT}/{}", load.file))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output)?)
        .stderr(Stdio::inherit());
    let started = Instant::now();
    let mut process = Process::start(command).context("cannot run h2load")?;
    bench.wait_for(&mut process, "h2load", meanwhile)?;
    let seconds = started.elapsed().as_secs_f64();
    read(
        &std::fs::read_to_string(&output)?,
        &std::fs::read_to_string(&log)?,
        seconds,
    )
}

/// Reads the summary, and the durations of the requests from the log: start, status and microseconds on each line.
///
/// The durations of the first tenth of the requests are left out, because these wait for the handshakes of other connections.
fn read(output: &str, log: &str, seconds: f64) -> anyhow::Result<Outcome> {
    let number_before = |line: &str, word: &str| -> anyhow::Result<f64> {
        output
            .lines()
            .find_map(|found| found.strip_prefix(line))
            .and_then(|counts| {
                counts
                    .split(", ")
                    .find_map(|count| count.strip_suffix(word))
            })
            .and_then(|number| number.trim().parse().ok())
            .with_context(|| format!("unexpected output of h2load:\n{output}"))
    };
    let done = number_before("requests: ", " done")?;
    let succeeded = number_before("requests: ", " succeeded")?;
    let bytes = output
        .lines()
        .find_map(|line| line.strip_prefix("traffic: "))
        .and_then(|traffic| traffic.split_once('(')?.1.split_once(')'))
        .and_then(|(bytes, _)| bytes.parse().ok())
        .with_context(|| format!("unexpected output of h2load:\n{output}"))?;
    let mut micros: Vec<f64> = log
        .lines()
        .skip(log.lines().count() / 10)
        .filter_map(|line| line.split('\t').nth(2)?.parse().ok())
        .collect();
    micros.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| {
        let index = micros.len().saturating_sub(1) * percent / 100;
        micros.get(index).copied().unwrap_or_default() / 1e3
    };
    Ok(Outcome {
        requests: succeeded,
        bytes,
        seconds,
        p50_ms: at(50),
        p99_ms: at(99),
        errors: done - succeeded,
    })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_summary_and_the_log_are_read() {
        let output = "finished in 3.00s, 33.3 req/s, 4.45MB/s\n\
            requests: 102 total, 102 started, 101 done, 100 succeeded, 1 failed, 1 errored, 0 timeout\n\
            status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx\n\
            traffic: 13.34MB (13990000) total, 100KB (100000) headers\n";
        let log: String = (1..=100)
            .map(|micros| format!("1\t200\t{micros}000\n"))
            .collect();
        // As slow as if they had waited for handshakes.
        let log = "1\t200\t1000000\n".repeat(11) + &log;
        let outcome = read(output, &log, 3.0).unwrap();
        assert_eq!(
            (outcome.requests, outcome.bytes, outcome.errors),
            (100.0, 13_990_000.0, 1.0)
        );
        assert_eq!((outcome.p50_ms, outcome.p99_ms), (50.0, 99.0));
    }

    #[test]
    fn other_output_is_an_error() {
        assert!(read("could not connect\n", "", 3.0).is_err());
    }
}
