//! I7: what is derived from the events is what is in the tables, row by row.

use super::Verdict;
use crate::facts::Tables;

/// I7: every row that follows from the events is there, as it follows, and there is no other.
#[must_use]
pub fn same_rows(claim: &'static str, folded: &Tables, there: &Tables) -> Verdict {
    let mut verdict = Verdict::new("I7", claim, "rows");
    for (table, folded) in folded {
        let Some(there) = there.get(table) else {
            verdict.require(false, || format!("table {table} was not read"));
            continue;
        };
        for (key, row) in folded {
            let found = there.get(key);
            verdict.look(found == Some(row), || {
                format!("{table} {key}: the fold says «{row}», the table «{}»", found.map_or("", String::as_str))
            });
        }
        for (key, row) in there {
            verdict.require(folded.contains_key(key), || format!("{table} {key} follows from no event: «{row}»"));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Rows;

    fn tables(rows: &[(&str, &str)]) -> Tables {
        let rows: Rows = rows.iter().map(|(key, row)| ((*key).to_owned(), (*row).to_owned())).collect();
        Tables::from([("items", rows)])
    }

    #[test]
    fn equal_tables_pass_and_each_difference_is_flagged() {
        let folded = tables(&[("sword", "owned"), ("ring", "reserved")]);
        assert!(same_rows("equal", &folded, &folded.clone()).holds());
        assert_eq!(same_rows("equal", &folded, &tables(&[("sword", "owned")])).flaw_count, 1);
        assert_eq!(same_rows("equal", &folded, &tables(&[("sword", "owned"), ("ring", "owned")])).flaw_count, 1);
        assert_eq!(same_rows("equal", &folded, &tables(&[("sword", "owned"), ("ring", "reserved"), ("bow", "owned")])).flaw_count, 1);
        assert_eq!(same_rows("equal", &folded, &Tables::new()).flaw_count, 1);
    }
}
