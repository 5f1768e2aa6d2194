//! `host-test inspect`: what does a module want and offer, and would it run?

use std::io::Write as _;
use std::path::PathBuf;

use host_test::{Filter, Inspection};
use serde_json::json;

use super::Ending;

/// Show what a module imports and exports, and why it would be refused
///
/// Ends with 1 if the module would be refused.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Read this .wasm file
    filter: PathBuf,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn inspect(arguments: &Arguments) -> anyhow::Result<Ending> {
    let inspection = Filter::inspect(&arguments.filter)?;
    let text = if arguments.json {
        to_json(&inspection)
    } else {
        to_text(&inspection)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if inspection.refusals.is_empty() {
        Ending::Done
    } else {
        Ending::Failed
    })
}

fn to_json(inspection: &Inspection) -> String {
    let Inspection {
        abi_versions,
        imports,
        exports,
        capabilities,
        size,
        refusals,
        ..
    } = inspection;
    let imports: Vec<String> = imports.iter().map(ToString::to_string).collect();
    let value = json!({
        "abi_versions": abi_versions,
        "imports": imports,
        "exports": exports,
        "capabilities": capabilities,
        "size": size,
        "refusals": refusals,
    });
    format!("{value:#}\n")
}

fn to_text(inspection: &Inspection) -> String {
    let Inspection {
        abi_versions,
        imports,
        exports,
        capabilities,
        size,
        refusals,
        ..
    } = inspection;
    let mut text = format!("ABI      {}\n", abi_versions.join(", "));
    text.push_str(&format!("size     {size} bytes\n"));
    let imports: Vec<String> = imports.iter().map(ToString::to_string).collect();
    let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    for (title, lines) in [
        ("can", &capabilities),
        ("imports", &imports),
        ("exports", exports),
        ("refused", refusals),
    ] {
        for (number, line) in lines.iter().enumerate() {
            let title = if number == 0 { title } else { "" };
            text.push_str(&format!("{title:<8} {line}\n"));
        }
    }
    text
}
