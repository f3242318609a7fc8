//! The command line that every role has.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::Role;
use crate::config::{Flag, Sources};

/// The flags that every role has.
#[derive(Debug, Parser)]
#[command(
    after_help = "Settings: built-in defaults, then --config, then environment variables IDEMPO_<KEY> (IDEMPO_GRPC__LISTEN is grpc.listen; \
                        IDEMPO_<KEY>_FILE names a file that holds the value, for secrets), then flags."
)]
pub(crate) struct Flags {
    /// TOML file with settings. Env: IDEMPO_CONFIG.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one setting, such as grpc.request_timeout_ms=500. May be given again.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    settings: Vec<(String, String)>,

    /// Where gRPC is served. Config: grpc.listen. Env: IDEMPO_GRPC__LISTEN.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// Where /livez, /readyz and /metrics are served. Config: platform.admin_listen. Env: IDEMPO_PLATFORM__ADMIN_LISTEN.
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,

    /// Print the effective settings as TOML, secrets masked, and exit.
    #[arg(long)]
    pub(crate) dump_config: bool,
}

impl Flags {
    /// Reads the command line of role `R`.
    ///
    /// # Errors
    /// A usage error, and also what `--help` and `--version` print.
    pub(crate) fn parse<R: Role>(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = Self::command().name(R::NAME).about(R::ABOUT).version(env!("CARGO_PKG_VERSION"));
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    /// Where the settings come from.
    pub(crate) fn sources(&self, environment: Vec<(OsString, OsString)>) -> Sources {
        let from_environment = || environment.iter().find(|(name, _)| name == "IDEMPO_CONFIG").map(|(_, value)| value);
        let file = self.config.clone().or_else(|| from_environment().filter(|path| !path.is_empty()).map(PathBuf::from));
        let set = self.settings.iter().map(|(key, value)| Flag { name: "--set", key: key.clone(), value: value.clone() });
        let named = [("--listen", "grpc.listen", &self.listen), ("--admin-listen", "platform.admin_listen", &self.admin_listen)];
        let named = named.into_iter().filter_map(|(name, key, value)| Some(Flag { name, key: key.to_owned(), value: value.clone()? }));
        let flags = set.chain(named).collect();
        Sources { file, environment, flags }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
