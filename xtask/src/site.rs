//! Builds the documentation as a site: the Markdown files of the repository, as one book of mdBook.
//!
//! The pages stay where they are, next to what they describe, and `docs/SUMMARY.md` puts them in order. mdBook wants all of
//! them in one folder, so they are copied under `target/site`, with the files that they link to. After that, every link of the
//! HTML is followed, because mdBook does not report a page that is missing in the summary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::markdown::{self, Page, Target};
use crate::setup;
use crate::steps::{quietly, repository_files, root, step, target};

/// Builds the site; returns its folder.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let mdbook = setup::mdbook()?;
    let (source, site) = (target().join("site/source"), target().join("site/html"));
    step("building the documentation under target/site", || {
        assemble(&source)?;
        quietly(
            Command::new(mdbook)
                .env("MDBOOK_LOG", "warn")
                .args(["build", "--dest-dir"])
                .arg(&site)
                .arg(&source),
        )?;
        let faults = broken_links(&site)?;
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        Ok(())
    })?;
    Ok(site)
}

/// Writes the source of the book.
fn assemble(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).context("cannot write under target/")?;
    }
    let files = repository_files(&[])?;
    let pages = markdown::read_pages(&files)?;
    let missing = missing_chapters(&pages)?;
    ensure!(
        missing.is_empty(),
        "{SUMMARY} does not name {}",
        missing.join(", ")
    );
    let book = folder.join("src");
    for (file, page) in pages.iter().filter(|(file, _)| *file != SUMMARY) {
        let text = std::fs::read_to_string(root().join(file))?;
        write(&book.join(in_the_book(file)), &for_the_book(&text, page))?;
    }
    for other in linked(&pages) {
        let inside = format!("{other}/");
        let content: Vec<&String> = files
            .iter()
            .filter(|file| **file == other || file.starts_with(&inside))
            .collect();
        for file in content.iter().filter(|file| !markdown::is_markdown(file)) {
            write(&book.join(file), &std::fs::read(root().join(file))?)?;
        }
        if !files.contains(&other) && !files.contains(&format!("{inside}README.md")) {
            let page = book.join(&other).join("index.html");
            write(&page, &index(&other, &content))?;
        }
    }
    let summary =
        std::fs::read_to_string(root().join(SUMMARY)).context("cannot read the summary")?;
    write(&book.join("SUMMARY.md"), &from_the_root(&summary)?)?;
    std::fs::copy(root().join("docs/book.toml"), folder.join("book.toml"))
        .context("cannot copy docs/book.toml")?;
    Ok(())
}

fn write(path: &Path, content: &(impl AsRef<[u8]> + ?Sized)) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Returns the path of a page in the book. mdBook writes each `README.md` as `index.html`, but does not change links to it.
fn in_the_book(file: &str) -> String {
    file.replace("README.md", "index.md")
}

/// Changes the links of a page as [`in_the_book`] says.
fn for_the_book(text: &str, page: &Page) -> String {
    let mut text = text.to_owned();
    for (_, link) in &page.links {
        if !link.contains("://") {
            text = text.replace(&format!("]({link})"), &format!("]({})", in_the_book(link)));
        }
    }
    text
}

/// Returns the pages that the summary lacks: mdBook would leave them out.
fn missing_chapters(pages: &BTreeMap<String, Page>) -> anyhow::Result<Vec<String>> {
    let summary = pages
        .get(SUMMARY)
        .with_context(|| format!("there is no {SUMMARY}"))?;
    let chapters: BTreeSet<String> = targets(SUMMARY, summary).collect();
    Ok(pages
        .keys()
        .filter(|page| *page != SUMMARY && !chapters.contains(*page))
        .cloned()
        .collect())
}

/// Returns the files and folders that pages link to, without the pages.
fn linked(pages: &BTreeMap<String, Page>) -> BTreeSet<String> {
    pages
        .iter()
        .flat_map(|(file, page)| targets(file, page))
        .filter(|target| !markdown::is_markdown(target))
        .collect()
}

/// Returns the files and folders that one page links to.
fn targets(file: &str, page: &Page) -> impl Iterator<Item = String> {
    page.links
        .iter()
        .filter_map(move |(_, link)| match markdown::resolve(file, link) {
            Ok(Target::Here(path, _)) => Some(path),
            _ => None,
        })
}

/// Makes the links of the summary relative to the root of the repository, which is the root of the book.
fn from_the_root(summary: &str) -> anyhow::Result<String> {
    let mut text = summary.to_owned();
    for (_, link) in Page::parse(summary).links {
        let Ok(Target::Here(path, None)) = markdown::resolve(SUMMARY, &link) else {
            anyhow::bail!("{SUMMARY}: `{link}` is not a page of this repository");
        };
        let path = in_the_book(&path);
        text = text.replace(&format!("]({link})"), &format!("]({path})"));
    }
    Ok(text)
}

/// Writes a page with the files of a folder, for links to folders without a page of their own.
fn index(folder: &str, files: &[&String]) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{folder}</title>\n<h1>{folder}</h1>\n<ul>\n"
    );
    for file in files {
        let name = file
            .strip_prefix(folder)
            .unwrap_or(file)
            .trim_start_matches('/');
        let page = name
            .strip_suffix(".md")
            .map_or_else(|| name.to_owned(), |stem| format!("{stem}.html"));
        text.push_str(&format!("<li><a href=\"{page}\">{name}</a>\n"));
    }
    text.push_str("</ul>\n");
    text
}

/// Returns one line for each link of the site that leads nowhere.
fn broken_links(site: &Path) -> anyhow::Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![site.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "html")
            {
                let text = std::fs::read_to_string(&path)?;
                pages.insert(path, text);
            }
        }
    }
    ensure!(!pages.is_empty(), "mdBook has written no page");
    let mut faults = Vec::new();
    for (page, text) in &pages {
        // The contents and the page of all chapters have the links of the chapters once more; the page for addresses that do not
        // exist refers to the root of the server.
        if ["404.html", "print.html", "toc.html"]
            .iter()
            .any(|name| page.ends_with(name))
        {
            continue;
        }
        for link in attributes(text, "href").chain(attributes(text, "src")) {
            if !leads_somewhere(page, link, &pages) {
                let shown = page.strip_prefix(site).unwrap_or(page).display();
                faults.push(format!("{shown}: `{link}` leads nowhere"));
            }
        }
    }
    Ok(faults)
}

fn leads_somewhere(page: &Path, link: &str, pages: &BTreeMap<PathBuf, String>) -> bool {
    if link.contains("://") || link.starts_with("mailto:") || link.starts_with("data:") {
        return true;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let mut to = match path {
        "" => page.to_owned(),
        _ => page.with_file_name(path),
    };
    if to.is_dir() {
        to.push("index.html");
    }
    let Ok(to) = to.canonicalize() else {
        return false;
    };
    anchor.is_empty()
        || pages.iter().any(|(other, text)| {
            other.canonicalize().is_ok_and(|other| other == to)
                && attributes(text, "id").any(|id| id == anchor)
        })
}

/// Returns the values of an attribute in a page that mdBook has written.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let begin = format!(" {name}=\"");
    let mut rest = html;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&begin)?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some(value)
    })
}

/// The order of the pages.
const SUMMARY: &str = "docs/SUMMARY.md";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_summary_begin_at_the_root() {
        let summary =
            "[Start](../README.md)\n\n- [Settings](settings.md)\n  - [Envoy](../envoy/README.md)\n";
        assert_eq!(
            from_the_root(summary).expect("pages of this repository"),
            "[Start](index.md)\n\n- [Settings](docs/settings.md)\n  - [Envoy](envoy/index.md)\n"
        );
        assert!(from_the_root("[x](https://example.com/a.md)").is_err());
    }

    #[test]
    fn links_to_a_readme_become_links_to_the_index_of_its_folder() {
        let text = "[a](../README.md#start) [b](https://example.com/README.md) README.md";
        assert_eq!(
            for_the_book(text, &Page::parse(text)),
            "[a](../index.md#start) [b](https://example.com/README.md) README.md"
        );
    }

    #[test]
    fn a_page_that_the_summary_lacks_is_found() {
        let page = |text| Page::parse(text);
        let pages = BTreeMap::from([
            (SUMMARY.to_owned(), page("- [Settings](settings.md)\n")),
            ("docs/settings.md".to_owned(), page("[b](../b.yaml)")),
            (
                "README.md".to_owned(),
                page("[f](docs/) [s](docs/settings.md)"),
            ),
        ]);
        assert_eq!(missing_chapters(&pages).expect("a summary"), ["README.md"]);
        assert_eq!(
            linked(&pages),
            BTreeSet::from(["b.yaml".to_owned(), "docs".to_owned()])
        );
    }

    #[test]
    fn links_of_the_site_are_followed() {
        let site = std::env::temp_dir().join(format!("fluxlit-site-{}", std::process::id()));
        std::fs::create_dir_all(site.join("folder")).expect("a folder");
        let page = |name: &str, text: &str| std::fs::write(site.join(name), text).expect("written");
        page("b.html", "<h1 id=\"there\">b</h1>");
        page("folder/index.html", "<a href=\"../b.html\">");
        page(
            "a.html",
            "<a href=\"b.html#there\"> <a href=\"folder\"> <a href=\"https://example.com\"> <a href=\"b.html#gone\"> \
             <img src=\"gone.svg\">",
        );
        let faults = broken_links(&site).expect("pages");
        std::fs::remove_dir_all(&site).expect("removed");
        assert_eq!(
            faults,
            [
                "a.html: `b.html#gone` leads nowhere",
                "a.html: `gone.svg` leads nowhere"
            ]
        );
    }
}
