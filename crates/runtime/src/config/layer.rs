//! The layers that settings are made of, each with the name of its source.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use figment::util::nest;
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use serde::Serialize;

use super::error::Error;
use super::{Flag, PLATFORM, PlatformConfig, Sources, secret};

/// What every environment variable that holds a setting begins with.
const PREFIX: &str = "IDEMPO_";

/// What stands between the parts of a key in a variable's name.
const NESTING: &str = "__";

/// What the name of a variable ends with when its value is the path of a file that holds the setting.
const FILE: &str = "_file";

/// Variables that begin like settings and are none.
const NO_SETTINGS: &[&str] = &[
    "IDEMPO_CONFIG",
    #[cfg(feature = "failpoints")]
    crate::failpoint::KILL_AT,
];

/// Files that hold a secret are no longer than this, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Settings from one source.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// The source's name for people, such as `environment variable IDEMPO_GRPC__LISTEN`.
    source: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

impl Layer {
    fn of_key(source: String, key: &str, value: Value) -> Self {
        Self { source, dict: nest(key, value).into_dict().unwrap_or_default() }
    }

    /// This layer's part of the platform's settings, and of the role's.
    pub(super) fn split_platform(mut self) -> (Self, Self) {
        let platform = self.dict.remove(PLATFORM).and_then(Value::into_dict).unwrap_or_default();
        (Self { source: self.source.clone(), dict: platform }, self)
    }
}

/// All layers, the weakest first.
pub(super) fn all(role: impl Serialize, sources: Sources) -> Result<Vec<Layer>, Error> {
    let known = defaults(role)?;
    let mut layers = vec![Layer { source: "the built-in defaults".to_owned(), dict: without_masked(&known) }];
    if let Some(path) = sources.file {
        layers.push(from_file(path)?);
    }
    layers.extend(from_environment(&known, sources.environment)?);
    for flag in sources.flags {
        layers.push(from_flag(&known, flag)?);
    }
    for layer in layers.iter().skip(1) {
        refuse_masked(&layer.dict, "", &layer.source)?;
    }
    Ok(layers)
}

/// Refuses what was copied from a dump: a masked secret is none.
fn refuse_masked(dict: &Dict, prefix: &str, source: &str) -> Result<(), Error> {
    for (name, value) in dict {
        let key = format!("{prefix}{name}");
        match value {
            Value::Dict(_, dict) => refuse_masked(dict, &format!("{key}."), source)?,
            Value::String(_, text) if text.contains(secret::MASK) && (secret::is_secret(&key) || text.contains("://")) => {
                return Err(Error::Rejected(format!("{key} ({source}): the secret in it is masked; give the real one")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the settings are when nobody sets any. A secret among them is a defect: it would be everybody's.
fn defaults(role: impl Serialize) -> Result<Dict, Error> {
    let serialize = |value: figment::Result<Value>| {
        let dict = value.map_err(|error| Error::Rejected(format!("the built-in defaults: {error}")))?;
        dict.into_dict().ok_or_else(|| Error::Rejected("the built-in defaults are not a table".to_owned()))
    };
    let mut dict = serialize(Value::serialize(role))?;
    let platform = serialize(Value::serialize(PlatformConfig::default()))?;
    dict.insert(PLATFORM.to_owned(), platform.into());
    refuse_secrets(&dict, "")?;
    Ok(dict)
}

fn refuse_secrets(dict: &Dict, prefix: &str) -> Result<(), Error> {
    for (name, value) in dict {
        let key = format!("{prefix}{name}");
        match value {
            Value::Dict(_, dict) => refuse_secrets(dict, &format!("{key}."))?,
            Value::String(_, text) if secret::is_secret(&key) && !text.is_empty() && text != secret::MASK => {
                return Err(Error::Rejected(format!("{key}: a secret must not have a built-in default")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The defaults without values that serialise themselves masked: those are left to the types' own defaults.
fn without_masked(dict: &Dict) -> Dict {
    let kept = dict.iter().filter(|(_, value)| value.as_str().is_none_or(|text| !text.contains(secret::MASK)));
    kept.map(|(key, value)| {
        let value = match value {
            Value::Dict(tag, dict) => Value::Dict(*tag, without_masked(dict)),
            other => other.clone(),
        };
        (key.clone(), value)
    })
    .collect()
}

fn from_file(path: PathBuf) -> Result<Layer, Error> {
    let source = format!("file {}", path.display());
    let text = read(&path, "--config or IDEMPO_CONFIG", u64::MAX)?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|error| Error::Syntax { path: path.clone(), message: secret::mask_text(error.to_string().trim_end()) })?;
    if table.get(PLATFORM).is_some_and(|platform| !platform.is_table()) {
        return Err(Error::Rejected(format!("{PLATFORM} ({source}): expected a table")));
    }
    let value = Value::serialize(table).map_err(|error| Error::Rejected(format!("{source}: {error}")))?;
    Ok(Layer { source, dict: value.into_dict().unwrap_or_default() })
}

fn from_environment(known: &Dict, environment: Vec<(OsString, OsString)>) -> Result<Vec<Layer>, Error> {
    let mut settings: Vec<_> = environment.into_iter().filter(|(name, _)| is_setting(name)).collect();
    settings.sort();
    let mut layers: Vec<(String, Layer)> = Vec::new();
    for (name, value) in settings {
        let (key, layer) = from_variable(known, &name, &value)?;
        if let Some((_, earlier)) = layers.iter().find(|(earlier, _)| *earlier == key) {
            return Err(Error::Rejected(format!("{key} is set twice: by {} and by {}", earlier.source, layer.source)));
        }
        layers.push((key, layer));
    }
    Ok(layers.into_iter().map(|(_, layer)| layer).collect())
}

fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(PREFIX) && !NO_SETTINGS.contains(&name.as_ref())
}

/// The key a variable sets, and its layer.
fn from_variable(known: &Dict, name: &OsStr, value: &OsStr) -> Result<(String, Layer), Error> {
    let source = format!("environment variable {}", name.to_string_lossy());
    let refused = |reason: &str| Error::Rejected(format!("{source}: {reason}"));
    let key = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).ok_or_else(|| refused("its name is not UTF-8"))?;
    let key = key.to_ascii_lowercase().replace(NESTING, ".");
    let text = value.to_str().ok_or_else(|| refused("its value is not UTF-8"))?;
    check_key(&key).map_err(refused)?;
    let in_file = key.strip_suffix(FILE).filter(|bare| find(known, &key).is_none() && check_key(bare).is_ok());
    let (key, value) = match in_file {
        Some(bare) => {
            let text = read(Path::new(text), &source, SECRET_BYTES_MAX)?;
            (bare.to_owned(), Value::from(text.trim_end_matches(['\r', '\n'])))
        }
        None => (key.clone(), typed(known, &key, text)),
    };
    let layer = Layer::of_key(source, &key, value);
    Ok((key, layer))
}

fn from_flag(known: &Dict, flag: Flag) -> Result<Layer, Error> {
    let Flag { name, key, value } = flag;
    check_key(&key).map_err(|reason| Error::Rejected(format!("flag {name} {key}: {reason}")))?;
    if secret::is_secret(&key) || secret::mask_text(&value) != value {
        let variable = format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', NESTING));
        return Err(Error::Rejected(format!(
            "flag {name} {key}: flags are there for everyone to see; give a secret by {variable} or {variable}_FILE"
        )));
    }
    let value = typed(known, &key, &value);
    Ok(Layer::of_key(format!("flag {name} {key}"), &key, value))
}

/// A key is dotted parts, none of them empty, and not all of `platform`.
fn check_key(key: &str) -> Result<(), &'static str> {
    if key.split('.').any(str::is_empty) {
        return Err("the key has an empty part");
    }
    if key == PLATFORM {
        return Err("platform is a table; set a key in it");
    }
    Ok(())
}

/// The value that `text` is at `key`: as it stands where text is expected, else a number, a truth value, a list, a table.
fn typed(known: &Dict, key: &str, text: &str) -> Value {
    let is_text = secret::is_secret(key) || matches!(find(known, key), Some(Value::String(..)));
    if is_text { Value::from(text) } else { text.parse().unwrap_or_else(|_: std::convert::Infallible| Value::from(text)) }
}

fn find<'a>(dict: &'a Dict, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => dict.get(key),
        Some((first, rest)) => find(dict.get(first)?.as_dict()?, rest),
    }
}

/// The text of a file of at most `bytes_max` bytes.
fn read(path: &Path, source_name: &str, bytes_max: u64) -> Result<String, Error> {
    let failed = |error| Error::File { path: path.to_owned(), source_name: source_name.to_owned(), error };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > bytes_max {
        return Err(Error::Rejected(format!("{} ({source_name}): longer than {bytes_max} bytes", path.display())));
    }
    std::fs::read_to_string(path).map_err(failed)
}
