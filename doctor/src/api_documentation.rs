//! Recognizes the documentation of an API, which FastAPI serves to everybody by default.
//!
//! Whether it is public is the choice of the app, so it is never a warning; but no check may call an app without internal pages
//! that shows it.

use crate::client::Response;

/// The paths below that of the API, with a part of what is there.
const PAGES: [(&str, &str); 3] = [
    ("/openapi.json", "\"openapi\""),
    ("/docs", "swagger-ui"),
    ("/redoc", "redoc"),
];

/// The documentation that was found.
#[derive(Debug, Default)]
pub(crate) struct ApiDocumentation {
    targets: Vec<String>,
}

impl ApiDocumentation {
    /// Returns what to request, if the API is at this path.
    pub(crate) fn targets(api: &str) -> impl Iterator<Item = (String, &'static str)> {
        let targets = PAGES.into_iter();
        targets.map(move |(path, mark)| (format!("{api}{path}"), mark))
    }

    /// Notes a response that has the mark of its target.
    pub(crate) fn see(&mut self, target: &str, mark: &str, response: &Response) {
        if response.status == 200 && !response.is_page() && response.text().contains(mark) {
            self.targets.push(format!("`{target}`"));
        }
    }

    /// Returns what was found instead of `nothing`, which says that there is no internal page. `pages`: what there is none of.
    pub(crate) fn sentence(&self, nothing: &str, pages: &str) -> String {
        if self.targets.is_empty() {
            return nothing.to_owned();
        }
        format!(
            "{pages}, but the API documents itself to everybody at {}; the app decides that: \
             FastAPI(docs_url=None, redoc_url=None, openapi_url=None) closes it",
            self.targets.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_documents_an_api_is_named() {
        let mut found = ApiDocumentation::default();
        for (target, mark) in ApiDocumentation::targets("/api") {
            let body = match target.as_str() {
                "/api/openapi.json" => r#"{"openapi":"3.1.0","paths":{}}"#,
                // Streamlit's page has every path.
                _ => "<div id=\"root\"></div><script src=\"./static/redoc-swagger-ui.js\">",
            };
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n";
            let mut response = Response::parse(head).expect("a response");
            response.body = body.into();
            found.see(&target, mark, &response);
        }
        assert_eq!(found.targets, ["`/api/openapi.json`"]);
        assert!(found.sentence("a", "b").starts_with("b, but the API"));
        assert_eq!(ApiDocumentation::default().sentence("a", "b"), "a");
    }
}
