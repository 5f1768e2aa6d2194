//! Says where a redirect leads in comparison with the URL that was asked for, who has made it, and how to get rid of it.

use url::Url;

use crate::client::{Ask, Response, Site};
use crate::probe::context::{Context, NOWHERE, has_id};
use crate::probe::cures::{
    BOUNDARY, FORWARDED, HOST, LOCATION, LOGIN, OWN_REDIRECT, REDIRECT, ROUTE, SHAPE,
};
use crate::probe::front::Hop;

/// A redirect.
#[derive(Debug)]
pub(crate) struct Redirect {
    asked: Url,
    to: Url,
    /// `Location` without its query, which may contain a secret.
    pub(crate) location: String,
}

/// What differs between the URL that was asked for and the one that a redirect leads to, the first of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Host,
    Scheme,
    Port,
    /// Only a slash is appended.
    Slash,
    Path,
    Nothing,
}

impl Redirect {
    /// Reads the redirect of a response to `target`; `None` if it is none.
    pub(crate) fn of(site: &Site, target: &str, response: &Response) -> Option<Self> {
        let location = response.first("location");
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) || location.is_empty() {
            return None;
        }
        let asked = Url::parse(&format!("{}{target}", site.origin())).ok()?;
        let to = asked.join(&location).ok()?;
        let location = location.split('?').next().unwrap_or_default().to_owned();
        Some(Self {
            asked,
            to,
            location,
        })
    }

    /// Returns what it changes. A query does not count.
    pub(crate) fn change(&self) -> Change {
        let (asked, to) = (&self.asked, &self.to);
        if asked.host() != to.host() {
            Change::Host
        } else if asked.scheme() != to.scheme() {
            Change::Scheme
        } else if asked.port() != to.port() {
            Change::Port
        } else if asked.path() == to.path() {
            Change::Nothing
        } else if self.only_appends_slash() {
            Change::Slash
        } else {
            Change::Path
        }
    }

    /// Returns the finding and the hint. `what`: what was asked, as the subject of a sentence; `ask`: how.
    pub(crate) async fn explain(
        &self,
        context: &Context,
        what: &str,
        ask: &Ask,
        response: &Response,
    ) -> (String, String) {
        let (reason, hint) = self.reason(context, ask, response).await;
        let finding = format!(
            "{what} is redirected to `{}` ({} by {}): {reason}",
            self.location,
            response.status,
            context.author(response)
        );
        (finding, hint)
    }

    async fn reason(&self, context: &Context, ask: &Ask, response: &Response) -> (String, String) {
        let is_of_front = context.is_of_front(response);
        let hop = context.hop(context.by(response));
        let scheme = self.to.scheme();
        let change = self.change();
        if is_of_front && self.only_appends_slash() {
            let own = match change {
                Change::Port => ", with its own port",
                Change::Scheme => ", with its own scheme",
                _ => "",
            };
            if let Some(other) = self.appends_slash_to(context, NOWHERE).await {
                return (
                    format!(
                        "a rule of the front appends a slash to every path, `{other}` too{own}"
                    ),
                    REDIRECT.hint(hop),
                );
            }
            if !own.is_empty() {
                let lines = if hop == Hop::Nginx { OWN_REDIRECT } else { "" };
                return (
                    format!("the front appends the slash itself{own}"),
                    format!("{}{lines}", BOUNDARY.hint(hop)),
                );
            }
        }
        let is_circle = self.leads_back(context, ask).await;
        match change {
            _ if self.doubles_mount(&context.client.site) => (
                "it has the mount twice: the mount arrives at an app that expects a path without it, and the gateway puts it before the Location again".to_owned(),
                format!("{}{SHAPE}", ROUTE.hint(context.front)),
            ),
            _ if is_circle && context.is_of_app(response) => (
                "from there browsers come back, so they go in circles: a hop in front changes the path, such as its last slash".to_owned(),
                ROUTE.hint(context.front),
            ),
            _ if is_circle && self.passes_as_https(context, ask).await => (
                "browsers go in circles; with the field `X-Forwarded-Proto: https`, which they do not send, the request is not redirected: the front takes the scheme from there instead of from its own connection".to_owned(),
                REDIRECT.hint(hop),
            ),
            _ if is_circle => (
                "from there browsers come back, so they go in circles".to_owned(),
                REDIRECT.hint(hop),
            ),
            Change::Scheme if scheme == "https" => (
                "the app is published with https".to_owned(),
                format!("probe the https URL. If http should work as well: {}", REDIRECT.hint(hop)),
            ),
            _ if context.is_of_app(response) && !self.only_appends_slash() => (
                "a hop in front has changed the Location of the app".to_owned(),
                LOCATION.hint(context.front),
            ),
            Change::Scheme if !is_of_front => (
                format!("the scheme is {scheme}, because the app does not believe or get X-Forwarded-Proto"),
                FORWARDED.hint(context.front),
            ),
            Change::Port | Change::Host if !is_of_front && self.only_appends_slash() => (
                "this is another host or port than the public one, because the app gets another Host, and neither gets nor believes the public one in X-Forwarded-Host".to_owned(),
                // Streamlit itself looks at Host alone.
                if has_id(response) { FORWARDED } else { HOST }.hint(context.front),
            ),
            Change::Scheme => (
                format!("a rule of the front changes the scheme to {scheme}"),
                REDIRECT.hint(hop),
            ),
            Change::Port => (
                "a rule of the front changes the port".to_owned(),
                REDIRECT.hint(hop),
            ),
            Change::Host | Change::Path | Change::Slash | Change::Nothing => {
                let place = match change {
                    Change::Host => "another host or port than the public one",
                    _ => "another path of this host",
                };
                let login = if context.client.has_credentials() {
                    LOGIN.hint(hop)
                } else {
                    "send the session of a user with --cookie-file".to_owned()
                };
                (
                    format!("this is {place}: a login, or a redirect by a rule of the front"),
                    format!("if it is a login: {login}. Otherwise: {}", REDIRECT.hint(hop)),
                )
            }
        }
    }

    /// Returns true if it leads to the mount of the site, with or without a slash.
    pub(crate) fn stays_at_mount(&self, site: &Site) -> bool {
        self.to.origin() == self.asked.origin()
            && self.to.path().trim_end_matches('/') == site.mount
    }

    fn doubles_mount(&self, site: &Site) -> bool {
        let doubled = format!("{0}{0}", site.mount);
        !site.mount.is_empty()
            && self.to.path().starts_with(&doubled)
            && !self.asked.path().starts_with(&doubled)
    }

    fn only_appends_slash(&self) -> bool {
        self.to.path().strip_suffix('/') == Some(self.asked.path())
    }

    /// Returns the path if it is redirected in the same way, by a slash at its end.
    async fn appends_slash_to(&self, context: &Context, path: &str) -> Option<String> {
        let site = &context.client.site;
        let target = site.path(path);
        let response = context.client.get(&target).await.ok()?;
        let other = Self::of(site, &target, &response)?;
        let is_same = other.to.origin() == self.to.origin() && other.only_appends_slash();
        (is_same && context.is_of_front(&response)).then_some(target)
    }

    /// Returns true if the request is not redirected there with a field in which a hop in front would say that browsers use
    /// https.
    async fn passes_as_https(&self, context: &Context, ask: &Ask) -> bool {
        let ask = ask.clone().field("X-Forwarded-Proto", "https");
        let response = context.handshake_status(&ask).await;
        response.is_ok_and(|response| {
            let next = Self::of(&context.client.site, &ask.target, &response);
            next.is_none_or(|next| next.to != self.to)
        })
    }

    /// Follows the redirect once, with the cookies that it has set, and returns true if the next one leads back.
    async fn leads_back(&self, context: &Context, ask: &Ask) -> bool {
        if self.to.origin() != self.asked.origin() {
            return false;
        }
        let query = self.to.query().map(|query| format!("?{query}"));
        let ask = Ask {
            target: format!("{}{}", self.to.path(), query.unwrap_or_default()),
            ..ask.clone()
        };
        let Ok(response) = context.handshake_status(&ask).await else {
            return false;
        };
        Self::of(&context.client.site, &ask.target, &response).is_some_and(|next| {
            next.to.origin() == self.asked.origin() && next.to.path() == self.asked.path()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let site = Site::parse("https://portal.example.com/apps/my-app").expect("a URL");
        for (target, location, expected) in [
            ("/apps/my-app", "/apps/my-app/?a=1", Change::Slash),
            ("/apps/my-app/", "/apps/my-app/", Change::Nothing),
            (
                "/apps/my-app/",
                "https://portal.example.com:443/apps/my-app/",
                Change::Nothing,
            ),
            ("/apps/my-app/", "../login?next=1", Change::Path),
            (
                "/apps/my-app",
                "http://portal.example.com/apps/my-app/",
                Change::Scheme,
            ),
            (
                "/apps/my-app",
                "https://portal.example.com:8443/apps/my-app/",
                Change::Port,
            ),
            ("/apps/my-app", "//127.0.0.1:8501/", Change::Host),
        ] {
            let head = format!("HTTP/1.1 308 P\r\nlocation: {location}\r\n\r\n");
            let response = Response::parse(head.as_bytes()).expect("a response");
            let redirect = Redirect::of(&site, target, &response).expect("a redirect");
            assert_eq!(redirect.change(), expected, "{location}");
            assert!(!redirect.location.contains('='), "{redirect:?}");
        }
    }
}
