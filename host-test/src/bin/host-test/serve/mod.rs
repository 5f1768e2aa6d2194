//! Implements `host-test serve`: a local HTTP/1.1 proxy that passes live requests through the filter to one upstream.
//!
//! The peer that the filter sees is the other end of the client's connection. One line for each request reports what the
//! filter did. When the module or the configuration file changes, new connections get the new filter; if it does not start,
//! a message is printed and the old one remains. Call-outs go to the servers that `--cluster` names. `--record` records the
//! requests and what happened, and writes them as a case file at the end.
//!
//! Not a proxy for production: it has one VM on one thread, a connection to the upstream for each request, and no timeouts.
//!
//! The modules import each other in one direction: `proxy` → `body` → `exchange` → `recording` → `call_outs` →
//! `summary`, `upstream` → `headers`.

mod body;
mod call_outs;
mod exchange;
mod headers;
mod proxy;
mod recording;
mod summary;
mod upstream;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use host_test::case_file::PluginSetup;
use host_test::vm::{Clock, StartError};
use host_test::{Plugin, StartOptions};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::call_outs::{Cluster, RunningFilter};
use self::proxy::Proxy;
use self::recording::Recorder;
use self::upstream::Upstream;
use crate::exit::Exit;
use crate::loading::{FilterOptions, configuration};

/// Put the filter in front of an HTTP upstream and print what it does to each request
///
/// Prints `listening on http://...` to standard output when it is ready. On SIGTERM or SIGINT, running requests have 10
/// seconds to finish.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    filter: FilterOptions,
    /// Give the filter this configuration: JSON text that begins with `{`, or a file
    #[arg(long, default_value = "{}", value_name = "FILE_OR_JSON")]
    config: String,
    /// Listen on this address; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:10000")]
    listen: SocketAddr,
    /// Forward requests to this server, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    upstream: Upstream,
    /// Send the filter's HTTP call-outs to the cluster NAME to this server, such as auth=http://127.0.0.1:9000; may be
    /// given several times
    #[arg(long, value_name = "NAME=URL")]
    cluster: Vec<Cluster>,
    /// Write the requests and their results to this case file at the end; see `host-test replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Run the body's callbacks while the filter holds the headers, like the plugin option of this name in Envoy
    #[arg(long)]
    allow_on_headers_stop_iteration: bool,
}

pub(crate) fn serve(arguments: &Arguments) -> anyhow::Result<Exit> {
    let watched = WatchedFiles::new(arguments);
    let plugin = start(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let recorder = match &arguments.record {
        Some(path) => Some(Rc::new(Recorder::new(path, arguments.filter.profile)?)),
        None => None,
    };
    let proxy = Proxy {
        filter: running(arguments, plugin, recorder.as_deref()),
        upstream: arguments.upstream.clone(),
        recorder: recorder.clone(),
    };
    let serving = listen(arguments, proxy, watched);
    runtime.block_on(tokio::task::LocalSet::new().run_until(serving))?;
    if let Some(recorder) = recorder {
        recorder.write(arguments.filter.runner())?;
    }
    Ok(Exit::Done)
}

fn start(arguments: &Arguments) -> anyhow::Result<Started> {
    let config = configuration(&arguments.config)?;
    let options = StartOptions {
        plugin_configuration: config.clone(),
        clock: Clock::System,
        profile: arguments.filter.profile,
        allow_on_headers_stop_iteration: arguments.allow_on_headers_stop_iteration,
        clusters: arguments
            .cluster
            .iter()
            .map(|cluster| host_test::vm::Cluster {
                name: cluster.name.clone(),
                responses: Vec::new(),
            })
            .collect(),
        ..StartOptions::default()
    };
    let plugin = arguments
        .filter
        .load()?
        .start(options)
        .inspect_err(|StartError { logs, .. }| summary::print_logs(logs))
        .context("the filter did not start")?;
    Ok(Started { plugin, config })
}

/// Connects a started plugin with its servers and the recorder.
fn running(
    arguments: &Arguments,
    plugin: Started,
    recorder: Option<&Recorder>,
) -> Rc<RunningFilter> {
    let Started { plugin, config } = plugin;
    let clusters = arguments.cluster.clone();
    let filter = Rc::new(RunningFilter::new(plugin, clusters, recorder.is_some()));
    filter.take_logs();
    if let Some(recorder) = recorder {
        let setup = PluginSetup {
            allow_on_headers_stop_iteration: arguments.allow_on_headers_stop_iteration,
            ..PluginSetup::default()
        };
        recorder.start(&filter, &config, setup);
    }
    filter
}

/// A started plugin with the configuration that it was given.
struct Started {
    plugin: Plugin,
    config: Vec<u8>,
}

/// The files from which the filter was started.
struct WatchedFiles {
    /// With the time of the last change.
    files: Vec<(PathBuf, Option<SystemTime>)>,
}

impl WatchedFiles {
    fn new(arguments: &Arguments) -> Self {
        let config = PathBuf::from(&arguments.config);
        let files = [arguments.filter.filter.clone(), config];
        Self {
            files: files.map(|file| (file.clone(), last_change(&file))).into(),
        }
    }

    /// Returns true if a file has changed since the last call.
    fn have_changed(&mut self) -> bool {
        let mut have_changed = false;
        for (file, last) in &mut self.files {
            let now = last_change(file);
            have_changed |= now.is_some() && now != *last;
            *last = now.or(*last);
        }
        have_changed
    }
}

fn last_change(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file)
        .and_then(|file| file.modified())
        .ok()
}

async fn listen(
    arguments: &Arguments,
    proxy: Proxy,
    mut watched: WatchedFiles,
) -> anyhow::Result<()> {
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
                    let serving = serve_connection(connection, peer, Rc::clone(&proxy), stopping.clone());
                    connections.spawn_local(serving);
                }
                Err(error) => eprintln!("cannot accept a connection: {error}"),
            },
            _ = ticks.tick() => proxy.filter.tick(),
            Some(_) = connections.join_next() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    // This fails only if there is no connection left to stop.
    let _ = stop.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE_PERIOD, all).await.is_err() {
        eprintln!("stopped with requests still running");
    }
    Ok(())
}

async fn serve_connection(
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

/// Starts the filter from the current files. Returns the old proxy if the filter does not start.
fn reload(arguments: &Arguments, old: Rc<Proxy>) -> Rc<Proxy> {
    let recorder = old.recorder.as_deref();
    match start(arguments).map(|plugin| running(arguments, plugin, recorder)) {
        Ok(filter) => {
            eprintln!("reloaded the filter");
            Rc::new(Proxy {
                filter,
                upstream: old.upstream.clone(),
                recorder: old.recorder.clone(),
            })
        }
        Err(error) => {
            eprintln!("keeping the old filter: {error:#}");
            old
        }
    }
}

/// The precision of the module's ticks.
const TICK: Duration = Duration::from_millis(10);

/// The time that running requests have to finish after a signal.
const GRACE_PERIOD: Duration = Duration::from_secs(10);
