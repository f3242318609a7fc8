//! `idempo projection rebuild --player`: the rows of one player, made anew in a generation that is in use.

use idempo_message::json_of;
use idempo_proto::ops::v1 as ops;
use idempo_proto::ops::v1::Projection;

use super::projectors::Projector;
use super::shown;
use crate::context::Context;
use crate::failure::Failure;
use crate::print::{Cell, Form, Printer, Row, Tone};

const COLUMNS: [&str; 5] = ["TABLE", "ROWS", "MISSING", "CHANGED", "SUPERFLUOUS"];

pub(super) async fn rebuild(
    projector: &Projector<'_>,
    projection: &Projection,
    (player, generation): (&str, Option<i32>),
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let mut asked = ops::RebuildPlayerRequest {
        name: projection.name.clone(),
        player: format!("players/{}", player.strip_prefix("players/").unwrap_or(player)),
        generation: generation.unwrap_or_default(),
        validate_only: false,
        reason: context.reason()?,
    };
    let number = generation.unwrap_or(projection.live_generation);
    // A dry run is not made up here: the projector does it, and takes it back.
    let what = format!("make the rows of {} anew in generation {number} of {}", asked.player, asked.name);
    asked.validate_only = !context.confirm_on(&asked.player, &what)?;
    let answer = projector.change(&projection.name, asked, async |client, request| client.rebuild_player(request).await).await?;
    show(&answer, printer)
}

fn show(answer: &ops::RebuildPlayerResponse, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.style.form != Form::Text {
        return printer.one(&json_of("idempo.ops.v1.RebuildPlayerResponse", answer), &[]);
    }
    let odd = |count: i64| Cell::toned(count.to_string(), if count == 0 { Tone::Plain } else { Tone::Odd });
    let row = |table: &ops::PlayerTable| Row {
        json: json_of("idempo.ops.v1.PlayerTable", table),
        cells: vec![
            table.table.as_str().into(),
            table.rows.into(),
            odd(table.rows_missing),
            odd(table.rows_changed),
            odd(table.rows_superfluous),
        ],
    };
    printer.list(&COLUMNS, &answer.tables.iter().map(row).collect::<Vec<_>>())?;
    if !answer.differences.is_empty() {
        printer.line("")?;
        shown::differences(&answer.differences, printer)?;
    }
    Ok(())
}
