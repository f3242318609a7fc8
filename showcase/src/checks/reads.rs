//! I12: a read with a position includes it, and reads never go back in time.

use std::collections::HashMap;

use super::Verdict;
use crate::history::{History, Read};

/// I12 on every read that was made.
#[must_use]
pub fn include_their_position(history: &History) -> Verdict {
    let mut verdict = Verdict::new("I12", "a read with a position shows the write, and none goes back in time", "reads");
    let mut reads: Vec<&Read> = history.reads.iter().collect();
    reads.sort_by_key(|read| read.invoked_us);
    // Per client and subject: when an answer was there, and its mark.
    let mut newest: HashMap<(u16, &str), (u64, u64)> = HashMap::new();
    for read in reads {
        let missing = read.seen.as_ref().map(|seen| read.wanted.iter().filter(|wanted| !seen.contains(wanted)).collect::<Vec<_>>());
        verdict.look(missing.as_ref().is_some_and(Vec::is_empty), || {
            format!("{} {} should show {:?} and shows {:?}", read.method.name(), read.subject, read.wanted, read.seen)
        });
        verdict.require(read.seen.is_none() || read.mark >= read.floor, || {
            format!("{} {} is at {}, before the position's {}", read.method.name(), read.subject, read.mark, read.floor)
        });
        let last = newest.entry((read.client, &read.subject)).or_default();
        verdict.require(read.seen.is_none() || last.0 > read.invoked_us || read.mark >= last.1, || {
            format!("{} {} went back from {} to {}", read.method.name(), read.subject, last.1, read.mark)
        });
        if read.seen.is_some() {
            *last = (last.0.max(read.settled_us), last.1.max(read.mark));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::Method;

    fn read(at: u64, mark: u64) -> Read {
        Read {
            client: 1,
            method: Method::GetItem,
            subject: "items/sword".to_owned(),
            invoked_us: at,
            settled_us: at + 5,
            wanted: vec![("hop", mark.to_string())],
            seen: Some(vec![("hop", mark.to_string()), ("state", "OWNED".to_owned())]),
            mark,
            floor: mark,
            lag_events: Some(0),
            retries: 0,
        }
    }

    fn check(reads: Vec<Read>) -> Verdict {
        include_their_position(&History { attempts: vec![], reads })
    }

    #[test]
    fn reads_that_show_the_write_and_go_forward_pass() {
        assert!(check(vec![read(0, 1), read(10, 2), read(20, 2)]).holds());
    }

    #[test]
    fn a_read_that_misses_the_write_is_too_old_goes_back_or_never_came_is_flagged() {
        assert_eq!(check(vec![Read { wanted: vec![("hop", "2".to_owned())], ..read(0, 1) }]).flaw_count, 1);
        assert_eq!(check(vec![Read { floor: 2, ..read(0, 1) }]).flaw_count, 1);
        assert_eq!(check(vec![read(0, 2), read(10, 1)]).flaw_count, 1);
        assert_eq!(check(vec![Read { seen: None, ..read(0, 1) }]).flaw_count, 1);
    }

    #[test]
    fn two_reads_at_the_same_moment_have_no_order() {
        assert!(check(vec![read(0, 2), read(3, 1)]).holds());
    }
}
