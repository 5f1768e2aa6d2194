//! Plays cases in a running Envoy.
//!
//! The Envoy has the listeners and upstreams of several cases, and plays one exchange after the other. The line of the
//! access log, and calls that the filter does not wait for, may arrive shortly after the response.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fluxlit_cases::latin1;
use fluxlit_support::certificate::Certificate;
use fluxlit_support::envoy::log::{FORMAT, PluginNames, plugin_lines};
use fluxlit_support::envoy::{Admin, Envoy, EnvoyError};
use fluxlit_support::http1::{self, Content, Kind};
use fluxlit_support::player::{Address, Connection, Moment, ReceivedResponse, Target, Tls};
use fluxlit_support::script::ScriptedResponse;
use fluxlit_support::upstream::{Options, Protocol, ReceivedRequest, Upstream};
use fluxlit_support::wait::wait_for;
use host_test::abi::LogLevel;
use host_test::case_file::{Ending, Exchange, Level, Version, envoy_peer};
use host_test::chain::ChainOutcome;
use host_test::event::{LogLine, Message};
use host_test::{HeaderMap, envoy};

use super::bootstrap::{
    BootstrapParts, Certificates, Cluster, Listener, REACHED, SEPARATOR, UpstreamKind, bootstrap,
};
use super::compare::{log_differences, metric_differences};
use super::observed::{EnvoyRun, Observed};
use super::plan::{Plan, call_outs, is_bodiless};
use super::setup::{EnvoySetup, PeerKind};
use super::shared_data;

/// A running Envoy with the listeners of some cases, and the upstreams behind it.
pub(super) struct EnvoyPlayer<'a> {
    envoy: Envoy,
    listeners: Vec<(Listener<'a>, Address)>,
    upstreams: Upstreams,
    access_log: PathBuf,
    /// The number of exchanges that each listener has served, by its name.
    served: BTreeMap<String, usize>,
    _folder: tempfile::TempDir,
}

struct Upstreams {
    http1: Upstream,
    http2: Upstream,
    /// The services that filters call, by name.
    services: Vec<(String, Upstream)>,
}

/// The result of starting Envoy.
pub(super) enum Started<'a> {
    /// A signal ended Envoy.
    Crashed(i32),
    /// Envoy exited, as it does when it rejects a configuration; this is its log.
    Rejected(String),
    Running(Box<EnvoyPlayer<'a>>),
}

impl<'a> EnvoyPlayer<'a> {
    /// Starts Envoy with the listeners and upstreams that `plans` need.
    ///
    /// # Errors
    ///
    /// If Envoy cannot be run, or is not ready in time.
    pub(super) fn start(
        program: &Path,
        module: &Path,
        plans: &[&'a Plan<'a>],
    ) -> anyhow::Result<Started<'a>> {
        let folder = tempfile::tempdir()?;
        let upstreams = Upstreams::start(plans)?;
        let listeners = listeners(plans, folder.path())?;
        let access_log = folder.path().join("access.log");
        let config = bootstrap(&BootstrapParts {
            module,
            access_log: &access_log,
            clusters: upstreams.clusters(plans),
            listeners: &listeners,
        });
        let log_level = format!("wasm:{}", log_level(plans));
        let arguments = [
            "--component-log-level",
            &log_level,
            "--concurrency",
            "1",
            "--log-format",
            FORMAT,
            "--file-flush-interval-msec",
            "1",
        ];
        let envoy = match Envoy::start(program, &config.to_string(), folder.path(), &arguments) {
            Ok(envoy) => envoy,
            Err(EnvoyError::Ended {
                signal: Some(signal),
                ..
            }) => return Ok(Started::Crashed(signal)),
            Err(EnvoyError::Ended { log, .. }) => return Ok(Started::Rejected(log)),
            Err(error @ EnvoyError::Run { .. }) => {
                return Err(anyhow::Error::from(error)
                    .context("--envoy: give the path of an Envoy 1.40 executable"));
            }
            Err(error) => return Err(error.into()),
        };
        let addresses = envoy.admin().listeners()?;
        let listeners = listeners
            .into_iter()
            .map(|listener| {
                let address = match &listener.socket {
                    Some(path) => Address::Unix(path.clone()),
                    None => Address::Tcp(
                        *addresses
                            .get(&listener.name)
                            .context("Envoy does not list a listener's port")?,
                    ),
                };
                Ok((listener, address))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Started::Running(Box::new(Self {
            envoy,
            listeners,
            upstreams,
            access_log,
            served: BTreeMap::new(),
            _folder: folder,
        })))
    }

    /// Returns the name of the signal that has ended Envoy, if one has. A process that is ending gets a moment for it.
    pub(super) fn crash(&mut self) -> Option<String> {
        let status = wait_for(SETTLING, || self.envoy.ended().ok().flatten())?;
        status.signal().map(signal_name)
    }

    /// Plays the exchanges of a case. Returns the reason if they cannot be compared.
    ///
    /// # Errors
    ///
    /// If Envoy cannot be reached, or does not respond.
    pub(super) fn run(&mut self, plan: &Plan<'_>) -> anyhow::Result<Result<EnvoyRun, String>> {
        let admin = self.envoy.admin();
        for (name, _) in &self.upstreams.services {
            let counter = format!("cluster.{}.upstream_rq_total", name.replace(':', "_"));
            if admin.counter(&counter)? > 0 {
                return Ok(Err(
                    "the filter calls out when it starts, and Envoy starts it several times"
                        .to_owned(),
                ));
            }
        }
        let outcomes: &[ChainOutcome] = match &plan.ran.ending {
            Ending::Served(outcomes) => outcomes,
            Ending::Refused(_) => &[],
        };
        let mut run = EnvoyRun {
            metrics_at_start: admin.metrics()?,
            ..EnvoyRun::default()
        };
        for (number, exchange) in plan.exchanges.iter().enumerate() {
            let observed = self
                .play(plan, number, exchange, outcomes.get(number))
                .with_context(|| format!("`{}` in Envoy", plan.case.name))?;
            if !observed.is_reached {
                let details = observed.details.unwrap_or_default();
                return Ok(Err(format!(
                    "Envoy rejects it before it reaches a filter: {details}"
                )));
            }
            run.exchanges.push(observed);
        }
        if !plan.case.finally.logs.is_empty() {
            // If lines are still missing after that, the comparison reports them.
            let _ = wait_for(SETTLING, || {
                run.logs = self.logs(plan);
                log_differences(plan, &plan.ran, &run)
                    .is_empty()
                    .then_some(())
            });
        }
        // Counters that a filter increments at the end of a stream change shortly after the response. If they do not, the
        // comparison reports them.
        let _ = wait_for(SETTLING, || {
            run.metrics = admin.metrics().ok()?;
            metric_differences(&plan.ran, &run).is_empty().then_some(())
        });
        // A crash at the end of a stream belongs to this case, not to the next one.
        admin.metrics()?;
        Ok(Ok(run))
    }

    /// Returns what the filters of a case have logged so far.
    fn logs(&self, plan: &Plan<'_>) -> Vec<LogLine> {
        let plugins = plan.plugins();
        let own = self
            .listeners
            .iter()
            .filter(|(listener, _)| std::ptr::eq(listener.plan.case, plan.case));
        let names: Vec<PluginNames<'_>> = own
            .flat_map(|(listener, _)| plugins.iter().map(|plugin| listener.names_of(plugin)))
            .collect();
        plugin_lines(&self.envoy.marked_log(), &names)
            .into_iter()
            .map(|(level, text)| LogLine {
                level: to_log_level(level),
                text,
            })
            .collect()
    }

    fn play(
        &mut self,
        plan: &Plan<'_>,
        number: usize,
        exchange: &Exchange,
        ours: Option<&ChainOutcome>,
    ) -> anyhow::Result<Observed> {
        let setup = plan
            .setups
            .get(number)
            .context("each exchange has a setup")?;
        let kind = kind_of(exchange);
        let (listener, address) = self
            .listeners
            .iter()
            .find(|(listener, _)| listener.serves(plan, setup, kind))
            .context("there is no listener for the exchange")?;
        let upstream = self.upstreams.get(kind.protocol);
        upstream.answer(&exchange.answer);
        let before: Vec<usize> = self
            .upstreams
            .services
            .iter()
            .map(|(_, service)| service.received().len())
            .collect();
        let expects_logs = !exchange.logs.is_empty();
        let logged = if expects_logs {
            self.logs(plan).len()
        } else {
            0
        };
        // The case lets time pass.
        std::thread::sleep(Duration::from_millis(exchange.after_ms));
        let target = target(listener, address, exchange)?;
        // The connection stays open until Envoy has ended the stream: a client that has received a whole body must not end a
        // stream whose end the filter still holds.
        let started = Instant::now();
        let (downstream, connection) = send(&target, exchange, self.envoy.admin())?;
        let elapsed = started.elapsed();
        let served = self.served.entry(listener.name.clone()).or_default();
        let envoy = &mut self.envoy;
        let has_ended = || !matches!(envoy.ended(), Ok(None));
        let line = access_log_line(&self.access_log, &listener.name, *served, has_ended)
            .context("Envoy's access log has no line for the exchange")?;
        drop(connection);
        *served += 1;
        // A filter need not wait for the calls that it makes.
        let expected = |name: &str| {
            ours.map_or(0, |ours| {
                call_outs(ours).filter(|call| call.cluster == name).count()
            })
        };
        let mut calls = Vec::new();
        for ((name, service), before) in self.upstreams.services.iter().zip(before) {
            let received = || service.received().split_off(before);
            // If calls are still missing after that, the comparison reports them.
            let _ = wait_for(SETTLING, || {
                let received = received();
                let are_complete = received.iter().all(|call| call.is_complete);
                (received.len() >= expected(name) && are_complete).then_some(())
            });
            calls.push((name.clone(), received().iter().map(of_request).collect()));
        }
        let mut logs = Vec::new();
        if expects_logs {
            let count = ours.map_or(0, |ours| {
                ours.filters.iter().map(|filter| filter.logs.len()).sum()
            });
            let _ = wait_for(SETTLING, || {
                logs = self.logs(plan).split_off(logged);
                (logs.len() >= count).then_some(())
            });
        }
        let (line, values) = line.split_once(SEPARATOR).unwrap_or((&line, ""));
        let filter_state = plan
            .filter_state_keys()
            .into_iter()
            .zip(values.split(SEPARATOR).map(str::to_owned))
            .collect();
        let (mark, details) = line.split_once(' ').unwrap_or(("-", "-"));
        Ok(Observed {
            upstream: upstream.received().last().map(of_request),
            downstream: downstream.as_ref().map(of_response),
            calls,
            details: (details != "-").then(|| details.to_owned()),
            is_reached: mark == REACHED,
            filter_state,
            logs,
            elapsed,
        })
    }
}

impl Upstreams {
    fn start(plans: &[&Plan<'_>]) -> anyhow::Result<Self> {
        // Envoy is configured to use each connection only once.
        let start = |protocol, script| {
            let options = Options {
                protocol,
                closes_connections: true,
                ..Options::default()
            };
            Upstream::start(options, script)
        };
        let mut services = Vec::new();
        for service in plans.iter().flat_map(|plan| &plan.services) {
            let upstream = start(service.protocol, service.script.clone())?;
            services.push((service.name.clone(), upstream));
        }
        Ok(Self {
            http1: start(Protocol::Http1, Vec::<ScriptedResponse>::new())?,
            http2: start(Protocol::Http2, Vec::new())?,
            services,
        })
    }

    fn get(&self, protocol: Protocol) -> &Upstream {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        }
    }

    fn clusters(&self, plans: &[&Plan<'_>]) -> Vec<Cluster<'_>> {
        let upstreams = UpstreamKind::ALL.map(|kind| Cluster {
            name: kind.cluster_name(),
            upstream: self.get(kind.protocol),
            removed_fields: kind.added_field.into_iter().collect(),
        });
        let services = plans.iter().flat_map(|plan| &plan.services);
        let services = self.services.iter().zip(services);
        let services = services.map(|((name, upstream), service)| Cluster {
            name: name.clone(),
            upstream,
            removed_fields: service.added_fields.clone(),
        });
        upstreams.into_iter().chain(services).collect()
    }
}

/// Returns how a client reaches a listener as the peer of this exchange.
fn target(
    listener: &Listener<'_>,
    address: &Address,
    exchange: &Exchange,
) -> anyhow::Result<Target> {
    let tls = listener.certificates.as_ref().map(|certificates| {
        let Certificates { server, client } = certificates;
        Ok::<_, std::io::Error>(Tls {
            config: server.client_config(client.as_ref())?,
            server_name: listener.setup.server_name().to_owned(),
        })
    });
    let peer = match envoy_peer(exchange.request.peer) {
        envoy::Peer::Ip(peer) => peer,
        // Port 0 means that the address is not that of the connection.
        envoy::Peer::Unix | envoy::Peer::FromHeader => ([203, 0, 113, 99], 0).into(),
    };
    Ok(Target {
        address: address.clone(),
        peer: (listener.setup.peer != PeerKind::Unix).then_some(peer),
        tls: tls.transpose()?,
    })
}

/// Sends a request on a new connection; returns the connection if it is still open. Frames are sent one by one: each is read before the next is written.
fn send(
    target: &Target,
    exchange: &Exchange,
    admin: Admin,
) -> anyhow::Result<(Option<ReceivedResponse>, Option<Connection>)> {
    let request = &exchange.request;
    let mut connection = Connection::open(target, request.http)?;
    if request.http == Version::Http2 {
        return Ok((connection.http2(request)?, None));
    }
    let read_bytes = || admin.counter("http.case.downstream_cx_rx_bytes_total");
    let mut before = 0;
    let response = connection.http1(request, |moment| match moment {
        Moment::BeforePiece => before = read_bytes().unwrap_or_default(),
        Moment::AfterPiece(length) => {
            let wanted = before + u64::try_from(length).unwrap_or_default();
            // Envoy may have stopped reading, because it has already responded.
            let _ = wait_for(READING, || (read_bytes().ok()? >= wanted).then_some(()));
        }
    });
    Ok((response?, Some(connection)))
}

/// Returns a request as a message of the test host.
fn of_request(received: &ReceivedRequest) -> Message {
    let request = &received.request;
    let mut headers = HeaderMap::default();
    add(&mut headers, ":method", &request.method);
    add(&mut headers, ":path", &request.target);
    if let Some(host) = &request.host {
        add(&mut headers, ":authority", host);
    }
    message(
        headers,
        &request.headers,
        &request.body,
        &request.trailers,
        received.is_complete,
    )
}

/// Returns a response as a message of the test host.
fn of_response(received: &ReceivedResponse) -> Message {
    let response = &received.response;
    let mut headers = HeaderMap::default();
    add(&mut headers, ":status", &response.status.to_string());
    message(
        headers,
        &response.headers,
        &response.body,
        &response.trailers,
        received.is_complete,
    )
}

fn message(
    mut headers: HeaderMap,
    fields: &[(String, String)],
    body: &str,
    trailer_fields: &[(String, String)],
    is_complete: bool,
) -> Message {
    for (name, value) in fields {
        add(&mut headers, name, value);
    }
    let mut trailers = HeaderMap::default();
    for (name, value) in trailer_fields {
        add(&mut trailers, name, value);
    }
    Message {
        headers,
        body: latin1::bytes(body),
        trailers,
        is_complete,
    }
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) {
    headers.add(&latin1::bytes(name), &latin1::bytes(value));
}

/// Returns the upstream that can send the response of an exchange as the case has it. With HTTP/1, Envoy joins the data that
/// it reads at once, so explicit frames need HTTP/2, and so do trailers of a body that has a length.
fn kind_of(exchange: &Exchange) -> UpstreamKind {
    let (request, answer) = (&exchange.request, &exchange.answer);
    let mut headers = answer.headers.iter();
    let has_length = headers.any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if !answer.frames.is_empty() || has_length && !answer.trailers.is_empty() {
        return UpstreamKind::new(Protocol::Http2, None);
    }
    let content = Content::of_answer(answer);
    let has_body = request.method != "HEAD" && !is_bodiless(answer.status);
    let added = http1::added_field(&answer.headers, &content, Kind::Response);
    UpstreamKind::new(
        Protocol::Http1,
        added.map(|(name, _)| name).filter(|_| has_body),
    )
}

/// Returns the listeners that the exchanges of `plans` need; exchanges of one case share those that are alike.
fn listeners<'a>(plans: &[&'a Plan<'a>], folder: &Path) -> anyhow::Result<Vec<Listener<'a>>> {
    let mut listeners: Vec<Listener<'a>> = Vec::new();
    for (number, plan) in plans.iter().copied().enumerate() {
        let shared_data = if plan.case.shared_data.is_empty() {
            None
        } else {
            let path = folder.join(format!("{number}.wasm"));
            std::fs::write(&path, shared_data::module(&plan.case.shared_data)?)?;
            Some(path)
        };
        let first = listeners.len();
        // Envoy rejects a configuration together with its listener, so a case without a request needs one too.
        let idle = plan
            .exchanges
            .is_empty()
            .then_some((&plan.idle_setup, UpstreamKind::new(Protocol::Http1, None)));
        let wanted = plan.setups.iter().zip(plan.exchanges.iter().map(kind_of));
        for (setup, upstream) in wanted.chain(idle) {
            let own = listeners.get(first..).unwrap_or_default();
            if own
                .iter()
                .any(|listener| listener.serves(plan, setup, upstream))
            {
                continue;
            }
            let name = format!("case-{number}-{}", listeners.len());
            listeners.push(Listener {
                socket: (setup.peer == PeerKind::Unix).then(|| folder.join(format!("{name}.sock"))),
                certificates: if setup.tls {
                    Some(certificates(setup)?)
                } else {
                    None
                },
                name,
                plan,
                setup,
                upstream,
                vm_id: if plan.needs_own_envoy() {
                    String::new()
                } else {
                    format!("case-{number}")
                },
                shared_data: shared_data.clone(),
            });
        }
    }
    Ok(listeners)
}

fn certificates(setup: &EnvoySetup) -> anyhow::Result<Certificates> {
    let client = setup.client.as_ref().map(|names| {
        let dns: Vec<&str> = names.dns.as_deref().into_iter().collect();
        let uris: Vec<&str> = names.uri.as_deref().into_iter().collect();
        Certificate::create(&dns, &uris)
    });
    Ok(Certificates {
        server: Certificate::create(&[setup.server_name()], &[])?,
        client: client.transpose()?,
    })
}

/// Returns the level of the filters' logs: `trace`, as in the test host, unless a case sets another.
fn log_level<'p>(plans: &[&'p Plan<'_>]) -> &'p str {
    let plugin = plans
        .first()
        .and_then(|plan| plan.case.plugin.as_ref().or(plan.file.plugin.as_ref()));
    match plugin.and_then(|plugin| plugin.log_level) {
        None | Some(Level::Trace) => "trace",
        Some(Level::Debug) => "debug",
        Some(Level::Info) => "info",
        Some(Level::Warn) => "warning",
        Some(Level::Error) => "error",
        Some(Level::Critical) => "critical",
    }
}

fn to_log_level(level: Level) -> LogLevel {
    match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
        Level::Critical => LogLevel::Critical,
    }
}

/// Waits for the line of the access log for an exchange of this listener, counted from 0; returns it without the name of
/// the listener. `has_ended` returns true if Envoy does not run any more.
fn access_log_line(
    log: &Path,
    listener: &str,
    number: usize,
    mut has_ended: impl FnMut() -> bool,
) -> Option<String> {
    let line = || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let whole = text.get(..text.rfind('\n')?)?;
        let mut lines = whole
            .lines()
            .filter_map(|line| line.strip_prefix(listener)?.strip_prefix(' '));
        lines.nth(number).map(str::to_owned)
    };
    wait_for(LOGGING, || match line() {
        None if has_ended() => Some(None),
        None => None,
        found => Some(found),
    })
    .flatten()
}

/// Returns the name of a signal that ends programs.
pub(super) fn signal_name(signal: i32) -> String {
    let known = [
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (15, "SIGTERM"),
    ];
    let name = known.iter().find(|(number, _)| *number == signal);
    name.map_or_else(
        || format!("signal {signal}"),
        |(_, name)| (*name).to_owned(),
    )
}

/// The maximum time for Envoy to read a frame.
const READING: Duration = Duration::from_secs(2);

/// The maximum time for Envoy to write a line of the access log.
const LOGGING: Duration = Duration::from_secs(30);

/// The maximum time for calls, log lines and metrics that may arrive after the response.
const SETTLING: Duration = Duration::from_secs(3);
