//! Starts the plugins of a case.
//!
//! All run in one process. As in Envoy, plugins with the same module, `vm_id` and VM configuration share a VM, and those
//! that also have the same names and configuration are one plugin. With workers, there are Envoy's three kinds of start: to
//! check the configuration, in a VM that is then dropped; on the main thread; and on each worker.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxlit_cases::{Case, CaseFile, ChainedPlugin, Config, PluginSetup, latin1};

use super::convert;
use crate::chain::Chain;
use crate::envoy::profile::Profile;
use crate::event::LogLine;
use crate::plugin::Plugin;
use crate::process::Process;
use crate::vm::failure::{FailurePolicy, StartError};
use crate::vm::filter::{Filter, LoadError};
use crate::vm::options::{Clock, LoadOptions, StartOptions};

/// The inputs for starting a case: the tested module and the options of the runner.
pub(super) struct Base<'a> {
    pub(super) filter: &'a Filter,
    pub(super) options: &'a StartOptions,
    pub(super) load_options: LoadOptions,
}

/// The started plugins of a case.
pub(super) struct StartedCase {
    pub(super) process: Process,
    pub(super) profile: Profile,
    /// The tested plugin on the main thread, if there are workers.
    main: Option<Plugin>,
    /// The plugins of each worker in the order of the chain; one entry without workers.
    workers: Vec<Vec<Plugin>>,
    /// The log of the start that only checks the configuration.
    check_logs: Vec<LogLine>,
    /// The tested plugin's `vm_id`.
    pub(super) vm_id: String,
    /// The filter state key under which the listener records the peer.
    pub(super) peer_key: Option<String>,
}

/// A process in which a plugin did not start.
pub(super) struct StartFailure {
    pub(super) process: Process,
    pub(super) vm_id: String,
    pub(super) error: StartError,
}

impl StartedCase {
    /// Builds the chain on a worker. The worker exists because the case file was checked when it was read.
    pub(super) fn chain(&self, worker: usize) -> Chain {
        Chain::new(self.workers.get(worker).into_iter().flatten().cloned())
    }

    /// Returns the tested plugin on a worker.
    pub(super) fn tested(&self, worker: usize) -> Option<&Plugin> {
        self.workers.get(worker)?.first()
    }

    /// Returns the log of the tested plugin's own context, of each start in order.
    pub(super) fn logs(&self) -> Vec<LogLine> {
        let mut logs = self.check_logs.clone();
        logs.extend(self.all_tested().flat_map(Plugin::logs));
        logs
    }

    /// Returns the tested plugin on every thread.
    pub(super) fn all_tested(&self) -> impl Iterator<Item = &Plugin> {
        let workers = self.workers.iter().filter_map(|plugins| plugins.first());
        self.main.iter().chain(workers)
    }
}

/// Starts the plugins of a case, in a process that already has the shared data and queues of the case.
///
/// # Errors
///
/// If a module of the chain cannot be loaded. A plugin that does not start is a result, not an error.
pub(super) fn start(
    base: &Base<'_>,
    path: &Path,
    file: &CaseFile,
    case: &Case,
) -> Result<Result<StartedCase, StartFailure>, LoadError> {
    let options = base.case_options(file, case);
    let vm_id = options.vm_id.clone();
    let process = process_of(case, &options);
    let mut chain = vec![ChainLink {
        module: None,
        filter: base.filter.clone(),
        options,
    }];
    for chained in &file.chain {
        chain.push(ChainLink {
            module: chained.module.as_deref(),
            filter: base.chained_filter(path, chained)?,
            options: base.chained_options(chained),
        });
    }
    let thread = || start_thread(&process, &chain);
    let start = || {
        let Some(workers) = case.workers else {
            return Ok((None, Vec::new(), vec![thread()?]));
        };
        let checked = thread()?;
        let check_logs = checked.first().map_or_else(Vec::new, Plugin::logs);
        drop(checked);
        let main = thread()?.into_iter().next();
        let workers = (0..NonZeroUsize::get(workers))
            .map(|_| thread())
            .collect::<Result<Vec<_>, StartError>>()?;
        Ok((main, check_logs, workers))
    };
    Ok(match start() {
        Ok((main, check_logs, workers)) => Ok(StartedCase {
            process,
            profile: base.options.profile,
            main,
            workers,
            check_logs,
            vm_id,
            peer_key: peer_key(file, case),
        }),
        Err(error) => Err(StartFailure {
            process,
            vm_id,
            error,
        }),
    })
}

impl Base<'_> {
    fn case_options(&self, file: &CaseFile, case: &Case) -> StartOptions {
        let setup = case.plugin.as_ref().or(file.plugin.as_ref());
        let mut upstreams = file.upstreams.clone();
        upstreams.extend(case.upstreams.clone());
        let mut options = self.options(setup);
        options.plugin_configuration = file.config_of(case);
        options.clusters = convert::clusters(&upstreams);
        options
    }

    fn options(&self, setup: Option<&PluginSetup>) -> StartOptions {
        let mut options = self.options.clone();
        let Some(setup) = setup else {
            return options;
        };
        options.root_id.clone_from(&setup.root_id);
        options.plugin_name.clone_from(&setup.name);
        options.vm_id.clone_from(&setup.vm_id);
        options.vm_configuration = latin1::bytes(&setup.vm_config);
        options.environment = setup.environment.clone().into_iter().collect();
        options.allow_on_headers_stop_iteration = setup.allow_on_headers_stop_iteration;
        if let Some(limit) = setup.buffer_limit {
            options.buffer_limit = limit;
        }
        options
            .allowed_capabilities
            .clone_from(&setup.allowed_capabilities);
        options.failure_policy = match setup.failure_policy {
            None | Some(fluxlit_cases::FailurePolicy::Closed) => FailurePolicy::Closed,
            Some(fluxlit_cases::FailurePolicy::Open) => FailurePolicy::Open,
            Some(fluxlit_cases::FailurePolicy::Reload) => FailurePolicy::Reload {
                backoff: Duration::from_secs(1),
            },
        };
        if let Some(level) = setup.log_level {
            options.log_level = convert::log_level(level);
        }
        if let Some(seconds) = setup.start_s {
            options.clock = Clock::Virtual {
                start: seconds.saturating_mul(1_000_000_000),
            };
        }
        options.random_seed = setup.random_seed;
        options
            .faults
            .extend(setup.faults.iter().map(convert::fault));
        options.foreign_functions = convert::foreign_functions(&setup.foreign_functions);
        options
    }

    fn chained_options(&self, chained: &ChainedPlugin) -> StartOptions {
        let mut options = self.options(chained.plugin.as_ref());
        let config = chained.config.as_ref();
        options.plugin_configuration = config.map_or_else(Vec::new, Config::to_bytes);
        options
    }

    fn chained_filter(&self, path: &Path, chained: &ChainedPlugin) -> Result<Filter, LoadError> {
        match &chained.module {
            None => Ok(self.filter.clone()),
            Some(module) => {
                let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
                Filter::load_with(&folder.join(module), self.load_options)
            }
        }
    }
}

/// A plugin of a chain before its start.
struct ChainLink<'a> {
    /// The path of its module; `None` for the tested module.
    module: Option<&'a str>,
    filter: Filter,
    options: StartOptions,
}

impl ChainLink<'_> {
    /// Returns true if Envoy runs both in one VM.
    fn shares_vm_with(&self, other: &Self) -> bool {
        self.module == other.module
            && self.options.vm_id == other.options.vm_id
            && self.options.vm_configuration == other.options.vm_configuration
    }

    /// Returns true if both are one plugin for Envoy, given that they are in one VM.
    fn is_same_plugin(&self, other: &Self) -> bool {
        self.options.plugin_name == other.options.plugin_name
            && self.options.root_id == other.options.root_id
            && self.options.plugin_configuration == other.options.plugin_configuration
            && self.options.failure_policy == other.options.failure_policy
    }
}

/// Starts the plugins of a chain on one thread.
fn start_thread(process: &Process, chain: &[ChainLink<'_>]) -> Result<Vec<Plugin>, StartError> {
    let mut plugins: Vec<Plugin> = Vec::new();
    for link in chain {
        let same_vm: Vec<(&ChainLink<'_>, &Plugin)> = chain
            .iter()
            .zip(&plugins)
            .filter(|(other, _)| link.shares_vm_with(other))
            .collect();
        let same = same_vm.iter().find(|(other, _)| link.is_same_plugin(other));
        plugins.push(match (same, same_vm.first()) {
            (Some((_, plugin)), _) => (*plugin).clone(),
            (None, Some((_, plugin))) => plugin.start_in_same_vm(link.options.clone())?,
            (None, None) => process.start(&link.filter, link.options.clone())?,
        });
    }
    Ok(plugins)
}

/// Creates the process of a case with its initial shared data and queues.
fn process_of(case: &Case, options: &StartOptions) -> Process {
    let process = Process::new(options.clock);
    for (key, value) in &case.shared_data {
        process.set_shared_data(&options.vm_id, &latin1::bytes(key), &latin1::bytes(value));
    }
    enqueue(&process, &options.vm_id, &case.queues);
    process
}

/// Puts messages into queues. Queues without a `vm_id` have that of the tested plugin.
pub(super) fn enqueue(process: &Process, vm_id: &str, queues: &[fluxlit_cases::Queue]) {
    for queue in queues {
        let vm_id = queue.vm_id.as_deref().unwrap_or(vm_id);
        for message in &queue.messages {
            process.enqueue(vm_id, &latin1::bytes(&queue.name), &latin1::bytes(message));
        }
    }
}

/// Returns the value of the only configuration key that the host knows: the filter state key under which the listener
/// records the peer.
fn peer_key(file: &CaseFile, case: &Case) -> Option<String> {
    let mut configs = [&case.config, &file.config].into_iter().flatten();
    configs.find_map(|config| config.text("peer_filter_state_key").map(str::to_owned))
}
