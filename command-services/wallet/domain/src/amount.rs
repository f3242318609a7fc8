//! What is counted, and how much of it.

use idempo_ids::PlayerId;

/// What a wallet holds. Integers in the asset's minor unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asset {
    /// Coins, in whole coins.
    Coin,
    /// Stamps, in whole Stamps.
    Stamp,
}

impl Asset {
    /// Every asset, in the order in which balances are shown.
    pub const ALL: [Self; 2] = [Self::Coin, Self::Stamp];
}

/// The platform's own side of a posting. It may be below zero and has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SystemAccount {
    /// Where new funds come from.
    Mint,
    /// Where destroyed funds go.
    Burn,
    /// Where fees go.
    Fees,
}

/// One side of a posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A player's wallet.
    Player(PlayerId),
    /// The platform.
    System(SystemAccount),
}

/// How much of an asset is moved at a time: 1 to 10^15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i64);

impl Amount {
    /// The most that is moved at a time: 10^15.
    pub const MAX: i64 = 1_000_000_000_000_000;

    /// The amount, or `None` outside of 1 to [`Self::MAX`].
    #[must_use]
    pub const fn new(value: i64) -> Option<Self> {
        if value >= 1 && value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// How much of one asset a wallet has. `0 <= held <= posted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    posted: i64,
    held: i64,
}

impl Balance {
    /// What belongs to the wallet, held or not.
    #[must_use]
    pub const fn posted(self) -> i64 {
        self.posted
    }

    /// What is on hold.
    #[must_use]
    pub const fn held(self) -> i64 {
        self.held
    }

    /// What can be spent: posted less held.
    #[must_use]
    pub const fn available(self) -> i64 {
        self.posted.saturating_sub(self.held)
    }

    /// Whether `amount` can be added without leaving the range of the type.
    pub(crate) const fn can_take(self, amount: Amount) -> bool {
        self.posted.checked_add(amount.0).is_some()
    }

    /// The balance after events that were decided on it. Decisions check first, so that stored events never saturate here.
    pub(crate) const fn moved(self, posted_delta: i64, held_delta: i64) -> Self {
        Self { posted: self.posted.saturating_add(posted_delta), held: self.held.saturating_add(held_delta) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_at_least_one_and_at_most_ten_to_the_fifteenth() {
        assert_eq!(Amount::new(0), None);
        assert_eq!(Amount::new(-1), None);
        assert_eq!(Amount::new(1).map(Amount::get), Some(1));
        assert_eq!(Amount::new(Amount::MAX).map(Amount::get), Some(Amount::MAX));
        assert_eq!(Amount::new(1_000_000_000_000_001), None);
        assert_eq!(Amount::new(i64::MAX), None);
    }
}
