//! Recognizes a FluxLit app that was named like a Streamlit script.
//!
//! The text is only looked at: to import the file would run it. So it can be wrong, and there is only a warning.

use std::path::Path;

use fluxlit_gateway::SettingWarning;

/// Returns a warning if the text of a script looks like that of a FluxLit app, of which Streamlit would show nothing, and
/// whose API would be absent.
pub(crate) fn warning(script: &str) -> Option<SettingWarning> {
    let text = std::fs::read(script).ok()?;
    let text = String::from_utf8_lossy(&text);
    let name = fluxlit_app(&text)?;
    let path = Path::new(script);
    let module = script.strip_suffix(".py").filter(|module| {
        let is_folder_named = path.components().count() > 1;
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        !is_folder_named && module.chars().all(is_name)
    });
    let target = format!("{}:{name}", module.unwrap_or(script));
    Some(SettingWarning {
        code: "fluxlit_app_as_script",
        message: format!(
            "{script} looks like a FluxLit app, but is served as a Streamlit script, without its pages and its API: use `{target}` \
             instead"
        ),
    })
}

/// Returns the name of the variable with the app, if this text imports FluxLit and calls `FluxLit`.
fn fluxlit_app(text: &str) -> Option<&str> {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let is_import = |line: &str| {
        let mut words = line.split(|letter| !is_name(letter));
        matches!(words.next(), Some("from" | "import")) && words.next() == Some("fluxlit")
    };
    if !text.lines().any(|line| is_import(line.trim_start())) {
        return None;
    }
    let is_call = |line: &&str| {
        let before = line.split_once("FluxLit(").map(|(before, _)| before);
        before.is_some_and(|before| !before.ends_with(is_name) && !before.contains('#'))
    };
    let call = text.lines().find(is_call)?;
    let (name, after) = call.split_at(call.find(|letter| !is_name(letter))?);
    let is_assigned = after.trim_start().starts_with(['=', ':']);
    Some(if is_assigned && !name.is_empty() {
        name
    } else {
        "app"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_fluxlit_app_is_recognized() {
        for (text, expected) in [
            (
                "from fluxlit import FluxLit\n\napp = FluxLit(title='x')\n",
                Some("app"),
            ),
            (
                "import fluxlit\nsite: fluxlit.FluxLit = fluxlit.FluxLit()\n",
                Some("site"),
            ),
            (
                "from fluxlit.app import FluxLit as F, FluxLit\nmain = FluxLit(\n)\n",
                Some("main"),
            ),
            (
                "from fluxlit import FluxLit\ndef make():\n    return FluxLit()\n",
                Some("app"),
            ),
            ("import streamlit as st\nst.write('FluxLit(x)')\n", None),
            ("import fluxlit_extras\nx = FluxLit()\n", None),
            ("from fluxlit import Client\n# no FluxLit() here\n", None),
            ("from fluxlit import MyFluxLit\napp = MyFluxLit()\n", None),
            ("", None),
        ] {
            assert_eq!(fluxlit_app(text), expected, "{text}");
        }
    }
}
