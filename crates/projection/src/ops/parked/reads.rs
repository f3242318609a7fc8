//! Which dead letters there are.

use idempo_ids::Uuid;
use idempo_proto::ops::v1::{
    GetParkedLetterRequest, GetParkedLetterResponse, ListParkedLettersRequest, ListParkedLettersResponse, ParkedLetter, ParkedLetterStage,
    ParkedLetterState, ParkedRecord,
};
use idempo_rpc::{Violations, page, timestamp};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tonic::{Request, Status};

use super::{ParkedOperations, Place};
use crate::event::{Event, Outline};
use crate::postgres::Tables;
use crate::projector::Projector;

const REQUEST: &str = "idempo.ops.v1.ListParkedLettersRequest";
/// The most bytes of a value that are answered.
const VALUE_BYTES_MAX: i32 = 1 << 20;
/// The most parked records that are answered, and the longest whose event is looked at, in bytes.
const RECORDS_MAX: i64 = 1_000;
const RECORD_BYTES_MAX: i32 = 65_536;
/// The longest key and code that are looked for, in characters.
const KEY_CHARS_MAX: usize = 1_000;
const CODE_CHARS_MAX: usize = 64;

/// The states, as the table has them.
const STATES: [(&str, ParkedLetterState); 4] = [
    ("parked", ParkedLetterState::Parked),
    ("replaying", ParkedLetterState::Replaying),
    ("discarding", ParkedLetterState::Discarding),
    ("draining", ParkedLetterState::Draining),
];

type Parameter<'a> = &'a (dyn ToSql + Sync);

impl<P: Projector, T: Tables<Writes = P::Writes> + Clone> ParkedOperations<P, T> {
    pub(super) async fn list(&self, request: Request<ListParkedLettersRequest>) -> Result<ListParkedLettersResponse, Status> {
        let (asked, operations) = (request.get_ref(), &self.operations);
        operations.check_name(&asked.parent)?;
        let mut violations = Violations::new();
        let limit = violations.page_size(asked.page_size);
        let generation = violations.int("generation", i64::from(asked.generation), 0..=i64::from(i32::MAX));
        let behind = violations.page_token(REQUEST, asked, &asked.page_token);
        let state = violations.optional_enumeration::<ParkedLetterState>("state", asked.state);
        let key = violations.text("key", &asked.key, 0..=KEY_CHARS_MAX);
        let code = violations.text("code", &asked.code, 0..=CODE_CHARS_MAX);
        let (limit, _, behind) = violations.accept(operations.domain, (limit, generation, behind))?;
        let behind = behind.and_then(|token| behind_of(&token)).unwrap_or(Place { generation: 0, partition: -1, offset: -1 });
        let state = state.flatten().and_then(|state| STATES.iter().find(|(_, known)| *known == state)).map(|(name, _)| *name);
        let key = key.filter(|key| !key.is_empty()).map(str::as_bytes);
        let code = code.filter(|code| !code.is_empty());
        let more = i64::from(limit) + 1;
        let parameters: [Parameter<'_>; 9] =
            [&operations.projection, &asked.generation, &state, &key, &code, &behind.generation, &behind.partition, &behind.offset, &more];
        let mut letters = self.letters(&parameters).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = letters.len() > limit;
        letters.truncate(limit);
        let next_page_token = match letters.last() {
            Some(last) if has_more => {
                let token = [&last.generation.to_be_bytes()[..], &last.partition.to_be_bytes(), &last.offset.to_be_bytes()].concat();
                page::encode(REQUEST, asked, &token)
            }
            _ => String::new(),
        };
        Ok(ListParkedLettersResponse { parked_letters: letters, next_page_token })
    }

    async fn letters(&self, parameters: &[Parameter<'_>]) -> Result<Vec<ParkedLetter>, Status> {
        let client = self.operations.client().await?;
        let read = async {
            let statement = client.prepare_cached(include_str!("../../sql/list_parked.sql")).await?;
            let rows = client.query(&statement, parameters).await?;
            rows.iter().map(|row| self.letter(row)).collect::<Result<Vec<_>, tokio_postgres::Error>>()
        };
        read.await.map_err(|error| self.operations.failed_statement(error))
    }

    pub(super) async fn read(&self, request: Request<GetParkedLetterRequest>) -> Result<GetParkedLetterResponse, Status> {
        let name = request.get_ref().name.as_str();
        let place = name.parse().ok().and_then(|id| self.place_of(&id)).ok_or_else(|| self.no_letter(name))?;
        let Place { generation, partition, offset } = place;
        // The one that follows the offset before it.
        let none: Option<&str> = None;
        let no_key: Option<&[u8]> = None;
        let before = offset - 1;
        let parameters: [Parameter<'_>; 9] =
            [&self.operations.projection, &generation, &none, &no_key, &none, &generation, &partition, &before, &1_i64];
        let found = self.letters(&parameters).await?.into_iter().next();
        let letter = found.filter(|letter| letter.partition == partition && letter.offset == offset).ok_or_else(|| self.no_letter(name))?;
        let client = self.operations.client().await?;
        let topic = self.topic();
        let key: [Parameter<'_>; 5] = [&self.operations.projection, &generation, &topic, &partition, &offset];
        let read = async {
            let statement = client.prepare_cached(include_str!("../../sql/get_parked.sql")).await?;
            let bytes: [Parameter<'_>; 1] = [&VALUE_BYTES_MAX];
            let row = client.query_opt(&statement, &[&key[..], &bytes].concat()).await?;
            let statement = client.prepare_cached(include_str!("../../sql/behind_letter.sql")).await?;
            let limits: [Parameter<'_>; 2] = [&RECORDS_MAX, &RECORD_BYTES_MAX];
            let rows = client.query(&statement, &[&key[..], &limits].concat()).await?;
            let records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
            let column = |at: usize| row.as_ref().map(|row| row.try_get::<_, Option<Vec<u8>>>(at)).transpose();
            Ok::<_, tokio_postgres::Error>((column(0)?.flatten(), column(1)?.flatten(), records))
        };
        let (key_bytes, value, parked_records) = read.await.map_err(|error| self.operations.failed_statement(error))?;
        let (value, key_bytes) = (value.unwrap_or_default().into(), key_bytes.unwrap_or_default().into());
        Ok(GetParkedLetterResponse { parked_letter: Some(letter), value, key_bytes, parked_records })
    }

    fn letter(&self, row: &Row) -> Result<ParkedLetter, tokio_postgres::Error> {
        let place =
            Place { generation: row.try_get("generation")?, partition: row.try_get("partition")?, offset: row.try_get("record_offset")? };
        let key: Option<Vec<u8>> = row.try_get("key")?;
        let time = |name: &str| row.try_get::<_, Option<Timestamp>>(name).map(|at| at.map(timestamp::to_proto));
        let state: &str = row.try_get("state")?;
        let stage = match row.try_get("stage")? {
            "decode" => ParkedLetterStage::Decode,
            "apply" => ParkedLetterStage::Apply,
            _ => ParkedLetterStage::Persist,
        };
        Ok(ParkedLetter {
            name: self.name_of(place),
            projection: self.operations.resource(),
            generation: place.generation,
            consumer_group: row.try_get("group_id")?,
            topic: row.try_get("topic")?,
            partition: place.partition,
            offset: place.offset,
            has_key: key.is_some(),
            key: String::from_utf8_lossy(&key.unwrap_or_default()).into_owned(),
            state: STATES.iter().find(|(name, _)| *name == state).map_or(ParkedLetterState::Unspecified, |(_, state)| *state).into(),
            stage: stage.into(),
            code: row.try_get("code")?,
            reason: row.try_get("reason")?,
            first_code: row.try_get("first_code")?,
            first_reason: row.try_get("first_reason")?,
            event_type: row.try_get::<_, Option<i32>>("event_type")?.unwrap_or_default(),
            event_id: row.try_get::<_, Option<Uuid>>("event_id")?.map(|id| id.hyphenated().to_string()).unwrap_or_default(),
            attempts: row.try_get("attempts")?,
            replay_count: row.try_get("replay_count")?,
            parked_records: row.try_get("parked_records")?,
            record_time: time("written_at")?,
            first_failed_time: time("first_failed_at")?,
            last_failed_time: time("last_failed_at")?,
            value_size: row.try_get::<_, Option<i64>>("value_size")?.unwrap_or(-1),
        })
    }
}

fn record(row: &Row) -> Result<ParkedRecord, tokio_postgres::Error> {
    let value = row.try_get::<_, Option<Vec<u8>>>(2)?.map(bytes::Bytes::from);
    let outline = value.as_ref().and_then(|value| Outline::read(value).ok());
    let event = value.as_ref().and_then(|value| Event::decode(value).ok());
    Ok(ParkedRecord {
        offset: row.try_get(0)?,
        event_type: outline.map_or(0, |outline| i32::from(outline.event_type)),
        event_id: outline.map(|outline| outline.event_id.uuid().hyphenated().to_string()).unwrap_or_default(),
        version: event.and_then(|event| i64::try_from(event.version).ok()).unwrap_or_default(),
    })
}

/// The dead letter that a page begins behind.
fn behind_of(token: &[u8]) -> Option<Place> {
    let (generation, rest) = token.split_first_chunk()?;
    let (partition, offset) = rest.split_first_chunk()?;
    let offset = i64::from_be_bytes(offset.try_into().ok()?);
    Some(Place { generation: i32::from_be_bytes(*generation), partition: i32::from_be_bytes(*partition), offset })
}
