//! Reads what Streamlit's page loads: scripts, style sheets, and where browsers look for them.
//!
//! Streamlit names its files relative to the page (`./static/js/index.js`), because it does not know the mount. Elements are
//! found by their tags, as they are written: Streamlit's page has no script that writes others.

use url::Url;

use crate::client::Site;

/// What a page loads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// The names of Streamlit's files below the mount, such as `static/js/index.js`, in order.
    pub(crate) files: Vec<String>,
    /// Files like those of Streamlit that the page names at another place, as it names them and where browsers look.
    pub(crate) misplaced: Vec<Misplaced>,
    /// Scripts that are none of Streamlit's files, as the page names them.
    pub(crate) foreign: Vec<String>,
}

/// A file that is not below the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misplaced {
    /// The reference in the page.
    pub(crate) written: String,
    /// Where browsers look for it.
    pub(crate) url: Url,
    /// True if that is below the mount, but not in `static/`.
    pub(crate) is_below_mount: bool,
}

impl Page {
    /// Reads the page of a site.
    pub(crate) fn read(text: &str, site: &Site) -> Self {
        let mut page = Self::default();
        let Ok(own) = Url::parse(&site.url()) else {
            return page;
        };
        let base = elements(text, "base").find_map(|tag| attribute(tag, "href"));
        let base = base.and_then(|base| own.join(base).ok());
        let base = base.unwrap_or_else(|| own.clone());
        let scripts = elements(text, "script").filter_map(|tag| attribute(tag, "src"));
        let links = elements(text, "link").filter_map(|tag| attribute(tag, "href"));
        for (written, is_script) in scripts
            .map(|written| (written, true))
            .chain(links.map(|written| (written, false)))
        {
            if let Ok(url) = base.join(written) {
                page.add(written, url, is_script, &own);
            }
        }
        page
    }

    fn add(&mut self, written: &str, url: Url, is_script: bool, own: &Url) {
        let path = url.path();
        let is_file = [".js", ".css"].iter().any(|end| path.ends_with(end));
        let below = path.strip_prefix(own.path());
        let below = below.filter(|_| url.origin() == own.origin());
        match below {
            Some(name) if name.starts_with("static/") && is_file => {
                add_new(&mut self.files, name.to_owned());
            }
            _ if path.contains("/static/") && is_file => {
                let misplaced = Misplaced {
                    written: written.to_owned(),
                    is_below_mount: below.is_some(),
                    url,
                };
                add_new(&mut self.misplaced, misplaced);
            }
            _ if is_script => self.foreign.push(written.to_owned()),
            _ => {}
        }
    }
}

/// Appends what a list does not have.
fn add_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Returns what is in each tag of this name, after the name.
fn elements<'a>(text: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    let tags = text.split('<').skip(1);
    tags.filter_map(move |rest| {
        let (start, rest) = rest.split_at_checked(name.len())?;
        let is_end = rest.starts_with(|next: char| next.is_ascii_whitespace() || next == '>');
        let tag = rest.split('>').next()?;
        (start.eq_ignore_ascii_case(name) && is_end).then_some(tag)
    })
}

/// Returns the value of an attribute, with or without quotes.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    loop {
        rest =
            rest.trim_start_matches(|letter: char| letter.is_ascii_whitespace() || letter == '/');
        let end = rest.find(|letter: char| letter.is_ascii_whitespace() || letter == '=');
        let (found, after) = rest.split_at_checked(end?)?;
        let after = after.trim_start();
        let Some(value) = after.strip_prefix('=') else {
            rest = after;
            continue;
        };
        let value = value.trim_start();
        let quote = value.chars().next().filter(|first| "\"'".contains(*first));
        let (value, after) = match quote {
            Some(quote) => value.get(1..)?.split_once(quote)?,
            None => value
                .split_once(|letter: char| letter.is_ascii_whitespace())
                .unwrap_or((value, "")),
        };
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Page {
        let site = Site::parse("https://portal.example.com/apps/my-app").expect("a URL");
        Page::read(text, &site)
    }

    #[test]
    fn the_files_of_a_page_are_found() {
        let page = read(
            r#"<link rel="icon" href="./favicon.png"/><script>window.prerenderReady = false</script><script type="module" crossorigin src="./static/js/index.A.js"></script><link rel=stylesheet href='./static/css/b.css'><SCRIPT SRC=./static/js/index.A.js></script>"#,
        );
        assert_eq!(page.files, ["static/js/index.A.js", "static/css/b.css"]);
        assert_eq!(page.misplaced, []);
        assert!(page.foreign.is_empty(), "{page:?}");
    }

    #[test]
    fn a_file_is_looked_for_where_browsers_do() {
        const OWN: &str = "https://portal.example.com/apps/my-app/";
        for (head, written, url, is_below_mount) in [
            (
                "",
                "/static/js/a.js",
                "https://portal.example.com/static/js/a.js",
                false,
            ),
            (
                "",
                "../static/js/a.js",
                "https://portal.example.com/apps/static/js/a.js",
                false,
            ),
            (
                "",
                "//cdn.example.com/static/js/a.js",
                "https://cdn.example.com/static/js/a.js",
                false,
            ),
            (
                "",
                "./ui/static/js/a.js",
                "https://portal.example.com/apps/my-app/ui/static/js/a.js",
                true,
            ),
            (
                "<base href=\"/\">",
                "./static/js/a.js",
                "https://portal.example.com/static/js/a.js",
                false,
            ),
        ] {
            let page = read(&format!("{head}<script async src=\"{written}\"></script>"));
            let expected = Misplaced {
                written: written.to_owned(),
                url: Url::parse(url).expect("a URL"),
                is_below_mount,
            };
            assert_eq!(page.misplaced, [expected], "{written}");
        }
        for (head, written) in [
            ("", "/apps/my-app/static/js/a.js"),
            ("", "https://portal.example.com/apps/my-app/static/js/a.js"),
            ("<base href=\"/apps/my-app/\">", "static/js/a.js"),
        ] {
            let page = read(&format!("{head}<script src=\"{written}\"></script>"));
            assert_eq!(
                (&page.files[..], &page.misplaced[..]),
                (&["static/js/a.js".to_owned()][..], &[][..]),
                "{written} at {OWN}"
            );
        }
    }

    #[test]
    fn a_script_that_is_none_of_streamlits_files_is_foreign() {
        let scripts = "<script async src=\"https://stats.example.com/tag.js\"></script><script src=/x></script><link href=\"/logo.svg\">";
        assert_eq!(
            read(scripts).foreign,
            ["https://stats.example.com/tag.js", "/x"]
        );
    }
}
