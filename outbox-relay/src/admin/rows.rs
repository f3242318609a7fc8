//! Reading the quarantine.

use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::ops::v1::{
    GetQuarantinedRowRequest, GetQuarantinedRowResponse, ListQuarantinedRowsRequest, ListQuarantinedRowsResponse, QuarantineFilter,
    QuarantineState, QuarantinedRow,
};
use idempo_rpc::{Violations, refusal, timestamp};
use jiff::Timestamp;
use prost::Message as _;
use tokio_postgres::Row;
use tonic::{Request, Status};
use uuid::Uuid;

use super::{DOMAIN, Operated, Operations, failed_statement};

const REQUEST: &str = "idempo.ops.v1.ListQuarantinedRowsRequest";
/// The most bytes of a payload that are answered.
const PAYLOAD_BYTES_MAX: i32 = 1 << 20;
/// How long the ids in an envelope are, in bytes.
const ID_BYTES: usize = 16;
/// The longest code that is looked for, in characters.
const CODE_CHARS_MAX: usize = 64;

/// Which rows are wanted: all conditions that are given.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) key: Option<Uuid>,
    pub(super) topic: Option<i16>,
    pub(super) state: Option<&'static str>,
    pub(super) code: Option<String>,
}

impl Filter {
    /// Checks a filter.
    pub(super) fn of(violations: &mut Violations, asked: Option<&QuarantineFilter>) -> Option<Self> {
        let Some(asked) = asked else { return Some(Self::default()) };
        let key = if asked.key.is_empty() { Some(None) } else { violations.uuid("filter.key", &asked.key).map(Some) };
        let topic = violations.int("filter.topic_number", i64::from(asked.topic_number), 0..=i64::from(i16::MAX));
        let state = violations.optional_enumeration::<QuarantineState>("filter.state", asked.state);
        let code = violations.text("filter.code", &asked.code, 0..=CODE_CHARS_MAX);
        let topic = i16::try_from(topic?).ok().filter(|topic| *topic != 0);
        Some(Self { key: key?, topic, state: state?.and_then(name_of), code: code.filter(|code| !code.is_empty()).map(str::to_owned) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.key.is_none() && self.topic.is_none() && self.state.is_none() && self.code.is_none()
    }
}

impl Operations {
    pub(super) async fn list_rows(&self, request: Request<ListQuarantinedRowsRequest>) -> Result<ListQuarantinedRowsResponse, Status> {
        let asked = request.get_ref();
        let outbox = self.outbox(&asked.parent)?;
        let mut violations = Violations::new();
        let page = violations.numbered_page(REQUEST, asked, asked.page_size, &asked.page_token);
        let filter = Filter::of(&mut violations, asked.filter.as_ref());
        let (page, filter) = violations.accept(DOMAIN, (page, filter))?;
        let client = outbox.client().await?;
        let statement = client.prepare_cached(include_str!("../sql/list_quarantined.sql")).await.map_err(failed_statement)?;
        let Filter { key, topic, state, code } = filter;
        let rows =
            client.query(&statement, &[&page.last_or(0), &key, &topic, &state, &code, &page.wanted()]).await.map_err(failed_statement)?;
        let read = |row: &Row| row_message(outbox, row).map(|message| (message.seq, message));
        let found = rows.iter().map(read).collect::<Result<_, _>>().map_err(failed_statement)?;
        let (quarantined_rows, next_page_token) = page.cut(REQUEST, asked, found);
        Ok(ListQuarantinedRowsResponse { quarantined_rows, next_page_token })
    }

    pub(super) async fn read_row(&self, request: Request<GetQuarantinedRowRequest>) -> Result<GetQuarantinedRowResponse, Status> {
        let name = request.get_ref().name.as_str();
        let found = self.outboxes.iter().find_map(|outbox| Some((outbox, outbox.seq_of(name)?)));
        let (outbox, seq) = found.ok_or_else(|| row_not_found(name))?;
        let client = outbox.client().await?;
        let statement = client.prepare_cached(include_str!("../sql/get_quarantined.sql")).await.map_err(failed_statement)?;
        let row = client.query_opt(&statement, &[&seq, &PAYLOAD_BYTES_MAX]).await.map_err(failed_statement)?;
        let row = row.ok_or_else(|| row_not_found(name))?;
        let quarantined_row = row_message(outbox, &row).map_err(failed_statement)?;
        let payload: Vec<u8> = row.try_get(12).map_err(failed_statement)?;
        let headers: Option<Vec<u8>> = row.try_get(13).map_err(failed_statement)?;
        let is_whole = i64::try_from(payload.len()) == Ok(quarantined_row.payload_bytes);
        let envelope = if is_whole { envelope_in(&payload) } else { None };
        Ok(GetQuarantinedRowResponse {
            quarantined_row: Some(quarantined_row),
            payload: payload.into(),
            headers: headers.unwrap_or_default().into(),
            envelope,
        })
    }
}

/// The event in a payload. Any bytes can happen to be a message without fields that are known: an event has ids.
fn envelope_in(payload: &[u8]) -> Option<EventEnvelope> {
    let envelope = EventEnvelope::decode(payload).ok()?;
    (envelope.event_id.len() == ID_BYTES && envelope.stream_id.len() == ID_BYTES).then_some(envelope)
}

pub(super) fn row_not_found(name: &str) -> Status {
    refusal::not_found(DOMAIN, "QUARANTINED_ROW_NOT_FOUND", "row in quarantine", name).into_status()
}

fn row_message(outbox: &Operated, row: &Row) -> Result<QuarantinedRow, tokio_postgres::Error> {
    let (seq, topic): (i64, i16) = (row.try_get(0)?, row.try_get(5)?);
    Ok(QuarantinedRow {
        name: outbox.row_name(seq),
        seq,
        state: state_of(row.try_get(1)?).into(),
        code: row.try_get(2)?,
        reason: row.try_get(3)?,
        refusals: row.try_get(4)?,
        topic_number: topic.into(),
        topic: idempo_schemas::topics().by_number(topic).map_or(String::new(), |topic| topic.name.to_owned()),
        key: row.try_get::<_, Uuid>(6)?.hyphenated().to_string(),
        payload_bytes: row.try_get(7)?,
        record_time: Some(timestamp::to_proto(row.try_get::<_, Timestamp>(8)?)),
        quarantine_time: Some(timestamp::to_proto(row.try_get::<_, Timestamp>(9)?)),
        change_time: Some(timestamp::to_proto(row.try_get::<_, Timestamp>(10)?)),
        epoch: row.try_get(11)?,
    })
}

/// The states, as the table has them.
const STATES: [(&str, QuarantineState); 6] = [
    ("held", QuarantineState::Held),
    ("parked", QuarantineState::Parked),
    ("diverted", QuarantineState::Diverted),
    ("requeued", QuarantineState::Requeued),
    ("sent", QuarantineState::Sent),
    ("skipped", QuarantineState::Skipped),
];

fn state_of(name: &str) -> QuarantineState {
    STATES.iter().find(|(known, _)| *known == name).map_or(QuarantineState::Unspecified, |(_, state)| *state)
}

fn name_of(state: QuarantineState) -> Option<&'static str> {
    STATES.iter().find(|(_, known)| *known == state).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_with_the_ids_of_an_event_are_an_event() {
        let envelope = EventEnvelope { event_id: vec![1; 16].into(), stream_id: vec![2; 16].into(), version: 7, ..Default::default() };
        assert_eq!(envelope_in(&envelope.encode_to_vec()), Some(envelope));
        assert_eq!(envelope_in(b""), None);
        assert_eq!(envelope_in(&[0x18, 0x07]), None, "a version alone");
        assert_eq!(envelope_in(b"\xff\xff"), None);
    }
}
