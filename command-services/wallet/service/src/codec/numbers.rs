//! Enumerations of the domain, of the protobuf messages and at rest. The numbers at rest are those of the messages.

use idempo_proto::event::v1 as event;
use idempo_proto::wallet::v1 as wallet;
use idempo_wallet_domain::{Asset, Event, Resolution, SystemAccount};

/// An asset in a message.
pub(crate) const fn asset(of: Asset) -> event::Asset {
    match of {
        Asset::Coin => event::Asset::Coin,
        Asset::Stamp => event::Asset::Stamp,
    }
}

/// The asset that a message names.
pub(crate) const fn asset_of(message: event::Asset) -> Option<Asset> {
    match message {
        event::Asset::Unspecified => None,
        event::Asset::Coin => Some(Asset::Coin),
        event::Asset::Stamp => Some(Asset::Stamp),
    }
}

/// A system account in a message.
pub(crate) const fn account(of: SystemAccount) -> event::SystemAccount {
    match of {
        SystemAccount::Mint => event::SystemAccount::Mint,
        SystemAccount::Burn => event::SystemAccount::Burn,
        SystemAccount::Fees => event::SystemAccount::Fees,
    }
}

/// The system account that a message names.
pub(crate) const fn account_of(message: event::SystemAccount) -> Option<SystemAccount> {
    match message {
        event::SystemAccount::Unspecified => None,
        event::SystemAccount::Mint => Some(SystemAccount::Mint),
        event::SystemAccount::Burn => Some(SystemAccount::Burn),
        event::SystemAccount::Fees => Some(SystemAccount::Fees),
    }
}

/// How a hold ended, in a message.
pub(crate) const fn hold_state(of: Resolution) -> wallet::HoldState {
    match of {
        Resolution::Captured => wallet::HoldState::Captured,
        Resolution::Released => wallet::HoldState::Released,
        Resolution::Expired => wallet::HoldState::Expired,
    }
}

/// What kind of ledger entry an event makes; `None` for an event that makes none.
pub(crate) const fn entry_kind(of: &Event) -> Option<wallet::EntryKind> {
    Some(match of {
        Event::Opened { .. } => return None,
        Event::Minted { .. } => wallet::EntryKind::Mint,
        Event::Burned { .. } => wallet::EntryKind::Burn,
        Event::Sent { .. } => wallet::EntryKind::TransferOut,
        Event::Received { .. } => wallet::EntryKind::TransferIn,
        Event::HoldPlaced { .. } => wallet::EntryKind::Hold,
        Event::HoldCaptured { .. } => wallet::EntryKind::CaptureOut,
        Event::CaptureReceived { .. } => wallet::EntryKind::CaptureIn,
        Event::HoldReleased { .. } => wallet::EntryKind::Release,
        Event::HoldExpired { .. } => wallet::EntryKind::Expiry,
    })
}

/// An enumeration's number at rest. All of them are small.
pub(crate) fn at_rest(number: impl Into<i32>) -> i16 {
    i16::try_from(number.into()).unwrap_or_default()
}

/// An asset's number at rest.
pub(crate) fn asset_number(of: Asset) -> i16 {
    at_rest(asset(of))
}

/// The asset with this number at rest.
pub(crate) fn asset_from_number(number: i16) -> Option<Asset> {
    event::Asset::try_from(i32::from(number)).ok().and_then(asset_of)
}

/// The system account with this number at rest.
pub(crate) fn account_from_number(number: i16) -> Option<SystemAccount> {
    event::SystemAccount::try_from(i32::from(number)).ok().and_then(account_of)
}

/// How a hold with this state at rest ended; `None` while it is pending.
pub(crate) fn resolution_from_number(number: i16) -> Option<Resolution> {
    match wallet::HoldState::try_from(i32::from(number)) {
        Ok(wallet::HoldState::Captured) => Some(Resolution::Captured),
        Ok(wallet::HoldState::Released) => Some(Resolution::Released),
        Ok(wallet::HoldState::Expired) => Some(Resolution::Expired),
        Ok(wallet::HoldState::Unspecified | wallet::HoldState::Pending) | Err(_) => None,
    }
}
