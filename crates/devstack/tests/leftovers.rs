//! What is left when the stack has ended: nothing.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use idempo_devstack::testing::eventually;

const LIMIT: Duration = Duration::from_secs(20);

/// The stack around a command, with servers of its own. It tells when the command runs by a line on its standard output.
fn stack(command: &str) -> Result<Child> {
    let mut stack = Command::new(env!("CARGO_BIN_EXE_idempo-devstack"));
    for variable in ["DATABASE_URL", "KAFKA_BROKERS", "REDIS_URL"] {
        stack.env_remove(variable);
    }
    stack.args(["run", "--", "sh", "-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    stack.spawn().context("starting idempo-devstack")
}

fn first_line(child: &mut Child) -> Result<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().context("a pipe")?).read_line(&mut line)?;
    Ok(line)
}

fn folder(pid: u32) -> Vec<PathBuf> {
    let temporary = std::env::temp_dir().join(format!("idempo-run-{pid}"));
    let folders = [idempo_devstack::default_root().join(format!("run-{pid}")), temporary];
    folders.into_iter().filter(|folder| folder.exists()).collect()
}

/// Every process that descends from `ancestor`.
fn descendants(ancestor: u32) -> HashSet<u32> {
    let parents: Vec<(u32, u32)> =
        fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| parent(&entry.path())).collect();
    let mut found = HashSet::from([ancestor]);
    loop {
        let more: Vec<u32> =
            parents.iter().filter(|(pid, parent)| found.contains(parent) && !found.contains(pid)).map(|(pid, _)| *pid).collect();
        if more.is_empty() {
            found.remove(&ancestor);
            return found;
        }
        found.extend(more);
    }
}

fn parent(entry: &Path) -> Option<(u32, u32)> {
    let (_, fields) = status(entry)?;
    Some((entry.file_name()?.to_str()?.parse().ok()?, fields))
}

/// The state and the parent of a process.
fn status(entry: &Path) -> Option<(char, u32)> {
    let stat = fs::read_to_string(entry.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process runs; one that has ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    status(Path::new(&format!("/proc/{pid}"))).is_some_and(|(state, _)| state != 'Z')
}

#[tokio::test]
async fn nothing_is_left_when_the_stack_is_killed() -> Result<()> {
    let mut stack = stack(r#"echo started; psql "$DATABASE_URL" -c "SELECT pg_sleep(600)" > /dev/null & sleep 600"#)?;
    assert_eq!(first_line(&mut stack)?, "started\n");
    let pid = stack.id();
    let psql =
        async || descendants(pid).iter().any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "psql\n"));
    eventually(LIMIT, "a session runs a long statement", psql).await;
    let family = descendants(pid);
    // Redis, Kafka, PostgreSQL with its workers and a session, and the command: its own children are its own affair.
    assert!(family.len() > 10, "{family:?}");
    let own: HashSet<u32> = family.iter().copied().filter(|pid| !is_grandchild_of_the_command(*pid)).collect();
    assert!(!folder(pid).is_empty());
    stack.kill()?;
    stack.wait()?;
    eventually(LIMIT, "no server and no command runs any more", async || own.iter().all(|pid| !runs(*pid))).await;
    for orphan in family.difference(&own) {
        let _ = Command::new("sh").args(["-c", &format!("kill {orphan}")]).status();
    }
    Ok(())
}

/// `psql` and `sleep`, which the command started.
fn is_grandchild_of_the_command(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| matches!(name.trim_end(), "psql" | "sleep"))
}

#[tokio::test]
async fn the_stack_ends_as_its_command_does_and_leaves_no_folder() -> Result<()> {
    let mut stack = stack("echo started; exit 7")?;
    let pid = stack.id();
    assert_eq!(first_line(&mut stack)?, "started\n");
    let code = stack.wait()?.code();
    assert_eq!(code, Some(7));
    assert_eq!(folder(pid), Vec::<PathBuf>::new());
    Ok(())
}
