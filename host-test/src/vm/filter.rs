//! Compiles and links a module once, so that it can be started many times.
//!
//! Each start is a new VM. A module that cannot run is rejected here, with every reason, not at the first request.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::{Cache, CacheConfig, Config, Engine, InstancePre, Linker, Module};

use super::imports;
use super::inspection::Inspection;
use super::options::LoadOptions;
use super::state::HostState;
use crate::abi::Version;

/// A compiled proxy-wasm module. Cheap to clone; can be shared between threads.
#[derive(Clone)]
pub struct Filter {
    pub(crate) instance: InstancePre<HostState>,
    pub(crate) version: Version,
    inspection: Arc<Inspection>,
}

/// The reason why a module cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are not a valid WebAssembly module.
    #[error("not a valid WebAssembly module")]
    Invalid(#[source] wasmtime::Error),
    /// The file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The module is valid, but this host cannot run it.
    #[error("cannot run the module: {}", reasons.join("; "))]
    Unsupported {
        /// All reasons.
        reasons: Vec<String>,
    },
}

impl Filter {
    /// Reads and compiles a module. A module whose bytes were compiled before, by this or another process, is taken from
    /// wasmtime's cache, such as `~/.cache/wasmtime`, whose size wasmtime limits.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::load_with(path, LoadOptions::default())
    }

    /// Reads and compiles a module like [`Self::load`], without the checks that `options` skip.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn load_with(path: &Path, options: LoadOptions) -> Result<Self, LoadError> {
        let bytes = read(path)?;
        let cache = if options.no_cache { None } else { cache() };
        Self::link(&compile(&bytes, cache)?, bytes.len(), options)
    }

    /// Compiles a module without a cache.
    ///
    /// # Errors
    ///
    /// [`LoadError::Invalid`] and [`LoadError::Unsupported`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::from_bytes_with(bytes, LoadOptions::default())
    }

    /// Compiles a module without a cache, and without the checks that `options` skip.
    ///
    /// # Errors
    ///
    /// [`LoadError::Invalid`] and [`LoadError::Unsupported`].
    pub fn from_bytes_with(bytes: &[u8], options: LoadOptions) -> Result<Self, LoadError> {
        Self::link(&compile(bytes, None)?, bytes.len(), options)
    }

    pub(crate) fn link(
        module: &Module,
        size: usize,
        options: LoadOptions,
    ) -> Result<Self, LoadError> {
        let inspection = Inspection::new(module, size, options);
        if !inspection.problems.is_empty() {
            return Err(LoadError::Unsupported {
                reasons: inspection.problems,
            });
        }
        let mut linker = Linker::new(module.engine());
        imports::link(&mut linker)
            .and_then(|()| imports::link_unknown(&mut linker, module, options.unknown_imports))
            .map_err(LoadError::Invalid)?;
        let instance = linker.instantiate_pre(module).map_err(LoadError::Invalid)?;
        Ok(Self {
            instance,
            version: inspection.version,
            inspection: Arc::new(inspection),
        })
    }

    /// Inspects a module without running it, even one that cannot run.
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

    /// Returns the inspection of this module.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
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

/// Returns wasmtime's cache of compiled modules; `None` if there is no writable home folder.
fn cache() -> Option<Cache> {
    Cache::new(CacheConfig::new()).ok()
}
