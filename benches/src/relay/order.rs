//! What must hold for the records of a topic: nothing lost, each in its place, and how many came twice.

use anyhow::{Context as _, ensure};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;

use super::broker;
use super::rows::{KEYS, Rows, number_of};

/// Follows the records of one topic, each partition in its order.
#[derive(Debug)]
pub(super) struct Order<'a> {
    rows: &'a Rows,
    /// By key: the number of its last new record.
    last: Vec<Option<u32>>,
    /// Records of rows that had not come before.
    pub(super) fresh: u64,
    /// Records that came again.
    pub(super) again: u64,
    /// Records behind one of their own key that is newer, and that had not come before.
    pub(super) inverted: u64,
    seen: Vec<bool>,
    from: u32,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is new.
    Fresh,
    /// It was there before.
    Again,
}

impl<'a> Order<'a> {
    /// Nothing has come of the rows numbered `from` up to, not including, `to`.
    pub(super) fn new(rows: &'a Rows, from: u32, to: u32) -> anyhow::Result<Self> {
        let span = usize::try_from(to - from)?;
        let keys = usize::try_from(KEYS)?;
        Ok(Self { rows, last: vec![None; keys], fresh: 0, again: 0, inverted: 0, seen: vec![false; span], from })
    }

    /// Takes in the next record of a partition. Fails where it is none of ours, or not where it belongs.
    pub(super) fn take(&mut self, key: &[u8], partition: i32, number: u32) -> anyhow::Result<Seen> {
        let expected = self.rows.key(number)?;
        ensure!(key == expected.text.as_bytes(), "row {number} has another row's key");
        ensure!(partition == expected.partition, "row {number} is in partition {partition} and not in {}", expected.partition);
        let at = number.checked_sub(self.from).and_then(|at| usize::try_from(at).ok());
        let seen = at.and_then(|at| self.seen.get_mut(at)).with_context(|| format!("row {number} was never written"))?;
        if std::mem::replace(seen, true) {
            self.again += 1;
            return Ok(Seen::Again);
        }
        self.fresh += 1;
        let last = self.last.get_mut(usize::try_from(number % KEYS)?).context("a key for each remainder")?;
        if last.is_some_and(|last| last > number) {
            self.inverted += 1;
        } else {
            *last = Some(number);
        }
        Ok(Seen::Fresh)
    }

    /// How many rows never came.
    pub(super) fn lost(&self) -> anyhow::Result<u64> {
        Ok(u64::try_from(self.seen.iter().filter(|seen| !**seen).count())?)
    }
}

/// Each of the rows `0..rows` once in the topic, in its partition, and each key's rows in their order.
pub(super) fn check_exact(consumer: &BaseConsumer, topic: &str, rows: &Rows, count: u32) -> anyhow::Result<()> {
    let mut order = Order::new(rows, 0, count)?;
    let from = vec![0; usize::try_from(broker::PARTITIONS)?];
    broker::read(consumer, topic, &from, |record| {
        order.take(record.key().unwrap_or_default(), record.partition(), number_of(record.payload().unwrap_or_default())?)?;
        Ok(())
    })?;
    let (lost, again, inverted) = (order.lost()?, order.again, order.inverted);
    ensure!(lost == 0 && again == 0 && inverted == 0, "of {count} rows {lost} were lost, {again} came twice, {inverted} out of order");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_inverted_or_misplaced_is_told_apart() {
        let rows = Rows::new();
        let mut order = Order::new(&rows, 0, 3 * KEYS).expect("it fits");
        let mut take = |number| {
            let key = rows.key(number).expect("a key");
            order.take(key.text.as_bytes(), key.partition, number)
        };
        assert_eq!(take(7).expect("it is ours"), Seen::Fresh);
        assert_eq!(take(7 + 2 * KEYS).expect("it is ours"), Seen::Fresh);
        assert_eq!(take(7).expect("it is ours"), Seen::Again);
        assert_eq!(take(7 + KEYS).expect("it is ours"), Seen::Fresh);
        assert!(take(7 + 3 * KEYS).is_err(), "it was never written");
        assert_eq!((order.fresh, order.again, order.inverted), (3, 1, 1));
        assert_eq!(order.lost().expect("it fits"), u64::from(3 * KEYS - 3));
        let key = rows.key(8).expect("a key");
        assert!(order.take(key.text.as_bytes(), key.partition + 1, 8).is_err());
        assert!(order.take(b"another", key.partition, 8).is_err());
    }
}
