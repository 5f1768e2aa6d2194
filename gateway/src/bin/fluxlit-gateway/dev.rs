//! Serves an app that is being written: `fluxlit-gateway dev`.

use anyhow::anyhow;
use clap::{Args, ValueEnum};

use crate::exit::{Exit, Unusable};
use crate::run::serve_target;
use crate::target::{Development, Target};

/// Serve an app, and reload it when its files change
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Choose what a change of a file reloads
    #[arg(long, value_enum, default_value_t = Scope::Gateway)]
    reload_scope: Scope,
    /// Rejected, with what to use instead
    #[arg(long, hide = true)]
    no_reload: bool,
}

/// What a change of a file reloads. The names are FluxLit's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// The API; a page when its user reloads it
    Gateway,
    /// The API, and the pages that are open
    Full,
}

/// Reads the settings and serves until a signal stops the gateway.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        target,
        reload_scope,
        no_reload,
    } = arguments;
    if no_reload {
        let error = anyhow!(
            "--no-reload is not supported by this command, which always reloads: use `fluxlit-gateway run --debug`"
        );
        return Err(Unusable(error).into());
    }
    serve_target(&target.for_development(Development {
        reruns_pages: reload_scope == Scope::Full,
    }))
}

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway dev app:app
  fluxlit-gateway dev app:app --reload-scope full
  fluxlit-gateway dev app.py --api main:app

The API is started again by uvicorn. Streamlit imports changed modules again by itself when a page runs.
Requests are logged. The log names the loopback port on which /__fluxlit/debug is served;
FLUXLIT_GATEWAY_ADMIN_ADDRESS chooses another address.";
