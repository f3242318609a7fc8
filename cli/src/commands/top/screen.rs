//! What `top` draws.

use std::time::Duration;

use idempo_proto::ops::v1::{DeadLetterGroup, GenerationState, Outbox, OutboxState, Projection, QuarantineCounts};
use jiff::SignedDuration;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table};

use super::Shown;
use crate::commands::projection::projectors::short as projection_name;
use crate::print::{known, span};
use crate::relays::short;
use idempo_message::enum_text;

/// Lines that a table has beside its rows: its head, and one below it.
const TABLE_LINES: u16 = 3;
/// How many groups of dead letters are shown, the largest.
const GROUPS_MAX: usize = 8;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, shown: &Shown, every: Duration) {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(TABLE_LINES);
    let generations = shown.projections.iter().map(|projection| projection.generations.len()).sum();
    let [title, outboxes, projections, building, letters, problems] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(rows(shown.outboxes.len())),
        Constraint::Length(rows(shown.projections.len())),
        Constraint::Length(rows(generations)),
        Constraint::Length(rows(shown.dead_letters.len().min(GROUPS_MAX))),
        Constraint::Min(0),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(format!("idempo top, every {} ms; q ends", every.as_millis())).style(Modifier::BOLD), title);
    frame.render_widget(outbox_table(&shown.outboxes), outboxes);
    frame.render_widget(projection_table(shown), projections);
    frame.render_widget(generation_table(&shown.projections), building);
    frame.render_widget(letter_table(&shown.dead_letters), letters);
    let lines: Vec<Line<'_>> = shown.problems.iter().map(|problem| Line::from(problem.as_str()).style(Color::Red)).collect();
    frame.render_widget(Text::from(lines), problems);
}

fn head<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Style::new().add_modifier(Modifier::DIM))
}

fn outbox_table(outboxes: &[Outbox]) -> Table<'static> {
    let widths = [12, 12, 38, 8, 10, 8, 12, 30].map(Constraint::Length);
    let rows = outboxes.iter().map(|outbox| {
        let QuarantineCounts { held, parked, diverted, requeued } = outbox.quarantine.unwrap_or_default();
        let waiting = held + parked + diverted + requeued;
        let state = enum_text(outbox.state().as_str_name(), "OUTBOX_STATE_");
        let problem = if outbox.state() == OutboxState::Relaying { String::new() } else { outbox.last_error.clone() };
        Row::new([
            Cell::new(short(&outbox.name).to_owned()),
            Cell::new(state).style(if outbox.state() == OutboxState::Relaying { Color::Green } else { Color::Red }),
            Cell::new(if outbox.holder.is_empty() { "nobody".to_owned() } else { outbox.holder.clone() }),
            Cell::new(outbox.epoch.to_string()),
            Cell::new(outbox.backlog_rows.to_string()),
            Cell::new(if outbox.backlog_rows == 0 { "-".to_owned() } else { span(SignedDuration::from_millis(outbox.backlog_age_ms)) }),
            Cell::new(waiting.to_string()).style(if waiting == 0 { Color::Reset } else { Color::Red }),
            Cell::new(problem),
        ])
    });
    Table::new(rows, widths).header(head(["OUTBOX", "STATE", "HOLDER", "EPOCH", "BACKLOG", "AGE", "QUARANTINE", "PROBLEM"]))
}

fn projection_table(shown: &Shown) -> Table<'static> {
    let widths = [16, 6, 12, 10, 10, 10, 10, 12].map(Constraint::Length);
    let rows = shown.projections.iter().map(|projection| {
        let (came, read) = shown.rates.get(&projection.name).copied().unwrap_or_default();
        let stopped = projection.stopped_partitions;
        Row::new([
            Cell::new(projection_name(&projection.name).to_owned()),
            Cell::new(projection.live_generation.to_string()),
            Cell::new(known(projection.lag_events)),
            Cell::new(match projection.lag_ms {
                0 => "-".to_owned(),
                ..0 => "?".to_owned(),
                lag_ms => span(SignedDuration::from_millis(lag_ms)),
            }),
            Cell::new(format!("{came:.0}")),
            Cell::new(format!("{read:.0}")),
            Cell::new(stopped.to_string()).style(if stopped == 0 { Color::Reset } else { Color::Red }),
            Cell::new(if projection.paused { format!("by {}", projection.paused_by) } else { "-".to_owned() }),
        ])
    });
    Table::new(rows, widths).header(head(["PROJECTION", "LIVE", "LAG EVENTS", "LAG", "CAME/S", "READ/S", "STOPPED", "PAUSED"]))
}

fn generation_table(projections: &[Projection]) -> Table<'static> {
    let widths = [16, 12, 12, 14, 30].map(Constraint::Length);
    let generations = projections.iter().flat_map(|projection| projection.generations.iter().map(move |one| (projection, one)));
    let rows = generations.map(|(projection, generation)| {
        let state = generation.state();
        let built = generation.rebuild.as_ref().filter(|_| state == GenerationState::Building).map_or_else(String::new, |rebuild| {
            let left = if rebuild.remaining_ms < 0 { "?".to_owned() } else { span(SignedDuration::from_millis(rebuild.remaining_ms)) };
            format!("{} of {} events, {left} left", rebuild.events_done, rebuild.events_total)
        });
        Row::new([
            Cell::new(projection_name(&projection.name).to_owned()),
            Cell::new(generation.generation.to_string()),
            Cell::new(enum_text(state.as_str_name(), "GENERATION_STATE_")),
            Cell::new(known(generation.lag_events)),
            Cell::new(built),
        ])
    });
    Table::new(rows, widths).header(head(["PROJECTION", "GENERATION", "STATE", "LAG EVENTS", "REBUILD"]))
}

fn letter_table(groups: &[DeadLetterGroup]) -> Table<'static> {
    let widths = [24, 22, 18, 28, 10].map(Constraint::Length);
    let rows = groups.iter().take(GROUPS_MAX).map(|group| {
        Row::new([
            Cell::new(group.code.clone()).style(Color::Red),
            Cell::new(if group.event_type.is_empty() { "-".to_owned() } else { group.event_type.clone() }),
            Cell::new(group.topic.clone()),
            Cell::new(group.consumer_group.clone()),
            Cell::new(group.count.to_string()),
        ])
    });
    Table::new(rows, widths).header(head(["DEAD LETTERS", "TYPE", "TOPIC", "CONSUMER", "COUNT"]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use idempo_proto::ops::v1::Generation;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn everything_that_matters_is_on_the_screen() {
        let outbox = Outbox {
            name: "outboxes/wallet".to_owned(),
            state: OutboxState::Blocked.into(),
            last_error: "no topic".to_owned(),
            backlog_rows: 1_234,
            backlog_age_ms: 61_000,
            quarantine: Some(QuarantineCounts { held: 3, ..Default::default() }),
            ..Default::default()
        };
        let live = Generation { generation: 4, state: GenerationState::Live.into(), ..Default::default() };
        let projection = Projection {
            name: "projections/inventory".to_owned(),
            live_generation: 4,
            lag_events: 77,
            generations: vec![live],
            ..Default::default()
        };
        let group = DeadLetterGroup { code: "VERSION_GAP".to_owned(), count: 41, ..Default::default() };
        let shown = Shown {
            dead_letters: vec![group],
            outboxes: vec![outbox],
            projections: vec![projection],
            rates: BTreeMap::from([("projections/inventory".to_owned(), (912.4, 880.0))]),
            problems: vec!["the relay at 127.0.0.1:1 is away".to_owned()],
        };
        let mut terminal = Terminal::new(TestBackend::new(140, 24)).expect("a terminal");
        terminal.draw(|frame| draw(frame, &shown, Duration::from_secs(1))).expect("drawn");
        let screen: String = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
        for part in [
            "wallet",
            "blocked",
            "nobody",
            "1234",
            "1m 1s",
            "no topic",
            "inventory",
            "77",
            "912",
            "880",
            "live",
            "VERSION_GAP",
            "41",
            "is away",
        ] {
            assert!(screen.contains(part), "{part} is not on the screen: {screen}");
        }
    }
}
