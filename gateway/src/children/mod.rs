//! Runs Streamlit, and the API of the app, as child processes.
//!
//! ```text
//! gateway ── guard ── launcher ── program ── its own processes
//! ```
//!
//! Guard and [`launcher`] are this executable again, without a listener. They outlive the gateway for as long as it takes to
//! end the program and everything that the program has started, so that nothing is left if the gateway is killed. There are
//! two of them, so that nothing is left if one is killed together with the gateway.
//!
//! May use `settings`, `http`, `observe` and `net`.

mod advice;
mod api;
mod launcher;
mod output;
mod processes;
mod program;
mod python;
mod reserved_port;
mod streamlit;
mod supervisor;

pub use launcher::launch_if_requested;
pub use python::{DescribeError, Description, NotAnApp, describe, python};
pub use reserved_port::ReservedPort;
pub use supervisor::{ChildFailure, Ended};
pub(crate) use supervisor::{StartError, Supervisor};

use crate::settings::Settings;
use program::Program;

/// Returns the programs that these settings start: Streamlit, then the API if there is one.
pub(crate) fn programs(settings: &Settings) -> Vec<Program> {
    let Some(app) = &settings.app else {
        return Vec::new();
    };
    let streamlit = streamlit::program(settings, app);
    let api = app.api.as_ref();
    let api = api.map(|api| api::program(settings, app, api));
    std::iter::once(streamlit).chain(api).collect()
}
