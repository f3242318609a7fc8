//! What became of a record that a consumer could not take, or that waits behind one.

use idempo_proto::ops::v1::parked_service_client::ParkedServiceClient;
use idempo_proto::ops::v1::{
    DeadLetter, DeadLetterFilter, DeadLetterState, GetParkedLetterRequest, ListParkedLettersRequest, ParkedLetter,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{Gaps, Reader};
use crate::commands::dlq::service::{Service, short};
use crate::commands::dlq::shown::state_cell;
use crate::context::{Context, channel};
use crate::failure::{Failure, one_line};
use crate::print::{Cell, Printer, Tone};
use crate::topics::Found;
use idempo_message::json_of;

/// How many dead letters of one key are looked through.
const LETTERS_MAX: usize = 1_000;

/// What a record has come to.
pub(super) enum Trouble {
    /// It is a dead letter, or was one.
    Dead(Box<DeadLetter>),
    /// It is parked behind this dead letter.
    Behind(String),
}

impl Trouble {
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Dead(letter) => json!({ "dead_letter": json_of("idempo.ops.v1.DeadLetter", letter.as_ref()) }),
            Self::Behind(name) => json!({ "parked_behind": name }),
        }
    }

    /// Whether the record waits for people.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Dead(letter) => letter.state() == DeadLetterState::Open,
            Self::Behind(_) => true,
        }
    }

    pub(super) fn show(&self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        match self {
            Self::Dead(letter) => {
                let state = printer.painted(&state_cell(letter.state()));
                printer.line(&format!("  dead letter {} {state}: {}: {}", short(&letter.name), letter.code, one_line(&letter.reason)))
            }
            Self::Behind(name) => {
                let parked = printer.painted(&Cell::toned("parked", Tone::Odd));
                printer.line(&format!("  dead letter {parked} behind {}", short(name)))
            }
        }
    }
}

/// What the record of an event with this key has come to. Who is away is a gap, and is not waited for.
pub(super) async fn look(context: &Context, key: &str, record: &Found, readers: &[Reader], gaps: &mut Gaps) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    match dead(context, key, record).await {
        Ok(letters) => troubles.extend(letters.into_iter().map(|letter| Trouble::Dead(Box::new(letter)))),
        Err(failure) => gaps.note("whether it is a dead letter", &failure),
    }
    for reader in readers {
        match behind(context, key, record, reader).await {
            Ok(name) => troubles.extend(name.map(Trouble::Behind)),
            Err(failure) => gaps.note(&format!("whether {} has parked it", reader.projection), &failure),
        }
    }
    troubles
}

/// What the dead-letter service has of the record, in whatever state.
async fn dead(context: &Context, key: &str, record: &Found) -> Result<Vec<DeadLetter>, Failure> {
    if context.profile().dead_letters.is_empty() {
        return Ok(Vec::new());
    }
    let filter = DeadLetterFilter { key: key.to_owned(), topic: record.topic.to_string(), ..DeadLetterFilter::default() };
    let (mut letters, _) = Service::new(context)?.letters(&filter, LETTERS_MAX).await?;
    letters.retain(|letter| (letter.partition, letter.offset) == (record.partition, record.offset));
    Ok(letters)
}

/// The dead letter behind which this reader has parked the record.
async fn behind(context: &Context, key: &str, record: &Found, reader: &Reader) -> Result<Option<String>, Failure> {
    let Some(address) = context.profile().projectors.get(&reader.projection) else { return Ok(None) };
    let mut client = ParkedServiceClient::new(channel(address)?);
    let asked = ListParkedLettersRequest {
        parent: format!("projections/{}", reader.projection),
        generation: reader.generation,
        key: key.to_owned(),
        ..ListParkedLettersRequest::default()
    };
    let letters = client.list_parked_letters(context.request(asked)).await?.into_inner().parked_letters;
    let before = |letter: &&ParkedLetter| {
        letter.topic == *record.topic && letter.partition == record.partition && letter.offset < record.offset && letter.has_key
    };
    for letter in letters.iter().filter(before) {
        if is_behind(&mut client, context, letter, record.offset).await? {
            return Ok(Some(letter.name.clone()));
        }
    }
    Ok(None)
}

async fn is_behind(
    client: &mut ParkedServiceClient<Channel>,
    context: &Context,
    letter: &ParkedLetter,
    offset: i64,
) -> Result<bool, Failure> {
    let asked = GetParkedLetterRequest { name: letter.name.clone() };
    let found = client.get_parked_letter(context.request(asked)).await?.into_inner();
    Ok(found.parked_records.iter().any(|parked| parked.offset == offset))
}
