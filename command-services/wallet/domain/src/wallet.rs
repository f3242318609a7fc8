//! What the events of a wallet's stream add up to.

use std::collections::BTreeMap;

use idempo_decider::{Reason, Recent, Timestamp};
use idempo_ids::{HoldId, PlayerId, TransactionId};

use crate::RECENT_MAX;
use crate::amount::{Amount, Asset, Balance};
use crate::event::Event;

/// A wallet's state. The default is that of a wallet that was never opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wallet {
    version: u64,
    opening: Option<Opening>,
    coin: Balance,
    stamp: Balance,
    holds: BTreeMap<HoldId, Hold>,
    last_resolved: Option<(HoldId, Hold)>,
    pub(crate) resolutions: Recent<HoldId, Resolution, RECENT_MAX>,
    pub(crate) reversals: Recent<TransactionId, (), RECENT_MAX>,
}

/// Whose wallet it is and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The owner.
    pub player: PlayerId,
    /// When it was opened.
    pub at: Timestamp,
}

/// An open hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Of what.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When it ends by itself. From then on it can only expire.
    pub expires_at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Captured, wholly or in part.
    Captured,
    /// Released.
    Released,
    /// Reached the end of its life.
    Expired,
}

impl Wallet {
    /// How many events the state stands for: the version of the stream.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whose wallet it is; `None` before it was opened.
    #[must_use]
    pub const fn opening(&self) -> Option<Opening> {
        self.opening
    }

    /// How much of an asset there is.
    #[must_use]
    pub const fn balance(&self, asset: Asset) -> Balance {
        match asset {
            Asset::Coin => self.coin,
            Asset::Stamp => self.stamp,
        }
    }

    /// An open hold.
    #[must_use]
    pub fn hold(&self, hold: HoldId) -> Option<&Hold> {
        self.holds.get(&hold)
    }

    /// How many holds are open.
    #[must_use]
    pub fn open_holds(&self) -> usize {
        self.holds.len()
    }

    /// The hold that was resolved last, as it was before, for the answer to the command that resolved it.
    #[must_use]
    pub const fn last_resolved(&self) -> Option<&(HoldId, Hold)> {
        self.last_resolved.as_ref()
    }

    /// Applies an event.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.version = self.version.saturating_add(1);
        if let Some((asset, posted_delta, held_delta)) = event.movement() {
            let balance = match asset {
                Asset::Coin => &mut self.coin,
                Asset::Stamp => &mut self.stamp,
            };
            *balance = balance.moved(posted_delta, held_delta);
        }
        match event {
            Event::Opened { player, at } => self.opening = Some(Opening { player: *player, at: *at }),
            Event::HoldPlaced { hold, asset, amount, placed_at, expires_at, reason } => {
                let placed =
                    Hold { asset: *asset, amount: *amount, placed_at: *placed_at, expires_at: *expires_at, reason: reason.clone() };
                self.holds.insert(*hold, placed);
            }
            Event::HoldCaptured { hold, .. } => self.resolve(*hold, Resolution::Captured),
            Event::HoldReleased { hold, .. } => self.resolve(*hold, Resolution::Released),
            Event::HoldExpired { hold, .. } => self.resolve(*hold, Resolution::Expired),
            // A reversal is remembered by the wallet its command was addressed to; see `Original::addressed_to`.
            Event::Minted { reverses: Some(reversed), .. }
            | Event::Burned { reverses: Some(reversed), .. }
            | Event::Sent { reverses: Some(reversed), .. } => self.reversals.remember(self.version, *reversed, ()),
            Event::Minted { .. } | Event::Burned { .. } | Event::Sent { .. } | Event::Received { .. } | Event::CaptureReceived { .. } => {}
        }
    }

    fn resolve(&mut self, hold: HoldId, resolution: Resolution) {
        if let Some(was) = self.holds.remove(&hold) {
            self.last_resolved = Some((hold, was));
        }
        self.resolutions.remember(self.version, hold, resolution);
    }
}
