//! How librdkafka's consumer is set up. Its defaults would begin where they like, commit by themselves, and read what was aborted.

use rdkafka::config::ClientConfig;

use super::ConsumerConfig;
use crate::{Config, Error};

/// A member that does not poll for so long is taken for dead, unless its session holds for longer. The thread polls at least each 200 ms, whatever
/// the tasks do; and a rebalance waits so long for a member that the group still has and that does not come.
const POLL_INTERVAL_MAX_MS: u32 = 30_000;
/// How soon partitions that were added to a topic are noticed, in milliseconds.
const METADATA_INTERVAL_MS: &str = "10000";

pub(super) fn client_config(kafka: &Config, config: &ConsumerConfig) -> Result<ClientConfig, Error> {
    let mut client = kafka.client()?;
    client
        .set("group.id", &config.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        // Eager: a rebalance assigns all partitions at once. A cooperative one has two halves, and a member with an instance id that dies between
        // them and comes back is given what the first half gave it, by a group that is at rest: what it was to give up has no reader then.
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", config.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", (config.session_timeout_ms / 5).max(100).to_string())
        .set("max.poll.interval.ms", config.session_timeout_ms.max(POLL_INTERVAL_MAX_MS).to_string())
        .set("queued.max.messages.kbytes", config.fetch_queue_kib.to_string())
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.wait.max.ms", "250")
        .set("fetch.max.bytes", "8388608")
        .set("topic.metadata.refresh.interval.ms", METADATA_INTERVAL_MS)
        .set("statistics.interval.ms", "1000");
    if !config.instance_id.is_empty() {
        client.set("group.instance.id", &config.instance_id);
    }
    Ok(client)
}
