//! The shape of `topics.yaml`.

/// The topics of the platform and how they are kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Topics {
    /// Copies in production.
    pub production: Replication,
    /// Copies on one machine.
    pub local: Replication,
    /// What every dead-letter topic is like.
    pub dead_letters: DeadLetters,
    /// The topics, in the order of their numbers.
    pub topics: &'static [Topic],
}

/// How many copies of a record there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replication {
    /// Brokers that hold a partition.
    pub factor: i16,
    /// Brokers that must have a record before it counts as written (`min.insync.replicas`).
    pub min_insync: i16,
}

/// What every dead-letter topic is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetters {
    /// Partitions of the topic.
    pub partitions: i32,
    /// How long a record stays, in hours.
    pub retention_hours: u32,
}

/// What becomes of later rows of a key of which Kafka has refused one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenRefused {
    /// They wait behind it, in order, until people have decided about it.
    #[default]
    BlockKey,
    /// They go on: only the refused row is kept back.
    Divert,
}

/// A topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// What outbox rows carry; never used again for another topic.
    pub number: i16,
    /// Its name in Kafka; tests put a prefix before it.
    pub name: &'static str,
    /// The name of its dead-letter topic.
    pub dead_letter: &'static str,
    /// Partitions; fixed for life, because a key's partition depends on it.
    pub partitions: i32,
    /// How long a record stays, in hours.
    pub retention_hours: u32,
    /// What the record's key is, in words.
    pub key: &'static str,
    /// What becomes of a key of which Kafka has refused a row.
    pub refused: WhenRefused,
}

impl Topics {
    /// The topic with this number.
    #[must_use]
    pub fn by_number(&self, number: i16) -> Option<&'static Topic> {
        self.topics.iter().find(|topic| topic.number == number)
    }

    /// The topic with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&'static Topic> {
        self.topics.iter().find(|topic| topic.name == name)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_topic_is_found_by_the_number_that_outbox_rows_carry() {
        let topic = crate::topics().by_number(3).expect("topic 3 exists");
        assert_eq!((topic.name, topic.dead_letter, topic.partitions), ("economy-events", "economy-events.dlq", 12));
        assert_eq!(crate::topics().by_name("economy-events"), Some(topic));
        assert_eq!(crate::topics().by_number(0), None);
    }

    #[test]
    fn order_is_kept_behind_a_refused_row_unless_the_topic_says_otherwise() {
        let refused = |name| crate::topics().by_name(name).expect("the topic exists").refused;
        assert_eq!(refused("economy-events"), super::WhenRefused::BlockKey);
        assert_eq!(refused("player-actions"), super::WhenRefused::Divert);
    }
}
