//! How does a file become a filter that can be started many times?
//!
//! Compiled and linked once; each start is a fresh VM. What cannot run is refused here, with every reason, not when
//! the first request comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::{Cache, CacheConfig, Config, Engine, InstancePre, Linker, Module};

use crate::abi::{Status, Version};
use crate::plugin::{Plugin, Refused, StartOptions};
use crate::process::Process;
use crate::vm::imports;
use crate::vm::inspection::Inspection;
use crate::vm::state::Host;

/// What a module may be loaded in spite of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What becomes of imports that this host does not know.
    pub unknown: Unknown,
    /// Whether a module without a known ABI marker is taken for one of 0.2.1.
    pub any_abi: bool,
    /// Whether a file is compiled even if it was compiled before, and nothing of it kept.
    pub no_cache: bool,
}

/// What becomes of imports that this host does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// The module is refused, as by Envoy.
    #[default]
    Refuse,
    /// They do nothing and answer this status; see [`crate::Outcome::unknown_calls`].
    Answer(Status),
    /// They trap when they are called.
    Trap,
}

/// A compiled proxy-wasm module. Cheap to clone, and usable from several threads.
#[derive(Clone)]
pub struct Filter {
    pub(crate) instance: InstancePre<Host>,
    pub(crate) version: Version,
    inspection: Arc<Inspection>,
}

/// Why a module cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It is not a WebAssembly module, or not a valid one.
    #[error("not a valid WebAssembly module")]
    Invalid(#[source] wasmtime::Error),
    /// The file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It is a module, but not one that this host can run.
    #[error("cannot run the module: {}", reasons.join("; "))]
    Refused {
        /// Every reason.
        reasons: Vec<String>,
    },
}

impl Filter {
    /// Reads and compiles a module, or takes what was kept when the same bytes were compiled before, by this process or
    /// another. It is kept in the folder that all users of wasmtime share, such as `~/.cache/wasmtime`, which wasmtime
    /// keeps from growing without bound.
    ///
    /// # Errors
    ///
    /// As [`LoadError`] says.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::load_with(path, LoadOptions::default())
    }

    /// As [`Self::load`]; the module may lack what `options` name.
    ///
    /// # Errors
    ///
    /// As [`LoadError`] says.
    pub fn load_with(path: &Path, options: LoadOptions) -> Result<Self, LoadError> {
        let bytes = read(path)?;
        let cache = if options.no_cache { None } else { cache() };
        Self::link(&compile(&bytes, cache)?, bytes.len(), options)
    }

    /// Compiles a module. Nothing is kept on disk.
    ///
    /// # Errors
    ///
    /// [`LoadError::Invalid`] and [`LoadError::Refused`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::from_bytes_with(bytes, LoadOptions::default())
    }

    /// Compiles a module that may lack what `options` name. Nothing is kept on disk.
    ///
    /// # Errors
    ///
    /// [`LoadError::Invalid`] and [`LoadError::Refused`].
    pub fn from_bytes_with(bytes: &[u8], options: LoadOptions) -> Result<Self, LoadError> {
        Self::link(&compile(bytes, None)?, bytes.len(), options)
    }

    pub(crate) fn link(
        module: &Module,
        size: usize,
        options: LoadOptions,
    ) -> Result<Self, LoadError> {
        let inspection = Inspection::new(module, size, options);
        if !inspection.refusals.is_empty() {
            return Err(LoadError::Refused {
                reasons: inspection.refusals,
            });
        }
        let mut linker = Linker::new(module.engine());
        imports::link(&mut linker)
            .and_then(|()| imports::link_unknown(&mut linker, module, options.unknown))
            .map_err(LoadError::Invalid)?;
        let instance = linker.instantiate_pre(module).map_err(LoadError::Invalid)?;
        Ok(Self {
            instance,
            version: inspection.version,
            inspection: Arc::new(inspection),
        })
    }

    /// Looks at a module without running it, one that cannot run included.
    ///
    /// # Errors
    ///
    /// [`LoadError::Read`] and [`LoadError::Invalid`].
    pub fn inspect(path: &Path) -> Result<Inspection, LoadError> {
        let bytes = read(path)?;
        let module = compile(&bytes, cache())?;
        Ok(Inspection::new(
            &module,
            bytes.len(),
            LoadOptions::default(),
        ))
    }

    /// What [`Self::inspect`] says of this module.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Starts a VM with one plugin in a process of its own: initialise, `on_context_create`, `on_vm_start`,
    /// `on_configure`.
    ///
    /// # Errors
    ///
    /// The module returned false or trapped, after which Envoy does not start.
    pub fn start(&self, options: StartOptions) -> Result<Plugin, Refused> {
        Process::new(options.clock).start(self, options)
    }

    /// Starts a plugin as Envoy does at concurrency `workers`: in a base VM, on the main thread, and on each worker, all
    /// in one process. Returns the workers' plugins. What a filter counts at its start, it counts `workers` + 2 times.
    ///
    /// # Errors
    ///
    /// As [`Self::start`], for the first that is refused.
    pub fn start_as_envoy(
        &self,
        options: &StartOptions,
        workers: usize,
    ) -> Result<Vec<Plugin>, Refused> {
        let process = Process::new(options.clock);
        let mut plugins = (0..workers.saturating_add(2))
            .map(|_| process.start(self, options.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(plugins.split_off(2))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })
}

fn compile(bytes: &[u8], cache: Option<Cache>) -> Result<Module, LoadError> {
    let mut config = Config::new();
    config.consume_fuel(true).cache(cache);
    let engine = Engine::new(&config).map_err(LoadError::Invalid)?;
    Module::new(&engine, bytes).map_err(LoadError::Invalid)
}

/// Where compiled modules are kept. Without a home folder, or where it cannot be written, nothing is.
fn cache() -> Option<Cache> {
    Cache::new(CacheConfig::new()).ok()
}
