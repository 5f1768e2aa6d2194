//! Checks the settings of HSTS against what they reach (D18).

use serde_json::Value;

use crate::app::server::Server;
use crate::app::streamlit::Found;
use crate::app::subject::Subject;
use crate::outcome::Outcome;
use crate::wire::{exchange, request};

/// D18: whose hosts HSTS reaches, and who owns it.
pub(crate) async fn ownership(
    server: Option<(&Server, &Found)>,
    subject: &Subject,
    outcome: &mut Outcome,
) {
    let hsts = subject.policy.get("hsts").unwrap_or(&Value::Null);
    let is_on = match hsts {
        Value::Null | Value::Bool(false) => false,
        Value::Object(fields) => fields.get("mode") != Some(&Value::from("off")),
        _ => true,
    };
    let covers_subdomains = hsts == "fluxlit" || hsts["include_sub_domains"] == true;
    let host = subject.public_authority();
    if covers_subdomains {
        outcome.warn(
            format!("HSTS with includeSubDomains reaches every host below `{host}`, also those of others"),
            "set FLUXLIT_HSTS=true, or make sure that all of them are served over https",
        );
    }
    if hsts["preload"] == true {
        outcome.warn(
            format!("HSTS with preload asks browsers to ship `{host}` in their lists, which takes months to undo"),
            "remove preload unless the owner of the domain has decided so",
        );
    }
    if let Some((server, found)) = server {
        let target = format!("{}/", found.base);
        let reply = exchange(server.address, None, &request("GET", &target, &host, &[])).await;
        let sends =
            reply.is_ok_and(|reply| reply.lines("strict-transport-security").next().is_some());
        let mode = hsts["mode"].as_str().unwrap_or("gateway or if_absent");
        if sends && is_on && mode != "upstream" {
            outcome.warn(
                format!("both the upstream and the gateway set HSTS (hsts.mode {mode})"),
                "set it in one place: hsts.mode `upstream` keeps the app's, `gateway` replaces it",
            );
        }
    }
    outcome.right(match (is_on, server) {
        (true, Some(_)) => "HSTS is set in one place and covers this host only",
        (true, None) => {
            "HSTS covers this host only; no app could be asked whether it sends it, too"
        }
        (false, _) => "HSTS is off",
    });
}
