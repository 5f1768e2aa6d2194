//! Finds what is wrong between a browser and a Streamlit app.
//!
//! A check has a stable id, and each finding has one sentence, one hint and one section in `docs/doctor.md`. The library
//! depends on [`fluxlit_policy`] for words and rules, never on the gateway: it checks the gateway from outside.
//!
//! ```text
//! app       the own settings, Streamlit, self-tests with further instances of the gateway
//! fluxlit   the checks of FluxLit's own doctor
//! probe     a deployed edge, from outside
//! lint      configurations of Envoy, Istio and Envoy Gateway
//! ```

pub mod app;
pub mod fluxlit;
pub mod lint;
pub mod probe;

mod outcome;

mod api_documentation;
mod wire;

pub mod client;

mod report;
mod selection;

mod finding;

mod check;

pub use check::{APP, Check, FLUXLIT, LINT, PROBE, checks};
pub use finding::{Finding, Status, Step};
pub use report::{ErrorReport, Report, progress};
pub use selection::{CheckSelection, UnknownCheck};
