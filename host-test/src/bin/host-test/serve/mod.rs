//! `host-test serve`: what does the filter do to live requests?
//!
//! A local HTTP/1.1 proxy: each request passes the filter on its way to one upstream, each response on its way back.
//! The peer that the filter sees is the real other end of the connection. One line a request says what the filter did.
//!
//! When the module or the configuration file changes, new connections get the new filter; one that does not start leaves
//! the old one in place and is told of.
//!
//! Call-outs go to the servers that `--cluster` names. `--record` keeps what came in and writes it as a case file at the
//! end.
//!
//! Not a proxy for production: one VM on one thread, a connection to the upstream for each request, no time-outs.

mod body;
mod calls;
mod headers;
mod proxy;
mod recording;
mod report;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use host_test::{Clock, Plugin, Refused, StartOptions};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::calls::{Cluster, Live};
use self::proxy::{Proxy, Upstream};
use self::recording::Recorder;
use super::Ending;
use super::loading::{Loading, configuration};

/// Put the filter in front of an HTTP upstream and print what it does to each request
///
/// Prints `listening on http://...` to standard output when it is ready. SIGTERM and SIGINT let the running requests
/// finish, for at most 10 seconds.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    loading: Loading,
    /// Give the filter this configuration: JSON text that begins with `{`, or a file
    #[arg(long, default_value = "{}", value_name = "FILE_OR_JSON")]
    config: String,
    /// Listen on this address; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:10000")]
    listen: SocketAddr,
    /// Forward to this server, as in http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    upstream: Upstream,
    /// Send the filter's HTTP call-outs to the cluster NAME to this server, as in auth=http://127.0.0.1:9000; may be
    /// given several times
    #[arg(long, value_name = "NAME=URL")]
    cluster: Vec<Cluster>,
    /// Write the requests that came in, with what came of them, to this case file at the end; see `host-test replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Let the body's callbacks go on while the filter holds the headers, as Envoy's setting of this name does
    #[arg(long)]
    allow_on_headers_stop_iteration: bool,
}

pub(super) fn serve(arguments: &Arguments) -> anyhow::Result<Ending> {
    let watched = Watched::new(arguments);
    let plugin = start(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let recorder = arguments.record.as_deref().map(Recorder::new).map(Rc::new);
    let proxy = Proxy {
        live: Rc::new(Live::new(plugin, arguments.cluster.clone())),
        upstream: arguments.upstream.clone(),
        recorder: recorder.clone(),
    };
    let serving = listen(arguments, proxy, watched);
    runtime.block_on(tokio::task::LocalSet::new().run_until(serving))?;
    if let Some(recorder) = recorder {
        let profile = arguments.loading.rules.profile;
        let config = configuration(&arguments.config)?;
        recorder.write(arguments.loading.load()?, profile, &config)?;
    }
    Ok(Ending::Done)
}

fn start(arguments: &Arguments) -> anyhow::Result<Plugin> {
    let options = StartOptions {
        plugin_configuration: configuration(&arguments.config)?,
        clock: Clock::System,
        profile: arguments.loading.rules.profile,
        allow_on_headers_stop_iteration: arguments.allow_on_headers_stop_iteration,
        upstreams: arguments
            .cluster
            .iter()
            .map(|cluster| host_test::Upstream {
                name: cluster.name.clone(),
                answers: Vec::new(),
            })
            .collect(),
        ..StartOptions::default()
    };
    arguments
        .loading
        .load()?
        .start(options)
        .inspect(|plugin| report::print_logs(&plugin.logs()))
        .inspect_err(|Refused { logs, .. }| report::print_logs(logs))
        .context("the filter refused to start")
}

/// The files that a filter was started from, and when they changed last.
struct Watched {
    files: Vec<(PathBuf, Option<SystemTime>)>,
}

impl Watched {
    fn new(arguments: &Arguments) -> Self {
        let config = PathBuf::from(&arguments.config);
        let files = [arguments.loading.filter.clone(), config];
        Self {
            files: files.map(|file| (file.clone(), changed(&file))).into(),
        }
    }

    /// Whether a file has changed since the last time.
    fn have_changed(&mut self) -> bool {
        let mut have_changed = false;
        for (file, last) in &mut self.files {
            let now = changed(file);
            have_changed |= now.is_some() && now != *last;
            *last = now.or(*last);
        }
        have_changed
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file)
        .and_then(|file| file.modified())
        .ok()
}

async fn listen(arguments: &Arguments, proxy: Proxy, mut watched: Watched) -> anyhow::Result<()> {
    let address = arguments.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (stop, stopping) = watch::channel(false);
    let mut proxy = Rc::new(proxy);
    let mut ticks = tokio::time::interval(TICK);
    let mut connections = JoinSet::new();
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "listening on http://{address}")?;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, peer)) => {
                    if watched.have_changed() {
                        proxy = reload(arguments, proxy);
                    }
                    let serving = connect(connection, peer, Rc::clone(&proxy), stopping.clone());
                    connections.spawn_local(serving);
                }
                Err(error) => eprintln!("cannot accept a connection: {error}"),
            },
            _ = ticks.tick() => proxy.live.tick(),
            Some(_) = connections.join_next() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    // Nobody listening to this means that there is no connection left to stop.
    let _ = stop.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE_PERIOD, all).await.is_err() {
        eprintln!("stopped with requests still running");
    }
    Ok(())
}

async fn connect(
    connection: TcpStream,
    peer: SocketAddr,
    proxy: Rc<Proxy>,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let proxy = Rc::clone(&proxy);
        async move { proxy.handle(request, peer).await }
    });
    let serving = http1::Builder::new()
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        eprintln!("connection of {peer}: {error}");
    }
}

/// The filter as its files are now, or the old one if that does not start.
fn reload(arguments: &Arguments, old: Rc<Proxy>) -> Rc<Proxy> {
    match start(arguments) {
        Ok(plugin) => {
            eprintln!("the filter was loaded anew");
            Rc::new(Proxy {
                live: Rc::new(Live::new(plugin, arguments.cluster.clone())),
                upstream: old.upstream.clone(),
                recorder: old.recorder.clone(),
            })
        }
        Err(error) => {
            eprintln!("the old filter stays: {error:#}");
            old
        }
    }
}

/// How exactly the module's ticks are kept.
const TICK: Duration = Duration::from_millis(10);

/// How long running requests may take after a signal.
const GRACE_PERIOD: Duration = Duration::from_secs(10);
