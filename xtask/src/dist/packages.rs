//! Lists the packages that a program is compiled from, as Cargo selects them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::build::Sources;
use super::output;

/// The packages of a program, itself included.
pub(super) struct Packages {
    /// The program.
    pub(super) main: Id,
    /// All packages, and the packages that each depends on.
    pub(super) all: BTreeMap<Id, BTreeSet<Id>>,
    details: BTreeMap<Id, Details>,
}

/// A package, by name and version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) name: String,
    pub(super) version: String,
}

/// What is known of a package.
#[derive(Debug, Clone, Default)]
pub(super) struct Details {
    /// An SPDX expression.
    pub(super) licence: Option<String>,
    pub(super) description: Option<String>,
    pub(super) repository: Option<String>,
    /// SHA-256 of the archive in the registry, from the lock file; `None` for packages of this repository.
    pub(super) checksum: Option<String>,
    /// The folder of its sources.
    pub(super) folder: PathBuf,
}

impl Packages {
    /// Lists what Cargo compiles for this package and target: with the features that are in use, with build scripts, and without
    /// what only tests need.
    pub(super) fn of(sources: &Sources, package: &str, target: &str) -> anyhow::Result<Self> {
        let tree = output(sources.cargo().args([
            "tree",
            "--locked",
            "--package",
            package,
            "--target",
            target,
            "--edges",
            "normal,build",
            "--prefix",
            "depth",
            "--format",
            " {p}",
        ]))?;
        let (main, all) = read_tree(&String::from_utf8(tree)?)?;
        let metadata =
            output(
                sources
                    .cargo()
                    .args(["metadata", "--locked", "--format-version", "1"]),
            )?;
        let lock = std::fs::read_to_string(sources.root.join("Cargo.lock"))
            .context("cannot read Cargo.lock")?;
        let details = read_details(&serde_json::from_slice(&metadata)?, &toml::from_str(&lock)?)?;
        for id in all.keys() {
            ensure!(
                details.contains_key(id),
                "cargo metadata does not know {} {}",
                id.name,
                id.version
            );
        }
        Ok(Self { main, all, details })
    }

    /// Returns what is known of a package.
    pub(super) fn details(&self, id: &Id) -> Details {
        self.details.get(id).cloned().unwrap_or_default()
    }
}

/// Reads the output of `cargo tree --prefix depth --format ' {p}'`, such as `2 serde v1.0.0 (*)`.
fn read_tree(text: &str) -> anyhow::Result<(Id, BTreeMap<Id, BTreeSet<Id>>)> {
    let mut all: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    // The packages from the root to the current line.
    let mut path: Vec<Id> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let depth: usize = words
            .next()
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("unexpected line of cargo tree: {line}"))?;
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            anyhow::bail!("unexpected line of cargo tree: {line}");
        };
        let id = Id {
            name: name.to_owned(),
            version: version.trim_start_matches('v').to_owned(),
        };
        path.truncate(depth);
        if let Some(parent) = path.last() {
            all.entry(parent.clone()).or_default().insert(id.clone());
        }
        all.entry(id.clone()).or_default();
        path.push(id);
    }
    let main = path.first().context("cargo tree printed nothing")?.clone();
    Ok((main, all))
}

fn read_details(metadata: &Value, lock: &toml::Table) -> anyhow::Result<BTreeMap<Id, Details>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut checksums = BTreeMap::new();
    for package in lock
        .get("package")
        .and_then(toml::Value::as_array)
        .context("Cargo.lock has no packages")?
    {
        let field = |name: &str| package.get(name).and_then(toml::Value::as_str);
        if let (Some(name), Some(version), Some(checksum)) =
            (field("name"), field("version"), field("checksum"))
        {
            let id = Id {
                name: name.to_owned(),
                version: version.to_owned(),
            };
            checksums.insert(id, checksum.to_owned());
        }
    }
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    packages
        .iter()
        .map(|package| {
            let (Some(name), Some(version)) = (text(&package["name"]), text(&package["version"]))
            else {
                anyhow::bail!("cargo metadata has a package without name or version");
            };
            let manifest = PathBuf::from(text(&package["manifest_path"]).unwrap_or_default());
            let id = Id { name, version };
            let details = Details {
                // Cargo still accepts the slash that was used before SPDX expressions.
                licence: text(&package["license"]).map(|licence| licence.replace('/', " OR ")),
                description: text(&package["description"]),
                repository: text(&package["repository"]),
                checksum: checksums.get(&id).cloned(),
                folder: manifest.parent().map(PathBuf::from).unwrap_or_default(),
            };
            Ok((id, details))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
        }
    }

    #[test]
    fn each_line_of_the_tree_depends_on_the_line_above_it_that_is_less_deep() {
        let (main, all) = read_tree(
            "0 app v1.0.0 (/folder)\n1 a v1.0.0\n2 b v1.0.0\n1 c v1.0.0 (proc-macro)\n2 b v1.0.0 (*)\n",
        )
        .expect("a tree");
        assert_eq!(main, id("app"));
        let expected = BTreeMap::from([
            (id("app"), BTreeSet::from([id("a"), id("c")])),
            (id("a"), BTreeSet::from([id("b")])),
            (id("b"), BTreeSet::new()),
            (id("c"), BTreeSet::from([id("b")])),
        ]);
        assert_eq!(all, expected);
        assert!(read_tree("").is_err());
        assert!(read_tree("app v1.0.0\n").is_err());
    }
}
