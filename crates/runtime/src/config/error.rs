//! Why settings are refused: which key, and where it was set.

use std::path::PathBuf;

use figment::Figment;
use figment::error::Kind;

use super::secret;

/// Why settings are refused. All of them are the caller's to mend: exit code 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The configuration file, or a file that holds a secret, cannot be read.
    #[error("cannot read {} ({source_name}): {error}", .path.display())]
    File { path: PathBuf, source_name: String, error: std::io::Error },
    /// The configuration file is not TOML.
    #[error("{} is not valid TOML: {message}", .path.display())]
    Syntax { path: PathBuf, message: String },
    /// A setting is refused.
    #[error("{0}")]
    Rejected(String),
    /// The effective settings cannot be written as TOML.
    #[error("the settings cannot be written as TOML: {0}")]
    Dump(String),
}

/// Who set `key`, for people.
pub(super) fn source_of(figment: &Figment, key: &str) -> String {
    figment.find_metadata(key).map_or_else(|| "the built-in defaults".to_owned(), |metadata| metadata.name.clone().into_owned())
}

/// The first error of an extraction, with the key's full name and who set it; the values of secrets are left out.
pub(super) fn explain(figment: &Figment, prefix: Option<&str>, error: figment::Error) -> Error {
    let inner = error.path.join(".");
    let key = match (prefix, inner.is_empty()) {
        (Some(prefix), true) => prefix.to_owned(),
        (Some(prefix), false) => format!("{prefix}.{inner}"),
        (None, _) => inner.clone(),
    };
    let source = source_of(figment, &inner);
    let message = match &error.kind {
        Kind::UnknownField(_, []) => format!("unknown key {key} ({source}): no keys are known there"),
        Kind::UnknownField(_, known) => format!("unknown key {key} ({source}): known there are {}", known.join(", ")),
        Kind::MissingField(field) => format!("missing key {}{field}", if key.is_empty() { String::new() } else { format!("{key}.") }),
        _ if secret::is_secret(&key) => format!("{key} ({source}): the value cannot be used"),
        kind => format!("{key} ({source}): {}", secret::mask_text(&kind.to_string())),
    };
    Error::Rejected(message)
}
