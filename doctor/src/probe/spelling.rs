//! Finds other spellings of the mount, with which the page is shown without the login that the mount needs (P21).
//!
//! The gateway takes an escaped letter for the letter itself (RFC 3986 §6.2.2.2), and Envoy, Traefik and Apache merge slashes as
//! well, which is right. A rule for the mount in a hop before them that compares the path as it was sent does not see that.

use crate::client::Ask;
use crate::probe::context::Context;

/// Returns a path that shows the app's page to a client without credentials. To be asked only if the mount itself does not.
pub(crate) async fn of_open_page(context: &Context) -> Option<String> {
    for target in spellings(&context.client.site.mount) {
        // If another path shows a page, too, an app at the root of the host answers every path.
        if shows_page(context, &target).await {
            return (!shows_page(context, OTHER).await).then_some(target);
        }
    }
    None
}

async fn shows_page(context: &Context, target: &str) -> bool {
    let page = context.client.send(&Ask::get(target).anonymous()).await;
    page.is_ok_and(|page| page.is_page())
}

/// Returns paths that a hop may take for that of the mount.
fn spellings(mount: &str) -> Vec<String> {
    let Some((_, rest)) = mount.split_at_checked(1) else {
        return Vec::new();
    };
    let mut spellings = vec![format!("/{mount}/"), format!("/.{mount}/")];
    let mut letters = rest.chars();
    if let Some(first) = letters.next().filter(char::is_ascii) {
        spellings.push(format!("/%{:02x}{}/", u32::from(first), letters.as_str()));
    }
    if let Some((start, end)) = rest.rsplit_once('/') {
        spellings.push(format!("/{start}//{end}/"));
        spellings.push(format!("/{start}%2f{end}/"));
    }
    spellings
}

/// A path of no app.
const OTHER: &str = "/doctor-without-app/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_has_other_spellings() {
        assert_eq!(spellings(""), Vec::<String>::new());
        assert_eq!(spellings("/a"), ["//a/", "/./a/", "/%61/"]);
        let expected = [
            "//apps/my-app/",
            "/./apps/my-app/",
            "/%61pps/my-app/",
            "/apps//my-app/",
            "/apps%2fmy-app/",
        ];
        assert_eq!(spellings("/apps/my-app"), expected);
    }
}
