//! One figure over all rounds, and what it has to be.

use serde::Serialize;

/// What a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// The figure, at least.
    AtLeast(f64),
    /// The figure, at most.
    AtMost(f64),
    /// The figure over its reference, at least.
    RatioAtLeast(f64),
    /// The figure over its reference, at most.
    RatioAtMost(f64),
}

/// What a figure cost.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Cost {
    /// CPU seconds of the process that was measured, for a million events or commands.
    pub(crate) cpu_s_per_million: Option<f64>,
    /// CPU seconds of the PostgreSQL server.
    pub(crate) postgres_cpu_s_per_million: Option<f64>,
    /// The most memory that the process has had, in MiB.
    pub(crate) peak_mib: Option<f64>,
}

/// A figure of one round.
#[derive(Debug)]
pub(crate) struct Measured {
    name: String,
    value: f64,
    unit: &'static str,
    ratio: Option<f64>,
    bar: Option<Bar>,
    cost: Cost,
}

impl Measured {
    /// A figure by itself.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, ratio: None, bar: None, cost: Cost::default() }
    }

    /// What it is measured against, of the same round.
    pub(crate) fn beside(self, reference: f64) -> Self {
        Self { ratio: Some(self.value / reference), ..self }
    }

    /// What it has to be, if anything.
    pub(crate) fn bar(self, bar: impl Into<Option<Bar>>) -> Self {
        Self { bar: bar.into(), ..self }
    }

    /// What it cost.
    pub(crate) fn cost(self, cost: Cost) -> Self {
        Self { cost, ..self }
    }
}

/// A figure of a round, for a bench that hands back a list of them.
#[derive(Debug)]
pub(crate) struct Row {
    /// The round, from 1.
    pub(crate) round: u32,
    /// What it is.
    pub(crate) name: String,
    /// The figure.
    pub(crate) value: f64,
    /// In what it is counted.
    pub(crate) unit: &'static str,
    /// The figure over its reference of the same round; `None` for a reference.
    pub(crate) ratio: Option<f64>,
}

impl Row {
    /// What others are measured against, or stands by itself.
    pub(crate) fn reference(round: u32, name: &str, value: f64, unit: &'static str) -> Self {
        Self { round, name: name.to_owned(), value, unit, ratio: None }
    }

    /// A figure of ours.
    pub(crate) fn measured(round: u32, name: &str, value: f64, unit: &'static str, ratio: f64) -> Self {
        Self { round, name: name.to_owned(), value, unit, ratio: Some(ratio) }
    }
}

#[derive(Debug, Clone, Serialize)]
struct Sample {
    round: u32,
    value: f64,
    ratio: Option<f64>,
    cost: Cost,
}

/// A figure over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    bar: Option<Bar>,
    met: Option<bool>,
    rounds: Vec<Sample>,
}

impl Figure {
    pub(super) fn of(round: u32, measured: Measured) -> Self {
        let mut figure = Self { name: measured.name.clone(), unit: measured.unit, bar: measured.bar, met: None, rounds: Vec::new() };
        figure.add(round, &measured);
        figure
    }

    pub(super) fn is(&self, measured: &Measured) -> bool {
        self.name == measured.name && self.unit == measured.unit
    }

    pub(super) fn add(&mut self, round: u32, measured: &Measured) {
        self.rounds.push(Sample { round, value: measured.value, ratio: measured.ratio, cost: measured.cost });
        self.met = self.judge();
    }

    /// The figure of each round.
    fn values(&self) -> Vec<f64> {
        self.rounds.iter().map(|sample| sample.value).collect()
    }

    /// Whether its bar is met, by the median of the rounds; `None` without a bar, or without the reference that the bar is about.
    pub(super) fn is_met(&self) -> Option<bool> {
        self.met
    }

    fn judge(&self) -> Option<bool> {
        let (value, ratio) = (middle(self.values()), self.ratio());
        Some(match self.bar? {
            Bar::AtLeast(least) => value >= least,
            Bar::AtMost(most) => value <= most,
            Bar::RatioAtLeast(least) => ratio? >= least,
            Bar::RatioAtMost(most) => ratio? <= most,
        })
    }

    fn ratio(&self) -> Option<f64> {
        self.middle_of(|sample| sample.ratio)
    }

    fn middle_of(&self, part: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let parts: Vec<f64> = self.rounds.iter().filter_map(part).collect();
        (!parts.is_empty()).then(|| middle(parts))
    }

    /// Its row of the table.
    pub(super) fn cells(&self) -> [String; 10] {
        let values = self.values();
        let span = match (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max)) {
            (Some(min), Some(max)) if self.rounds.len() > 1 => format!("{} … {}", number(min), number(max)),
            _ => String::new(),
        };
        let shown = |value: Option<f64>| value.map(number).unwrap_or_default();
        let bar = match self.bar {
            None => String::new(),
            Some(Bar::AtLeast(least)) => format!("≥ {}", number(least)),
            Some(Bar::AtMost(most)) => format!("≤ {}", number(most)),
            Some(Bar::RatioAtLeast(least)) => format!("≥ {least} ×"),
            Some(Bar::RatioAtMost(most)) => format!("≤ {most} ×"),
        };
        let verdict = match self.met {
            None => "",
            Some(true) => "met",
            Some(false) => "NOT MET",
        };
        [
            self.name.clone(),
            number(middle(values)),
            span,
            self.unit.to_owned(),
            self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2} ×")),
            shown(self.middle_of(|sample| sample.cost.cpu_s_per_million)),
            shown(self.middle_of(|sample| sample.cost.postgres_cpu_s_per_million)),
            shown(self.middle_of(|sample| sample.cost.peak_mib)),
            bar,
            verdict.to_owned(),
        ]
    }
}

/// The median; of an even number, the mean of the two in the middle. Of nothing it is not a number, which meets no bar.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.len() % 2, half.checked_sub(1).and_then(|below| values.get(below)), values.get(half)) {
        (0, Some(below), Some(above)) => f64::midpoint(*below, *above),
        (_, _, Some(value)) => *value,
        _ => f64::NAN,
    }
}

/// As many places as a reader can use.
fn number(value: f64) -> String {
    match value.abs() {
        whole if whole.fract() == 0.0 => format!("{value:.0}"),
        large if large >= 100.0 => format!("{value:.0}"),
        small if small < 0.995 => format!("{value:.3}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert!((middle(vec![4.0, 1.0, 3.0]) - 3.0).abs() < f64::EPSILON);
        assert!((middle(vec![4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < f64::EPSILON);
        assert!(middle(vec![]).is_nan());
    }

    #[test]
    fn a_bar_is_judged_by_the_median_of_what_it_is_about() {
        let measured = |value| Measured::new("drain", value, "events/s").beside(100.0).bar(Bar::RatioAtLeast(0.5));
        let mut figure = Figure::of(1, measured(60.0));
        assert_eq!(figure.is_met(), Some(true));
        figure.add(2, &measured(30.0));
        assert_eq!(figure.is_met(), Some(false), "the median is 0.45");
        figure.add(3, &measured(70.0));
        assert_eq!(figure.is_met(), Some(true), "the median is 0.6");
    }

    #[test]
    fn a_ratio_without_its_reference_meets_nothing() {
        let figure = Figure::of(1, Measured::new("drain", 60.0, "events/s").bar(Bar::RatioAtLeast(0.5)));
        assert_eq!(figure.is_met(), None);
        let broken = Figure::of(1, Measured::new("drain", f64::NAN, "events/s").bar(Bar::AtLeast(0.5)));
        assert_eq!(broken.is_met(), Some(false));
    }
}
