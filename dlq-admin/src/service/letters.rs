//! Reading dead letters, and writing notes beside them.

use std::time::Duration;

use idempo_dead_letter::DeadLetterId;
use idempo_message::Event;
use idempo_proto::ops::v1::{
    AnnotateDeadLetterRequest, AnnotateDeadLetterResponse, DeadLetter, DeadLetterState, GetDeadLetterRequest, GetDeadLetterResponse,
    GetParkedLetterRequest, ListDeadLetterGroupsRequest, ListDeadLetterGroupsResponse, ListDeadLettersRequest, ListDeadLettersResponse,
    ParkedBehind, RecordHeader,
};
use idempo_rpc::operators::{Attempt, Refused};
use idempo_rpc::{Caller, Deadline, Violations};
use tokio_postgres::Row;
use tonic::{Code, Request, Status};

use super::filter::Filter;
use super::{DOMAIN, NAME_FORM, Service, failed_statement, letter_not_found, messages};
use crate::consumers::asked_by;

const REQUEST: &str = "idempo.ops.v1.ListDeadLettersRequest";
/// The most groups that are answered.
const GROUPS_MAX: i64 = 1_000;
/// The most bytes of a value that are answered.
const VALUE_BYTES_MAX: i32 = 1 << 20;
/// The longest name that is looked for, in characters.
const NAME_CHARS_MAX: usize = 255;
/// The longest note, in characters.
const NOTE_CHARS_MAX: usize = 1_000;
/// How long a consumer is waited for that is asked what is parked behind a dead letter.
const PARKED_WAIT: Duration = Duration::from_secs(2);

impl Service {
    pub(super) async fn list_groups(&self, request: Request<ListDeadLetterGroupsRequest>) -> Result<ListDeadLetterGroupsResponse, Status> {
        let asked = request.get_ref();
        let mut violations = Violations::new();
        let topic = violations.text("topic", &asked.topic, 0..=NAME_CHARS_MAX);
        let group = violations.text("consumer_group", &asked.consumer_group, 0..=NAME_CHARS_MAX);
        let (topic, group) = violations.accept(DOMAIN, (topic, group))?;
        let given = |text: &'_ str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let rows = self.query(include_str!("../sql/count_groups.sql"), &[&given(topic), &given(group), &GROUPS_MAX]).await?;
        let total = rows.first().map(|row| row.try_get("total")).transpose().map_err(failed_statement)?;
        let groups = rows.iter().map(messages::group).collect::<Result<Vec<_>, _>>().map_err(failed_statement)?;
        Ok(ListDeadLetterGroupsResponse { groups, total_count: total.unwrap_or_default() })
    }

    pub(super) async fn list(&self, request: Request<ListDeadLettersRequest>) -> Result<ListDeadLettersResponse, Status> {
        let asked = request.get_ref();
        let mut violations = Violations::new();
        let page = violations.numbered_page(REQUEST, asked, asked.page_size, &asked.page_token);
        let filter = Filter::of(&mut violations, asked.filter.as_ref());
        let (page, filter) = violations.accept(DOMAIN, (page, filter))?;
        let rows = self.filtered(include_str!("../sql/list_letters.sql"), page.last_or(0), &filter, page.wanted()).await?;
        let read = |row: &Row| Ok((row.try_get("id")?, messages::letter(row)?));
        let found = rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>().map_err(failed_statement)?;
        let (dead_letters, next_page_token) = page.cut(REQUEST, asked, found);
        Ok(ListDeadLettersResponse { dead_letters, next_page_token })
    }

    /// Rows of a statement that takes a place, a filter and a limit.
    pub(super) async fn filtered(&self, sql: &str, behind: i64, filter: &Filter, limit: i64) -> Result<Vec<Row>, Status> {
        let Filter { state, code, event_type, topic, consumer_group, key, from, before, group } = filter;
        self.query(sql, &[&behind, state, code, event_type, topic, consumer_group, key, from, before, group, &limit]).await
    }

    pub(super) async fn read(&self, request: Request<GetDeadLetterRequest>) -> Result<GetDeadLetterResponse, Status> {
        let name = request.get_ref().name.as_str();
        let id: DeadLetterId = name.parse().map_err(|_| letter_not_found(name))?;
        let DeadLetterId { group, topic, partition, offset } = &id;
        let rows = self.query(include_str!("../sql/get_letter.sql"), &[group, topic, partition, offset, &VALUE_BYTES_MAX]).await?;
        let row = rows.first().ok_or_else(|| letter_not_found(name))?;
        let mut answer = shown(row).map_err(failed_statement)?;
        let caller = Caller::of(request.metadata());
        let wait = Deadline::of(&request).wait_budget().min(PARKED_WAIT);
        match self.parked_behind(&answer, &id, caller.as_ref().map_or("", Caller::as_str), wait).await {
            Ok(parked) => answer.parked_behind = Some(parked),
            Err(reason) => answer.unparked_reason = reason,
        }
        Ok(answer)
    }

    /// What is parked behind a dead letter, or why nobody says.
    async fn parked_behind(
        &self,
        shown: &GetDeadLetterResponse,
        id: &DeadLetterId,
        caller: &str,
        wait: Duration,
    ) -> Result<ParkedBehind, String> {
        let state = shown.dead_letter.as_ref().map(DeadLetter::state);
        if state != Some(DeadLetterState::Open) {
            return Err("it is not open".to_owned());
        }
        let mut consumer =
            self.consumers.of(&id.group).ok_or_else(|| format!("the service is not told which consumer has {}", id.group))?;
        let request = asked_by(caller, wait, GetParkedLetterRequest { name: id.to_string() });
        let answered = tokio::time::timeout(wait, consumer.get_parked_letter(request)).await;
        let answer = match answered {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) if status.code() == Code::NotFound => return Err("its consumer does not have it".to_owned()),
            Ok(Err(status)) => return Err(format!("its consumer does not say: {}", status.message())),
            Err(_) => return Err("its consumer does not say in time".to_owned()),
        };
        let record_count = answer.parked_letter.map_or(0, |letter| letter.parked_records);
        let first_offset = answer.parked_records.first().map_or(0, |record| record.offset);
        // Of more than are listed, the last is not known.
        let is_whole = i64::try_from(answer.parked_records.len()) == Ok(record_count);
        let last_offset = answer.parked_records.last().filter(|_| is_whole).map_or(0, |record| record.offset);
        Ok(ParkedBehind { record_count, first_offset, last_offset })
    }

    pub(super) async fn annotate(&self, request: Request<AnnotateDeadLetterRequest>) -> Result<AnnotateDeadLetterResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let target = asked.name.chars().filter(|c| !c.is_control()).collect();
        let attempt = Attempt { metadata, action: "annotate", target, reason: &asked.reason };
        let outcome = self.try_annotate(&attempt, asked).await;
        attempt.concluded(self, outcome).await
    }

    async fn try_annotate(&self, attempt: &Attempt<'_>, asked: &AnnotateDeadLetterRequest) -> Result<AnnotateDeadLetterResponse, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let note = violations.text("note", &asked.note, 0..=NOTE_CHARS_MAX);
        let id = asked.name.parse::<DeadLetterId>().ok();
        violations.check(id.is_some(), "name", || NAME_FORM.to_owned());
        let (caller, note, id) = violations.accept(DOMAIN, (caller, note, id))?;
        let DeadLetterId { group, topic, partition, offset } = &id;
        let sql = include_str!("../sql/annotate_letter.sql");
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
            [group, topic, partition, offset, &note, &attempt.target, &caller, &attempt.reason];
        let row = self.query_one(sql, &parameters).await.map_err(Refused::Noted)?;
        if row.try_get::<_, &str>(0).map_err(|error| Refused::Noted(failed_statement(error)))? != "DONE" {
            return Err(Refused::Noted(letter_not_found(&asked.name)));
        }
        let letters = self.letters_of([id]).await.map_err(Refused::Noted)?;
        Ok(AnnotateDeadLetterResponse { dead_letter: letters.into_iter().next() })
    }

    /// Dead letters by their identities, in their order; those that are not there are left out.
    pub(super) async fn letters_of(&self, ids: impl IntoIterator<Item = DeadLetterId>) -> Result<Vec<DeadLetter>, Status> {
        let named: super::Named = ids.into_iter().collect();
        let super::Named { groups, topics, partitions, offsets } = &named;
        let rows = self.query(include_str!("../sql/get_letters.sql"), &[groups, topics, partitions, offsets]).await?;
        rows.iter().map(messages::letter).collect::<Result<Vec<_>, _>>().map_err(failed_statement)
    }
}

/// A dead letter with its bytes, and what is in them.
fn shown(row: &Row) -> Result<GetDeadLetterResponse, tokio_postgres::Error> {
    let dead_letter = messages::letter(row)?;
    let (key, value): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.try_get("key")?, row.try_get("value")?);
    let is_whole = i64::try_from(value.as_ref().map_or(0, Vec::len)) == Ok(dead_letter.value_bytes);
    let decoded = if is_whole { Event::of(value.as_deref()) } else { Err("the value is longer than what is looked at".to_owned()) };
    let (event_json, undecodable_reason) = match decoded {
        Ok(event) => (event.json().to_string(), String::new()),
        Err(reason) => (String::new(), reason),
    };
    let (names, values): (Vec<String>, Vec<Option<Vec<u8>>>) = (row.try_get("header_keys")?, row.try_get("header_values")?);
    let headers = names.into_iter().zip(values).map(|(key, value)| RecordHeader { key, value: value.unwrap_or_default().into() });
    Ok(GetDeadLetterResponse {
        dead_letter: Some(dead_letter),
        event_json,
        undecodable_reason,
        key: key.unwrap_or_default().into(),
        value: value.unwrap_or_default().into(),
        headers: headers.collect(),
        parked_behind: None,
        unparked_reason: String::new(),
    })
}
