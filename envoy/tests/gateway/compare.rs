//! Compares a response of Streamlit with the gateway's.

use crate::pair::{HOST, Shape};
use fluxlit_support::http1::Response;

/// Fields in which the gateway's response may differ from Streamlit's, and why.
const DELIBERATE: [(&str, &str); 2] = [
    ("connection", "belongs to one connection"),
    (
        "x-request-id",
        "added by the gateway, to find the request in its log",
    ),
];

/// Returns the differences between Streamlit's response and the gateway's, without the deliberate ones.
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

/// Returns the fields that are compared. A token and a date change each time, so their values are left out.
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

/// Returns the attributes of a cookie without its expiry time.
fn without_expiry(attributes: &str) -> String {
    let kept: Vec<&str> = attributes
        .split(';')
        .filter(|attribute| !attribute.trim_start().starts_with("expires="))
        .collect();
    kept.join(";")
}

/// Returns the value of Streamlit's field as the gateway must rewrite it: Streamlit calls itself `localhost`, and may not
/// know the mount.
fn published(shape: Shape, name: &str, value: String) -> String {
    let public = format!("http://{HOST}");
    match (shape, name) {
        (_, "access-control-allow-origin") if value.starts_with("http://localhost:") => public,
        (Shape::Stripped, "link") => value.replace(&public, &format!("{public}{}", shape.mount())),
        (Shape::Stripped, "location") => format!("{}{value}", shape.mount()),
        (Shape::Stripped, "set-cookie") => {
            value.replace("Path=/", &format!("Path={}", shape.mount()))
        }
        _ => value,
    }
}

/// Returns the body, without the start of a gzip header, which has a time stamp.
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
