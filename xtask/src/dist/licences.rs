//! Collects the licence texts of the packages that a program contains.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;

use super::build::WASM;
use super::packages::Packages;

/// Returns one text: each licence file once, with the packages that have it. Of a choice of licences, all texts are there.
///
/// # Errors
///
/// If the text of a package's licence is not known, or a file cannot be read.
pub(super) fn texts(packages: &Packages, target: &str, root: &Path) -> anyhow::Result<String> {
    let own = read(&root.join("LICENSE"))?;
    let mut by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for id in packages.all.keys() {
        let details = packages.details(id);
        let licence = details
            .licence
            .with_context(|| format!("{} {} declares no licence", id.name, id.version))?;
        let name = format!("{} {} ({licence})", id.name, id.version);
        let files = match details.checksum {
            // A package of this repository.
            None => vec![own.clone()],
            Some(_) => licence_files(&details.folder)?,
        };
        if files.is_empty() {
            without.push((name.clone(), licence));
        }
        for text in files {
            by_text.entry(text).or_default().insert(name.clone());
        }
    }
    let llvm = by_text
        .keys()
        .find(|text| text.contains("LLVM Exceptions to the Apache 2.0 License"))
        .cloned();
    for (name, licence) in without {
        let text = general_text(&licence, &own, llvm.as_deref())
            .with_context(|| format!("{name} has no file with its licence"))?;
        let name = format!("{name}, whose package has no such file");
        by_text.entry(text.to_owned()).or_default().insert(name);
    }
    // The toolchain has C libraries without their texts.
    let mut add = |text: &str, name: &str| {
        let names = by_text.entry(text.to_owned()).or_default();
        names.insert(name.to_owned());
    };
    if target == WASM {
        let licence = "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT";
        add(&own, &format!("wasi-libc, the C library ({licence})"));
        add(MUSL.trim_end(), "musl, a part of wasi-libc (MIT)");
    } else {
        add(MUSL.trim_end(), "musl, the C library (MIT)");
    }
    Ok(print(packages, &by_text))
}

/// Returns a text that names no holder, for one of the licences that can be chosen; `None` if there is none.
fn general_text<'a>(licence: &str, apache: &'a str, llvm: Option<&'a str>) -> Option<&'a str> {
    licence.split(" OR ").find_map(|choice| match choice {
        "Apache-2.0" => Some(apache),
        "Apache-2.0 WITH LLVM-exception" => llvm,
        _ => None,
    })
}

fn print(packages: &Packages, by_text: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut all = format!(
        "Licences of {} {} and of what it contains\n\nThose of the Rust standard library are in the file {STANDARD_LIBRARY}.\n",
        packages.main.name, packages.main.version
    );
    for (text, names) in by_text {
        all.push_str(&format!("\n{}\n", "=".repeat(80)));
        for name in names {
            all.push_str(&format!("{name}\n"));
        }
        all.push_str(&format!("{}\n\n{text}\n", "-".repeat(80)));
    }
    all
}

/// Reads the licences of the standard library, which is a part of everything that the compiler writes.
pub(super) fn of_standard_library() -> anyhow::Result<Vec<u8>> {
    let sysroot = crate::setup::sysroot()?;
    let path = sysroot.join("share/doc/rust/COPYRIGHT-library.html");
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads the licence files of a package and of what it includes, such as the sources of a library in C.
fn licence_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            texts.extend(licence_files(&entry.path())?);
        } else if is_licence(&entry.file_name().to_string_lossy()) {
            texts.push(read(&entry.path())?);
        }
    }
    // zstd offers the GPL as an alternative to the BSD licence, which is used; deny.toml allows no package under the GPL alone.
    texts.retain(|text| !text.contains("GNU GENERAL PUBLIC LICENSE"));
    texts.sort();
    texts.dedup();
    Ok(texts)
}

fn is_licence(name: &str) -> bool {
    let name = name.to_uppercase();
    let begins = [
        "LICENSE",
        "LICENCE",
        "COPYING",
        "COPYRIGHT",
        "NOTICE",
        "UNLICENSE",
    ];
    // Sources can have such names, too.
    let is_source = [".RS", ".C", ".H", ".PY"]
        .iter()
        .any(|end| name.ends_with(end));
    begins.iter().any(|begin| name.starts_with(begin)) && !is_source
}

fn read(path: &Path) -> anyhow::Result<String> {
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&content);
    Ok(text.replace("\r\n", "\n").trim_end().to_owned())
}

/// The file `COPYRIGHT` of musl.
const MUSL: &str = include_str!("musl-copyright.txt");

/// The name of the file in archives, next to that of the other texts.
pub(super) const STANDARD_LIBRARY: &str = "licences-rust-standard-library.html";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_are_licence_files() {
        for (name, is_text) in [
            ("LICENSE", true),
            ("license-mit.txt", true),
            ("LICENSE-UNICODE", true),
            ("NOTICE.md", true),
            ("copying.rs", false),
            ("README.md", false),
        ] {
            assert_eq!(is_licence(name), is_text, "{name}");
        }
    }

    #[test]
    fn a_package_without_a_file_gets_a_text_that_names_no_holder() {
        for (licence, text) in [
            ("Apache-2.0", Some("apache")),
            ("MIT OR Apache-2.0", Some("apache")),
            ("Apache-2.0 WITH LLVM-exception", Some("llvm")),
            ("MIT", None),
            ("MIT AND Apache-2.0", None),
        ] {
            assert_eq!(
                general_text(licence, "apache", Some("llvm")),
                text,
                "{licence}"
            );
        }
    }
}
