//! The timeline: what was done when, to what, for how long, and what was seen of it.

use std::fmt;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use crate::faults::{Family, Fault};

/// One fault as it was.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// When it began, from the first moment of the run.
    pub at: Duration,
    /// When it ended; `None` while it lasts.
    pub ended: Option<Duration>,
    /// Its family.
    pub family: Family,
    /// What was done, for people.
    pub what: String,
    /// To what, for people.
    pub target: String,
    /// What was seen of it, for people; may be empty.
    pub note: String,
    /// The longest time within it, and two seconds after it, in which no command of a service was answered, by service; filled in at the end.
    pub silence: Vec<(String, Duration)>,
    /// The fault with its parameters.
    pub fault: Fault,
}

/// All faults of a run, in the order in which they began.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Timeline {
    /// The faults.
    pub entries: Vec<Entry>,
}

impl Timeline {
    /// Notes that a fault has begun, and gives its place.
    pub fn begun(&mut self, fault: &Fault, at: Duration, note: String) -> usize {
        let (family, what, target) = (fault.family(), fault.to_string(), fault.target());
        self.entries.push(Entry { at, ended: None, family, what, target, note, silence: Vec::new(), fault: fault.clone() });
        self.entries.len() - 1
    }

    /// Notes that the fault at this place has ended.
    pub fn ended(&mut self, place: usize, at: Duration, note: &str) {
        if let Some(entry) = self.entries.get_mut(place) {
            entry.ended = Some(at);
            if !note.is_empty() {
                entry.note = if entry.note.is_empty() { note.to_owned() } else { format!("{} {note}", entry.note) };
            }
        }
    }

    /// When the last fault ended.
    #[must_use]
    pub fn last_end(&self) -> Option<Duration> {
        self.entries.iter().filter_map(|entry| entry.ended).max()
    }

    /// Fills in for how long services were silent. `answers` are the times at which their commands were answered, sorted, by service.
    pub fn note_silence(&mut self, answers: &[(String, Vec<Duration>)]) {
        for entry in &mut self.entries {
            let (from, to) = (entry.at, entry.ended.unwrap_or(entry.at) + AFTERWARDS);
            entry.silence = answers.iter().map(|(service, times)| (service.clone(), longest_gap(times, from, to))).collect();
        }
    }
}

/// How long after a fault's end its effect is looked for.
const AFTERWARDS: Duration = Duration::from_secs(2);

fn longest_gap(times: &[Duration], from: Duration, to: Duration) -> Duration {
    let begin = times.partition_point(|time| *time < from);
    let end = times.partition_point(|time| *time <= to);
    let (mut last, mut longest) = (from, Duration::ZERO);
    for time in times.get(begin..end).unwrap_or_default().iter().copied().chain([to]) {
        longest = longest.max(time.saturating_sub(last));
        last = time;
    }
    longest
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["at", "for", "family", "fault", "target", "silence", "seen"]);
        for entry in &self.entries {
            let lasted = entry.ended.map_or_else(|| "?".to_owned(), |ended| seconds(ended.saturating_sub(entry.at)));
            let silence = entry.silence.iter().map(|(service, time)| format!("{service} {}", seconds(*time))).collect::<Vec<_>>();
            table.add_row([
                seconds(entry.at),
                lasted,
                entry.family.name().to_owned(),
                entry.what.clone(),
                entry.target.clone(),
                silence.join(", "),
                entry.note.clone(),
            ]);
        }
        for column in [0, 1] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write!(f, "{table}")
    }
}

/// A time with tenths of a second.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{}.{} s", duration.as_secs(), duration.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_the_longest_time_without_an_answer() {
        let at = Duration::from_millis;
        let times = [at(0), at(100), at(900), at(1_000), at(5_000)];
        assert_eq!(longest_gap(&times, at(50), at(1_100)), at(800));
        assert_eq!(longest_gap(&times, at(950), at(3_000)), at(2_000));
        assert_eq!(longest_gap(&[], at(1), at(4)), at(3));
    }
}
