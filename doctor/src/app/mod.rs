//! Checks the gateway's own settings, the Streamlit behind it, and further instances of the gateway (D01 to D18).

mod echo;
mod exposure;
mod forwarded;
mod hsts;
mod identity;
mod instance;
mod isolation;
mod lifecycle;
mod log;
mod page;
mod server;
mod streamlit;
mod subject;
mod timeouts;
mod uploads;
mod websocket;

pub use subject::{Depth, Limits, Options, Subject};

use crate::check::{APP, FLUXLIT};
use crate::finding::{Finding, Step};
use crate::fluxlit::{self, Facts};
use crate::outcome::Outcome;
use crate::selection::CheckSelection;
use instance::{Instance, StartError};
use log::Cause;
use server::Server;
use streamlit::Found;

/// Runs all selected checks of an app, one after the other. `progress` is called before and after each.
pub async fn run(
    subject: &Subject,
    facts: &Facts,
    depth: Depth,
    selection: &CheckSelection,
    mut progress: impl FnMut(Step<'_>),
) -> Vec<Finding> {
    let mut checks = Checks::new(subject, depth);
    let mut findings = Vec::new();
    for check in APP.iter().filter(|check| selection.includes(check)) {
        progress(Step::Begins(check));
        let found = checks.run(check.id).await.findings(check);
        progress(Step::Ended(&found));
        findings.extend(found);
    }
    findings.extend(of_fluxlit(facts, selection));
    findings
}

/// Returns the findings for settings that are invalid: all errors and warnings, and that nothing else could be checked. Each
/// error says what is accepted, and each warning what to do.
pub fn invalid_settings(
    errors: &[String],
    warnings: &[String],
    facts: &Facts,
    selection: &CheckSelection,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in APP.iter().filter(|check| selection.includes(check)) {
        let mut outcome = Outcome::default();
        if check.id == "D01" {
            for error in errors {
                outcome.fail(
                    error.clone(),
                    "correct it; `fluxlit-gateway config` shows each setting with its origin",
                );
            }
            for warning in warnings {
                outcome.warn(warning.clone(), SETTINGS);
            }
        } else {
            outcome.skip("the settings are invalid; see D01");
        }
        findings.extend(outcome.findings(check));
    }
    findings.extend(of_fluxlit(facts, selection));
    findings
}

fn of_fluxlit(facts: &Facts, selection: &CheckSelection) -> Vec<Finding> {
    FLUXLIT
        .iter()
        .filter(|check| selection.includes(check))
        .flat_map(|check| fluxlit::check(check.id, facts).findings(check))
        .collect()
}

/// Runs one check after the other, and hands over each outcome with the id of its check.
struct Checks<'a> {
    subject: &'a Subject,
    depth: Depth,
    /// The gateway that was started for the app, if Streamlit does not run already.
    app: Option<Instance>,
    /// The Streamlit, as soon as it was found; `Err` with the reason why there is none.
    streamlit: Option<Result<(Server, Found), &'static str>>,
}

impl<'a> Checks<'a> {
    fn new(subject: &'a Subject, depth: Depth) -> Self {
        Self {
            subject,
            depth,
            app: None,
            streamlit: None,
        }
    }

    /// Runs the check with this id.
    async fn run(&mut self, id: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let subject = self.subject;
        match id {
            "D01" => trust(subject, &mut outcome),
            "D02" => {
                // The outcome of the search is that of this check.
                self.find(&mut outcome).await;
            }
            "D11" => isolation::spoofing(subject, &mut outcome).await,
            "D12" => isolation::cookies(subject, &mut outcome).await,
            "D13" => uploads::limits(subject, &mut outcome),
            "D16" => identity::user_headers(subject, &mut outcome),
            "D17" => lifecycle::stop(subject, self.app.take(), self.depth, &mut outcome).await,
            "D10" => page::client_address(subject, self.depth, &mut outcome).await,
            "D18" => {
                let found = self.found().await.ok();
                let found = found.as_ref().map(|(server, found)| (server, found));
                hsts::ownership(found, subject, &mut outcome).await;
            }
            _ => match self.found().await {
                Err(reason) => outcome.skip(reason),
                Ok((server, found)) => self.with_streamlit(id, &server, &found, &mut outcome).await,
            },
        }
        outcome
    }

    async fn with_streamlit(
        &self,
        id: &str,
        server: &Server,
        found: &Found,
        outcome: &mut Outcome,
    ) {
        let subject = self.subject;
        match id {
            "D03" => streamlit::health_check(server, subject, found, outcome).await,
            "D04" => streamlit::base_and_mount(subject, found, outcome),
            "D05" => websocket::origins(server, subject, found, outcome).await,
            "D06" => websocket::protocol(server, subject, found, outcome).await,
            "D07" => websocket::header_limits(server, subject, found, outcome).await,
            "D08" => uploads::xsrf(server, subject, found, outcome).await,
            "D09" => forwarded::upstream_trust(server, subject, found, outcome).await,
            "D14" => timeouts::pings(server, subject, self.depth, outcome).await,
            "D15" => {
                let app = self.app.as_ref().map(|app| app.address);
                exposure::internals(server, subject, app, outcome).await;
            }
            _ => {}
        }
    }

    /// Returns the Streamlit, which the first check that needs it looks for.
    async fn found(&mut self) -> Result<(Server, Found), &'static str> {
        if self.streamlit.is_none() {
            self.find(&mut Outcome::default()).await;
        }
        self.streamlit.clone().unwrap_or(Err(NO_STREAMLIT))
    }

    async fn find(&mut self, outcome: &mut Outcome) {
        let server = self.server(outcome).await;
        let found = match &server {
            Some(server) => streamlit::generation(server, self.subject, outcome).await,
            None => None,
        };
        self.streamlit = Some(server.zip(found).ok_or(NO_STREAMLIT));
    }

    /// Returns the Streamlit that runs, or starts the app with its gateway.
    async fn server(&mut self, outcome: &mut Outcome) -> Option<Server> {
        if let Some(address) = self.subject.streamlit {
            return Some(Server {
                address,
                authority: self.subject.authority.clone(),
            });
        }
        let mut app = match self.app.take() {
            Some(app) => app,
            None => match Instance::of_app(self.subject).await {
                Ok(app) => app,
                Err(StartError::Cause(cause)) => {
                    not_started(&cause, outcome);
                    return None;
                }
                Err(StartError::Io(error)) => {
                    outcome.fail(
                        format!("the app cannot be started: {error}"),
                        LOOK_AT_THE_LOG,
                    );
                    return None;
                }
            },
        };
        let port = match app.id() {
            Some(process) => instance::streamlit_port(process).await,
            None => None,
        };
        let server = port.map(|port| Server {
            address: ([127, 0, 0, 1], port).into(),
            authority: format!("127.0.0.1:{port}"),
        });
        let is_ready = match &server {
            Some(server) => streamlit::is_ready(server, self.subject, &mut app).await,
            None => false,
        };
        let cause = if is_ready { None } else { app.cause().await };
        self.app = Some(app);
        if let Some(cause) = cause {
            not_started(&cause, outcome);
            return None;
        }
        if server.is_none() {
            outcome.fail(
                "the gateway of the app runs, but no Streamlit below it",
                LOOK_AT_THE_LOG,
            );
        }
        server
    }
}

fn not_started(cause: &Cause, outcome: &mut Outcome) {
    let hint = cause.hint.as_deref().unwrap_or(LOOK_AT_THE_LOG);
    outcome.fail(
        format!("the app cannot be started: {}", cause.finding),
        hint,
    );
}

/// D01: what the settings say about trust.
fn trust(subject: &Subject, outcome: &mut Outcome) {
    for warning in &subject.warnings {
        outcome.warn(warning.clone(), SETTINGS);
    }
    outcome.right("the settings are valid");
}

const SETTINGS: &str = "see docs/settings.md";

const NO_STREAMLIT: &str = "no Streamlit was found; see D02";

const LOOK_AT_THE_LOG: &str =
    "start it with `fluxlit-gateway run`, and look at its log; see also import_shadowing";
