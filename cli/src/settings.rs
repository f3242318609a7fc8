//! Where the platform is: profiles in a TOML file, variables on top.
//!
//! A profile is looked up in the user's file and in the nearest `.idempo/cli.toml` of this folder or one above it, which goes before it; or in the one
//! file that `--config` names. `IDEMPO_CLI_*` goes before files, flags go before all.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use idempo_pg::DatabaseUrl;
use idempo_rpc::operators::Token;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::Failure;
use crate::print::{Color, Form, TimeFormat};

/// The profile where none is named.
const DEFAULT_PROFILE: &str = "default";
/// A project's own file, in its folder.
const PROJECT_FILE: &str = ".idempo/cli.toml";
/// The variables that are flags as well: clap reads them.
const FLAG_VARIABLES: [&str; 9] = ["config", "profile", "output", "color", "time_format", "timeout", "token_file", "caller", "reason"];

/// A database's URL, `postgres://role[:password]@host[:port]/database[?option=value]`. Printed with its password masked.
#[derive(Clone)]
pub struct StoreUrl(SecretString);

impl StoreUrl {
    /// The URL with everything in it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The URL with `***` in place of its password.
    #[must_use]
    pub fn masked(&self) -> String {
        DatabaseUrl::from(self.expose()).masked()
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|url| Self(url.into()))
    }
}

/// A profile: one platform, and how to speak of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// The form of data on stdout: `text`, `json`, `jsonl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Form>,
    /// Whether text is coloured: `auto`, `always`, `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
    /// How times are shown in text: `relative`, `iso`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_format: Option<TimeFormat>,
    /// How long a command may take, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Who is asking, for the audit: 1 to 64 letters, digits, `.`, `_`, `:` or `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Your token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The file with your token, where it is not given itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Where relays serve gRPC, `host:port` each: any of them answers for every outbox.
    pub relays: Vec<String>,
    /// Where the dead-letter service serves gRPC, `host:port` each: any process of it answers for all dead letters.
    pub dead_letters: Vec<String>,
    /// Where projectors serve gRPC, by the projection's name.
    pub projectors: BTreeMap<String, String>,
    /// Where command services serve gRPC, by their names.
    pub services: BTreeMap<String, String>,
    /// The event stores, by the outbox's name, for a role that reads everything and changes nothing.
    pub stores: BTreeMap<String, StoreUrl>,
    /// The read models' databases, by the projection's name, for such a role.
    pub views: BTreeMap<String, StoreUrl>,
    /// The brokers.
    pub kafka: idempo_kafka::Config,
}

impl Profile {
    /// The token: that in `file`, or else the profile's own, or that in the profile's file; none where nothing is said.
    pub(crate) fn token(&self, file: Option<&Path>) -> Result<Option<Token>, Failure> {
        let file = match (file, &self.token) {
            (None, Some(token)) => return Ok(Some(token.clone())),
            (Some(file), _) => file,
            (None, None) => match &self.token_file {
                Some(file) => file,
                None => return Ok(None),
            },
        };
        let hint = "`idempo operator new` makes a token; --token-file or the profile's token_file names the file with it";
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("the token file {} can't be read: {error}", file.display())).hint(hint))?;
        let token = Token::of(&text).map_err(|error| Failure::usage(format!("the token file {}: {error}", file.display())).hint(hint))?;
        Ok(Some(token))
    }
}

/// A file of profiles.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    /// The profile where none is named.
    default_profile: Option<String>,
    profiles: BTreeMap<String, figment::value::Dict>,
}

/// A profile, and where it comes from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The profile's name.
    pub name: String,
    /// The profile.
    pub profile: Profile,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl Settings {
    /// Reads the profile `name`, or the files' default; from `file` alone where it is given.
    ///
    /// # Errors
    /// [`crate::Exit::Usage`] where a file can't be read or has a key that nothing knows; [`crate::Exit::NotFound`] where no file has the profile.
    pub fn read(file: Option<&Path>, name: Option<&str>) -> Result<Self, Failure> {
        let files = match file {
            Some(file) if file.is_file() => vec![file.to_owned()],
            Some(file) => return Err(Failure::usage(format!("the file {} does not exist", file.display())).hint("--config names it")),
            None => [user_file(), project_file()].into_iter().flatten().filter(|file| file.is_file()).collect(),
        };
        let merged = files.iter().fold(Figment::new(), |figment, file| figment.merge(Toml::file_exact(file)));
        let read: File = merged.extract().map_err(|error| wrong(&error))?;
        let wanted = name.or(read.default_profile.as_deref()).unwrap_or(DEFAULT_PROFILE).to_owned();
        let found = read.profiles.get(&wanted);
        if found.is_none() && (name.is_some() || read.default_profile.is_some()) {
            return Err(Failure::unknown("profile", &wanted, read.profiles.keys().map(String::as_str)));
        }
        let variables = Env::prefixed("IDEMPO_CLI_").ignore(&FLAG_VARIABLES).split("__");
        let profile = Figment::from(Serialized::defaults(found.cloned().unwrap_or_default())).merge(variables);
        let profile = profile.extract().map_err(|error| wrong(&error))?;
        Ok(Self { name: wanted, profile, files })
    }
}

fn wrong(error: &figment::Error) -> Failure {
    Failure::usage(format!("the settings are wrong: {error}")).hint("`idempo config show` shows what is in force; docs/cli lists the keys")
}

fn user_file() -> Option<PathBuf> {
    let folder = match std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".config"),
    };
    Some(folder.join("idempo/idempo.toml"))
}

fn project_file() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|folder| folder.join(PROJECT_FILE)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url = StoreUrl("postgres://auditor:hunter2@db/wallet_db".into());
        let token = Token::of("hunter2-hunter2-hunter2").expect("a token");
        let stores = BTreeMap::from([("wallet".to_owned(), url)]);
        let profile = Profile { stores, token: Some(token), ..Profile::default() };
        for text in [format!("{profile:?}"), toml::to_string(&profile).expect("a table")] {
            assert!(!text.contains("hunter2") && text.contains("***"), "{text}");
        }
    }

    #[test]
    fn a_flag_s_token_goes_before_the_profile_s() {
        let file = std::env::temp_dir().join(format!("idempo-cli-token-{}", std::process::id()));
        let token = |text: &str| Token::of(text).expect("a token");
        std::fs::write(&file, "in-the-file-0123456789012345\n").expect("a file");
        let own = Profile { token: Some(token("of-the-profile-0123456789012")), ..Profile::default() };
        let named = Profile { token_file: Some(file.clone()), ..Profile::default() };
        let found = |profile: &Profile, flag: Option<&Path>| {
            profile.token(flag).map(|token| token.map(|token| token.expose().to_owned())).map_err(|failure| failure.message)
        };
        assert_eq!(found(&own, Some(&file)).expect("a token").as_deref(), Some("in-the-file-0123456789012345"));
        assert_eq!(found(&own, None).expect("a token").as_deref(), Some("of-the-profile-0123456789012"));
        assert_eq!(found(&named, None).expect("a token").as_deref(), Some("in-the-file-0123456789012345"));
        assert_eq!(found(&Profile::default(), None), Ok(None));
        std::fs::write(&file, "hunter2").expect("a file");
        let said = found(&named, None).expect_err("no token");
        assert!(said.contains(&file.display().to_string()) && !said.contains("hunter2"), "{said}");
        std::fs::remove_file(&file).expect("removed");
        assert!(found(&named, None).expect_err("no file").contains("can't be read"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<Profile>("relay = ['a']").is_err());
        assert!(toml::from_str::<Profile>("relays = ['a']\nstores = {wallet = 'postgres://a@b/c'}").is_ok());
    }
}
