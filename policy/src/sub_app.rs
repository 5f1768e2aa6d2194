//! How does a request reach a part of an app that another upstream serves?
//!
//! An API below the app's mount, for instance: `/apps/my-app/api/items` is for the upstream that serves `/api`. Nothing is
//! believed or removed otherwise than for the app itself; only the path, and what the upstream is told of it, differ.

use crate::edit::Edit;
use crate::exchange::{Exchange, Forward, UpstreamSaw};
use crate::mount::Mount;
use crate::policy::Policy;
use crate::target::collapse_leading_slashes;

/// A part of every app of a policy, at this path below its mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    path: Mount,
    upstream_path: PartPath,
}

/// How a part's upstream is sent the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartPath {
    /// As the browser wrote it: `/apps/my-app/api/items`.
    Full,
    /// Without the mount: `/api/items`.
    Own,
    /// Without the mount and the part's own path: `/items`.
    Stripped,
}

impl Part {
    /// Reads the path of a part, such as `/api`; `None` if it is none.
    pub fn read(path: &str, upstream_path: PartPath) -> Option<Self> {
        let path = Mount::read(path).ok().filter(|path| !path.is_none())?;
        Some(Self {
            path,
            upstream_path,
        })
    }

    /// The path, with a leading slash and without a trailing one.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// What follows this part's path in the path of `stripped_target`, empty for the part itself; `None` if the target
    /// is not in this part.
    pub fn strip<'t>(&self, stripped_target: &'t [u8]) -> Option<&'t [u8]> {
        self.path.strip(split_query(stripped_target).0)
    }
}

impl Policy {
    /// Turns the decision to forward a request to the app into one to forward it to `part`.
    pub fn enter(&self, part: &Part, forward: &mut Forward, exchange: &mut Exchange) {
        if self.report_only {
            return;
        }
        let (path, query) = split_query(&forward.stripped_target);
        let Some(rest) = part.path.strip(path) else {
            return;
        };
        let target = match part.upstream_path {
            PartPath::Full => [exchange.told_mount.prepend(path).as_slice(), query].concat(),
            PartPath::Own => forward.stripped_target.clone(),
            PartPath::Stripped if rest.is_empty() => [b"/", query].concat(),
            PartPath::Stripped => [collapse_leading_slashes(rest), query].concat(),
        };
        match part.upstream_path {
            PartPath::Full => exchange.upstream_saw = UpstreamSaw::Full,
            PartPath::Own => exchange.upstream_saw = UpstreamSaw::Stripped,
            PartPath::Stripped => {
                exchange.upstream_saw = UpstreamSaw::Stripped;
                exchange.told_mount = exchange.told_mount.join(&part.path);
                exchange.part = part.path.clone();
            }
        }
        if exchange.told_mount.is_none() {
            exchange.upstream_saw = UpstreamSaw::NoMount;
        }
        forward.edits.retain(|edit| match edit {
            Edit::Target(_) => false,
            Edit::Remove(name) | Edit::Set(name, _) => name != PREFIX,
            Edit::Append(..) | Edit::Host(_) => true,
        });
        let told = exchange.told_mount.as_str();
        forward.edits.push(if told.is_empty() {
            Edit::remove(PREFIX)
        } else {
            Edit::set(PREFIX, told)
        });
        forward.edits.push(Edit::Target(target));
    }
}

fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    let end = target.iter().position(|octet| *octet == b'?');
    target
        .split_at_checked(end.unwrap_or(target.len()))
        .unwrap_or((target, b""))
}

const PREFIX: &str = "x-forwarded-prefix";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Defaults;
    use crate::exchange::{Action, Request, Response};
    use crate::peer::Peer;

    /// What the part's upstream is sent, what it is told, and where its `Location: /x` leads.
    fn enter(settings: &str, path: PartPath, target: &str) -> (String, Option<String>, String) {
        let policy = Policy::from_json(settings.as_bytes(), Defaults::GATEWAY).unwrap();
        let part = Part::read("/api", path).unwrap();
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
            panic!("{target} is answered");
        };
        assert!(part.strip(&forward.stripped_target).is_some(), "{target}");
        policy.enter(&part, forward, &mut decision.exchange);
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let sent = forward.edits.iter().find_map(|edit| match edit {
            Edit::Target(target) => Some(text(target)),
            _ => None,
        });
        let told: Vec<Option<String>> = forward
            .edits
            .iter()
            .filter_map(|edit| match edit {
                Edit::Set(name, value) if name == PREFIX => Some(Some(text(value))),
                Edit::Remove(name) if name == PREFIX => Some(None),
                _ => None,
            })
            .collect();
        assert_eq!(told.len(), 1, "the prefix is told once");
        let response = policy.response(
            &decision.exchange,
            &Response {
                status: 302,
                headers: &[(b"location", b"/x")],
            },
        );
        let location = response.edits.iter().find_map(|edit| match edit {
            Edit::Set(name, value) if name == "location" => Some(text(value)),
            _ => None,
        });
        (
            sent.unwrap(),
            told.into_iter().next().flatten(),
            location.unwrap_or_else(|| "/x".to_owned()),
        )
    }

    #[test]
    fn what_a_part_is_sent_and_told() {
        let mounted = r#"{"root_path": "/m", "upstream_path": "full"}"#;
        let stripped = r#"{"root_path": "/m", "upstream_path": "stripped"}"#;
        let public = r#"{"root_path": "/m", "public_base_url": "https://p.example/public"}"#;
        for (settings, path, target, sent, told, location) in [
            (
                "{}",
                PartPath::Stripped,
                "/api/a?b",
                "/a?b",
                Some("/api"),
                "/api/x",
            ),
            (
                "{}",
                PartPath::Stripped,
                "/api?b",
                "/?b",
                Some("/api"),
                "/api/x",
            ),
            (
                "{}",
                PartPath::Stripped,
                "/api//a",
                "/a",
                Some("/api"),
                "/api/x",
            ),
            ("{}", PartPath::Own, "/api/a", "/api/a", None, "/x"),
            (
                mounted,
                PartPath::Stripped,
                "/m/api/a",
                "/a",
                Some("/m/api"),
                "/m/api/x",
            ),
            (
                stripped,
                PartPath::Stripped,
                "/api/a%2F",
                "/a%2F",
                Some("/m/api"),
                "/m/api/x",
            ),
            (
                mounted,
                PartPath::Own,
                "/m/api/a",
                "/api/a",
                Some("/m"),
                "/m/x",
            ),
            (
                stripped,
                PartPath::Full,
                "/m/api/a",
                "/m/api/a",
                Some("/m"),
                "/x",
            ),
            (
                public,
                PartPath::Stripped,
                "/m/api/a",
                "/a",
                Some("/m/api"),
                "/public/api/x",
            ),
        ] {
            let want = (
                sent.to_owned(),
                told.map(str::to_owned),
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
    fn a_part_ends_with_a_segment() {
        let part = Part::read("api/", PartPath::Stripped).unwrap();
        for (target, want) in [
            ("/api", Some("")),
            ("/api/", Some("/")),
            ("/api/a?b=/api", Some("/a")),
            ("/apix", None),
            ("/x/api", None),
        ] {
            assert_eq!(
                part.strip(target.as_bytes()),
                want.map(str::as_bytes),
                "{target}"
            );
        }
        assert_eq!(Part::read("/", PartPath::Stripped), None);
        assert_eq!(Part::read("/a/../b", PartPath::Stripped), None);
    }
}
