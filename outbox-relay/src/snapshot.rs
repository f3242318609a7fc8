//! PostgreSQL's snapshots and transaction ids, as values.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The first xid that a transaction can have.
pub(crate) const FIRST_XID: u64 = 3;
/// The most transactions in progress that a snapshot from the database may list; a server has fewer backends by far.
const XIP_MAX: usize = 1 << 20;

/// Which transactions had ended at one moment.
///
/// Ended are those below `xmax` that are not in `xip`. `xmax` is the last ended xid plus one, *not* the next xid to be given out: a transaction
/// that runs can have an xid at or above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) xmin: u64,
    pub(crate) xmax: u64,
    /// Sorted.
    pub(crate) xip: Vec<u64>,
}

impl Snapshot {
    /// Whether the transaction had ended.
    pub(crate) fn shows(&self, xid: u64) -> bool {
        xid < self.xmax && self.xip.binary_search(&xid).is_err()
    }
}

impl<'a> FromSql<'a> for Snapshot {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let (count, rest) = raw.split_first_chunk::<4>().ok_or("a snapshot without its length")?;
        let count = usize::try_from(i32::from_be_bytes(*count))?;
        let (words, tail) = rest.as_chunks::<8>();
        if !tail.is_empty() || count > XIP_MAX || words.len() != count + 2 {
            return Err("a snapshot of another length than it says".into());
        }
        let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
        let (Some(xmin), Some(xmax)) = (words.next(), words.next()) else { return Err("a snapshot without bounds".into()) };
        Ok(Self { xmin, xmax, xip: words.collect() })
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::PG_SNAPSHOT
    }
}

impl ToSql for Snapshot {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i32(i32::try_from(self.xip.len())?);
        out.put_u64(self.xmin);
        out.put_u64(self.xmax);
        for xid in &self.xip {
            out.put_u64(*xid);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::PG_SNAPSHOT
    }

    to_sql_checked!();
}

/// A 64-bit transaction id in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Xid(pub(crate) u64);

impl<'a> FromSql<'a> for Xid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(u64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }
}

impl ToSql for Xid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u64(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }

    to_sql_checked!();
}

/// The next xid, from its lower half as `age` tells it (its distance from [`FIRST_XID`]) and a 64-bit xid that is less than 2^31 away.
pub(crate) fn next_xid(from_first: i32, near: u64) -> u64 {
    const EPOCH: u64 = 1 << 32;
    let lower = u64::from(from_first.cast_unsigned()).wrapping_add(FIRST_XID) % EPOCH;
    let candidate = near - near % EPOCH + lower;
    if candidate + EPOCH / 2 < near {
        candidate + EPOCH
    } else if candidate > near + EPOCH / 2 {
        candidate.saturating_sub(EPOCH)
    } else {
        candidate
    }
}

/// A moment on the database's clock, in microseconds since 2000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DatabaseTime(pub(crate) i64);

impl<'a> FromSql<'a> for DatabaseTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_ended_and_nothing_that_ran_or_came_later() {
        let snapshot = Snapshot { xmin: 10, xmax: 20, xip: vec![10, 15] };
        let shown: Vec<u64> = (8..22).filter(|xid| snapshot.shows(*xid)).collect();
        assert_eq!(shown, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
    }

    #[test]
    fn a_snapshot_survives_the_wire() {
        let snapshot = Snapshot { xmin: 10, xmax: 1 << 40, xip: vec![10, 15] };
        let mut wire = BytesMut::new();
        snapshot.to_sql(&Type::PG_SNAPSHOT, &mut wire).expect("it can be written");
        assert_eq!(Snapshot::from_sql(&Type::PG_SNAPSHOT, &wire).expect("it can be read"), snapshot);
        assert!(Snapshot::from_sql(&Type::PG_SNAPSHOT, &wire[..wire.len() - 1]).is_err());
    }

    #[test]
    fn the_upper_half_of_the_next_xid_follows_from_a_near_one() {
        assert_eq!(next_xid(1_519, 1_500), 1_522);
        // The snapshot is behind the turn of the lower half, or before it.
        assert_eq!(next_xid(2, (1 << 32) - 4), (1 << 32) + 5);
        assert_eq!(next_xid(-5, (5 << 32) + 7), (5 << 32) - 2);
        assert_eq!(next_xid(-1, (1 << 33) + 1), (1 << 33) + 2);
    }
}
