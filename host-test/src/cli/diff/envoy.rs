//! How is an Envoy started, asked and ended?
//!
//! It lives as long as the value. Its log goes to a file beside its configuration, and the end of that log is in the
//! error if it does not come up.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use host_test::Message;
use host_test::case_file::{Answer, Case, CaseFile};

use super::bootstrap::{Listener, bootstrap};
use super::exchange::{self, Seen};

/// A running Envoy with a listener for each case, and the upstream behind it.
pub(super) struct Envoy {
    process: Child,
    listeners: Vec<SocketAddr>,
    upstream: Arc<Upstream>,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

/// What the upstream answers, and what it received last.
#[derive(Default)]
pub(super) struct Upstream {
    pub(super) answer: Mutex<Answer>,
    pub(super) received: Mutex<Option<Message>>,
}

impl Upstream {
    pub(super) fn take_received(&self) -> Option<Message> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.take()
    }
}

impl Envoy {
    pub(super) fn start(
        program: &Path,
        module: &Path,
        cases: &[(&Path, &CaseFile, &Case)],
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let upstream = Arc::new(Upstream::default());
        let upstream_address = runtime.block_on(exchange::listen(Arc::clone(&upstream)))?;
        let listeners = free_addresses(cases.len())?;
        let folder = tempfile::tempdir()?;
        let described: Vec<Listener<'_>> = cases
            .iter()
            .zip(&listeners)
            .map(|((_, file, case), address)| Listener {
                address: *address,
                file,
                case,
            })
            .collect();
        let config = folder.path().join("envoy.json");
        let json = bootstrap(module, upstream_address, &described).to_string();
        std::fs::write(&config, json)?;
        let log = folder.path().join("envoy.log");
        let process = Command::new(program)
            .arg("--config-path")
            .arg(&config)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warn",
            ])
            .arg("--log-path")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut envoy = Self {
            process,
            listeners,
            upstream,
            runtime,
            _folder: folder,
        };
        envoy.wait_until_ready(&log)?;
        Ok(envoy)
    }

    /// Plays the exchanges of the case with this number.
    pub(super) fn run(&self, number: usize, case: &Case) -> anyhow::Result<Vec<Seen>> {
        let address = self
            .listeners
            .get(number)
            .context("there is no listener for the case")?;
        case.exchanges()
            .iter()
            .map(|exchange| {
                let play = exchange::play(*address, exchange, &self.upstream);
                self.runtime
                    .block_on(play)
                    .with_context(|| format!("`{}` in Envoy", case.name))
            })
            .collect()
    }

    /// Waits until every listener takes connections.
    fn wait_until_ready(&mut self, log: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        for address in self.listeners.clone() {
            while TcpStream::connect(address).is_err() {
                let has_ended = self.process.try_wait()?.is_some();
                if has_ended || Instant::now() > deadline {
                    let log = std::fs::read_to_string(log).unwrap_or_default();
                    let lines: Vec<&str> = log.lines().rev().take(10).collect();
                    let lines: Vec<&str> = lines.into_iter().rev().collect();
                    bail!("Envoy does not come up:\n{}", lines.join("\n"));
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Addresses that nobody listens on. All are taken before any is let go, so that no two are the same.
fn free_addresses(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let taken = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<std::io::Result<Vec<_>>>()?;
    taken
        .iter()
        .map(|listener| Ok(listener.local_addr()?))
        .collect()
}

const START_LIMIT: Duration = Duration::from_secs(60);
