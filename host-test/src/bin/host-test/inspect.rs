//! Implements `host-test inspect`: shows what a module imports and exports, and why it would be rejected.

use std::path::PathBuf;

use host_test::Filter;
use host_test::vm::Inspection;
use serde_json::json;

use crate::exit::Exit;
use crate::loading::refused;
use crate::report;

/// Show what a module imports and exports, and why it would be rejected
///
/// Exits with 1 if the module would be rejected.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Read this .wasm file
    filter: PathBuf,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn inspect(arguments: &Arguments) -> anyhow::Result<Exit> {
    let inspection = Filter::inspect(&arguments.filter);
    let inspection = inspection.map_err(|error| refused(&arguments.filter, error))?;
    report::print(&if arguments.json {
        to_json(&inspection)
    } else {
        to_text(&inspection)
    })?;
    Ok(Exit::failed_if(!inspection.problems.is_empty()))
}

fn to_json(inspection: &Inspection) -> String {
    let Inspection {
        abi_versions,
        imports,
        exports,
        capabilities,
        size,
        problems,
        ..
    } = inspection;
    let imports: Vec<String> = imports.iter().map(ToString::to_string).collect();
    let value = json!({
        "abi_versions": abi_versions,
        "imports": imports,
        "exports": exports,
        "capabilities": capabilities,
        "size": size,
        "refusals": problems,
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
        problems,
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
        ("refused", problems),
    ] {
        for (number, line) in lines.iter().enumerate() {
            let title = if number == 0 { title } else { "" };
            text.push_str(&format!("{title:<8} {line}\n"));
        }
    }
    text
}
