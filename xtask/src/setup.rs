//! Installs and fetches what the machine lacks, once, and says what it does and how long it takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::packages::{MAVEN, NEEDS, Need, on_path};
use crate::step;

/// The version of Kafka that the servers run.
const KAFKA: &str = "4.3.0";
/// The version of the logging that Kafka's jars go with.
const LOG4J: &str = "2.25.4";
/// How long apt-get waits for another of its kind, in seconds.
const APT_LOCK_WAIT_S: u32 = 300;
/// Keeps packages from starting their services while they are installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Keeps Debian's PostgreSQL from making a cluster of its own.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/idempo.conf";

/// The folder for what is fetched and for the servers.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("IDEMPO_HOME").map_or_else(|| root().join(".idempo"), PathBuf::from)
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Brings the machine to where every other command works.
pub(crate) fn run() -> Result<()> {
    let home = home();
    fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let jars = home.join("kafka/libs");
    let kafka_needed = std::env::var_os("KAFKA_BROKERS").is_none_or(|value| value.is_empty()) && !jars.join(jar()).exists();
    let mut missing: Vec<&Need> = NEEDS.iter().filter(|need| need.is_missing()).collect();
    if kafka_needed && MAVEN.is_missing() {
        missing.push(&MAVEN);
    }
    if !missing.is_empty() {
        install(&missing, &home)?;
    }
    if kafka_needed {
        fetch_kafka(&home, &jars)?;
    }
    Ok(())
}

fn jar() -> String {
    format!("kafka_2.13-{KAFKA}.jar")
}

fn install(missing: &[&Need], home: &Path) -> Result<()> {
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    step::tell("This machine lacks:");
    for need in missing {
        step::tell(&format!("  {:<22} {}", need.package, need.purpose));
    }
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if !on_path("apt-get") {
        bail!("there is no apt-get here, so these packages, or what they are called on this system, must be installed by hand");
    }
    if !is_root() {
        bail!("installing packages needs root; please run: sudo {by_hand}");
    }
    // Dropped, and so removed, however the installation ends.
    let _policy = Temporary::write(POLICY, "#!/bin/sh\nexit 101\n", true)?;
    let _no_cluster = Temporary::write(NO_CLUSTER, "create_main_cluster = false\n", false)?;
    let update = step::run("Updating the lists of packages", &mut apt(&["update"]), &home.join("apt-update.log"));
    if let Err(error) = update {
        step::tell(&format!("{error:#}\nGoing on with the lists that are there."));
    }
    let mut arguments = vec!["install", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"];
    arguments.extend(&packages);
    step::run(&format!("Installing {}", packages.join(", ")), &mut apt(&arguments), &home.join("apt-install.log"))?;
    let still: Vec<&str> = missing.iter().filter(|need| need.is_missing()).map(|need| need.package).collect();
    anyhow::ensure!(still.is_empty(), "installed, and still not found: {}", still.join(", "));
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-y", "-q", "-o"]).arg(format!("DPkg::Lock::Timeout={APT_LOCK_WAIT_S}")).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// A file that is there for a while. One that was there before is left alone.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn write(path: &str, text: &str, executable: bool) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;

        let path = Path::new(path);
        if path.exists() {
            return Ok(Self(None));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        let written = Self(Some(path.to_owned()));
        if executable {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(written)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = fs::remove_file(path);
        }
    }
}

/// Fetches Kafka's jars from Maven Central into `jars`.
fn fetch_kafka(home: &Path, jars: &Path) -> Result<()> {
    let folder = home.join("kafka");
    // Whoever is killed here leaves no half of it under the name that counts.
    let fetching = folder.join(format!("fetching-{}", std::process::id()));
    fs::create_dir_all(&fetching).with_context(|| format!("making {}", fetching.display()))?;
    fs::write(fetching.join("pom.xml"), pom()).context("writing pom.xml")?;
    let mut maven = Command::new("mvn");
    maven.args(["-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"]).current_dir(&fetching);
    let what = format!("Fetching Apache Kafka {KAFKA} from Maven Central (54 MB)");
    let fetched = step::run(&what, &mut maven, &home.join("maven.log")).or_else(|error| {
        step::tell(&format!("{error:#}\nOnce more."));
        step::run(&what, &mut maven, &home.join("maven.log"))
    });
    if fetched.is_ok() && !jars.join(jar()).exists() {
        let _ = fs::remove_dir_all(jars);
        fs::rename(fetching.join("libs"), jars).context("moving Kafka's jars to their place")?;
    }
    let _ = fs::remove_dir_all(&fetching);
    fetched
}

fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!("<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n")
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>idempo</groupId><artifactId>local-kafka</artifactId><version>1</version>\n<dependencies>\n{}{}{}</dependencies>\n</project>\n",
        dependency("org.apache.kafka", "kafka_2.13", KAFKA),
        dependency("org.apache.kafka", "kafka-tools", KAFKA),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J),
    )
}
