//! I12: a read with a position includes it, reads never go back in time, and none shows what never was.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::dead_letters::is_refused_as_parked;
use crate::facts::Store;
use crate::history::{History, Read};
use crate::method::Method;
use crate::verdict::Verdict;

/// I12 on every read that was made. One that waits for a stream with records that are `parked` may be refused: they are not shown on purpose.
#[must_use]
pub fn include_their_position(history: &History, stores: &[Store], parked: &HashSet<Uuid>) -> Verdict {
    let mut verdict = Verdict::new("I12", "a read with a position shows the write, and none goes back in time", "reads");
    let mut reads: Vec<&Read> = history.reads.iter().collect();
    reads.sort_by_key(|read| read.invoked_us);
    let last_versions = wallets(stores);
    // Per client and subject: what was answered, in the order of the answers, as the greatest mark so far.
    let mut sessions: HashMap<(u16, &str), Session> = HashMap::new();
    for read in reads {
        let missing = read.seen.as_ref().map(|seen| read.wanted.iter().filter(|wanted| !seen.contains(wanted)).count());
        verdict.look(missing == Some(0) || is_refused_as_parked(read, parked), || {
            let Read { method, subject, wanted, seen, refused, .. } = read;
            format!("{} {subject} should show {wanted:?} and shows {seen:?} {refused}", method.name())
        });
        if read.seen.is_none() {
            continue;
        }
        verdict.require(read.mark >= read.floor, || {
            format!("{} {} is at {}, before the position's {}", read.method.name(), read.subject, read.mark, read.floor)
        });
        if read.method == Method::GetWallet && !stores.is_empty() {
            let last = last_versions.get(&read.subject).copied().unwrap_or(0);
            verdict.require(read.mark <= last, || {
                format!("{} {} is at {}, and its stream never went beyond {last}", read.method.name(), read.subject, read.mark)
            });
        }
        let session = sessions.entry((read.client, &read.subject)).or_default();
        let before = session.mark_before(read.invoked_us);
        verdict
            .require(read.mark >= before, || format!("{} {} went back from {before} to {}", read.method.name(), read.subject, read.mark));
        session.answered(read.settled_us, read.mark);
    }
    verdict
}

/// What one client was shown of one subject: times of answers with the greatest mark up to each.
#[derive(Default)]
struct Session(Vec<(u64, u64)>);

impl Session {
    /// The greatest mark that was shown before this moment.
    fn mark_before(&self, at_us: u64) -> u64 {
        let shown = self.0.partition_point(|(settled_us, _)| *settled_us <= at_us);
        shown.checked_sub(1).and_then(|last| self.0.get(last)).map_or(0, |(_, mark)| *mark)
    }

    fn answered(&mut self, settled_us: u64, mark: u64) {
        let at = self.0.partition_point(|(settled, _)| *settled <= settled_us);
        let mark = mark.max(at.checked_sub(1).and_then(|before| self.0.get(before)).map_or(0, |(_, mark)| *mark));
        self.0.insert(at, (settled_us, mark));
        for (_, later) in self.0.iter_mut().skip(at) {
            *later = mark.max(*later);
        }
    }
}

/// The last version of each wallet, by the wallet's name.
fn wallets(stores: &[Store]) -> HashMap<String, u64> {
    let streams = stores.iter().flat_map(|store| &store.streams);
    let wallets = streams.filter(|row| crate::ids::stream("wallet", row.partition_key) == row.stream_id);
    wallets.map(|row| (format!("wallets/{}", row.partition_key), row.version)).collect()
}
