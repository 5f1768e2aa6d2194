//! Runs Varnish, which reads its address from the command line and everything else from a file.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use fluxlit_support::service::{Service, end_of};
use fluxlit_support::wait::wait_until;

use crate::programs::named;

/// A running Varnish. Dropping it ends the process.
#[derive(Debug)]
pub struct Varnish(Service);

impl Varnish {
    /// Starts Varnish with this file in the given folder, and waits until `is_ready` returns true: that requests get through it.
    ///
    /// # Errors
    ///
    /// If it does not start or is not ready within a minute, with the end of its log.
    pub fn start(
        file: &Path,
        listen: SocketAddr,
        folder: &Path,
        is_ready: impl FnMut() -> bool,
    ) -> Result<Self, String> {
        let mut command = Command::new(named("FLUXLIT_TEST_VARNISH"));
        command
            // Without a jail, because tests have no user of their own for it.
            .args(["-F", "-j", "none", "-s", "malloc,64m", "-f"])
            .arg(file)
            .arg("-n")
            .arg(folder)
            .args(["-a", &listen.to_string()])
            .args(VARNISH_PARAMETERS.map(|parameter| format!("-p{parameter}")));
        let service = Service::start("Varnish", command, &folder.join("varnish.log"), |_| true)
            .map_err(|error| error.to_string())?;
        if wait_until(super::READY_LIMIT, is_ready) {
            Ok(Self(service))
        } else {
            Err(format!(
                "Varnish lets no request through; its log ends with\n{}",
                end_of(&service.log())
            ))
        }
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.0.log()
    }
}

/// The parameters that the file asks for: heads as large as the gateway's limit, and WebSockets that may be silent for longer
/// than two of Streamlit's pings.
pub const VARNISH_PARAMETERS: [&str; 5] = [
    "http_req_size=65536",
    "http_req_hdr_len=32768",
    "workspace_client=262144",
    "workspace_backend=262144",
    "pipe_timeout=300",
];
