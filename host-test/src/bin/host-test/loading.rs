//! Which module is run, under which rules? The options that commands share.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use host_test::{Filter, LoadOptions, Profile, Status, Unknown};

/// Options that say which module is run, and how.
#[derive(clap::Args)]
pub(super) struct Loading {
    /// Run this .wasm file
    #[arg(long)]
    pub(super) filter: PathBuf,
    #[command(flatten)]
    pub(super) rules: Rules,
}

/// Options that say under which rules a module is run.
#[derive(clap::Args)]
pub(super) struct Rules {
    /// Have the semantics of `envoy-1.40` or of the specification, `spec`
    #[arg(long, default_value = "envoy-1.40", value_parser = profile)]
    pub(super) profile: Profile,
    /// Load a module with unknown imports: they `trap` when called, or answer a status such as `UNIMPLEMENTED`
    #[arg(long, value_name = "trap|STATUS", value_parser = unknown)]
    unknown_imports: Option<Unknown>,
    /// Load a module without a known ABI marker as one of ABI 0.2.1
    #[arg(long)]
    any_abi: bool,
    /// Compile the module even if it was compiled before, and keep nothing of it in wasmtime's cache folder
    #[arg(long)]
    no_cache: bool,
}

impl Loading {
    pub(super) fn load(&self) -> anyhow::Result<Filter> {
        Ok(Filter::load_with(&self.filter, self.rules.load_options())?)
    }
}

impl Rules {
    pub(super) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            unknown: self.unknown_imports.unwrap_or_default(),
            any_abi: self.any_abi,
            no_cache: self.no_cache,
        }
    }
}

/// A configuration: JSON text that begins with `{`, or a file.
pub(super) fn configuration(text: &str) -> anyhow::Result<Vec<u8>> {
    if text.trim_start().starts_with('{') {
        return Ok(text.as_bytes().to_vec());
    }
    std::fs::read(Path::new(text)).with_context(|| format!("cannot read the configuration {text}"))
}

fn profile(name: &str) -> Result<Profile, String> {
    Profile::named(name).ok_or_else(|| "give `envoy-1.40` or `spec`".to_owned())
}

fn unknown(name: &str) -> Result<Unknown, String> {
    if name == "trap" {
        return Ok(Unknown::Trap);
    }
    Status::named(name).map(Unknown::Answer).ok_or_else(|| {
        let names = Status::ALL.map(Status::name).join("`, `");
        format!("give `trap` or one of `{names}`")
    })
}
