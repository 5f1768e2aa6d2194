//! `cargo xtask dist`: builds the files of a release, the same bytes from the same sources on every machine.
//!
//! Nothing in a file depends on the time, the user or the folder: times are those of the commit, archives are sorted, and the
//! compiler writes paths without the folder they are in. `--twice` shows it: it builds again from a copy of the sources in
//! another folder, and compares.

mod archive;
mod build;
mod licences;
mod packages;
mod sbom;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::steps::{root, target};
use crate::{image, setup};
use archive::Entry;
use build::{Platform, Sources};
use packages::Packages;

pub(crate) use build::{commit, hide_folders};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write to this folder; what it contains is deleted
    #[arg(long, value_name = "FOLDER", default_value_os_t = target().join("dist"))]
    output: PathBuf,
    /// Build only these parts; all if none is named
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// Fail if this tag is not `v` and the version of the workspace
    #[arg(long)]
    tag: Option<String>,
    /// Build everything again from a copy of the sources in another folder, and fail if a file differs
    #[arg(long)]
    twice: bool,
}

/// What a release consists of.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The filter, as a module and as an OCI image layout
    Filter,
    /// Static executables of the gateway and of the test host, with manual pages and completions, and the image of the gateway
    Programs,
    /// The same for arm64
    ProgramsArm64,
    /// The Helm chart
    Chart,
    /// The JSON Schemas of settings, values and case files
    Schemas,
    /// The software bills of materials, as CycloneDX and SPDX
    Sboms,
}

/// The version of the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A part of a release that has an SBOM and licence texts: its package, and the target it is built for.
const PRODUCTS: [(&str, &str); 5] = [
    ("fluxlit-filter", build::WASM),
    ("fluxlit-gateway", setup::MUSL),
    ("fluxlit-gateway", setup::ARM64_MUSL),
    ("fluxlit-host-test", setup::MUSL),
    ("fluxlit-host-test", setup::ARM64_MUSL),
];

/// The programs of a release: package and executable.
const PROGRAMS: [(&str, &str); 2] = [
    ("fluxlit-gateway", GATEWAY),
    ("fluxlit-host-test", "host-test"),
];

const GATEWAY: &str = "fluxlit-gateway";

/// Builds the parts, and prints the folder.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(tag) = &options.tag {
        ensure!(
            *tag == format!("v{VERSION}"),
            "the tag is {tag}, and the version in Cargo.toml is {VERSION}"
        );
    }
    let parts = if options.parts.is_empty() {
        <Part as clap::ValueEnum>::value_variants()
    } else {
        &options.parts
    };
    let sources = Sources::of(root(), target().join("dist-build"))?;
    let files = build_parts(parts, &sources)?;
    if options.twice {
        let copy = target().join("dist-copy");
        let again = build_parts(parts, &sources.copy(&copy)?)?;
        compare(&files, &again)?;
        eprintln!("both builds have the same {} files", files.len());
    }
    write(&options.output, &files)?;
    println!("{}", options.output.display());
    Ok(())
}

/// Builds these parts twice, in two folders, checks that they are equal, and uses them.
pub(crate) fn check(parts: &[Part]) -> anyhow::Result<()> {
    let folder = target().join("dist-test");
    run(&Options {
        output: folder.clone(),
        parts: parts.to_vec(),
        tag: Some(format!("v{VERSION}")),
        twice: true,
    })?;
    verify::verify(&folder, parts)
}

/// The same for all parts; also loads the images into podman.
pub(crate) fn check_all() -> anyhow::Result<()> {
    check(<Part as clap::ValueEnum>::value_variants())?;
    verify::load_images(&target().join("dist-test"))
}

/// The files of a release, by name.
type Files = BTreeMap<String, Vec<u8>>;

fn build_parts(parts: &[Part], sources: &Sources) -> anyhow::Result<Files> {
    let mut files = Files::new();
    for part in parts {
        match part {
            Part::Filter => add_filter(&mut files, sources)?,
            Part::Programs => add_programs(&mut files, sources, Platform::X86_64)?,
            Part::ProgramsArm64 => add_programs(&mut files, sources, Platform::Arm64)?,
            Part::Chart => add_chart(&mut files, sources)?,
            Part::Schemas => add_schemas(&mut files, sources)?,
            Part::Sboms => add_sboms(&mut files, sources)?,
        }
    }
    let mut checksums = String::new();
    for (name, content) in &files {
        checksums.push_str(&format!("{}  {name}\n", hex(content)));
    }
    files.insert(CHECKSUMS.to_owned(), checksums.into_bytes());
    Ok(files)
}

fn add_filter(files: &mut Files, sources: &Sources) -> anyhow::Result<()> {
    let module = sources.filter()?;
    let folder = sources.scratch("filter")?;
    image::filter(&module, &folder, VERSION)?;
    let layout = archive::folder(&folder.join("filter"), "")?;
    files.insert(
        format!("fluxlit-filter-{VERSION}-oci.tar"),
        archive::tar(layout, sources.time)?,
    );
    files.insert(
        format!("fluxlit-filter-{VERSION}.wasm"),
        std::fs::read(&module)?,
    );
    files.insert(
        format!("fluxlit-filter-{VERSION}-{}", licences::STANDARD_LIBRARY),
        licences::of_standard_library()?,
    );
    let packages = Packages::of(sources, "fluxlit-filter", build::WASM)?;
    files.insert(
        format!("fluxlit-filter-{VERSION}-licences.txt"),
        licences::texts(&packages, build::WASM, &sources.root)?.into_bytes(),
    );
    Ok(())
}

/// Adds an archive for each program, with the executable, its manual pages, its completions and the licences; and the image of
/// the gateway.
fn add_programs(files: &mut Files, sources: &Sources, platform: Platform) -> anyhow::Result<()> {
    let triple = platform.triple();
    for (package, program) in PROGRAMS {
        let executable = sources.program(package, program, platform)?;
        let folder = format!("{program}-{VERSION}");
        let packages = Packages::of(sources, package, triple)?;
        let mut entries = texts(sources, &executable, program, platform)?;
        entries.extend([
            Entry::executable(
                format!("{folder}/{program}"),
                std::fs::read(&executable).context("cannot read the executable")?,
            ),
            Entry::file(
                format!("{folder}/licences.txt"),
                licences::texts(&packages, triple, &sources.root)?.into_bytes(),
            ),
        ]);
        files.insert(
            format!("{folder}-{triple}.tar.gz"),
            archive::tar_gz(entries, sources.time)?,
        );
        if program == GATEWAY {
            let scratch = sources.scratch(&format!("image-{triple}"))?;
            let architecture = platform.architecture();
            let written = image::gateway(&executable, architecture, &scratch, VERSION)?;
            files.insert(
                format!("{folder}-{architecture}-oci.tar"),
                archive::tar(archive::folder(&written.layout, "")?, sources.time)?,
            );
        }
    }
    Ok(())
}

/// Returns the licence of the project, the completions and the manual pages of a program.
fn texts(
    sources: &Sources,
    executable: &Path,
    program: &str,
    platform: Platform,
) -> anyhow::Result<Vec<Entry>> {
    let folder = format!("{program}-{VERSION}");
    let mut entries = vec![
        Entry::file(
            format!("{folder}/LICENSE"),
            std::fs::read(sources.root.join("LICENSE"))?,
        ),
        Entry::file(
            format!("{folder}/{}", licences::STANDARD_LIBRARY),
            licences::of_standard_library()?,
        ),
    ];
    for shell in ["bash", "fish", "zsh"] {
        entries.push(Entry::file(
            format!("{folder}/completions/{program}.{shell}"),
            output(platform.run(executable)?.args(["completions", shell]))?,
        ));
    }
    let pages = sources.scratch(&format!("man-{program}-{}", platform.triple()))?;
    output(
        platform
            .run(executable)?
            .args(["man", "--output"])
            .arg(&pages),
    )?;
    entries.extend(archive::folder(&pages, &format!("{folder}/man/man1"))?);
    Ok(entries)
}

/// Adds the chart, in the layout of `helm package`.
fn add_chart(files: &mut Files, sources: &Sources) -> anyhow::Result<()> {
    let chart = sources.tracked("deploy/helm/fluxlit-edge", "fluxlit-edge")?;
    files.insert(
        format!("fluxlit-edge-{VERSION}.tgz"),
        archive::tar_gz(chart, sources.time)?,
    );
    Ok(())
}

fn add_schemas(files: &mut Files, sources: &Sources) -> anyhow::Result<()> {
    for (name, path) in [
        ("settings", "policy/schema.json"),
        ("cases", "host-test/cases.schema.json"),
        ("values", "deploy/helm/fluxlit-edge/values.schema.json"),
    ] {
        let content = std::fs::read(sources.root.join(path))?;
        files.insert(format!("fluxlit-{name}-{VERSION}.schema.json"), content);
    }
    Ok(())
}

fn add_sboms(files: &mut Files, sources: &Sources) -> anyhow::Result<()> {
    for (package, target) in PRODUCTS {
        let packages = Packages::of(sources, package, target)?;
        let name = match target {
            build::WASM => format!("{package}-{VERSION}"),
            target => format!("{package}-{VERSION}-{target}"),
        };
        files.insert(
            format!("{name}.cdx.json"),
            sbom::cyclone_dx(&packages, sources.time)?,
        );
        files.insert(
            format!("{name}.spdx.json"),
            sbom::spdx(&packages, sources.time)?,
        );
    }
    Ok(())
}

/// Fails with one line for each difference.
fn compare(one: &Files, other: &Files) -> anyhow::Result<()> {
    let mut differences = Vec::new();
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for name in names {
        match (one.get(name), other.get(name)) {
            (Some(one), Some(other)) if one == other => {}
            (Some(_), Some(_)) => differences.push(format!("{name} differs")),
            _ => differences.push(format!("{name} exists only once")),
        }
    }
    ensure!(
        differences.is_empty(),
        "the two builds are not equal: {}",
        differences.join(", ")
    );
    Ok(())
}

fn write(folder: &Path, files: &Files) -> anyhow::Result<()> {
    if folder.exists() {
        ensure!(
            folder.join(CHECKSUMS).exists() || folder.read_dir()?.next().is_none(),
            "{} is not empty and contains no release",
            folder.display()
        );
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    for (name, content) in files {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}

/// Runs a command; returns its standard output.
fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}

fn hex(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// In the form that `sha256sum --check` reads.
const CHECKSUMS: &str = "checksums.txt";

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        pairs
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn builds_that_differ_are_reported_by_file() {
        let one = files(&[("a", "1"), ("b", "1"), ("c", "1")]);
        assert!(compare(&one, &one).is_ok());
        let error = compare(&one, &files(&[("a", "1"), ("b", "2")])).expect_err("they differ");
        assert_eq!(
            error.to_string(),
            "the two builds are not equal: b differs, c exists only once"
        );
    }

    #[test]
    fn a_folder_with_other_files_is_not_deleted() {
        let folder = std::env::temp_dir().join(format!("fluxlit-dist-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("mine.txt"), "mine").expect("written");
        assert!(write(&folder, &Files::new()).is_err());
        assert!(folder.join("mine.txt").exists());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
