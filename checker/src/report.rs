//! The report: each claim, how much was looked at, and what is wrong with it.

use std::fmt;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use crate::verdict::Verdict;

/// What the checks say of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each claim.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Whether every claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.verdicts.iter().all(Verdict::holds)
    }

    /// The claims that don't hold.
    pub fn broken(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| !verdict.holds())
    }

    /// The report as one JSON document.
    ///
    /// # Errors
    /// Never, as far as is known: everything in it can stand in JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        for verdict in &self.verdicts {
            let mark = if verdict.holds() { "✓" } else { "✗" };
            let looked_at = format!("{} {}", grouped(verdict.looked_at), verdict.of);
            table.add_row(vec![mark.to_owned(), verdict.id.to_owned(), verdict.claim.to_owned(), looked_at]);
        }
        if let Some(column) = table.column_mut(3) {
            column.set_cell_alignment(CellAlignment::Left);
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.table())?;
        for verdict in self.broken() {
            writeln!(f, "\n✗ {} {}: {} flaws in {} {}", verdict.id, verdict.claim, verdict.flaw_count, verdict.looked_at, verdict.of)?;
            if verdict.looked_at == 0 {
                writeln!(f, "    nothing was there to be looked at, so nothing is proven")?;
            }
            for flaw in &verdict.flaws {
                writeln!(f, "    {flaw}")?;
            }
        }
        Ok(())
    }
}

/// A whole number with commas between its thousands.
#[must_use]
pub fn grouped(value: impl fmt::Display) -> String {
    let text = value.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567"), (-100, "-100")];
        for (value, text) in cases {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn a_report_shows_each_claim_and_the_first_flaws_of_those_that_do_not_hold() {
        let mut good = Verdict::new("I1", "money stays", "balances");
        good.looked_at(1_200);
        let mut bad = Verdict::new("I8", "no gaps", "streams");
        bad.look(false, || "stream a has a gap".to_owned());
        let report = Report { verdicts: vec![good, bad] };
        let text = report.to_string();
        assert!(!report.holds());
        assert!(
            text.contains("1,200 balances") && text.contains("✗ I8 no gaps: 1 flaws in 1 streams") && text.contains("stream a has a gap")
        );
        let json: serde_json::Value = serde_json::from_str(&report.to_json().expect("JSON")).expect("JSON");
        assert_eq!(json["verdicts"][1]["flaws"][0], "stream a has a gap");
    }
}
