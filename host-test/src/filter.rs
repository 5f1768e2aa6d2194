//! How does a file become a filter that can be started many times?
//!
//! Compiled and linked once; each start is a fresh VM. What cannot run is refused here, with every reason, not when
//! the first request comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::{Config, Engine, InstancePre, Linker, Module};

use crate::host::Host;
use crate::imports;
use crate::inspection::Inspection;
use crate::plugin::{Plugin, Refused, StartOptions};

/// A compiled proxy-wasm module. Cheap to clone, and usable from several threads.
#[derive(Clone)]
pub struct Filter {
    pub(crate) instance: InstancePre<Host>,
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
    /// Reads and compiles a module.
    ///
    /// # Errors
    ///
    /// As [`LoadError`] says.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::from_bytes(&read(path)?)
    }

    /// Compiles a module.
    ///
    /// # Errors
    ///
    /// [`LoadError::Invalid`] and [`LoadError::Refused`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let module = compile(bytes)?;
        let inspection = Inspection::new(&module, bytes.len());
        if !inspection.refusals.is_empty() {
            return Err(LoadError::Refused {
                reasons: inspection.refusals,
            });
        }
        let mut linker = Linker::new(module.engine());
        imports::link(&mut linker).map_err(LoadError::Invalid)?;
        let instance = linker
            .instantiate_pre(&module)
            .map_err(LoadError::Invalid)?;
        Ok(Self {
            instance,
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
        Ok(Inspection::new(&compile(&bytes)?, bytes.len()))
    }

    /// What [`Self::inspect`] says of this module.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Starts a VM with one plugin: initialise, `on_context_create`, `on_vm_start`, `on_configure`.
    ///
    /// # Errors
    ///
    /// The module returned false or trapped, after which Envoy does not start.
    pub fn start(&self, options: StartOptions) -> Result<Plugin, Refused> {
        Plugin::start(self, options)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })
}

fn compile(bytes: &[u8]) -> Result<Module, LoadError> {
    let mut config = Config::new();
    config.consume_fuel(true);
    let engine = Engine::new(&config).map_err(LoadError::Invalid)?;
    Module::new(&engine, bytes).map_err(LoadError::Invalid)
}
