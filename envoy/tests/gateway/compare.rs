//! When are two answers the same?

use crate::pair::Shape;
use fluxlit_support::http1::Response;

/// Header lines in which the gateway's answer may differ from Streamlit's, and why.
const DELIBERATE: [(&str, &str); 2] = [
    ("connection", "says what becomes of one connection"),
    (
        "x-request-id",
        "the gateway's, to find the request in its log",
    ),
];

/// What differs between Streamlit's answer and the gateway's; empty if nothing does but what is deliberate.
pub(crate) fn differences(shape: Shape, direct: &Response, through: &Response) -> Vec<String> {
    let mut found = Vec::new();
    if direct.status != through.status {
        found.push(format!(
            "status {}, directly {}",
            through.status, direct.status
        ));
    }
    let expected: Vec<(String, String)> = headers(direct)
        .map(|(name, value)| {
            let value = published(shape, &name, value);
            (name, value)
        })
        .collect();
    let actual: Vec<(String, String)> = headers(through).collect();
    for (name, value) in &expected {
        if count(&actual, name, value) < count(&expected, name, value) {
            found.push(format!("without `{name}: {value}`"));
        }
    }
    for (name, value) in &actual {
        if count(&actual, name, value) > count(&expected, name, value) {
            found.push(format!("with `{name}: {value}`"));
        }
    }
    if body(direct) != body(through) {
        found.push(format!(
            "a body of {} bytes, directly {}: {:.80}",
            through.body.len(),
            direct.body.len(),
            through.text()
        ));
    }
    found
}

/// The lines that are compared. A token and a date are new each time: only that they are sent is compared.
fn headers(response: &Response) -> impl Iterator<Item = (String, String)> {
    response
        .head
        .fields()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| !DELIBERATE.iter().any(|(other, _)| other == name))
        .map(|(name, value)| {
            let value = match name.as_str() {
                "date" => "now".to_owned(),
                "set-cookie" => match value.split_once('=') {
                    Some((cookie, rest)) => {
                        let attributes = rest.split_once(';').map_or("", |(_, rest)| rest);
                        format!("{cookie}=token;{}", without_expiry(attributes))
                    }
                    None => value,
                },
                _ => value,
            };
            (name, value)
        })
}

/// The attributes of a cookie, but for the time that depends on now.
fn without_expiry(attributes: &str) -> String {
    let kept: Vec<&str> = attributes
        .split(';')
        .filter(|attribute| !attribute.trim_start().starts_with("expires="))
        .collect();
    kept.join(";")
}

/// What a line of Streamlit's reads like where the app is published, if Streamlit knows nothing of the path.
fn published(shape: Shape, name: &str, value: String) -> String {
    match (shape, name) {
        (Shape::Stripped, "location") => format!("{}{value}", shape.mount()),
        (Shape::Stripped, "set-cookie") => {
            value.replace("Path=/", &format!("Path={}", shape.mount()))
        }
        _ => value,
    }
}

/// The body, but for the time of day in a gzip file's head.
fn body(response: &Response) -> &[u8] {
    let is_gzip = response.values("content-encoding") == ["gzip"];
    if is_gzip {
        response.body.get(8..).unwrap_or_default()
    } else {
        &response.body
    }
}

fn count(lines: &[(String, String)], name: &str, value: &str) -> usize {
    lines
        .iter()
        .filter(|(other, text)| other == name && text == value)
        .count()
}
