//! What a dead letter is called, everywhere.

use std::fmt;
use std::str::FromStr;

/// The collection that dead letters are in, as resources.
const COLLECTION: &str = "deadLetters/";

/// Which dead letter: the failed record, and the consumer group that failed on it.
///
/// As text it is `deadLetters/{consumer_group}.{topic}.{partition}.{offset}`, read from its end: a topic of the platform has no dot, a consumer group may
/// have some.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeadLetterId {
    /// The consumer group.
    pub group: String,
    /// The record's topic.
    pub topic: String,
    /// The record's partition, from 0.
    pub partition: i32,
    /// The record's offset, from 0.
    pub offset: i64,
}

/// A text that names no dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form deadLetters/{{consumer_group}}.{{topic}}.{{partition}}.{{offset}}")]
pub struct InvalidName;

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, topic, partition, offset } = self;
        write!(f, "{COLLECTION}{group}.{topic}.{partition}.{offset}")
    }
}

impl FromStr for DeadLetterId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.strip_prefix(COLLECTION).ok_or(InvalidName)?.rsplitn(4, '.');
        let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or(InvalidName);
        let (offset, partition, topic, group) = (next()?, next()?, next()?, next()?);
        let id = Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            partition: partition.parse().map_err(|_| InvalidName)?,
            offset: offset.parse().map_err(|_| InvalidName)?,
        };
        // Only the form that is given out: `+7` and `007` parse too.
        let is_own = id.partition >= 0 && id.offset >= 0 && !group.contains('/') && id.to_string() == text;
        if is_own { Ok(id) } else { Err(InvalidName) }
    }
}
