//! Compiles what a release contains, with the same result in every folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::archive::Entry;
use super::output;
use crate::profile;
use crate::setup;
use crate::steps::{cargo, step};

pub(super) use crate::setup::WASM;

/// What an executable runs on: Linux, with any C library or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    X86_64,
    Arm64,
}

impl Platform {
    /// Returns the name of the target.
    pub(super) fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => setup::MUSL,
            Self::Arm64 => setup::ARM64_MUSL,
        }
    }

    /// Returns the architecture as images name it.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Returns a command that runs an executable here: as it is, or with an emulator.
    pub(super) fn run(self, executable: &Path) -> anyhow::Result<Command> {
        let is_native = match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::Arm64 => cfg!(target_arch = "aarch64"),
        };
        if is_native {
            return Ok(Command::new(executable));
        }
        let emulator = match self {
            Self::X86_64 => "qemu-x86_64-static",
            Self::Arm64 => "qemu-aarch64-static",
        };
        let mut command = Command::new(setup::debian(emulator, "qemu-user-static")?);
        command.arg(executable);
        Ok(command)
    }
}

/// The sources of a release, and where they are compiled.
pub(super) struct Sources {
    /// The root of the repository, or of a copy.
    pub(super) root: PathBuf,
    /// Cargo's target folder. It is a folder of its own, because the compiler gets other flags.
    target: PathBuf,
    /// The commit, with `-dirty` if files differ from it.
    commit: String,
    /// The time of the commit, in seconds since 1970: the time of all files in archives.
    pub(super) time: u64,
}

impl Sources {
    /// Uses the sources in a work tree of git.
    pub(super) fn of(root: PathBuf, target: PathBuf) -> anyhow::Result<Self> {
        let commit = commit(&root)?;
        let time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(time) => time,
            Err(_) => git(&root, &["log", "-1", "--format=%ct"])?,
        };
        let time = time.parse().with_context(|| {
            format!("SOURCE_DATE_EPOCH is `{time}`: expected seconds since 1970")
        })?;
        Ok(Self {
            root,
            target,
            commit,
            time,
        })
    }

    /// Copies the tracked files into a folder that is deleted before, and uses these.
    pub(super) fn copy(&self, folder: &Path) -> anyhow::Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        let root = folder.join("sources");
        for file in git(&self.root, &["ls-files"])?.lines() {
            let to = root.join(file);
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::copy(self.root.join(file), to)
                .with_context(|| format!("cannot copy {file}"))?;
        }
        Ok(Self {
            root,
            target: folder.join("target"),
            commit: self.commit.clone(),
            time: self.time,
        })
    }

    /// Builds the filter; returns the module. In the work tree, it is the one that the tests use.
    pub(super) fn filter(&self) -> anyhow::Result<PathBuf> {
        if self.root == crate::steps::root() {
            return setup::filter();
        }
        setup::wasm_target()?;
        self.build(self.cargo(), "fluxlit-filter", WASM, "--lib")?;
        Ok(self.target.join(WASM).join("release/fluxlit_filter.wasm"))
    }

    /// Builds a program that needs no C library; returns the executable.
    pub(super) fn program(
        &self,
        package: &str,
        program: &str,
        platform: Platform,
    ) -> anyhow::Result<PathBuf> {
        let triple = platform.triple();
        // For every program, although the profile is that of the gateway: other flags would compile shared dependencies again.
        let mut cargo = self.cargo_with(profile::flags(&self.root, triple));
        match platform {
            Platform::X86_64 => setup::musl_target()?,
            Platform::Arm64 => {
                cargo.envs(setup::arm64_musl_target()?);
            }
        }
        self.build(cargo, package, triple, "--bins")?;
        Ok(self.target.join(triple).join("release").join(program))
    }

    fn build(
        &self,
        mut cargo: Command,
        package: &str,
        triple: &str,
        what: &str,
    ) -> anyhow::Result<()> {
        cargo
            .args(["build", "--release", "--locked", "--quiet", what])
            .args(["--package", package, "--target", triple])
            .arg("--target-dir")
            .arg(&self.target);
        step(
            &format!("building {package} for {triple} in {}", self.root.display()),
            || {
                let status = cargo.status().context("cannot run cargo")?;
                ensure!(status.success(), "cargo failed ({status})");
                Ok(())
            },
        )
    }

    /// Returns cargo in the root, for a compiler that writes paths relative to the folders of the sources and of Cargo.
    pub(super) fn cargo(&self) -> Command {
        self.cargo_with(Vec::new())
    }

    /// The same, with more flags for the compiler.
    fn cargo_with(&self, flags: Vec<String>) -> Command {
        let mut command = cargo();
        command
            .current_dir(&self.root)
            .env("SOURCE_DATE_EPOCH", self.time.to_string())
            .env("FLUXLIT_COMMIT", &self.commit);
        hide_folders(&mut command, &self.root, &self.target, flags);
        command
    }

    /// Returns an empty folder for files in between.
    pub(super) fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.target.join("scratch").join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Reads the files of a folder, under this path in an archive. In a work tree, without those that git does not track.
    pub(super) fn tracked(&self, folder: &str, prefix: &str) -> anyhow::Result<Vec<Entry>> {
        if !self.root.join(".git").exists() {
            return super::archive::folder(&self.root.join(folder), prefix);
        }
        let files = git(&self.root, &["ls-files", folder])?;
        let entries = files.lines().map(|file| {
            let inside = file.strip_prefix(folder).unwrap_or(file);
            let content = std::fs::read(self.root.join(file))
                .with_context(|| format!("cannot read {file}"))?;
            Ok(Entry::file(format!("{prefix}{inside}"), content))
        });
        entries.collect()
    }
}

/// Makes the compilers write other names for the folders of the sources, of Cargo and of what is built, which differ between
/// machines. Paths are in the messages of panics. `flags`: more flags for the compiler of Rust.
pub(crate) fn hide_folders(
    command: &mut Command,
    root: &Path,
    target: &Path,
    mut flags: Vec<String>,
) {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    // The last that matches counts, and the target folder can be below the root.
    let folders = [
        (root, "/fluxlit-edge"),
        (home.as_path(), "/cargo"),
        (target, "/target"),
    ];
    let options = |option| folders.map(|(from, to)| format!("{option}={}={to}", from.display()));
    flags.extend(options("--remap-path-prefix"));
    setup::set_flags(command, flags);
    command.env("CFLAGS", options("-ffile-prefix-map").join(" "));
}

/// Returns the commit that is checked out, with `-dirty` if a tracked file differs from it.
pub(crate) fn commit(root: &Path) -> anyhow::Result<String> {
    git(
        root,
        &[
            "describe",
            "--always",
            "--abbrev=40",
            "--exclude=*",
            "--dirty",
        ],
    )
}

fn git(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = output(Command::new("git").args(arguments).current_dir(root))?;
    Ok(String::from_utf8(output)?.trim().to_owned())
}
