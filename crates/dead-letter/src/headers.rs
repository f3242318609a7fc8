//! A dead letter's headers, both ways.

use std::str::FromStr;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{DeadLetter, DeadLetterId, Disposition, Header, Original, Stage, TEXT_BYTES_MAX};

/// What the names of our headers begin with.
pub const HEADER_PREFIX: &str = "__idempo.errors.";
/// Spring's name for the topic of the failed record, by which common tools send a record back.
pub const ORIGINAL_TOPIC: &str = "kafka_dlt-original-topic";

/// What is behind the prefix: Kafka Connect's names where it has one.
const TOPIC: &str = "topic";
const PARTITION: &str = "partition";
const OFFSET: &str = "offset";
const TIMESTAMP: &str = "timestamp";
const GROUP: &str = "consumer.group";
const STAGE: &str = "stage";
const CODE: &str = "exception.class.name";
const MESSAGE: &str = "exception.message";
const TRACE: &str = "exception.stacktrace";
const ATTEMPTS: &str = "attempts";
const FIRST_FAILED_AT: &str = "first.failed.at";
const LAST_FAILED_AT: &str = "last.failed.at";
const DISPOSITION: &str = "disposition";
const REPLAY_COUNT: &str = "replay.count";
const APP_VERSION: &str = "app.version";

/// Why a record is no dead letter of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {name} is missing or unusable")]
pub struct NotADeadLetter {
    /// The header's name.
    pub name: String,
}

/// Whether a header is one of those that a dead letter has beside the record's own.
#[must_use]
pub fn is_own(name: &str) -> bool {
    name.starts_with(HEADER_PREFIX) || name == ORIGINAL_TOPIC
}

impl DeadLetter {
    /// All headers of the dead letter: the record's own, then ours. Where the record is a dead letter that somebody sent back to its topic, ours take
    /// the place of those that it came with.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let DeadLetterId { group, topic, partition, offset } = &self.id;
        let own = self.original.headers.iter().filter(|(name, _)| !is_own(name)).cloned();
        let ours = [
            (TOPIC, topic.clone()),
            (PARTITION, partition.to_string()),
            (OFFSET, offset.to_string()),
            (TIMESTAMP, self.timestamp.map(|at| at.as_millisecond().to_string()).unwrap_or_default()),
            (GROUP, group.clone()),
            (STAGE, self.stage.name().to_owned()),
            (CODE, self.code.clone()),
            (MESSAGE, cut(&self.message).to_owned()),
            (TRACE, cut(&self.trace).to_owned()),
            (ATTEMPTS, self.attempts.to_string()),
            (FIRST_FAILED_AT, self.first_failed_at.as_millisecond().to_string()),
            (LAST_FAILED_AT, self.last_failed_at.as_millisecond().to_string()),
            (DISPOSITION, self.disposition.name().to_owned()),
            (REPLAY_COUNT, self.replay_count.to_string()),
            (APP_VERSION, self.app_version.clone()),
        ];
        let ours = ours.into_iter().map(|(name, value)| (format!("{HEADER_PREFIX}{name}"), Some(Bytes::from(value))));
        own.chain(ours).chain([(ORIGINAL_TOPIC.to_owned(), Some(Bytes::from(topic.clone())))]).collect()
    }

    /// The dead letter that is in a record of a dead-letter topic. `record` has all of its headers.
    ///
    /// # Errors
    /// [`NotADeadLetter`] where a header of ours is missing or says nothing that can be understood: somebody else has written the record.
    pub fn from_record(record: Original) -> Result<Self, NotADeadLetter> {
        let found = Found(&record.headers);
        let id = DeadLetterId {
            group: found.text(GROUP)?,
            topic: found.text(TOPIC)?,
            partition: found.number(PARTITION)?,
            offset: found.number(OFFSET)?,
        };
        let (stage, disposition) = (found.text(STAGE)?, found.text(DISPOSITION)?);
        let mut letter = Self {
            id,
            timestamp: if found.text(TIMESTAMP)?.is_empty() { None } else { Some(found.time(TIMESTAMP)?) },
            stage: Stage::of(&stage).ok_or_else(|| missing(STAGE))?,
            code: found.text(CODE)?,
            message: found.text(MESSAGE)?,
            trace: found.text(TRACE)?,
            attempts: found.number(ATTEMPTS)?,
            first_failed_at: found.time(FIRST_FAILED_AT)?,
            last_failed_at: found.time(LAST_FAILED_AT)?,
            disposition: Disposition::of(&disposition).ok_or_else(|| missing(DISPOSITION))?,
            replay_count: found.number(REPLAY_COUNT)?,
            app_version: found.text(APP_VERSION)?,
            original: Original::default(),
        };
        letter.original = Original { headers: record.headers.into_iter().filter(|(name, _)| !is_own(name)).collect(), ..record };
        Ok(letter)
    }
}

/// The headers of a record.
struct Found<'a>(&'a [Header]);

impl Found<'_> {
    /// The last of a name: a record can have several, and who writes one adds it at the end.
    fn text(&self, name: &str) -> Result<String, NotADeadLetter> {
        let is_it = |(key, _): &&Header| key.strip_prefix(HEADER_PREFIX) == Some(name);
        let value = self.0.iter().rev().find(is_it).and_then(|(_, value)| value.as_ref()).ok_or_else(|| missing(name))?;
        str::from_utf8(value).map(ToOwned::to_owned).map_err(|_| missing(name))
    }

    fn number<N: FromStr>(&self, name: &str) -> Result<N, NotADeadLetter> {
        self.text(name)?.parse().map_err(|_| missing(name))
    }

    fn time(&self, name: &str) -> Result<Timestamp, NotADeadLetter> {
        Timestamp::from_millisecond(self.number(name)?).map_err(|_| missing(name))
    }
}

fn missing(name: &str) -> NotADeadLetter {
    NotADeadLetter { name: format!("{HEADER_PREFIX}{name}") }
}

/// The beginning of a text, up to the limit and to the end of a character.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}
