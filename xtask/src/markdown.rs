//! Checks the links of all Markdown files: each file and each heading that a link names must exist.
//!
//! Links to other hosts are not followed: a check must not depend on the network, and an address that fails today may work
//! tomorrow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, ensure};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::steps::{repository_files, root};

/// What other files can refer to in a Markdown file, and what it refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// The names of its headings in links.
    pub(crate) anchors: BTreeSet<String>,
    /// The targets of its links and images, each with its line.
    pub(crate) links: Vec<(usize, String)>,
}

/// Where a link leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To another host.
    Elsewhere,
    /// To a file or folder of the repository, by its path from the root, and a heading in it.
    Here(String, Option<String>),
}

/// Checks every Markdown file that git tracks or would add.
pub(crate) fn check() -> anyhow::Result<()> {
    let files = repository_files(&[])?;
    let pages = read_pages(&files)?;
    let faults = faults(&files, &pages);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Reads the Markdown files among these files.
pub(crate) fn read_pages(files: &BTreeSet<String>) -> anyhow::Result<BTreeMap<String, Page>> {
    files
        .iter()
        .filter(|file| is_markdown(file))
        .map(|file| {
            let text = std::fs::read_to_string(root().join(file))
                .with_context(|| format!("cannot read {file}"))?;
            Ok((file.clone(), Page::parse(&text)))
        })
        .collect()
}

/// Returns one line for each link that leads nowhere.
fn faults(files: &BTreeSet<String>, pages: &BTreeMap<String, Page>) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, page) in pages {
        for (line, link) in &page.links {
            if let Err(fault) = follow(file, link, files, pages) {
                faults.push(format!("{file}:{line}: `{link}`: {fault}"));
            }
        }
    }
    faults
}

fn follow(
    file: &str,
    link: &str,
    files: &BTreeSet<String>,
    pages: &BTreeMap<String, Page>,
) -> Result<(), String> {
    let Target::Here(path, anchor) = resolve(file, link)? else {
        return Ok(());
    };
    let folder = format!("{path}/");
    if !files.contains(&path) && !files.iter().any(|file| file.starts_with(&folder)) {
        return Err(format!("there is no file or folder {path}"));
    }
    match (anchor, pages.get(&path)) {
        (Some(anchor), Some(page)) if !page.anchors.contains(&anchor) => {
            Err(format!("{path} has no heading `{anchor}`"))
        }
        (Some(_), None) => Err(format!("{path} has no headings")),
        _ => Ok(()),
    }
}

/// Returns where a link in this file leads.
pub(crate) fn resolve(file: &str, link: &str) -> Result<Target, String> {
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor.to_owned())),
        None => (link, None),
    };
    if ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| link.starts_with(scheme))
    {
        return Ok(Target::Elsewhere);
    }
    if path.is_empty() {
        return Ok(Target::Here(file.to_owned(), anchor));
    }
    let mut resolved = PathBuf::from(file);
    resolved.pop();
    for component in Path::new(path).components() {
        let inside = match component {
            Component::Normal(name) => {
                resolved.push(name);
                true
            }
            Component::ParentDir => resolved.pop(),
            Component::CurDir => true,
            Component::RootDir | Component::Prefix(_) => false,
        };
        if !inside {
            return Err("the link leads out of the repository".to_owned());
        }
    }
    Ok(Target::Here(
        resolved.to_string_lossy().into_owned(),
        anchor,
    ))
}

pub(crate) fn is_markdown(file: &str) -> bool {
    Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "md")
}

impl Page {
    /// Reads the headings and links of a text.
    pub(crate) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        // The text of the heading that is being read.
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    if let Some(heading) = heading.take() {
                        page.add_anchor(&anchor(&heading));
                    }
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    let before = text.get(..range.start).unwrap_or_default();
                    let line = before.matches('\n').count().saturating_add(1);
                    page.links.push((line, dest_url.into_string()));
                }
                _ => {}
            }
        }
        page
    }

    /// Adds an anchor. Equal headings of a page are numbered.
    fn add_anchor(&mut self, name: &str) {
        let numbered = (1..).map(|number: usize| format!("{name}-{number}"));
        let free = std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }
}

/// Returns the name of a heading in links, as forges and mdBook build it.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter
                .is_alphanumeric()
                .then(|| letter.to_lowercase())
                .and_then(|mut lower| lower.next()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(texts: &[(&str, &str)]) -> BTreeMap<String, Page> {
        let pages = texts
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Page::parse(text)));
        pages.collect()
    }

    /// Checks the links of `docs/a.md`, next to `docs/b.md`, `README.md` and a file that is no Markdown.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let pages = pages(&[
            ("docs/a.md", text),
            (
                "docs/b.md",
                "# Settings\n\n## `root_path`: the mount\n\n## Twice\n\n## Twice\n",
            ),
            ("README.md", "# Read me\n"),
        ]);
        let mut files: BTreeSet<String> = pages.keys().cloned().collect();
        files.insert("envoy/istio/plugin.yaml".to_owned());
        assert_eq!(faults(&files, &pages), expected);
    }

    #[test]
    fn links_to_files_folders_and_headings_are_followed() {
        check(
            "# Own\n[a](#own) [b](b.md) [c](b.md#root_path-the-mount) [d](../README.md#read-me) [e](../envoy/istio/)\n\
             ![f](../envoy/istio/plugin.yaml) [g](https://example.com/nothing) [h](b.md#twice-1)\n",
            &[],
        );
    }

    #[test]
    fn a_missing_file_is_a_fault_with_its_line() {
        check(
            "text\n\n[x](c.md)\n",
            &["docs/a.md:3: `c.md`: there is no file or folder docs/c.md"],
        );
        check(
            "![x](picture.svg)\n",
            &["docs/a.md:1: `picture.svg`: there is no file or folder docs/picture.svg"],
        );
    }

    #[test]
    fn a_missing_heading_is_a_fault() {
        check(
            "[x](b.md#nothing) [y](#own)\n",
            &[
                "docs/a.md:1: `b.md#nothing`: docs/b.md has no heading `nothing`",
                "docs/a.md:1: `#own`: docs/a.md has no heading `own`",
            ],
        );
        check(
            "[x](../envoy/istio/plugin.yaml#L3)\n",
            &[
                "docs/a.md:1: `../envoy/istio/plugin.yaml#L3`: envoy/istio/plugin.yaml has no headings",
            ],
        );
    }

    #[test]
    fn a_link_out_of_the_repository_is_a_fault() {
        check(
            "[x](../../other.md) [y](/README.md)\n",
            &[
                "docs/a.md:1: `../../other.md`: the link leads out of the repository",
                "docs/a.md:1: `/README.md`: the link leads out of the repository",
            ],
        );
    }

    #[test]
    fn code_is_not_a_link() {
        check("`[x](c.md)`\n\n```text\n[x](c.md)\n# Heading\n```\n", &[]);
    }
}
