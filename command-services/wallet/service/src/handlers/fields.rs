//! Checks of the fields that the wallet's requests have in common.

use idempo_ids::{HoldId, PlayerId};
use idempo_proto::event::v1 as event;
use idempo_rpc::{REASON_CHARS_MAX, Violations, name};
use idempo_wallet_domain::{Amount, Asset, Party, Reason, SystemAccount};

use crate::codec::asset_of;

const WALLET: &str = "wallets/{player}";
const HOLD: &str = "wallets/{player}/holds/{hold}";

/// A wallet's name.
pub(super) fn wallet(violations: &mut Violations, field: &str, text: &str) -> Option<PlayerId> {
    violations.name(field, WALLET, text).map(|[player]| PlayerId::new(player))
}

/// A hold's name.
pub(super) fn hold(violations: &mut Violations, field: &str, text: &str) -> Option<(PlayerId, HoldId)> {
    violations.name(field, HOLD, text).map(|[player, hold]| (PlayerId::new(player), HoldId::new(hold)))
}

/// Another wallet's name than `own`.
pub(super) fn other_wallet(violations: &mut Violations, field: &str, text: &str, own: Option<PlayerId>) -> Option<PlayerId> {
    let other = wallet(violations, field, text)?;
    violations.check(own != Some(other), field, || "must be another wallet than the one that pays".to_owned()).then_some(other)
}

/// Where captured funds go: another wallet than `own`, or the burn or fees account.
pub(super) fn receiver(violations: &mut Violations, field: &str, text: &str, own: Option<PlayerId>) -> Option<Party> {
    let party = match text {
        "systemAccounts/burn" => Some(Party::System(SystemAccount::Burn)),
        "systemAccounts/fees" => Some(Party::System(SystemAccount::Fees)),
        _ => name::uuids(WALLET, text).map(|[player]| Party::Player(PlayerId::new(player))),
    };
    violations.check(party.is_some(), field, || "must be `wallets/{player}`, `systemAccounts/burn` or `systemAccounts/fees`".to_owned());
    let party = party?;
    let is_own = own.is_some_and(|own| party == Party::Player(own));
    violations.check(!is_own, field, || "must be another wallet than the hold's".to_owned()).then_some(party)
}

/// An asset that must be given.
pub(super) fn asset(violations: &mut Violations, field: &str, value: i32) -> Option<Asset> {
    violations.enumeration::<event::Asset>(field, value).and_then(asset_of)
}

/// An asset that need not be given.
pub(super) fn optional_asset(violations: &mut Violations, field: &str, value: i32) -> Option<Option<Asset>> {
    violations.optional_enumeration::<event::Asset>(field, value).map(|asset| asset.and_then(asset_of))
}

/// An amount.
pub(super) fn amount(violations: &mut Violations, field: &str, value: i64) -> Option<Amount> {
    violations.amount(field, value).and_then(Amount::new)
}

/// A reason, which may be empty.
pub(super) fn reason(violations: &mut Violations, text: &str) -> Option<Reason> {
    violations.text("reason", text, 0..=REASON_CHARS_MAX).and_then(Reason::new)
}
