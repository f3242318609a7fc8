//! What a projection itself has parked.

use idempo_proto::ops::v1::parked_service_client::ParkedServiceClient;
use idempo_proto::ops::v1::{ListParkedLettersRequest, ParkedLetter, ParkedLetterState};

use super::known;
use super::service::short;
use crate::commands::projection::projectors::{Projectors, short as projection_name};
use crate::context::{Context, channel};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Cell, Printer, Row, Style, Tone, tell};
use idempo_message::{enum_text, json_of, time_of};

const COLUMNS: [&str; 8] = ["NAME", "STATE", "CODE", "KEY", "BEHIND", "ATTEMPTS", "REPLAYS", "FAILED"];
/// How many are asked for at a time.
const PAGE_SIZE: i32 = 1_000;

/// Which of them.
pub(super) struct Wanted {
    /// Of this key; empty for all.
    pub(super) key: String,
    /// Failed for this reason; empty for all.
    pub(super) code: String,
    /// How many at most.
    pub(super) limit: usize,
}

/// Lists them, as the projector has them.
pub(super) async fn list(projection: &str, wanted: &Wanted, context: &Context, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let (projector, found) = Projectors::new(context)?.find(projection).await?;
    let mut client = ParkedServiceClient::new(channel(projector.address())?);
    let mut letters: Vec<ParkedLetter> = Vec::new();
    let mut asked = ListParkedLettersRequest {
        parent: format!("projections/{}", projection_name(&found.name)),
        key: wanted.key.clone(),
        code: wanted.code.clone(),
        page_size: PAGE_SIZE,
        ..ListParkedLettersRequest::default()
    };
    while letters.len() <= wanted.limit {
        let page = client.list_parked_letters(context.request(asked.clone())).await?.into_inner();
        letters.extend(page.parked_letters);
        if page.next_page_token.is_empty() {
            break;
        }
        asked.page_token = page.next_page_token;
    }
    if letters.len() > wanted.limit {
        tell(&format!("there are more than {}: --limit shows more", wanted.limit));
        letters.truncate(wanted.limit);
    }
    if letters.is_empty() && !wanted.code.is_empty() {
        known::check_code(&wanted.code)?;
    }
    let style = printer.style;
    printer.list(&COLUMNS, &letters.iter().map(|letter| row(letter, &style)).collect::<Vec<_>>())?;
    Ok(Exit::Done)
}

fn row(letter: &ParkedLetter, style: &Style) -> Row {
    let state = letter.state();
    Row {
        json: json_of("idempo.ops.v1.ParkedLetter", letter),
        cells: vec![
            short(&letter.name).into(),
            Cell::toned(
                enum_text(state.as_str_name(), "PARKED_LETTER_STATE_"),
                if state == ParkedLetterState::Parked { Tone::Bad } else { Tone::Odd },
            ),
            letter.code.as_str().into(),
            if letter.has_key { letter.key.as_str().into() } else { "-".into() },
            letter.parked_records.into(),
            letter.attempts.into(),
            letter.replay_count.into(),
            style.time(time_of(letter.last_failed_time.as_ref())).into(),
        ],
    }
}
