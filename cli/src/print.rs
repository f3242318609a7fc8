//! What commands print: data on stdout in one of three forms, everything else on stderr.

use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;

/// The form of data on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How times are shown in text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeFormat {
    /// As seen from now: `12s ago`.
    #[default]
    Relative,
    /// As ISO 8601, in UTC.
    Iso,
}

/// What a cell means, which decides on its colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// To be looked at.
    Odd,
    /// Wrong.
    Bad,
}

impl Tone {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Odd => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// One value of a row, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a meaning.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), tone: Tone::Plain }
    }
}

/// One thing of several: as JSON, and as the cells of its row.
#[derive(Debug, Clone)]
pub struct Row {
    /// All that is known of it.
    pub json: Value,
    /// One for each column.
    pub cells: Vec<Cell>,
}

/// How a printer prints.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// The form of data.
    pub form: Form,
    /// Whether there is colour.
    pub colored: bool,
    /// How times are shown.
    pub time: TimeFormat,
    /// The time that others are seen from.
    pub now: Timestamp,
}

impl Style {
    /// Whether text on stdout is to be coloured.
    #[must_use]
    pub fn is_colored(color: Color) -> bool {
        let is_set = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                io::stdout().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
            }
        }
    }

    /// A time, or `-` where there is none.
    #[must_use]
    pub fn time(&self, at: Option<Timestamp>) -> String {
        let Some(at) = at else { return "-".to_owned() };
        match self.time {
            TimeFormat::Iso => format!("{at:.3}"),
            TimeFormat::Relative => {
                let past = self.now.duration_since(at);
                if past.is_negative() { format!("in {}", span(past.abs())) } else { format!("{} ago", span(past)) }
            }
        }
    }
}

/// A number that is negative where nobody has said it.
#[must_use]
pub fn known(number: i64) -> String {
    if number < 0 { "?".to_owned() } else { number.to_string() }
}

/// A length of time in one or two units: `430ms`, `12s`, `3m 20s`, `5h 2m`, `9d 4h`.
#[must_use]
pub fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    let two = |large: i64, name: char, small: i64, other: char| {
        if small == 0 { format!("{large}{name}") } else { format!("{large}{name} {small}{other}") }
    };
    match seconds {
        0 => format!("{}ms", length.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3_600..86_400 => two(seconds / 3_600, 'h', seconds % 3_600 / 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds % 86_400 / 3_600, 'h'),
    }
}

/// Prints data.
pub struct Printer<'a> {
    /// How.
    pub style: Style,
    to: &'a mut dyn Write,
    has_printed: bool,
}

impl<'a> Printer<'a> {
    /// A printer to `to`.
    pub fn new(style: Style, to: &'a mut dyn Write) -> Self {
        Self { style, to, has_printed: false }
    }

    /// Whether anything was printed.
    #[must_use]
    pub const fn has_printed(&self) -> bool {
        self.has_printed
    }

    /// Prints several things. As text, a table with the columns in this order, whatever is in them.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub fn list(&mut self, columns: &[&str], rows: &[Row]) -> Result<(), Failure> {
        match self.style.form {
            Form::Text => self.table(columns, rows),
            Form::Json => self.json(&Value::Array(rows.iter().map(|row| row.json.clone()).collect())),
            Form::Jsonl => rows.iter().try_for_each(|row| self.line(&row.json.to_string())),
        }
    }

    /// Prints one thing. As text, a line for each field.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub fn one(&mut self, json: &Value, fields: &[(&str, Cell)]) -> Result<(), Failure> {
        match self.style.form {
            Form::Text => {
                let widest = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
                for (name, cell) in fields {
                    let value = self.painted(cell);
                    let pad = " ".repeat(widest - name.chars().count());
                    self.line(format!("{name}{pad}  {value}").trim_end())?;
                }
                Ok(())
            }
            Form::Json => self.json(json),
            Form::Jsonl => self.line(&json.to_string()),
        }
    }

    /// Prints a JSON document over several lines.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&format!("{value:#}"))
    }

    /// Prints a line.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.has_printed = true;
        Ok(writeln!(self.to, "{line}")?)
    }

    /// Lets go of what is printed so far.
    ///
    /// # Errors
    /// Where stdout can't be written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.to.flush()?)
    }

    /// A cell's text, in its colour.
    #[must_use]
    pub fn painted(&self, cell: &Cell) -> String {
        match cell.tone.code().filter(|_| self.style.colored) {
            Some(code) => format!("\u{1b}[{code}m{}\u{1b}[0m", cell.text),
            None => cell.text.clone(),
        }
    }

    fn table(&mut self, columns: &[&str], rows: &[Row]) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(columns.iter().copied());
        for row in rows {
            table.add_row(row.cells.iter().map(|cell| self.painted(cell)));
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            let padding = if at == 0 { (0, 1) } else { (1, 1) };
            column.set_padding(padding).set_cell_alignment(CellAlignment::Left);
        }
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }
}

/// Tells people something beside the data, on stderr.
pub fn tell(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(form: Form, colored: bool, print: impl FnOnce(&mut Printer<'_>)) -> String {
        let mut bytes = Vec::new();
        let style = Style { form, colored, time: TimeFormat::Iso, now: Timestamp::UNIX_EPOCH };
        print(&mut Printer::new(style, &mut bytes));
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn rows() -> Vec<Row> {
        let row = |name: &str, tone| Row { json: json!({ "name": name }), cells: vec![name.into(), Cell::toned("state", tone)] };
        vec![row("a", Tone::Good), row("longer", Tone::Plain)]
    }

    #[test]
    fn what_nobody_has_said_is_not_shown_as_a_number() {
        assert_eq!([known(-1), known(0), known(1_200)], ["?", "0", "1200"]);
    }

    #[test]
    fn several_things_are_a_table_an_array_or_lines() {
        let list = |form| printed(form, false, |printer| printer.list(&["NAME", "STATE"], &rows()).expect("printed"));
        assert_eq!(list(Form::Text), "NAME    STATE\na       state\nlonger  state\n");
        assert_eq!(serde_json::from_str::<Value>(&list(Form::Json)).expect("JSON"), json!([{"name": "a"}, {"name": "longer"}]));
        assert_eq!(list(Form::Jsonl), "{\"name\":\"a\"}\n{\"name\":\"longer\"}\n");
    }

    #[test]
    fn colour_moves_no_column() {
        let list = |colored| printed(Form::Text, colored, |printer| printer.list(&["NAME", "STATE"], &rows()).expect("printed"));
        assert!(list(true).contains("\u{1b}[32mstate\u{1b}[0m"), "{:?}", list(true));
        assert_eq!(list(true).replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""), list(false));
    }

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        for (ms, text) in
            [(430, "430ms"), (12_900, "12s"), (200_000, "3m 20s"), (18_120_000, "5h 2m"), (792_000_000, "9d 4h"), (3_600_000, "1h")]
        {
            assert_eq!(span(SignedDuration::from_millis(ms)), text);
        }
    }
}
