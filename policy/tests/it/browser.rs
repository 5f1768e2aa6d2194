//! Reads URLs as browsers do, by the URL standard and the HTML standard.

/// Returns the origin to which a reference leads from a page at `portal.example`, or the text itself if that is not a web
/// origin.
pub(crate) fn origin(tls: bool, reference: &str) -> String {
    let page_scheme = if tls { "https" } else { "http" };
    let page = format!("{page_scheme}://portal.example");
    let reference: String = reference
        .trim_matches(|char: char| char <= ' ')
        .chars()
        .filter(|char| !matches!(char, '\t' | '\r' | '\n'))
        .map(|char| if char == '\\' { '/' } else { char })
        .collect();
    let is_scheme = |text: &str| {
        text.starts_with(|char: char| char.is_ascii_alphabetic())
            && text
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char))
    };
    let (scheme, rest) = match reference.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (page_scheme.to_owned(), reference.as_str()),
    };
    if !matches!(scheme.as_str(), "http" | "https") {
        return reference;
    }
    if scheme == page_scheme && !rest.starts_with("//") {
        return page;
    }
    let authority = rest.trim_start_matches('/');
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let host = host
        .strip_suffix(default_port)
        .or(host.strip_suffix(':'))
        .unwrap_or(host);
    format!("{scheme}://{}", host.to_ascii_lowercase())
}

/// Returns the URL of a `Refresh` value by the shared declarative refresh steps; `None` if it has none.
pub(crate) fn refresh_url(value: &str) -> Option<&str> {
    let space = |char: char| char.is_ascii_whitespace();
    let digit = |char: char| char.is_ascii_digit();
    let value = value.trim_start_matches(space);
    let rest = value.trim_start_matches(digit);
    if rest.len() == value.len() && !rest.starts_with('.') {
        return None;
    }
    let rest = rest.trim_start_matches(|char| digit(char) || char == '.');
    if !rest.starts_with(|char| space(char) || char == ';' || char == ',') {
        return None;
    }
    let rest = rest.trim_start_matches(space);
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest);
    let rest = rest.trim_start_matches(space);
    let url = match rest.split_at_checked(3) {
        Some((name, after)) if name.eq_ignore_ascii_case("url") => {
            match after.trim_start_matches(space).strip_prefix('=') {
                Some(url) => url.trim_start_matches(space),
                None => return Some(rest),
            }
        }
        _ if rest.starts_with(['u', 'U']) => return Some(rest),
        _ => rest,
    };
    for quote in ['\'', '"'] {
        if let Some(quoted) = url.strip_prefix(quote) {
            return quoted.split(quote).next();
        }
    }
    Some(url)
}
