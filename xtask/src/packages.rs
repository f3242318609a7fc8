//! The system's packages that idempo needs, and how a machine is seen to have them.

use std::path::Path;
use std::process::{Command, Stdio};

/// Something the machine must have.
pub(crate) struct Need {
    /// The package of Debian and Ubuntu that brings it.
    pub(crate) package: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// How it is seen.
    pub(crate) sign: Sign,
    /// A variable that names a server elsewhere, with which it is not needed.
    pub(crate) unless: Option<&'static str>,
}

/// How a thing is seen to be there.
pub(crate) enum Sign {
    /// A program on the search path.
    Program(&'static str),
    /// A library with its headers, by its name for pkg-config, and a header for machines without pkg-config's file.
    Library(&'static str, &'static str),
    /// PostgreSQL's server, which distributions keep off the search path.
    PostgresServer,
}

pub(crate) const NEEDS: [Need; 9] = [
    Need { package: "make", purpose: "builds librdkafka", sign: Sign::Program("make"), unless: None },
    Need { package: "g++", purpose: "builds librdkafka", sign: Sign::Program("c++"), unless: None },
    Need { package: "pkg-config", purpose: "finds libraries", sign: Sign::Program("pkg-config"), unless: None },
    Need { package: "libssl-dev", purpose: "TLS to Kafka", sign: Sign::Library("openssl", "openssl/ssl.h"), unless: None },
    Need { package: "zlib1g-dev", purpose: "compression to Kafka", sign: Sign::Library("zlib", "zlib.h"), unless: None },
    Need { package: "postgresql", purpose: "the databases", sign: Sign::PostgresServer, unless: Some("DATABASE_URL") },
    Need { package: "redis-server", purpose: "the leaderboard's store", sign: Sign::Program("redis-server"), unless: Some("REDIS_URL") },
    Need { package: "default-jre-headless", purpose: "runs Kafka", sign: Sign::Program("java"), unless: Some("KAFKA_BROKERS") },
    Need { package: "util-linux", purpose: "ends child processes with their parent", sign: Sign::Program("setpriv"), unless: None },
];

/// Fetches Kafka; needed only until it is fetched.
pub(crate) const MAVEN: Need =
    Need { package: "maven", purpose: "fetches Kafka", sign: Sign::Program("mvn"), unless: Some("KAFKA_BROKERS") };

impl Need {
    /// Whether the machine lacks it and it is needed.
    pub(crate) fn is_missing(&self) -> bool {
        let elsewhere = self.unless.is_some_and(|variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty()));
        !elsewhere && !self.sign.is_seen()
    }
}

impl Sign {
    fn is_seen(&self) -> bool {
        match self {
            Self::Program(name) => on_path(name),
            Self::Library(name, header) => pkg_config_knows(name) || Path::new("/usr/include").join(header).exists(),
            Self::PostgresServer => std::env::var_os("IDEMPO_POSTGRES_BIN").is_some() || on_path("postgres") || packaged_postgres(),
        }
    }
}

/// Whether a program is on the search path.
pub(crate) fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn pkg_config_knows(library: &str) -> bool {
    let status = Command::new("pkg-config").args(["--exists", library]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn packaged_postgres() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin/postgres").is_file())
}
