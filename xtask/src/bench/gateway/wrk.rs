//! Runs `wrk` and reads its results.
//!
//! `wrk` sends one request at a time on each connection and waits for the response before it sends the next. So it
//! sends fewer requests to a slow server, and its latencies do not include the time a request would have waited
//! ("coordinated omission"). They compare proxies under the same number of connections; they do not predict latencies
//! of users.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::Context;
use fluxlit_envoy::MOUNT;
use fluxlit_support::process::Process;

use super::Bench;
use super::proxies::Programs;
use crate::bench::{BROWSER, FROM_THE_EDGE};

/// The requests to send.
pub(super) struct Load {
    /// Path below the mount.
    pub(super) file: &'static str,
    pub(super) connections: u32,
}

/// The results of a run.
pub(super) struct Outcome {
    pub(super) requests: f64,
    pub(super) bytes: f64,
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Failed connections, and responses without a success status.
    pub(super) errors: f64,
}

/// Sends requests to an address for `seconds`, and calls `meanwhile` ten times a second.
pub(super) fn run(
    bench: &Bench<'_>,
    programs: &Programs,
    address: SocketAddr,
    load: &Load,
    seconds: u32,
    meanwhile: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let script = bench.folder.join("wrk.lua");
    std::fs::write(&script, SCRIPT)?;
    let output = bench.folder.join("wrk.out");
    let mut command = Command::new(&programs.wrk);
    command
        .args(["--threads", "1", "--timeout", "60s"])
        .arg(format!("--connections={}", load.connections))
        .arg(format!("--duration={seconds}s"))
        .arg("--script")
        .arg(&script)
        .arg(format!("http://{address}{MOUNT}/{}", load.file))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output)?)
        .stderr(Stdio::inherit());
    for field in BROWSER.into_iter().chain(FROM_THE_EDGE) {
        command.args(["--header", field]);
    }
    let mut process = Process::start(command).context("cannot run wrk")?;
    bench.wait_for(&mut process, "wrk", meanwhile)?;
    read(&std::fs::read_to_string(&output)?)
}

/// Parses the line that the script has printed.
fn read(output: &str) -> anyhow::Result<Outcome> {
    let line = output.lines().find_map(|line| line.strip_prefix("result "));
    let numbers: Vec<f64> = line
        .with_context(|| format!("unexpected output of wrk:\n{output}"))?
        .split(' ')
        .map_while(|number| number.parse().ok())
        .collect();
    let [requests, bytes, micros, p50, p99, errors] = numbers[..] else {
        anyhow::bail!("unexpected output of wrk:\n{output}");
    };
    Ok(Outcome {
        requests,
        bytes,
        seconds: micros / 1e6,
        p50_ms: p50 / 1e3,
        p99_ms: p99 / 1e3,
        errors,
    })
}

/// A hook for the end only; hooks for each request or response would slow wrk down.
const SCRIPT: &str = r#"
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("result %d %d %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
"#;

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_result_line_is_found_among_other_output() {
        let outcome = read("Running 3s test\nresult 10 2048 1000000 500 2500 1\n").unwrap();
        assert_eq!(
            (
                outcome.requests,
                outcome.seconds,
                outcome.p99_ms,
                outcome.errors
            ),
            (10.0, 1.0, 2.5, 1.0)
        );
    }

    #[test]
    fn other_output_is_an_error() {
        assert!(read("unable to connect\n").is_err());
        assert!(read("result 10 2048\n").is_err());
    }
}
