//! Serves files as the origin of the HTTP benchmark.
//!
//! It is nginx, because nginx serves files much faster than any proxy can forward them.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::Context;
use fluxlit_envoy::MOUNT;
use fluxlit_support::client::get;
use fluxlit_support::port::free_port;
use fluxlit_support::process::Process;
use fluxlit_support::wait::wait_until;

use super::Bench;
use super::configs::nginx_basics;
use super::proxies::{MAX_CONNECTIONS, Programs, START_LIMIT};
use crate::bench::local;

/// A file server that stops when it is dropped.
pub(super) struct FileServer {
    pub(super) address: SocketAddr,
    _process: Process,
}

/// Name of the file with 1 KiB.
pub(super) const SMALL: &str = "1k";

/// Name of the file with 1 MiB.
pub(super) const LARGE: &str = "1m";

impl FileServer {
    /// Serves [`SMALL`], [`LARGE`] and Streamlit's health check.
    pub(super) fn serve(bench: &Bench<'_>, programs: &Programs) -> anyhow::Result<Self> {
        let folder = bench.folder.join("files");
        let files = folder.join("root").join(MOUNT.trim_start_matches('/'));
        std::fs::create_dir_all(files.join("_stcore"))?;
        std::fs::write(files.join(SMALL), vec![b'a'; 1 << 10])?;
        std::fs::write(files.join(LARGE), vec![b'a'; 1 << 20])?;
        std::fs::write(files.join("_stcore/health"), "ok")?;
        let address = local(free_port()?);
        let config = folder.join("nginx.conf");
        std::fs::write(
            &config,
            format!(
                "{basics}
                http {{
                    access_log off;
                    default_type text/plain;
                    sendfile on;
                    tcp_nopush on;
                    open_file_cache max=10;
                    keepalive_requests 1000000000;
                    server {{ listen {address}; root root; }}
                }}",
                basics = nginx_basics(MAX_CONNECTIONS),
            ),
        )?;
        let mut command = Command::new(&programs.nginx);
        command
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log"))?);
        let process = Process::start(command).context("cannot run nginx")?;
        let serves = wait_until(START_LIMIT, || {
            get(address, &format!("{MOUNT}/{SMALL}"), None)
                .is_ok_and(|response| response.status == 200)
        });
        anyhow::ensure!(
            serves,
            "the file server did not start; see {}",
            folder.display()
        );
        Ok(Self {
            address,
            _process: process,
        })
    }
}
