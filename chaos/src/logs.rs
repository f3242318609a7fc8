//! What the processes' logs say of a run: errors that no fault explains, and how often something happened.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::faults::Family;

/// Lines at ERROR that belong to faults: the family, a part of the message, and why it is due. Every other one is a flaw.
const DUE: &[(Family, &str, &str)] = &[
    (Family::Broker, GAPLESS, "brokers answer a batch that was sent again with an error; the relay takes another producer"),
    (Family::KafkaAway, GAPLESS, "the same"),
    (Family::Cut, GAPLESS, "the same"),
    (Family::Delay, GAPLESS, "the same"),
    (Family::Freeze, GAPLESS, "the same, where the relay itself was frozen"),
    (Family::Broker, FENCED_MEMBER, "an answer to a member's wish to join was lost, and it joined once more; another consumer is made"),
    (Family::KafkaAway, FENCED_MEMBER, "the same"),
    (Family::Cut, FENCED_MEMBER, "the same"),
    (Family::Delay, FENCED_MEMBER, "the same"),
    (Family::Freeze, FENCED_MEMBER, "the same, where the projector itself was frozen"),
    (Family::Broker, LETTERS_AWAY, "the partition waits until its dead letter is acknowledged"),
    (Family::KafkaAway, LETTERS_AWAY, "the same"),
    (Family::Cut, LETTERS_AWAY, "the same"),
    (Family::Delay, LETTERS_AWAY, "the same"),
    (Family::Freeze, LETTERS_AWAY, "the same, where the projector itself was frozen"),
];
/// What librdkafka says, as loud as it can, when a producer must end because records could be out of order otherwise.
const GAPLESS: &str = "Gap-less ordering would not be guaranteed";
/// What librdkafka says, as loud as it can, when a named member's identity was given to its own second attempt.
const FENCED_MEMBER: &str = "Static consumer fenced by other consumer";
/// What a projector says while it can't write a dead letter.
const LETTERS_AWAY: &str = "the dead-letter topic can't be written";

/// What happened, as a part of a message tells it.
const HAPPENINGS: [(Happening, &str); 5] = [
    (Happening::LeaseTaken, "the lease was taken"),
    (Happening::LeaseLost, "the lease is lost"),
    (Happening::ProducerFailed, "the producer has failed"),
    (Happening::ConsumerFailed, "the consumer failed"),
    (Happening::BrokersAway, "the brokers are away"),
];

/// Something that is counted from the logs, which outlive the processes that write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// A relay took a lease.
    LeaseTaken,
    /// A relay found its lease lost, and published no more.
    LeaseLost,
    /// A relay replaced its producer.
    ProducerFailed,
    /// A projector replaced its consumer.
    ConsumerFailed,
    /// A relay said that the brokers are away.
    BrokersAway,
}

/// What the logs say.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Heard {
    /// How many lines there are.
    pub lines: u64,
    /// How often each thing happened.
    pub happenings: BTreeMap<Happening, u64>,
    /// How often each warning was given.
    pub warnings: BTreeMap<String, u64>,
    /// Errors that a fault explains, by their message.
    pub due: BTreeMap<String, u64>,
    /// Errors that no fault explains: the whole line.
    pub errors: Vec<String>,
}

impl Heard {
    /// How often something happened.
    #[must_use]
    pub fn count(&self, happening: Happening) -> u64 {
        self.happenings.get(&happening).copied().unwrap_or(0)
    }

    /// Takes in what a process has logged in a run with faults of these families.
    pub fn listen(&mut self, process: &str, text: &str, families: &[Family]) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.lines += 1;
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                // A process that is killed may leave half a line, after which the next life begins on the same.
                if !line.starts_with('{') {
                    self.errors.push(format!("{process}: {line}"));
                }
                continue;
            };
            let field = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
            let message = field("message");
            if let Some((happening, _)) = HAPPENINGS.iter().find(|(_, part)| message.contains(part)) {
                *self.happenings.entry(*happening).or_default() += 1;
            }
            match field("level") {
                "WARN" => *self.warnings.entry(format!("{process}: {message}")).or_default() += 1,
                "ERROR" if is_due(message, families) => *self.due.entry(format!("{process}: {message}")).or_default() += 1,
                "ERROR" => self.errors.push(format!("{process}: {line}")),
                _ => {}
            }
        }
    }
}

fn is_due(message: &str, families: &[Family]) -> bool {
    DUE.iter().any(|(family, part, _)| families.contains(family) && message.contains(part))
}

/// What a relay called itself when it last started, from its log.
pub(crate) fn instance(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find_map(|line| Some(line.get("instance")?.as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_panics_are_kept_warnings_and_happenings_are_counted() {
        let mut heard = Heard::default();
        let text = "{\"level\":\"INFO\",\"message\":\"the lease was taken\"}\n{\"level\":\"WARN\",\"message\":\"the lease is lost, publishing has stopped\"}\n\
                    {\"level\":\"ERROR\",\"message\":\"gone\"}\nthread 'main' panicked\n{\"level\":\"INF";
        heard.listen("relay-1", text, &Family::ALL);
        assert_eq!((heard.lines, heard.count(Happening::LeaseTaken), heard.count(Happening::LeaseLost)), (5, 1, 1));
        assert_eq!(heard.errors.len(), 2, "{:?}", heard.errors);
        assert_eq!(heard.warnings.values().sum::<u64>(), 1);
    }
}
