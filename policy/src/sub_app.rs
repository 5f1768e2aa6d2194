//! Forwards requests to a sub-app: a path of the app that another upstream serves.
//!
//! An example is an API under the app's mount: `/apps/my-app/api/items` is for the upstream that serves `/api`. Headers are
//! trusted and removed as for the app itself; only the path and `X-Forwarded-Prefix` differ.

use crate::decision::Forward;
use crate::edit::Edit;
use crate::exchange::{Exchange, ForwardedPrefix, SentPath};
use crate::mount::Mount;
use crate::policy::Policy;
use crate::target::{collapse_leading_slashes, split_query};

/// A path under the mount of every app of a policy that another upstream serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubApp {
    path: Mount,
    upstream_path: SubAppPath,
}

/// The form of the path that is sent to the upstream of a sub-app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubAppPath {
    /// As the browser sent it: `/apps/my-app/api/items`.
    Full,
    /// Without the mount: `/api/items`.
    MountStripped,
    /// Without the mount and the path of the sub-app: `/items`.
    Stripped,
}

impl SubApp {
    /// Parses the path of a sub-app, such as `/api`; `None` if it is invalid or empty.
    pub fn parse(path: &str, upstream_path: SubAppPath) -> Option<Self> {
        let path = Mount::parse(path).ok().filter(|path| !path.is_none())?;
        Some(Self {
            path,
            upstream_path,
        })
    }

    /// Returns the path, with a leading slash and without a trailing one.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// Returns what follows the path of this sub-app in the path of `stripped_target`, empty for the path itself; `None`
    /// if the target is not in this sub-app.
    pub fn strip<'t>(&self, stripped_target: &'t [u8]) -> Option<&'t [u8]> {
        self.path.strip(split_query(stripped_target).0)
    }
}

impl Policy {
    /// Changes the decision to forward a request to the app into one to forward it to the sub-app.
    pub fn enter_sub_app(&self, sub_app: &SubApp, forward: &mut Forward, exchange: &mut Exchange) {
        if self.report_only {
            return;
        }
        let stripped_target = forward.stripped_target().to_vec();
        let (path, query) = split_query(&stripped_target);
        let Some(rest) = sub_app.path.strip(path) else {
            return;
        };
        let target = match sub_app.upstream_path {
            SubAppPath::Full => {
                [exchange.forwarded_prefix().prepend(path).as_slice(), query].concat()
            }
            SubAppPath::MountStripped => stripped_target.clone(),
            SubAppPath::Stripped if rest.is_empty() => [b"/", query].concat(),
            SubAppPath::Stripped => [collapse_leading_slashes(rest), query].concat(),
        };
        match sub_app.upstream_path {
            SubAppPath::Full => exchange.sent_path = SentPath::Full,
            SubAppPath::MountStripped => exchange.sent_path = SentPath::Stripped,
            SubAppPath::Stripped => {
                exchange.sent_path = SentPath::Stripped;
                let prefix = exchange.forwarded_prefix().join(&sub_app.path);
                exchange.forwarded_prefix = ForwardedPrefix::Joined(prefix);
                exchange.sub_app = sub_app.path.clone();
            }
        }
        if exchange.forwarded_prefix().is_none() && exchange.app.public_base.is_none() {
            exchange.sent_path = SentPath::NoMount;
        }
        forward.edits.retain(|edit| match edit {
            Edit::Target(_) => false,
            Edit::Append(name, _) | Edit::Remove(name) | Edit::Set(name, _) => name != PREFIX,
            Edit::Host(_) => true,
        });
        let prefix = exchange.forwarded_prefix().as_str();
        if prefix.is_empty() {
            forward.edits.remove(PREFIX);
        } else {
            forward.edits.set(PREFIX, prefix.as_bytes());
        }
        forward.edits.push(Edit::Target(&target));
    }
}

const PREFIX: &str = "x-forwarded-prefix";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Defaults;
    use crate::decision::Action;
    use crate::message::{Request, Response};
    use crate::peer::Peer;

    /// Returns the target and the prefix that are sent upstream, and the rewritten form of its `Location: /x`.
    fn enter(settings: &str, path: SubAppPath, target: &str) -> (String, Option<String>, String) {
        let policy = Policy::from_json(settings.as_bytes(), Defaults::GATEWAY).unwrap();
        let sub_app = SubApp::parse("/api", path).unwrap();
        let mut decision = policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls: false,
            method: b"GET",
            target: target.as_bytes(),
            host: Some(b"app.example"),
            headers: &[(b"x-forwarded-prefix", b"/forged")],
        });
        let Action::Forward(forward) = &mut decision.action else {
            panic!("{target} gets a reply");
        };
        assert!(
            sub_app.strip(forward.stripped_target()).is_some(),
            "{target}"
        );
        policy.enter_sub_app(&sub_app, forward, &mut decision.exchange);
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let sent = forward.edits.iter().find_map(|edit| match edit {
            Edit::Target(target) => Some(text(target)),
            _ => None,
        });
        let prefixes: Vec<Option<String>> = forward
            .edits
            .iter()
            .filter_map(|edit| match edit {
                Edit::Set(PREFIX, value) => Some(Some(text(value))),
                Edit::Remove(PREFIX) => Some(None),
                _ => None,
            })
            .collect();
        assert_eq!(prefixes.len(), 1, "the prefix is edited once");
        let response = policy.response(
            &decision.exchange,
            &Response {
                status: 302,
                headers: &[(b"location", b"/x")],
            },
        );
        let location = response.edits.iter().find_map(|edit| match edit {
            Edit::Set("location", value) => Some(text(value)),
            _ => None,
        });
        (
            sent.unwrap(),
            prefixes.into_iter().next().flatten(),
            location.unwrap_or_else(|| "/x".to_owned()),
        )
    }

    #[test]
    fn each_path_form_determines_target_prefix_and_location() {
        let mounted = r#"{"root_path": "/m", "upstream_path": "full"}"#;
        let stripped = r#"{"root_path": "/m", "upstream_path": "stripped"}"#;
        let public = r#"{"root_path": "/m", "public_base_url": "https://p.example/public"}"#;
        for (settings, path, target, sent, prefix, location) in [
            (
                "{}",
                SubAppPath::Stripped,
                "/api/a?b",
                "/a?b",
                Some("/api"),
                "/api/x",
            ),
            (
                "{}",
                SubAppPath::Stripped,
                "/api?b",
                "/?b",
                Some("/api"),
                "/api/x",
            ),
            (
                "{}",
                SubAppPath::Stripped,
                "/api//a",
                "/a",
                Some("/api"),
                "/api/x",
            ),
            (
                "{}",
                SubAppPath::MountStripped,
                "/api/a",
                "/api/a",
                None,
                "/x",
            ),
            (
                mounted,
                SubAppPath::Stripped,
                "/m/api/a",
                "/a",
                Some("/m/api"),
                "/m/api/x",
            ),
            (
                stripped,
                SubAppPath::Stripped,
                "/api/a%2F",
                "/a%2F",
                Some("/m/api"),
                "/m/api/x",
            ),
            (
                mounted,
                SubAppPath::MountStripped,
                "/m/api/a",
                "/api/a",
                Some("/m"),
                "/m/x",
            ),
            (
                stripped,
                SubAppPath::Full,
                "/m/api/a",
                "/m/api/a",
                Some("/m"),
                "/x",
            ),
            (
                public,
                SubAppPath::Stripped,
                "/m/api/a",
                "/a",
                Some("/m/api"),
                "/public/api/x",
            ),
        ] {
            let want = (
                sent.to_owned(),
                prefix.map(str::to_owned),
                location.to_owned(),
            );
            assert_eq!(
                enter(settings, path, target),
                want,
                "{settings} {path:?} {target}"
            );
        }
    }

    #[test]
    fn a_sub_app_matches_whole_segments() {
        let sub_app = SubApp::parse("api/", SubAppPath::Stripped).unwrap();
        for (target, want) in [
            ("/api", Some("")),
            ("/api/", Some("/")),
            ("/api/a?b=/api", Some("/a")),
            ("/apix", None),
            ("/x/api", None),
        ] {
            assert_eq!(
                sub_app.strip(target.as_bytes()),
                want.map(str::as_bytes),
                "{target}"
            );
        }
        assert_eq!(SubApp::parse("/", SubAppPath::Stripped), None);
        assert_eq!(SubApp::parse("/a/../b", SubAppPath::Stripped), None);
    }
}
