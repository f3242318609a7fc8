//! Settings: who wins, what is refused, what is hidden.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Flag, Settings, Sources, load};
use crate::{Invalid, Platform, Role, Running};

struct Sample;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    name: String,
    nickname: Option<String>,
    database: Database,
    outboxes: BTreeMap<String, Database>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "sample".to_owned(),
            nickname: None,
            // Not Database's own default: overlaying one key of it must leave the other as it is here.
            database: Database { max_connections: 7, ..Database::default() },
            outboxes: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Database {
    url: String,
    #[serde(serialize_with = "masked")]
    password: Option<String>,
    max_connections: u32,
    hosts: Vec<String>,
    cert_file: Option<PathBuf>,
}

fn masked<S: serde::Serializer>(password: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    password.as_ref().map(|_| "***").serialize(serializer)
}

impl Default for Database {
    fn default() -> Self {
        let url = "postgres://sample@localhost/sample_db".to_owned();
        Self { url, password: None, max_connections: 16, hosts: Vec::new(), cert_file: None }
    }
}

impl Role for Sample {
    const NAME: &'static str = "sample";
    const ABOUT: &'static str = "";
    type Config = Config;

    fn validate(config: &Config) -> Result<(), Invalid> {
        if config.database.max_connections == 0 {
            return Err(Invalid::new("database.max_connections", "must be at least 1"));
        }
        Ok(())
    }

    async fn start(_: Config, _: Platform) -> anyhow::Result<Running> {
        Ok(Running::new())
    }
}

/// A file of this test's own.
fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("idempo-config-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

fn environment(variables: &[(&str, &str)]) -> Sources {
    Sources { environment: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(), ..Sources::default() }
}

fn set(key: &str, value: &str) -> Flag {
    Flag { name: "--set", key: key.to_owned(), value: value.to_owned() }
}

fn loaded(sources: Sources) -> Settings<Config> {
    load::<Sample>(sources).unwrap()
}

fn refusal(sources: Sources) -> String {
    load::<Sample>(sources).unwrap_err().to_string()
}

#[test]
fn without_sources_the_defaults_stand() {
    let settings = loaded(Sources::default());
    assert_eq!(settings.role, Config::default());
    assert_eq!(settings.platform, super::PlatformConfig::default());
}

#[test]
fn the_environment_wins_over_the_file_and_flags_win_over_both() {
    let toml = "name = 'file'\n[database]\nmax_connections = 1\nurl = 'postgres://file'\n[platform]\ngrace_ms = 1\nworker_threads = 1\n";
    let mut sources = environment(&[
        ("IDEMPO_DATABASE__MAX_CONNECTIONS", "2"),
        ("IDEMPO_NAME", "environment"),
        ("IDEMPO_PLATFORM__GRACE_MS", "2"),
        ("IDEMPO_CONFIG", "not a setting"),
        ("OTHER", "x"),
    ]);
    sources.file = Some(file("precedence.toml", toml));
    sources.flags = vec![set("name", "first flag"), set("name", "flag"), set("platform.log.filter", "debug")];
    let settings = loaded(sources);
    assert_eq!(settings.role.name, "flag");
    assert_eq!(settings.role.database.max_connections, 2);
    assert_eq!(settings.role.database.url, "postgres://file");
    assert_eq!((settings.platform.grace_ms, settings.platform.worker_threads), (2, 1));
    assert_eq!(settings.platform.log.filter, "debug");
}

#[test]
fn where_to_be_killed_is_known_to_builds_with_failpoints_only() {
    let loaded = load::<Sample>(environment(&[("IDEMPO_KILL_AT", "append.answered:3")]));
    assert_eq!(loaded.is_ok(), cfg!(feature = "failpoints"));
}

#[test]
fn a_role_keeps_its_own_default_beside_a_key_that_is_set() {
    let settings = loaded(environment(&[("IDEMPO_DATABASE__URL", "postgres://other")]));
    assert_eq!(settings.role.database.max_connections, 7);
}

#[test]
fn text_stays_text_even_when_it_looks_like_a_number() {
    let settings = loaded(environment(&[("IDEMPO_NAME", "007"), ("IDEMPO_DATABASE__PASSWORD", "12345")]));
    assert_eq!(settings.role.name, "007");
    assert_eq!(settings.role.database.password.as_deref(), Some("12345"));
}

#[test]
fn lists_and_keys_of_maps_can_be_set_by_the_environment() {
    let settings =
        loaded(environment(&[("IDEMPO_DATABASE__HOSTS", "[\"a\", \"b\"]"), ("IDEMPO_OUTBOXES__WALLET__URL", "postgres://wallet_db")]));
    assert_eq!(settings.role.database.hosts, ["a", "b"]);
    assert_eq!(settings.role.outboxes.get("wallet").map(|outbox| outbox.url.as_str()), Some("postgres://wallet_db"));
}

#[test]
fn a_secret_is_read_from_the_file_that_a_variable_names() {
    let path = file("password", "from the file\n");
    let settings = loaded(environment(&[("IDEMPO_DATABASE__PASSWORD_FILE", path.to_str().unwrap())]));
    assert_eq!(settings.role.database.password.as_deref(), Some("from the file"));
    let refused = refusal(environment(&[("IDEMPO_DATABASE__PASSWORD_FILE", "/nowhere"), ("IDEMPO_NAME", "x")]));
    assert!(refused.contains("/nowhere") && refused.contains("IDEMPO_DATABASE__PASSWORD_FILE"), "{refused}");
}

#[test]
fn a_key_that_itself_ends_in_file_is_not_read_through() {
    let settings = loaded(environment(&[("IDEMPO_DATABASE__CERT_FILE", "/etc/cert.pem")]));
    assert_eq!(settings.role.database.cert_file, Some(PathBuf::from("/etc/cert.pem")));
}

#[test]
fn a_secret_given_twice_is_refused() {
    let path = file("twice", "a");
    let refused = refusal(environment(&[("IDEMPO_DATABASE__PASSWORD", "b"), ("IDEMPO_DATABASE__PASSWORD_FILE", path.to_str().unwrap())]));
    assert!(refused.contains("database.password is set twice"), "{refused}");
}

#[test]
fn unknown_keys_are_refused_with_their_name_and_source() {
    let path = file("unknown.toml", "[database]\npasword = 'x'\n");
    let from_file = refusal(Sources { file: Some(path.clone()), ..Sources::default() });
    assert_eq!(
        from_file,
        format!("unknown key database.pasword (file {}): known there are url, password, max_connections, hosts, cert_file", path.display())
    );
    let from_environment = refusal(environment(&[("IDEMPO_NMAE", "x")]));
    assert!(
        from_environment.starts_with("unknown key nmae (environment variable IDEMPO_NMAE): known there are name"),
        "{from_environment}"
    );
    let from_flag = refusal(Sources { flags: vec![set("platform.grace", "1")], ..Sources::default() });
    assert!(from_flag.starts_with("unknown key platform.grace (flag --set platform.grace): known there are admin_listen"), "{from_flag}");
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_their_source_and_secrets_stay_hidden() {
    let refused = refusal(environment(&[("IDEMPO_DATABASE__MAX_CONNECTIONS", "many")]));
    assert!(
        refused.starts_with("database.max_connections (environment variable IDEMPO_DATABASE__MAX_CONNECTIONS): invalid type"),
        "{refused}"
    );
    let path = file("secret.toml", "[database]\npassword = ['hunter2']\n");
    let refused = refusal(Sources { file: Some(path), ..Sources::default() });
    assert!(refused.starts_with("database.password (file ") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn values_out_of_bounds_are_refused_with_their_source() {
    let refused = refusal(Sources { flags: vec![set("database.max_connections", "0")], ..Sources::default() });
    assert_eq!(refused, "database.max_connections (flag --set database.max_connections): must be at least 1");
    let refused = refusal(environment(&[("IDEMPO_PLATFORM__WORKER_THREADS", "0")]));
    assert!(refused.starts_with("platform.worker_threads (environment variable IDEMPO_PLATFORM__WORKER_THREADS)"), "{refused}");
}

#[test]
fn secrets_are_refused_as_flags() {
    for (key, value) in [("database.password", "hunter2"), ("database.url", "postgres://sample:hunter2@localhost/db")] {
        let refused = refusal(Sources { flags: vec![set(key, value)], ..Sources::default() });
        assert!(refused.contains("flags are there for everyone to see") && !refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn malformed_keys_and_files_are_refused() {
    assert!(refusal(environment(&[("IDEMPO_A____B", "x")])).contains("empty part"));
    assert!(refusal(environment(&[("IDEMPO_PLATFORM", "x")])).contains("platform is a table"));
    assert!(refusal(Sources { file: Some(file("no.toml", "a = = b")), ..Sources::default() }).contains("is not valid TOML"));
    assert!(refusal(Sources { file: Some("/nowhere.toml".into()), ..Sources::default() }).contains("/nowhere.toml"));
    assert!(refusal(Sources { file: Some(file("platform.toml", "platform = 1")), ..Sources::default() }).contains("expected a table"));
}

#[test]
fn a_dump_is_complete_masked_and_can_be_read_back_without_its_secrets() {
    let mut sources = environment(&[("IDEMPO_DATABASE__URL", "postgres://sample:hunter2@localhost/db"), ("IDEMPO_NICKNAME", "s")]);
    sources.environment.push(("IDEMPO_DATABASE__PASSWORD".into(), "hunter2".into()));
    let dump = loaded(sources).dump().unwrap();
    assert!(!dump.contains("hunter2"), "{dump}");
    let table: toml::Table = toml::from_str(&dump).unwrap();
    let database = table.get("database").and_then(toml::Value::as_table).unwrap();
    assert_eq!(database.get("password").and_then(toml::Value::as_str), Some("***"));
    assert_eq!(database.get("url").and_then(toml::Value::as_str), Some("postgres://sample:***@localhost/db"));
    assert_eq!(table.get("nickname").and_then(toml::Value::as_str), Some("s"));
    assert!(table.get("platform").and_then(|platform| platform.get("log")).is_some());
    let plain = loaded(Sources::default()).dump().unwrap();
    let again = loaded(Sources { file: Some(file("dump.toml", &plain)), ..Sources::default() });
    assert_eq!(again.role, Config::default());
}

#[test]
fn a_masked_value_is_no_password() {
    let path = file("masked.toml", "[database]\npassword = '***'\n");
    let refused = refusal(Sources { file: Some(path), ..Sources::default() });
    assert!(refused.contains("database.password") && refused.contains("masked"), "{refused}");
}
