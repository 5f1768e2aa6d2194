//! Collects the licence texts of the packages that a program contains.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;

use super::packages::Packages;

/// Returns one text: each licence file once, with the packages that have it.
///
/// A package without such a file is listed with the licence that it declares.
pub(super) fn texts(packages: &Packages, root: &Path) -> anyhow::Result<String> {
    let mut by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for id in packages.all.keys() {
        let details = packages.details(id);
        let licence = details.licence.as_deref().unwrap_or("not declared");
        let name = format!("{} {} ({licence})", id.name, id.version);
        let mut files = match details.checksum {
            // A package of this repository.
            None => vec![read(&root.join("LICENSE"))?],
            Some(_) => licence_files(&details.folder)?,
        };
        if files.is_empty() {
            without.push(name.clone());
        }
        for text in files.drain(..) {
            by_text.entry(text).or_default().insert(name.clone());
        }
    }
    let mut all = format!(
        "Licences of {} {} and of the packages that it contains\n",
        packages.main.name, packages.main.version
    );
    if !without.is_empty() {
        all.push_str("\nThese packages have no file with their licence:\n\n");
        for name in without {
            all.push_str(&format!("  {name}\n"));
        }
    }
    for (text, names) in by_text {
        all.push_str(&format!("\n{}\n", "=".repeat(80)));
        for name in names {
            all.push_str(&format!("{name}\n"));
        }
        all.push_str(&format!("{}\n\n{text}\n", "-".repeat(80)));
    }
    Ok(all)
}

/// Reads the licence files at the top of a package.
fn licence_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_licence = [
            "LICENSE",
            "LICENCE",
            "COPYING",
            "COPYRIGHT",
            "NOTICE",
            "UNLICENSE",
        ]
        .iter()
        .any(|word| name.starts_with(word));
        if is_licence && entry.file_type()?.is_file() {
            texts.push(read(&entry.path())?);
        }
    }
    texts.sort();
    Ok(texts)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&content);
    Ok(text.replace("\r\n", "\n").trim_end().to_owned())
}
