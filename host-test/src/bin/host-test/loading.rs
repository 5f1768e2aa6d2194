//! Defines the options that commands share, and loads what they name: the module, its configuration, and cases.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use host_test::Filter;
use host_test::abi::Status;
use host_test::case_file::{CaseFile, Runner};
use host_test::envoy::Profile;
use host_test::suite::Suite;
use host_test::vm::{LoadError, LoadOptions, UnknownImports};

use crate::progress::Progress;

/// Options that select a module and the rules of the host.
#[derive(clap::Args)]
pub(crate) struct FilterOptions {
    /// Run this .wasm file
    #[arg(long, value_name = "FILE")]
    pub(crate) filter: PathBuf,
    /// Follow the semantics of Envoy 1.40, `envoy-1.40`, or of the specification, `spec`
    #[arg(long, default_value = "envoy-1.40", value_parser = profile)]
    pub(crate) profile: Profile,
    /// Load a module with unknown imports; a call of one will `trap` or return a status such as `UNIMPLEMENTED` [default:
    /// reject the module]
    #[arg(long, value_name = "trap|STATUS", value_parser = unknown)]
    unknown_imports: Option<UnknownImports>,
    /// Load a module without a known ABI marker as one of ABI 0.2.1
    #[arg(long)]
    any_abi: bool,
    /// Compile the module even if it is in wasmtime's cache, and do not add it to the cache
    #[arg(long)]
    no_cache: bool,
}

impl FilterOptions {
    /// Loads the module.
    pub(crate) fn load(&self) -> anyhow::Result<Filter> {
        self.load_other(&self.filter)
    }

    /// Loads another module by the same rules.
    pub(crate) fn load_other(&self, module: &Path) -> anyhow::Result<Filter> {
        let _progress = Progress::start(&format!("compiling {}", module.display()));
        Filter::load_with(module, self.load_options()).map_err(|error| refused(module, error))
    }

    /// Loads the module and returns a runner of cases for it.
    pub(crate) fn runner(&self) -> anyhow::Result<Runner> {
        Ok(self.runner_of(self.load()?))
    }

    /// Returns a runner of cases for a loaded module.
    pub(crate) fn runner_of(&self, filter: Filter) -> Runner {
        let mut runner = Runner::new(filter);
        runner.options.profile = self.profile;
        runner.load_options = self.load_options();
        runner
    }

    fn load_options(&self) -> LoadOptions {
        LoadOptions {
            unknown_imports: self.unknown_imports.unwrap_or_default(),
            any_abi: self.any_abi,
            no_cache: self.no_cache,
        }
    }
}

/// Reads a configuration: JSON text that begins with `{`, or the file of that name.
pub(crate) fn configuration(text: &str) -> anyhow::Result<Vec<u8>> {
    if text.trim_start().starts_with('{') {
        return Ok(text.as_bytes().to_vec());
    }
    std::fs::read(text).with_context(|| {
        format!("--config: `{text}` neither begins with `{{` nor is a file that can be read; write other text to a file")
    })
}

/// Case files with their paths.
pub(crate) type CaseFiles = Vec<(PathBuf, CaseFile)>;

/// Reads case files and the `*.json` files of folders. `config` becomes the configuration of files without one.
pub(crate) fn case_files(paths: &[PathBuf], config: Option<&str>) -> anyhow::Result<CaseFiles> {
    let mut files = Vec::new();
    for path in paths {
        anyhow::ensure!(
            !Suite::is_suite(path),
            "{}: this is a test suite of Service Extensions, which only `host-test run` reads; give case files (*.json)",
            path.display()
        );
        if path.is_dir() {
            files.extend(CaseFile::load_folder(path)?);
        } else {
            files.push((path.clone(), CaseFile::load(path)?));
        }
    }
    if let Some(config) = config {
        let config = configuration(config)?;
        for (_, file) in &mut files {
            file.config_by_default(&config);
        }
    }
    Ok(files)
}

/// Reads case files as [`case_files`] does, and rejects paths without any case.
pub(crate) fn cases(paths: &[PathBuf], config: Option<&str>) -> anyhow::Result<CaseFiles> {
    let files = case_files(paths, config)?;
    anyhow::ensure!(
        files.iter().any(|(_, file)| !file.cases.is_empty()),
        "{}: there are no cases; give case files, or folders with *.json files",
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(files)
}

/// Returns the number of cases.
pub(crate) fn count(files: &CaseFiles) -> usize {
    files.iter().map(|(_, file)| file.cases.len()).sum()
}

fn profile(name: &str) -> Result<Profile, String> {
    Profile::named(name).ok_or_else(|| "expected `envoy-1.40` or `spec`".to_owned())
}

fn unknown(name: &str) -> Result<UnknownImports, String> {
    if name == "trap" {
        return Ok(UnknownImports::Trap);
    }
    Status::named(name)
        .map(UnknownImports::Return)
        .ok_or_else(|| {
            let names = Status::ALL.map(Status::name).join("`, `");
            format!("expected `trap` or one of `{names}`")
        })
}

/// Returns an error of one line that names the file.
pub(crate) fn refused(module: &Path, error: LoadError) -> anyhow::Error {
    if let LoadError::Read { .. } = error {
        return error.into();
    }
    let text = format!("{:#}", anyhow::Error::from(error));
    let words: Vec<&str> = text.split_whitespace().collect();
    anyhow::anyhow!("{}: {}", module.display(), words.join(" "))
}
