//! How are cases played in an Envoy?
//!
//! It has the listeners and upstreams of some cases, and plays one exchange after the other. What the access log says of
//! an exchange, and the calls that nobody waits for, come a moment after the response.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use host_test::case_file::{Ending, Exchange, Level};
use host_test::chain::ChainOutcome;
use host_test::event::{LogLine, Message};

use super::admin::Admin;
use super::bootstrap::{BETWEEN, Listener, REACHED, Site, bootstrap, upstream_name};
use super::certificate::Certificate;
use super::client::{self, Certificates, Place};
use super::compare::{log_differences, metric_differences};
use super::logs::{self, Writer};
use super::plan::{Plan, call_outs};
use super::process::{Process, wait_for};
use super::script::Reaction;
use super::shared_data;
use super::surroundings::{PeerKind, Surroundings};
use super::upstream::{Protocol, Upstream};

/// A running Envoy with the listeners of some cases, and the upstreams behind it.
pub(super) struct Envoy<'a> {
    process: Process,
    admin: Admin,
    listeners: Vec<(Listener<'a>, Place)>,
    upstreams: Upstreams,
    access_log: PathBuf,
    /// How many exchanges each listener has served, by its name.
    served: BTreeMap<String, usize>,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

struct Upstreams {
    http1: Upstream,
    http2: Upstream,
    /// The services that filters call, by name.
    services: Vec<(String, Upstream)>,
}

/// What came of an exchange in Envoy.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// What the upstream received.
    pub(super) upstream: Option<Message>,
    /// What the client got.
    pub(super) downstream: Option<Message>,
    /// What each service received.
    pub(super) calls: Vec<(String, Vec<Message>)>,
    /// Envoy's word for what ended the stream; `None` if the access log says nothing.
    pub(super) details: Option<String>,
    /// Whether a filter has seen the request.
    pub(super) is_reached: bool,
    /// The values of the filter state that are compared, by key; `-` for what is not there.
    pub(super) filter_state: BTreeMap<String, String>,
    /// What the filters logged meanwhile; empty if the case expects nothing of it.
    pub(super) logs: Vec<LogLine>,
}

/// What came of a case in Envoy.
#[derive(Debug, Clone, Default)]
pub(super) struct Played {
    pub(super) exchanges: Vec<Seen>,
    /// What the filters have logged since they started; empty if the case expects nothing of it.
    pub(super) logs: Vec<LogLine>,
    pub(super) metrics_at_start: Metrics,
    pub(super) metrics: Metrics,
}

/// Counters and gauges by name.
pub(super) type Metrics = BTreeMap<String, u64>;

/// How a start went.
pub(super) enum Started<'a> {
    Up(Box<Envoy<'a>>),
    /// It ended by itself; this is its log.
    Refused(String),
}

impl<'a> Envoy<'a> {
    /// Starts Envoy with what `plans` need.
    ///
    /// # Errors
    ///
    /// It cannot be run, or is not ready in time.
    pub(super) fn start(
        program: &Path,
        module: &Path,
        plans: &[&'a Plan<'a>],
    ) -> anyhow::Result<Started<'a>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let folder = tempfile::tempdir()?;
        let upstreams = runtime.block_on(Upstreams::start(plans))?;
        let listeners = listeners(plans, folder.path())?;
        let access_log = folder.path().join("access.log");
        let config = bootstrap(&Site {
            module,
            access_log: &access_log,
            clusters: upstreams.clusters(),
            listeners: &listeners,
        });
        let mut process = Process::start(
            program,
            folder.path(),
            &config.to_string(),
            log_level(plans),
        )?;
        let Some(admin) = runtime.block_on(process.wait_until_ready())? else {
            return Ok(Started::Refused(process.log()));
        };
        let addresses = runtime.block_on(admin.listeners())?;
        let listeners = listeners
            .into_iter()
            .map(|listener| {
                let place = match &listener.socket {
                    Some(path) => Place::Socket(path.clone()),
                    None => Place::Port(
                        *addresses
                            .get(&listener.name)
                            .context("Envoy does not tell a listener's port")?,
                    ),
                };
                Ok((listener, place))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Started::Up(Box::new(Self {
            process,
            admin,
            listeners,
            upstreams,
            access_log,
            served: BTreeMap::new(),
            runtime,
            _folder: folder,
        })))
    }

    /// Plays the exchanges of a case; the reason if they cannot be judged.
    ///
    /// # Errors
    ///
    /// Envoy cannot be reached, or does not answer.
    pub(super) fn run(&mut self, plan: &Plan<'_>) -> anyhow::Result<Result<Played, String>> {
        for (name, _) in &self.upstreams.services {
            let counter = format!("cluster.{}.upstream_rq_total", name.replace(':', "_"));
            if self.runtime.block_on(self.admin.counter(&counter))? > 0 {
                return Ok(Err(
                    "the filter calls out at its start, which is several starts in Envoy"
                        .to_owned(),
                ));
            }
        }
        let outcomes: &[ChainOutcome] = match &plan.ran.ending {
            Ending::Served(outcomes) => outcomes,
            Ending::Refused(_) => &[],
        };
        let mut played = Played {
            metrics_at_start: self.runtime.block_on(self.admin.metrics())?,
            ..Played::default()
        };
        for (number, exchange) in plan.exchanges.iter().enumerate() {
            let one = self
                .play(plan, number, exchange, outcomes.get(number))
                .with_context(|| format!("`{}` in Envoy", plan.case.name))?;
            if !one.is_reached {
                let details = one.details.unwrap_or_default();
                return Ok(Err(format!(
                    "Envoy refuses it before any filter sees it: {details}"
                )));
            }
            played.exchanges.push(one);
        }
        if !plan.case.finally.logs.is_empty() {
            let are_there = async || {
                played.logs = self.logs(plan);
                log_differences(plan, &plan.ran, &played)
                    .is_empty()
                    .then_some(())
            };
            // If they don't come, what has come is compared.
            let _ = self.runtime.block_on(wait_for(SETTLING, are_there));
        }
        // What a filter counts when a stream has ended comes a moment later.
        let admin = self.admin;
        let settled = async || {
            played.metrics = admin.metrics().await.ok()?;
            metric_differences(&plan.ran, &played)
                .is_empty()
                .then_some(())
        };
        // If it does not come, what has come is compared.
        let _ = self.runtime.block_on(wait_for(SETTLING, settled));
        Ok(Ok(played))
    }

    /// What the filters of a case have logged so far.
    fn logs(&self, plan: &Plan<'_>) -> Vec<LogLine> {
        let plugins = plan.plugins();
        let own = self
            .listeners
            .iter()
            .filter(|(listener, _)| std::ptr::eq(listener.plan.case, plan.case));
        let writers: Vec<Writer<'_>> = own
            .flat_map(|(listener, _)| plugins.iter().map(|plugin| listener.writer(plugin)))
            .collect();
        logs::lines(&self.process.marked_log(), &writers)
    }

    fn play(
        &mut self,
        plan: &Plan<'_>,
        number: usize,
        exchange: &Exchange,
        here: Option<&ChainOutcome>,
    ) -> anyhow::Result<Seen> {
        let surroundings = plan
            .surroundings
            .get(number)
            .context("each exchange has surroundings")?;
        let upstream = upstream_of(exchange);
        let (listener, place) = self
            .listeners
            .iter()
            .find(|(listener, _)| is_for(listener, plan, surroundings, upstream))
            .context("there is no listener for the exchange")?;
        let upstream = self.upstreams.get(upstream);
        upstream.follow(vec![Reaction::of_answer(&exchange.answer)]);
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
        let admin = self.admin;
        let downstream = self.runtime.block_on(async {
            // The case says that time passes.
            tokio::time::sleep(Duration::from_millis(exchange.after_ms)).await;
            client::play(
                place,
                listener.certificates.as_ref(),
                surroundings,
                &exchange.request,
                &admin,
            )
            .await
        })?;
        let served = self.served.entry(listener.name.clone()).or_default();
        let line = self
            .runtime
            .block_on(line_of(&self.access_log, &listener.name, *served))
            .context("Envoy's access log does not tell of the exchange")?;
        *served += 1;
        // A filter need not wait for the calls that it makes.
        let expected = |name: &str| {
            here.map_or(0, |here| {
                call_outs(here).filter(|call| call.cluster == name).count()
            })
        };
        let mut calls = Vec::new();
        for ((name, service), before) in self.upstreams.services.iter().zip(before) {
            let received = || service.received().split_off(before);
            let are_there = async || {
                let received = received();
                let are_complete = received.iter().all(|call| call.is_complete);
                (received.len() >= expected(name) && are_complete).then_some(())
            };
            // If they don't come, what has come is compared.
            let _ = self.runtime.block_on(wait_for(SETTLING, are_there));
            calls.push((name.clone(), received()));
        }
        let mut logs = Vec::new();
        if expects_logs {
            let count = here.map_or(0, |here| {
                here.filters.iter().map(|filter| filter.logs.len()).sum()
            });
            let are_there = async || {
                logs = self.logs(plan).split_off(logged);
                (logs.len() >= count).then_some(())
            };
            let _ = self.runtime.block_on(wait_for(SETTLING, are_there));
        }
        let (line, values) = line.split_once(BETWEEN).unwrap_or((&line, ""));
        let filter_state = plan
            .filter_state_keys()
            .into_iter()
            .zip(values.split(BETWEEN).map(str::to_owned))
            .collect();
        let (mark, details) = line.split_once(' ').unwrap_or(("-", "-"));
        Ok(Seen {
            upstream: upstream.received().pop(),
            downstream,
            calls,
            details: (details != "-").then(|| details.to_owned()),
            is_reached: mark == REACHED,
            filter_state,
            logs,
        })
    }
}

impl Upstreams {
    async fn start(plans: &[&Plan<'_>]) -> anyhow::Result<Self> {
        let mut services = Vec::new();
        for service in plans.iter().flat_map(|plan| &plan.services) {
            let upstream = Upstream::start(service.protocol, service.script.clone()).await?;
            services.push((service.name.clone(), upstream));
        }
        Ok(Self {
            http1: Upstream::start(Protocol::Http1, Vec::new()).await?,
            http2: Upstream::start(Protocol::Http2, Vec::new()).await?,
            services,
        })
    }

    fn get(&self, protocol: Protocol) -> &Upstream {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        }
    }

    fn clusters(&self) -> Vec<(String, &Upstream)> {
        let upstreams = [Protocol::Http1, Protocol::Http2]
            .map(|protocol| (upstream_name(protocol).to_owned(), self.get(protocol)));
        let services = self
            .services
            .iter()
            .map(|(name, upstream)| (name.clone(), upstream));
        upstreams.into_iter().chain(services).collect()
    }
}

/// Frames that must arrive as they are come over HTTP/2; HTTP/1 joins what is read at once.
fn upstream_of(exchange: &Exchange) -> Protocol {
    if exchange.answer.frames.is_empty() {
        Protocol::Http1
    } else {
        Protocol::Http2
    }
}

fn is_for(
    listener: &Listener<'_>,
    plan: &Plan<'_>,
    surroundings: &Surroundings,
    upstream: Protocol,
) -> bool {
    std::ptr::eq(listener.plan.case, plan.case)
        && listener.surroundings == surroundings
        && listener.upstream == upstream
}

/// The listeners that the exchanges of `plans` need; exchanges of one case share those that are alike.
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
        // A refused configuration is refused with its listener, which no request asks for.
        let nobody = plan
            .exchanges
            .is_empty()
            .then_some((&plan.nobody, Protocol::Http1));
        let wanted = plan
            .surroundings
            .iter()
            .zip(plan.exchanges.iter().map(upstream_of));
        for (surroundings, upstream) in wanted.chain(nobody) {
            let own = listeners.get(first..).unwrap_or_default();
            if own
                .iter()
                .any(|listener| is_for(listener, plan, surroundings, upstream))
            {
                continue;
            }
            let name = format!("case-{number}-{}", listeners.len());
            listeners.push(Listener {
                socket: (surroundings.peer == PeerKind::Unix)
                    .then(|| folder.join(format!("{name}.sock"))),
                certificates: if surroundings.tls {
                    Some(certificates(surroundings)?)
                } else {
                    None
                },
                name,
                plan,
                surroundings,
                upstream,
                vm_id: if plan.is_alone() {
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

fn certificates(surroundings: &Surroundings) -> anyhow::Result<Certificates> {
    let name = surroundings
        .server_name
        .as_deref()
        .unwrap_or(client::SERVER_NAME);
    let client = surroundings.client.as_ref().map(|names| {
        let dns: Vec<&str> = names.dns.as_deref().into_iter().collect();
        let uris: Vec<&str> = names.uri.as_deref().into_iter().collect();
        Certificate::create(&dns, &uris)
    });
    Ok(Certificates {
        server: Certificate::create(&[name], &[])?,
        client: client.transpose()?,
    })
}

/// The level of the filters' logs: `trace`, as here, unless a case says another.
fn log_level<'p>(plans: &[&'p Plan<'_>]) -> &'p str {
    let setup = plans
        .first()
        .and_then(|plan| plan.case.plugin.as_ref().or(plan.file.plugin.as_ref()));
    match setup.and_then(|setup| setup.log_level) {
        None | Some(Level::Trace) => "trace",
        Some(Level::Debug) => "debug",
        Some(Level::Info) => "info",
        Some(Level::Warn) => "warning",
        Some(Level::Error) => "error",
        Some(Level::Critical) => "critical",
    }
}

/// What the access log says of an exchange of this listener, counted from 0, once it does.
async fn line_of(log: &Path, listener: &str, number: usize) -> Option<String> {
    wait_for(LOGGING, async || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let whole = text.get(..text.rfind('\n')?)?;
        let mut lines = whole
            .lines()
            .filter_map(|line| line.strip_prefix(listener)?.strip_prefix(' '));
        lines.nth(number).map(str::to_owned)
    })
    .await
}

/// How long a line of the access log may be on its way.
const LOGGING: Duration = Duration::from_secs(30);

/// How long a call that nobody waits for may be on its way.
const SETTLING: Duration = Duration::from_secs(3);
