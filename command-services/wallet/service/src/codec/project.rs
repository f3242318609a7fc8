//! The rows of the wallet's tables that follow from an applied command.

use idempo_event_store::{Applied, AppliedEvent};
use idempo_ids::{HoldId, PlayerId, TransactionId, Uuid};
use idempo_wallet_domain::{Amount, Asset, Event, Party, Reason, Resolution, Wallet};

use super::WalletDomain;
use super::numbers::{account, asset_number, at_rest, entry_kind, hold_state};
use crate::inline::{EntryRow, PlacedHoldRow, ResolvedHoldRow, Rows, TransactionRow, WalletRow};

/// Adds the rows of a command. A command makes at most one event on each wallet, so the state after it is the state after that event.
pub(super) fn project(applied: &Applied<'_, WalletDomain>, rows: &mut Rows) {
    for event in applied.events {
        let Some(wallet) = applied.streams.get(event.stream).map(|stream| stream.state) else { continue };
        let Some(player) = wallet.opening().map(|opening| opening.player) else { continue };
        let line = Line { applied, event, player };
        line.entry(wallet, rows);
        line.other_tables(rows);
    }
}

/// One event, with what its rows need beside it.
struct Line<'a> {
    applied: &'a Applied<'a, WalletDomain>,
    event: &'a AppliedEvent<'a, Event>,
    player: PlayerId,
}

impl Line<'_> {
    fn version(&self) -> i64 {
        i64::try_from(self.event.version).unwrap_or(i64::MAX)
    }

    fn entry(&self, wallet: &Wallet, rows: &mut Rows) {
        let (Some(kind), Some((asset, posted_delta, held_delta))) = (entry_kind(self.event.event), self.event.event.movement()) else {
            return;
        };
        let balance = wallet.balance(asset);
        let (counterparty_player, counterparty_account) = counterparty(self.event.event).map_or((None, None), sides);
        rows.entry(EntryRow {
            player: self.player.uuid(),
            asset: asset_number(asset),
            version: self.version(),
            kind: at_rest(kind),
            posted_delta,
            held_delta,
            posted_after: balance.posted(),
            held_after: balance.held(),
            transaction: self.event.event.transaction().map(TransactionId::uuid),
            hold: hold(self.event.event).map(HoldId::uuid),
            counterparty_player,
            counterparty_account,
            event: self.event.event_id.uuid(),
            created_at: self.applied.decided_at,
            reason: reason(self.event.event).to_owned(),
        });
    }

    fn other_tables(&self, rows: &mut Rows) {
        let me = Party::Player(self.player);
        match self.event.event {
            Event::Opened { player, at } => rows.wallet(WalletRow { player: player.uuid(), opened_at: *at }),
            Event::Minted { transaction, asset, amount, from, reverses, .. } => {
                self.transaction(rows, *transaction, (*asset, *amount), Party::System(*from), me, *reverses);
            }
            Event::Burned { transaction, asset, amount, to, reverses, .. } => {
                self.transaction(rows, *transaction, (*asset, *amount), me, Party::System(*to), *reverses);
            }
            Event::Sent { transaction, asset, amount, to, reverses, .. } => {
                self.transaction(rows, *transaction, (*asset, *amount), me, Party::Player(*to), *reverses);
            }
            Event::HoldPlaced { hold, asset, amount, placed_at, expires_at, reason } => rows.placed_hold(PlacedHoldRow {
                id: hold.uuid(),
                player: self.player.uuid(),
                version: self.version(),
                asset: asset_number(*asset),
                amount: amount.get(),
                placed_at: *placed_at,
                expires_at: *expires_at,
                reason: reason.as_str().to_owned(),
            }),
            Event::HoldCaptured { hold, transaction, asset, captured, to, .. } => {
                self.transaction(rows, *transaction, (*asset, *captured), me, *to, None);
                self.resolved(rows, *hold, Resolution::Captured, captured.get());
            }
            Event::HoldReleased { hold, .. } => self.resolved(rows, *hold, Resolution::Released, 0),
            Event::HoldExpired { hold, .. } => self.resolved(rows, *hold, Resolution::Expired, 0),
            // The other wallet's event has made the transaction's row.
            Event::Received { .. } | Event::CaptureReceived { .. } => {}
        }
    }

    fn transaction(
        &self,
        rows: &mut Rows,
        id: TransactionId,
        (asset, amount): (Asset, Amount),
        from: Party,
        to: Party,
        reverses: Option<TransactionId>,
    ) {
        let ((from_player, from_account), (to_player, to_account)) = (sides(from), sides(to));
        rows.transaction(TransactionRow {
            id: id.uuid(),
            asset: asset_number(asset),
            amount: amount.get(),
            from_player,
            from_account,
            to_player,
            to_account,
            reverses: reverses.map(TransactionId::uuid),
            created_at: self.applied.decided_at,
        });
    }

    fn resolved(&self, rows: &mut Rows, hold: HoldId, resolution: Resolution, captured: i64) {
        let state = at_rest(hold_state(resolution));
        rows.resolved_hold(ResolvedHoldRow { hold: hold.uuid(), state, captured, resolved_at: self.applied.decided_at });
    }
}

/// The columns of one side of a posting: a player or a system account.
fn sides(party: Party) -> (Option<Uuid>, Option<i16>) {
    match party {
        Party::Player(player) => (Some(player.uuid()), None),
        Party::System(system) => (None, Some(at_rest(account(system)))),
    }
}

const fn counterparty(event: &Event) -> Option<Party> {
    match event {
        Event::Minted { from, .. } => Some(Party::System(*from)),
        Event::Burned { to, .. } => Some(Party::System(*to)),
        Event::Sent { to, .. } => Some(Party::Player(*to)),
        Event::Received { from, .. } | Event::CaptureReceived { from, .. } => Some(Party::Player(*from)),
        Event::HoldCaptured { to, .. } => Some(*to),
        Event::Opened { .. } | Event::HoldPlaced { .. } | Event::HoldReleased { .. } | Event::HoldExpired { .. } => None,
    }
}

const fn hold(event: &Event) -> Option<HoldId> {
    match event {
        Event::HoldPlaced { hold, .. }
        | Event::HoldCaptured { hold, .. }
        | Event::HoldReleased { hold, .. }
        | Event::HoldExpired { hold, .. }
        | Event::CaptureReceived { hold, .. } => Some(*hold),
        Event::Opened { .. } | Event::Minted { .. } | Event::Burned { .. } | Event::Sent { .. } | Event::Received { .. } => None,
    }
}

fn reason(event: &Event) -> &str {
    let given: Option<&Reason> = match event {
        Event::Minted { reason, .. }
        | Event::Burned { reason, .. }
        | Event::Sent { reason, .. }
        | Event::Received { reason, .. }
        | Event::HoldPlaced { reason, .. } => Some(reason),
        Event::Opened { .. }
        | Event::HoldCaptured { .. }
        | Event::HoldReleased { .. }
        | Event::HoldExpired { .. }
        | Event::CaptureReceived { .. } => None,
    };
    given.map_or("", Reason::as_str)
}
