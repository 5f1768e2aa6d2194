//! Prints the effective settings: `fluxlit-gateway config`.

use fluxlit_gateway::Settings;

/// Prints each setting with its value and origin.
pub(crate) fn print_settings(settings: &Settings, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&settings.table)?);
    } else {
        for setting in &settings.table {
            let origin = serde_json::to_value(setting.origin)?;
            let value = setting.value.to_string();
            println!(
                "{}={}  # {}",
                setting.name,
                setting.value.as_str().unwrap_or(&value),
                origin.as_str().unwrap_or_default()
            );
        }
    }
    Ok(())
}
