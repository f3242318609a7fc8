//! The binary: gets ready, drains on SIGTERM, exits with 0.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use idempo_devstack::testing;
use idempo_kafka::{Config, TopicSpec, ensure_topics};

use crate::support::LIMIT;

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(child: &mut Child) -> Receiver<String> {
    let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    receiver
}

fn wait_for(lines: &Receiver<String>, message: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let wanted = format!("\"message\":\"{message}\"");
    while !seen.last().is_some_and(|line: &String| line.contains(&wanted)) {
        match lines.recv_timeout(LIMIT) {
            Ok(line) => seen.push(line),
            Err(_) => panic!("no line {message}: {seen:#?}"),
        }
    }
    seen
}

#[tokio::test]
async fn the_process_gets_ready_and_drains_when_it_is_told_to_stop() {
    let database = testing::database("inventory_view_db").await;
    let topic = format!("{}economy-events", testing::topic_prefix());
    let kafka = Config { brokers: testing::kafka_brokers(), ..Config::default() };
    let spec = TopicSpec { name: topic.clone(), partitions: 12, retention_hours: 1, replication: 1, min_insync: 1 };
    ensure_topics(&kafka, &[spec]).await.expect("the topic can be made");
    let server = std::env::var("DATABASE_URL").expect("the tests run with it");
    let host = server.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("a host").to_owned();
    let child = Command::new(env!("CARGO_BIN_EXE_idempo-inventory-projector"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env("IDEMPO_DATABASE__URL", format!("postgres://idempo_inventory_projector@{host}/{}", database.name()))
        .env("IDEMPO_KAFKA__BROKERS", testing::kafka_brokers())
        .env("IDEMPO_CONSUMER__GROUP_ID", &topic)
        .env("IDEMPO_CONSUMER__TOPICS", format!("[\"{topic}\"]"))
        .env("IDEMPO_PLATFORM__LOG__FORMAT", "json")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut process = Process(child);
    let lines = lines(&mut process.0);
    let mut seen = wait_for(&lines, "ready");
    testing::signal(&process.0, testing::Signal::TERM);
    while let Ok(line) = lines.recv_timeout(LIMIT) {
        seen.push(line);
    }
    assert_eq!(process.0.wait().expect("it ends").code(), Some(0), "{seen:#?}");
    let alarming: Vec<&String> = seen.iter().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    assert!(alarming.is_empty(), "{alarming:#?}");
}
