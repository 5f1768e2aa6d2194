//! Completes `public_base_url`: if it has no path, the mount follows it, as in FluxLit.
//!
//! In the policy, the path of this URL stands in place of the mount, and no path means the root of the host. FluxLit's users
//! often name only the host, `https://portal.example.com`, next to a mount.

use serde_json::{Map, Value};

/// Appends the mount to a `public_base_url` without a path. `mount`: empty if there is none.
pub(super) fn complete(rules: &mut Map<String, Value>, mount: &str) {
    if let Some(Value::String(base)) = rules.get_mut("public_base_url") {
        let written = base.trim().trim_end_matches('/');
        let has_path = match written.split_once("://") {
            Some((_, rest)) => rest.contains(['/', '?', '#']),
            // An invalid URL is reported as it was written.
            None => true,
        };
        if !has_path {
            *base = format!("{written}{mount}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mount_follows_a_url_without_a_path() {
        for (written, mount, expected) in [
            ("https://h.example", "/m", "https://h.example/m"),
            ("https://h.example/", "/m", "https://h.example/m"),
            (
                " https://h.example:8443 ",
                "/m/n",
                "https://h.example:8443/m/n",
            ),
            ("https://h.example", "", "https://h.example"),
            ("https://h.example/public", "/m", "https://h.example/public"),
            ("https://h.example/m/", "/m", "https://h.example/m/"),
            // Invalid: the policy reports them as they are.
            ("h.example", "/m", "h.example"),
            ("https://h.example?a", "/m", "https://h.example?a"),
            ("", "/m", ""),
        ] {
            let mut rules = Map::new();
            rules.insert("public_base_url".to_owned(), json!(written));
            complete(&mut rules, mount);
            assert_eq!(rules["public_base_url"], json!(expected), "{written}");
        }
        let mut rules = Map::new();
        complete(&mut rules, "/m");
        assert!(rules.is_empty());
    }
}
