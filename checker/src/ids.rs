//! How the platform derives ids, written down a second time: a checker that shared the code would share its mistakes.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The id of the `ordinal`-th thing called `label` that comes from `base`.
///
/// The first 6 bytes are those of `base` (its time), the next 10 those of SHA-256 over base, label and ordinal (big-endian); version 7,
/// variant RFC 4122.
#[must_use]
pub fn derive(base: Uuid, label: &str, ordinal: u32) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(base.as_bytes());
    hash.update(label.as_bytes());
    hash.update(ordinal.to_be_bytes());
    let digest = hash.finalize();
    let time = base.as_u128() >> 80;
    let rest = digest.iter().take(10).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    let version = 0x7_u128 << 76;
    let variant = 0x2_u128 << 62;
    let kept = !((0xf_u128 << 76) | (0x3_u128 << 62));
    Uuid::from_u128((((time << 80) | rest) & kept) | version | variant)
}

/// The stream of `category` that belongs to `owner`.
#[must_use]
pub fn stream(category: &str, owner: Uuid) -> Uuid {
    derive(owner, category, 0)
}

/// What a key is unique within: the first 16 bytes of SHA-256 over caller, a zero byte, and the method's full name without its first slash.
#[must_use]
pub fn scope(caller: &str, method: &str) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(caller.as_bytes());
    hash.update([0]);
    hash.update(method.as_bytes());
    Uuid::from_u128(hash.finalize().iter().take(16).fold(0, |number, byte| (number << 8) | u128::from(*byte)))
}

/// The command that is remembered under `key` in `scope`.
#[must_use]
pub fn command(key: Uuid, scope: Uuid) -> Uuid {
    derive(key, &scope.simple().to_string(), 0)
}

/// The `ordinal`-th event of a command, from 0.
#[must_use]
pub fn event(command: Uuid, ordinal: u32) -> Uuid {
    derive(command, "event", ordinal)
}

/// An id in 16 bytes of a message; `None` where there are not 16.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> Option<Uuid> {
    <[u8; 16]>::try_from(bytes).ok().map(Uuid::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn id(text: &str) -> Uuid {
        Uuid::try_parse(text).expect("a literal")
    }

    /// Made with Python's hashlib: sha256(base.bytes + b"event" + (0).to_bytes(4, "big")), and so on.
    #[test]
    fn derived_ids_are_those_that_another_implementation_makes() {
        let base = id(BASE);
        assert_eq!(event(base, 0), id(EVENT_0));
        assert_eq!(event(base, 1), id(EVENT_1));
        assert_eq!(stream("wallet", base), id(WALLET));
        assert_eq!(scope("showcase-3", "idempo.wallet.v1.WalletService/GrantFunds"), id(SCOPE));
        assert_eq!(command(base, id(SCOPE)), id(COMMAND));
    }

    const EVENT_0: &str = "01890a5d-ac96-7b11-a48c-7c08346f839d";
    const EVENT_1: &str = "01890a5d-ac96-7be2-a7e8-c90123c62b2d";
    const WALLET: &str = "01890a5d-ac96-7225-938d-6ecadf523f0a";
    const SCOPE: &str = "97a0c387-51cf-527f-dd87-6accd5301c09";
    const COMMAND: &str = "01890a5d-ac96-7a2e-a75e-d50d0c540e75";

    #[test]
    fn what_is_not_16_bytes_is_no_id() {
        assert_eq!(of_bytes(&[7; 16]), Some(Uuid::from_bytes([7; 16])));
        assert_eq!(of_bytes(&[7; 15]), None);
        assert_eq!(of_bytes(b""), None);
    }
}
