//! A dead letter on its way into the database: from a dead-letter topic, or from a line that was exported.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use idempo_dead_letter::{DeadLetter, DeadLetterId, Disposition, Header, Original, Stage};
use idempo_kafka::{Record, TopicPartition};
use idempo_message::Event;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The consumer group of records that are in a dead-letter topic, and are no dead letters of ours.
const NOBODY: &str = "unknown.dlq";
/// The code of such a record.
const NOT_A_DEAD_LETTER: &str = "NOT_A_DEAD_LETTER";
/// What stands behind a topic's name in the name of its dead-letter topic.
const DLQ_SUFFIX: &str = ".dlq";
/// The longest code, consumer group or topic, in characters.
const NAME_CHARS_MAX: usize = 255;
/// The longest text of an error that is kept, in characters.
const REASON_CHARS_MAX: usize = 4_096;
/// The longest key that is shown as text and found by it, in bytes.
const KEY_TEXT_BYTES_MAX: usize = 1_024;
/// What stands for a character that the database can't keep in a text.
const REPLACEMENT: char = '\u{fffd}';

/// The state of a dead letter that its consumer has.
const OPEN: &str = "open";
/// The state of one that it has not.
const EXPORT_ONLY: &str = "export_only";

/// A dead letter, as `ops.put_letters` takes it and as an exported line has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Letter {
    pub(crate) consumer_group: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) record_offset: i64,
    pub(crate) state: String,
    pub(crate) code: String,
    pub(crate) event_type: String,
    pub(crate) disposition: String,
    pub(crate) reason: String,
    pub(crate) stage: String,
    pub(crate) first_code: String,
    pub(crate) first_reason: String,
    pub(crate) attempts: i32,
    pub(crate) replay_count: i32,
    pub(crate) event_id: Option<Uuid>,
    pub(crate) stream_id: Option<Uuid>,
    pub(crate) version: Option<i64>,
    pub(crate) key_text: Option<String>,
    /// In base64, as the value and the values of the headers.
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) header_keys: Vec<String>,
    pub(crate) header_values: Vec<Option<String>>,
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) first_failed_at: Timestamp,
    pub(crate) last_failed_at: Timestamp,
    pub(crate) app_version: String,
    pub(crate) traceparent: String,
}

impl Letter {
    /// The dead letter in a record of a dead-letter topic. Whatever is there is one: a record that nobody of ours has written is kept under the place
    /// where it is, and can be exported.
    pub(crate) fn of_record(from: &TopicPartition, record: Record, now: Timestamp) -> Self {
        let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
        let headers: Vec<Header> =
            record.headers().iter().map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice))).collect();
        let (key, value) = record.into_parts();
        let original = Original { key, value, headers };
        match DeadLetter::from_record(original.clone()) {
            Ok(letter) if is_name(&letter.id.group) && is_topic(&letter.id.topic) && letter.id.partition >= 0 && letter.id.offset >= 0 => {
                Self::of_dead_letter(letter, OPEN)
            }
            Ok(letter) => Self::of_stranger(from, offset, timestamp_ms, original, now, format!("{} is no name of ours", letter.id)),
            Err(error) => Self::of_stranger(from, offset, timestamp_ms, original, now, error.to_string()),
        }
    }

    fn of_dead_letter(letter: DeadLetter, state: &str) -> Self {
        let DeadLetter { id, original, .. } = letter;
        let event = Event::of(original.value.as_deref()).ok();
        let (code, reason) = (text(&letter.code, NAME_CHARS_MAX), text(&letter.message, REASON_CHARS_MAX));
        Self {
            consumer_group: id.group,
            topic: id.topic,
            partition: id.partition,
            record_offset: id.offset,
            state: state.to_owned(),
            event_type: event.as_ref().map(Event::kind).unwrap_or_default(),
            disposition: letter.disposition.name().to_owned(),
            stage: letter.stage.name().to_owned(),
            first_code: code.clone(),
            first_reason: reason.clone(),
            code,
            reason,
            attempts: i32::try_from(letter.attempts).unwrap_or(i32::MAX),
            replay_count: i32::try_from(letter.replay_count).unwrap_or(i32::MAX),
            event_id: event.as_ref().and_then(Event::event_id),
            stream_id: event.as_ref().and_then(Event::stream_id),
            version: event.as_ref().and_then(Event::version),
            key_text: original.key.as_deref().and_then(key_text),
            key: original.key.as_deref().map(|key| STANDARD.encode(key)),
            value: original.value.as_deref().map(|value| STANDARD.encode(value)),
            header_keys: original.headers.iter().map(|(name, _)| text(name, NAME_CHARS_MAX)).collect(),
            header_values: original.headers.iter().map(|(_, value)| value.as_deref().map(|value| STANDARD.encode(value))).collect(),
            recorded_at: letter.timestamp,
            first_failed_at: letter.first_failed_at,
            last_failed_at: letter.last_failed_at,
            app_version: text(&letter.app_version, NAME_CHARS_MAX),
            traceparent: event.map(|event| text(&event.traceparent(), NAME_CHARS_MAX)).unwrap_or_default(),
        }
    }

    fn of_stranger(from: &TopicPartition, offset: i64, timestamp_ms: i64, original: Original, now: Timestamp, reason: String) -> Self {
        let topic = from.topic.strip_suffix(DLQ_SUFFIX).unwrap_or(&from.topic).replace('.', "_");
        let at = Timestamp::from_millisecond(timestamp_ms).ok().filter(|_| timestamp_ms > 0);
        let letter = DeadLetter {
            id: DeadLetterId { group: NOBODY.to_owned(), topic, partition: from.partition, offset },
            original,
            timestamp: at,
            stage: Stage::Decode,
            code: NOT_A_DEAD_LETTER.to_owned(),
            message: reason,
            trace: String::new(),
            attempts: 0,
            first_failed_at: at.unwrap_or(now),
            last_failed_at: at.unwrap_or(now),
            disposition: Disposition::PoisonDecode,
            replay_count: 0,
            app_version: String::new(),
        };
        Self::of_dead_letter(letter, EXPORT_ONLY)
    }

    /// The dead letter in a line that was exported; what can be told from its value is told anew.
    ///
    /// # Errors
    /// What is wrong with the line, without what is in it.
    pub(crate) fn of_line(line: &str) -> Result<Self, String> {
        let mut letter: Self = serde_json::from_str(line).map_err(|error| format!("is no dead letter: column {}", error.column()))?;
        if !is_name(&letter.consumer_group) || !is_topic(&letter.topic) || letter.partition < 0 || letter.record_offset < 0 {
            return Err("names no record of a consumer".to_owned());
        }
        if letter.header_keys.len() != letter.header_values.len() {
            return Err("has not as many header_keys as header_values".to_owned());
        }
        if Stage::of(&letter.stage).is_none() || Disposition::of(&letter.disposition).is_none() {
            return Err("has a stage or a disposition that is none".to_owned());
        }
        let decoded = |text: &Option<String>| match text {
            Some(text) => STANDARD.decode(text).map(Some).map_err(|_| "has bytes that are not in base64".to_owned()),
            None => Ok(None),
        };
        let (key, value) = (decoded(&letter.key)?, decoded(&letter.value)?);
        letter.header_values.iter().try_for_each(|value| decoded(value).map(drop))?;
        let event = Event::of(value.as_deref()).ok();
        letter.state = EXPORT_ONLY.to_owned();
        letter.key_text = key.as_deref().and_then(key_text);
        letter.event_type = event.as_ref().map(Event::kind).unwrap_or_default();
        letter.event_id = event.as_ref().and_then(Event::event_id);
        letter.stream_id = event.as_ref().and_then(Event::stream_id);
        letter.version = event.as_ref().and_then(Event::version);
        for (field, chars) in [
            (&mut letter.code, NAME_CHARS_MAX),
            (&mut letter.first_code, NAME_CHARS_MAX),
            (&mut letter.app_version, NAME_CHARS_MAX),
            (&mut letter.traceparent, NAME_CHARS_MAX),
            (&mut letter.reason, REASON_CHARS_MAX),
            (&mut letter.first_reason, REASON_CHARS_MAX),
        ] {
            *field = text(field, chars);
        }
        letter.header_keys.iter_mut().for_each(|name| *name = text(name, NAME_CHARS_MAX));
        Ok(letter)
    }

    /// Which dead letter it is.
    pub(crate) fn id(&self) -> (&str, &str, i32, i64) {
        (&self.consumer_group, &self.topic, self.partition, self.record_offset)
    }

    /// Takes in what a later record says of the same dead letter: the last error is the later one's, the first stays.
    pub(crate) fn absorb(&mut self, other: Self) {
        let (first, last) = if other.last_failed_at > self.last_failed_at { (self.clone(), other) } else { (other, self.clone()) };
        *self = Self {
            first_code: first.first_code,
            first_reason: first.first_reason,
            first_failed_at: first.first_failed_at.min(last.first_failed_at),
            replay_count: first.replay_count.max(last.replay_count),
            ..last
        };
    }

    /// About how many bytes it is, on its way.
    pub(crate) fn weight(&self) -> usize {
        self.value.as_ref().map_or(0, String::len) + self.header_values.iter().flatten().map(String::len).sum::<usize>() + self.reason.len()
    }
}

/// A key as text, where it is one that can be looked for.
fn key_text(key: &[u8]) -> Option<String> {
    let text = str::from_utf8(key).ok()?;
    (key.len() <= KEY_TEXT_BYTES_MAX && !text.contains('\0')).then(|| text.to_owned())
}

/// A text as the database can keep it: without NUL, and not longer than is worth keeping.
fn text(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).map(|c| if c == '\0' { REPLACEMENT } else { c }).collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && !name.contains(['/', '\0']) && !name.contains(char::is_control)
}

/// Whether it can be a topic of the platform: the name of a dead letter is read by it.
fn is_topic(name: &str) -> bool {
    is_name(name) && !name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let at = Timestamp::from_second(1_700_000_000).expect("a time");
        let dead = DeadLetter {
            id: DeadLetterId { group: "idempo.inventory.g1".to_owned(), topic: "economy-events".to_owned(), partition: 3, offset: 42 },
            original: Original {
                key: Some(Bytes::from_static(b"key")),
                value: Some(Bytes::from_static(b"\xff\0")),
                headers: vec![("a".to_owned(), None), ("b".to_owned(), Some(Bytes::from_static(b"1")))],
            },
            timestamp: Some(at),
            stage: Stage::Apply,
            code: "VERSION_GAP".to_owned(),
            message: "nul \0 here".to_owned(),
            trace: String::new(),
            attempts: 3,
            first_failed_at: at,
            last_failed_at: at,
            disposition: Disposition::PoisonDomain,
            replay_count: 0,
            app_version: "0.1.0".to_owned(),
        };
        Letter::of_dead_letter(dead, OPEN)
    }

    #[test]
    fn an_exported_line_gives_the_letter_back_as_one_that_can_only_be_exported() {
        let line = serde_json::to_string(&letter()).expect("JSON");
        let back = Letter::of_line(&line).expect("a letter");
        assert_eq!(back, Letter { state: EXPORT_ONLY.to_owned(), ..letter() });
        assert!(!back.reason.contains('\0'));
    }

    #[test]
    fn a_line_that_is_none_is_refused() {
        let wrong = |change: fn(&mut Letter)| {
            let mut letter = letter();
            change(&mut letter);
            Letter::of_line(&serde_json::to_string(&letter).expect("JSON"))
        };
        assert!(Letter::of_line("{}").is_err());
        assert!(wrong(|letter| letter.topic = "a.b".to_owned()).is_err());
        assert!(wrong(|letter| letter.consumer_group.clear()).is_err());
        assert!(wrong(|letter| letter.record_offset = -1).is_err());
        assert!(wrong(|letter| letter.value = Some("not base64!".to_owned())).is_err());
        assert!(wrong(|letter| letter.header_keys.clear()).is_err());
        assert!(wrong(|letter| letter.stage = "later".to_owned()).is_err());
    }

    #[test]
    fn the_last_error_of_two_records_is_the_later_ones_and_the_first_stays_whichever_comes_first() {
        let first = letter();
        let second = Letter {
            code: "ROWS_REFUSED".to_owned(),
            first_code: "ROWS_REFUSED".to_owned(),
            replay_count: 1,
            last_failed_at: first.last_failed_at + jiff::SignedDuration::from_secs(5),
            ..letter()
        };
        for (mut one, other) in [(first.clone(), second.clone()), (second, first)] {
            one.absorb(other);
            assert_eq!((one.code.as_str(), one.first_code.as_str(), one.replay_count), ("ROWS_REFUSED", "VERSION_GAP", 1));
        }
    }
}
