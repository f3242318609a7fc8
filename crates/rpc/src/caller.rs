//! Who is calling, as far as idempotency keys are concerned.

use sha2::{Digest, Sha256};
use tonic::metadata::MetadataMap;

/// The request metadata that names the caller.
pub const CALLER_METADATA: &str = "idempo-caller";

/// The longest name of a caller, in characters.
const CALLER_CHARS_MAX: usize = 64;

/// The name of a caller that gives none.
const ANONYMOUS: &str = "anonymous";

/// A caller: 1 to 64 letters, digits, `.`, `_`, `:` or `-`. It separates the keys of callers from each other, and proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(String);

impl Caller {
    /// The caller that this metadata names, `anonymous` where it names none; `None` where the name is malformed or given twice.
    #[must_use]
    pub fn of(metadata: &MetadataMap) -> Option<Self> {
        let mut values = metadata.get_all(CALLER_METADATA).iter();
        let Some(value) = values.next() else { return Some(Self(ANONYMOUS.to_owned())) };
        let name = value.to_str().ok()?;
        (values.next().is_none() && is_caller(name)).then(|| Self(name.to_owned()))
    }

    /// Whether it has given no name.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.0 == ANONYMOUS
    }

    /// The caller's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this can be a caller's name.
pub(crate) fn is_caller(name: &str) -> bool {
    (1..=CALLER_CHARS_MAX).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._:-".contains(&c))
}

/// The scope of `caller`'s idempotency keys for `method` (such as `idempo.wallet.v1.WalletService/GrantFunds`): the first 16 bytes of
/// SHA-256 over caller, a zero byte and method. The same key in another scope is another key.
#[must_use]
pub fn scope_of(caller: &Caller, method: &str) -> [u8; 16] {
    let digest = Sha256::new().chain_update(caller.0.as_bytes()).chain_update([0]).chain_update(method.as_bytes()).finalize();
    let mut scope = [0; 16];
    for (to, from) in scope.iter_mut().zip(digest) {
        *to = from;
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Option<Caller> {
        let mut metadata = MetadataMap::new();
        metadata.insert(CALLER_METADATA, name.parse().expect("ASCII"));
        Caller::of(&metadata)
    }

    #[test]
    fn a_caller_without_a_name_is_anonymous() {
        assert_eq!(Caller::of(&MetadataMap::new()).expect("a caller").as_str(), "anonymous");
    }

    #[test]
    fn a_name_out_of_bounds_is_refused() {
        assert_eq!(named("game-server:7.eu_1").expect("a caller").as_str(), "game-server:7.eu_1");
        assert_eq!(named(""), None);
        assert_eq!(named("a b"), None);
        assert_eq!(named(&"x".repeat(65)), None);
        assert!(named(&"x".repeat(64)).is_some());
    }

    #[test]
    fn two_names_are_refused() {
        let mut metadata = MetadataMap::new();
        metadata.append(CALLER_METADATA, "a".parse().expect("ASCII"));
        metadata.append(CALLER_METADATA, "b".parse().expect("ASCII"));
        assert_eq!(Caller::of(&metadata), None);
    }

    #[test]
    fn scopes_differ_by_caller_and_by_method_and_never_change() {
        let (a, b) = (Caller("a".to_owned()), Caller("b".to_owned()));
        assert_ne!(scope_of(&a, "s/M"), scope_of(&b, "s/M"));
        assert_ne!(scope_of(&a, "s/M"), scope_of(&a, "s/N"));
        // Stored with every key: a change would forget all keys.
        let expected: [u8; 16] = Sha256::digest(b"a\0s/M").iter().take(16).copied().collect::<Vec<_>>().try_into().expect("16 bytes");
        assert_eq!(scope_of(&a, "s/M"), expected);
    }
}
