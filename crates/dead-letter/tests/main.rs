//! The headers of a dead letter, as they are at rest.

use bytes::Bytes;
use idempo_dead_letter::{DeadLetter, DeadLetterId, Disposition, InvalidName, Original, Stage, TEXT_BYTES_MAX, dlq_topic};
use jiff::Timestamp;
use proptest::prelude::*;

/// What every consumer ever wrote, and every tool ever read. A line is never edited.
const GOLDEN: &str = include_str!("golden.txt");

fn letter() -> DeadLetter {
    DeadLetter {
        id: DeadLetterId { group: "idempo.inventory.g1".to_owned(), topic: "economy-events".to_owned(), partition: 3, offset: 1_042 },
        original: Original {
            key: Some(Bytes::from_static(b"01890a5d-ac96-774b-bcce-b302099a8057")),
            value: None,
            headers: vec![
                ("traceparent".to_owned(), Some(Bytes::from_static(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))),
                ("empty".to_owned(), None),
            ],
        },
        timestamp: Timestamp::from_millisecond(1_793_491_200_123).ok(),
        stage: Stage::Decode,
        code: "UNDECODABLE_RECORD".to_owned(),
        message: "the record is no event: the record has no value".to_owned(),
        trace: "the record has no value".to_owned(),
        attempts: 3,
        first_failed_at: Timestamp::from_millisecond(1_793_491_201_000).unwrap_or_default(),
        last_failed_at: Timestamp::from_millisecond(1_793_491_201_060).unwrap_or_default(),
        disposition: Disposition::PoisonDecode,
        replay_count: 2,
        app_version: "0.1.0".to_owned(),
    }
}

fn lines(letter: &DeadLetter) -> String {
    let line = |(name, value): (String, Option<Bytes>)| match value {
        Some(value) => format!("{name}: {}\n", String::from_utf8_lossy(&value)),
        None => format!("{name} (no value)\n"),
    };
    letter.headers().into_iter().map(line).collect()
}

#[test]
fn the_headers_at_rest_are_those_of_the_golden_file() {
    assert_eq!(lines(&letter()), GOLDEN);
}

#[test]
fn what_is_read_is_what_was_written() {
    let written = letter();
    let record = Original { headers: written.headers(), ..written.original.clone() };
    assert_eq!(DeadLetter::from_record(record), Ok(written));
}

#[test]
fn a_dead_letter_that_was_sent_back_and_failed_again_has_our_headers_once() {
    let first = letter();
    let mut again = DeadLetter { replay_count: 3, ..letter() };
    again.original.headers = first.headers();
    assert_eq!(again.headers().len(), first.headers().len());
    let record = Original { headers: again.headers(), ..again.original.clone() };
    assert_eq!(DeadLetter::from_record(record), Ok(DeadLetter { replay_count: 3, ..first }));
}

#[test]
fn a_record_of_others_is_no_dead_letter_and_says_by_which_header() {
    let whole = letter().headers();
    for absent in whole.iter().filter(|(name, _)| name.starts_with("__idempo.errors.")) {
        let headers = whole.iter().filter(|header| *header != absent).cloned().collect();
        let refused = DeadLetter::from_record(Original { headers, ..Original::default() });
        assert_eq!(refused.map_err(|refused| refused.name), Err(absent.0.clone()));
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_at_a_character() {
    let long = DeadLetter { trace: "ü".repeat(TEXT_BYTES_MAX), message: "x".to_owned() + &"ü".repeat(TEXT_BYTES_MAX), ..letter() };
    let read = DeadLetter::from_record(Original { headers: long.headers(), ..Original::default() }).expect("a dead letter");
    assert_eq!((read.trace.len(), read.message.len()), (TEXT_BYTES_MAX, TEXT_BYTES_MAX - 1));
}

#[test]
fn a_name_is_read_from_its_end() {
    let id = letter().id;
    assert_eq!(id.to_string(), "deadLetters/idempo.inventory.g1.economy-events.3.1042");
    assert_eq!(id.to_string().parse(), Ok(id));
    let others = [
        "",
        "deadLetters/",
        "deadLetters/g.t.1",
        "deadLetters/.t.1.2",
        "deadLetters/g..1.2",
        "deadLetters/g.t.-1.2",
        "deadLetters/g.t.1.-2",
        "deadLetters/g.t.+1.2",
        "deadLetters/g.t.1.02",
        "deadLetters/g.t.1.2/x",
        "deadLetters/a/g.t.1.2",
        "outboxes/g.t.1.2",
    ];
    for text in others {
        assert_eq!(text.parse::<DeadLetterId>(), Err(InvalidName), "{text}");
    }
}

#[test]
fn the_dead_letter_topic_is_beside_its_topic() {
    assert_eq!(dlq_topic("economy-events"), "economy-events.dlq");
}

proptest! {
    #[test]
    fn whatever_the_record_is_it_comes_back_as_it_was(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..256)),
        headers in proptest::collection::vec(("[a-z]{0,8}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..16))), 0..4),
        message in ".{0,200}",
        timestamp in proptest::option::of(0_i64..4_102_444_800_000),
    ) {
        let written = DeadLetter {
            original: Original {
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers.into_iter().map(|(name, value)| (name, value.map(Bytes::from))).collect(),
            },
            message,
            timestamp: timestamp.and_then(|at| Timestamp::from_millisecond(at).ok()),
            ..letter()
        };
        let record = Original { headers: written.headers(), ..written.original.clone() };
        prop_assert_eq!(DeadLetter::from_record(record), Ok(written));
    }
}
