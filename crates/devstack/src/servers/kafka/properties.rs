//! A broker's configuration.

use std::fmt::Write as _;
use std::path::Path;

/// What a cluster of three sets beside: a broker that died is noticed within two seconds, and a quorum that lost its leader has another one soon
/// after. Kafka's own values take ten seconds and more, which is right between machines and too long for one.
const OF_THREE: &str = "broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
controller.quorum.election.timeout.ms=800
controller.quorum.fetch.timeout.ms=1500
controller.quorum.election.backoff.max.ms=500
controller.quorum.request.timeout.ms=1500
replica.lag.time.max.ms=5000
num.network.threads=2
num.io.threads=4
background.threads=2
";

/// The ports of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodePorts {
    /// Where other brokers and our own tools reach it.
    pub(super) clients: u16,
    /// Where controllers reach it.
    pub(super) controller: u16,
    /// The port that it tells clients, and the one where it listens for those who come by it.
    pub(super) proxied: Option<(u16, u16)>,
}

/// The configuration of broker `number` with these ports among all.
pub(super) fn properties(folder: &Path, number: u8, own: &NodePorts, all: &[NodePorts]) -> String {
    let NodePorts { clients, controller, proxied } = own;
    let voters: Vec<String> = (1_u8..).zip(all).map(|(number, ports)| format!("{number}@127.0.0.1:{}", ports.controller)).collect();
    let (copies, min_insync) = if all.len() == 1 { (1, 1) } else { (3, 2) };
    let (mut listeners, mut advertised) =
        (format!("PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}"), format!("PLAINTEXT://127.0.0.1:{clients}"));
    if let Some((told, listened)) = proxied {
        // Who comes in by a listener is told the addresses of that listener, so whoever begins at a proxy stays with the proxies.
        listeners.push_str(&format!(",PROXIED://127.0.0.1:{listened}"));
        advertised.push_str(&format!(",PROXIED://127.0.0.1:{told}"));
    }
    let mut text = format!(
        "process.roles=broker,controller
node.id={number}
controller.quorum.voters={}
listeners={listeners}
advertised.listeners={advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={min_insync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={min_insync}
default.replication.factor={copies}
min.insync.replicas={min_insync}
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
",
        voters.join(","),
        folder.join("data").display()
    );
    if all.len() > 1 {
        // Writing to a string does not fail.
        let _ = text.write_str(OF_THREE);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_in_by_a_proxy_is_told_the_proxies() {
        let node = |port| NodePorts { clients: port, controller: port + 1, proxied: Some((port + 2, port + 3)) };
        let all = [node(10), node(20), node(30)];
        let text = properties(Path::new("/kafka-2"), 2, &node(20), &all);
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        has("node.id=2");
        has("controller.quorum.voters=1@127.0.0.1:11,2@127.0.0.1:21,3@127.0.0.1:31");
        has("listeners=PLAINTEXT://127.0.0.1:20,CONTROLLER://127.0.0.1:21,PROXIED://127.0.0.1:23");
        has("advertised.listeners=PLAINTEXT://127.0.0.1:20,PROXIED://127.0.0.1:22");
        has("min.insync.replicas=2");
        has("log.dirs=/kafka-2/data");
    }
}
