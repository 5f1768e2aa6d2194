//! Prints the effective settings: `fluxlit-gateway config`.

use clap::Args;
use fluxlit_gateway::Settings;

use crate::config_for;
use crate::exit::{Exit, Unusable};
use crate::target::{self, Target};

/// Print the effective settings and where each comes from
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    front: Box<config_for::FrontArguments>,
}

/// Reads the settings and prints them.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let (settings, _port) = target::read_settings(arguments.target).map_err(Unusable)?;
    if let Some(exit) = arguments.front.run(&settings) {
        return exit;
    }
    print_settings(&settings, arguments.json)?;
    Ok(Exit::Done)
}

/// Prints each setting with its value and origin.
fn print_settings(settings: &Settings, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&settings.table)?);
    } else {
        for setting in settings
            .table
            .iter()
            .filter(|setting| !setting.value.is_null())
        {
            let value = setting.value.to_string();
            println!(
                "{}={}  # {}",
                setting.name,
                setting.value.as_str().unwrap_or(&value),
                setting.origin
            );
        }
    }
    Ok(())
}

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway config
  fluxlit-gateway config app.py --root-path /apps/my-app --json
  fluxlit-gateway config app.py --for nginx
  fluxlit-gateway config app.py --for traefik --output traefik.yml
  fluxlit-gateway config app.py --for caddy --certificate cert.pem --key key.pem";
