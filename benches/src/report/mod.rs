//! What a bench found: the table that it prints, and the JSON beside it.

mod environment;
mod figure;

use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::latency::Latencies;

use environment::Environment;
use figure::Figure;
pub(crate) use figure::{Bar, Cost, Measured, Row};

/// Where the JSON goes, below the folder that the bench runs in.
const FOLDER: &str = "target/bench";

/// One bench's findings.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bench: String,
    environment: Environment,
    /// What the run was told to do.
    parameters: Map<String, Value>,
    figures: Vec<Figure>,
    /// What was measured beside the figures: distributions, and what was seen over time.
    samples: Map<String, Value>,
    load_average_at_end: [f64; 3],
}

impl Report {
    /// Nothing found yet.
    pub(crate) async fn begin(bench: &str, parameters: &impl Serialize) -> anyhow::Result<Self> {
        let Value::Object(parameters) = serde_json::to_value(parameters)? else { anyhow::bail!("parameters have names") };
        Ok(Self {
            bench: bench.to_owned(),
            environment: Environment::look().await?,
            parameters,
            figures: Vec::new(),
            samples: Map::new(),
            load_average_at_end: [0.0; 3],
        })
    }

    /// Something else that the run was told, or that it found out before it began.
    pub(crate) fn parameter(&mut self, name: &str, value: impl Into<Value>) {
        self.parameters.insert(name.to_owned(), value.into());
    }

    /// Adds a figure of a round. Figures of the same name belong together.
    pub(crate) fn add(&mut self, round: u32, measured: Measured) {
        match self.figures.iter_mut().find(|figure| figure.is(&measured)) {
            Some(figure) => figure.add(round, &measured),
            None => self.figures.push(Figure::of(round, measured)),
        }
    }

    /// Adds what was seen, as it is.
    pub(crate) fn sample(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.samples.insert(name.into(), value.into());
    }

    /// Adds a distribution: each latency in microseconds (to three digits), and how often it was seen.
    pub(crate) fn distribution(&mut self, name: impl Into<String>, latencies: &Latencies) {
        self.sample(name, json!(latencies.counts()));
    }

    /// Writes the JSON, and gives the text to print.
    pub(crate) fn finish(mut self) -> anyhow::Result<String> {
        self.load_average_at_end = environment::load_average()?;
        let path = self.write()?;
        let (met, bars) =
            self.figures.iter().filter_map(Figure::is_met).fold((0, 0), |(met, all), is_met| (met + u32::from(is_met), all + 1));
        let bars = if bars == 0 { String::new() } else { format!("\n{met} of {bars} bars met") };
        Ok(format!("{}\n{}\n{}{bars}\nwritten to {}", self.bench, self.environment.summary(), self.table(), path.display()))
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["what", "median", "min … max", "unit", "of reference", "CPU s/M", "PostgreSQL s/M", "peak MiB", "bar", ""]);
        for figure in &self.figures {
            table.add_row(figure.cells());
        }
        for column in [1, 2, 4, 5, 6, 7, 8] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    fn write(&self) -> anyhow::Result<PathBuf> {
        let folder = Path::new(FOLDER);
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.json", self.bench));
        std::fs::write(&path, serde_json::to_string_pretty(self)?)?;
        Ok(path)
    }
}
