//! `idempo config`: the settings in force.

use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Form, Printer};

/// Shows the profile, its files, and what is in force. Secrets are masked.
///
/// # Errors
/// Where stdout can't be written.
pub fn show(context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let settings = &context.settings;
    if printer.style.form != Form::Text {
        let files: Vec<String> = settings.files.iter().map(|file| file.display().to_string()).collect();
        printer.one(&json!({ "name": settings.name, "files": files, "profile": settings.profile }), &[])?;
        return Ok(Exit::Done);
    }
    for file in &settings.files {
        printer.line(&format!("# from {}", file.display()))?;
    }
    let table = std::collections::BTreeMap::from([("profiles", std::collections::BTreeMap::from([(&settings.name, &settings.profile)]))]);
    let text = toml::to_string(&table).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    printer.line(text.trim_end())?;
    Ok(Exit::Done)
}
