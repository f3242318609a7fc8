//! Whether what is asked for exists: a name that is mistyped must not look like a platform without dead letters.

use idempo_proto::ops::v1::{DeadLetter, DeadLetterFilter};

use super::service::{KNOWN_MAX, Service};
use crate::context::Context;
use crate::failure::Failure;
use crate::stores::type_number;

/// Why a consumer of the platform makes a record a dead letter.
pub(super) const CODES: [&str; 9] = [
    "FOREIGN_STREAM",
    "KEY_MISMATCH",
    "MALFORMED_EVENT",
    "MISPLACED_RECORD",
    "READ_MODEL_REFUSED",
    "UNDECODABLE_RECORD",
    "UNKNOWN_EVENT_TYPE",
    "VERSION_CONFLICT",
    "VERSION_GAP",
];

/// A field of dead letters by which they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Topic,
    EventType,
    Consumer,
    Code,
}

impl Field {
    const fn kind(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::EventType => "event type",
            Self::Consumer => "consumer group",
            Self::Code => "code of dead letters",
        }
    }

    /// Whether the platform has it by its own definition, with or without dead letters.
    fn is_defined(self, name: &str, context: &Context) -> bool {
        match self {
            Self::Topic => idempo_schemas::topics().by_name(name).is_some(),
            Self::EventType => type_number(name).is_ok(),
            Self::Consumer => {
                let mut projections = context.profile().projectors.keys();
                generation_of(name).is_some_and(|consumer| projections.any(|projection| consumer == group_of(projection)))
            }
            Self::Code => CODES.contains(&name),
        }
    }

    /// The names that the platform has by its own definition.
    fn defined(self, context: &Context) -> Vec<String> {
        match self {
            Self::Topic => idempo_schemas::topics().topics.iter().map(|topic| topic.name.to_owned()).collect(),
            // Of an event type the failure has the nearest already.
            Self::EventType => Vec::new(),
            Self::Consumer => context.profile().projectors.keys().map(|projection| format!("{}.g1", group_of(projection))).collect(),
            Self::Code => CODES.iter().map(|code| (*code).to_owned()).collect(),
        }
    }

    fn of(self, letter: &DeadLetter) -> &str {
        match self {
            Self::Topic => &letter.topic,
            Self::EventType => &letter.event_type,
            Self::Consumer => &letter.consumer_group,
            Self::Code => &letter.code,
        }
    }

    fn filter(self, name: &str) -> DeadLetterFilter {
        let name = name.to_owned();
        match self {
            Self::Topic => DeadLetterFilter { topic: name, ..DeadLetterFilter::default() },
            Self::EventType => DeadLetterFilter { event_type: name, ..DeadLetterFilter::default() },
            Self::Consumer => DeadLetterFilter { consumer_group: name, ..DeadLetterFilter::default() },
            Self::Code => DeadLetterFilter { code: name, ..DeadLetterFilter::default() },
        }
    }
}

/// What a projection's consumer groups are called, before the generation's number.
fn group_of(projection: &str) -> String {
    format!("idempo.{projection}")
}

/// The consumer whose generation a group is: `idempo.inventory` of `idempo.inventory.g2`.
fn generation_of(group: &str) -> Option<&str> {
    let (consumer, number) = group.rsplit_once(".g")?;
    number.parse::<u32>().is_ok().then_some(consumer)
}

/// Checks that there is such a thing, where one is named. Of what there is there may be no dead letter: then there is none.
///
/// # Errors
/// [`Exit::NotFound`](crate::Exit::NotFound) with the nearest names.
pub(super) async fn check(field: Field, name: Option<&str>, service: &Service<'_>, context: &Context) -> Result<(), Failure> {
    let Some(name) = name.filter(|name| !field.is_defined(name, context)) else { return Ok(()) };
    // What is not of this platform, or of another version of it, is known by its dead letters, settled ones too.
    if !service.letters(&field.filter(name), 1).await?.0.is_empty() {
        return Ok(());
    }
    let (letters, _) = service.letters(&DeadLetterFilter::default(), KNOWN_MAX).await?;
    let mut known: Vec<String> = letters.iter().map(|letter| field.of(letter).to_owned()).collect();
    // A new generation of a consumer that is known has no dead letters at first.
    let is_sibling = |other: &String| generation_of(other).is_some() && generation_of(other) == generation_of(name);
    if field == Field::Consumer && known.iter().any(is_sibling) {
        return Ok(());
    }
    if field == Field::EventType {
        return type_number(name).map(drop);
    }
    known.extend(field.defined(context));
    known.sort_unstable();
    known.dedup();
    Err(Failure::unknown(field.kind(), name, known.iter().map(String::as_str)))
}

/// As [`check`] for a code of which a projector has nothing parked: it is known by the platform's own definition alone.
///
/// # Errors
/// As [`check`].
pub(super) fn check_code(code: &str) -> Result<(), Failure> {
    if CODES.contains(&code) { Ok(()) } else { Err(Failure::unknown(Field::Code.kind(), code, CODES)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_a_reason_of_the_catalogue() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/catalogue/errors.md");
        let catalogue = std::fs::read_to_string(path).expect("the catalogue");
        for code in CODES {
            assert!(catalogue.contains(&format!("| `{code}` |")), "{code}");
        }
    }

    #[test]
    fn a_consumer_is_known_by_its_name_without_the_generation() {
        assert_eq!(generation_of("idempo.inventory.g12"), Some("idempo.inventory"));
        assert_eq!((generation_of("idempo.inventory.gone"), generation_of("idempo.inventory")), (None, None));
    }
}
