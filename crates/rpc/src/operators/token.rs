//! An operator's token: a random text that only its holder and, for a moment, whoever checks it, know.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::roster::Role;

/// The request metadata with the token.
const AUTHORIZATION: &str = "authorization";
/// What stands before it.
const SCHEME: &str = "Bearer ";
/// How a token that we make begins, so that one that has strayed is known for what it is.
const PREFIX: &str = "idempo-";
/// The random part of a token that we make, in bytes.
const RANDOM_BYTES: usize = 32;
/// How short and how long a token may be, in characters: 22 of base64 hold 128 bits.
const CHARS_MIN: usize = 22;
const CHARS_MAX: usize = 256;
/// What stands in place of a token wherever one is printed.
const MASK: &str = "***";

/// The SHA-256 of a token's text: what is kept of it. A token is random and long, so nothing slower or salted is needed.
pub(super) type TokenDigest = [u8; 32];

/// An operator's token: 22 to 256 visible ASCII characters. Printed and serialised as `***`.
#[derive(Clone)]
pub struct Token(SecretString);

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token has {CHARS_MIN} to {CHARS_MAX} visible ASCII characters")]
pub struct InvalidToken;

impl Token {
    /// A token that nobody has seen: 256 random bits.
    #[must_use]
    pub fn generate() -> Self {
        let random: [u8; RANDOM_BYTES] = rand::random();
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)).into())
    }

    /// The token that this text is, without the white space around it.
    ///
    /// # Errors
    /// Where it is none.
    pub fn of(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let is_token = (CHARS_MIN..=CHARS_MAX).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
        if is_token { Ok(Self(text.into())) } else { Err(InvalidToken) }
    }

    /// The token's text: for who is to have it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The line of an operators' file that lets the holder of this token in. The token can't be found from it.
    #[must_use]
    pub fn line(&self, name: &str, role: Role) -> String {
        let digest: String = digest(self.expose()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {role} {digest}")
    }

    /// Puts the token into a request's metadata.
    pub fn authorize(&self, metadata: &mut MetadataMap) {
        // Its characters are those that a header may have.
        if let Ok(mut value) = format!("{SCHEME}{}", self.expose()).parse::<MetadataValue<Ascii>>() {
            value.set_sensitive(true);
            metadata.insert(AUTHORIZATION, value);
        }
    }
}

/// A client's interceptor: puts the token, where there is one, into every request.
#[derive(Debug, Clone, Default)]
pub struct Authorize(pub Option<Token>);

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            token.authorize(request.metadata_mut());
        }
        Ok(request)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

pub(super) fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

/// The digest of the token in a request's metadata; `None` where there is none, or more than one, or what can't be one.
pub(super) fn sent(metadata: &MetadataMap) -> Option<TokenDigest> {
    let mut values = metadata.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let token = Token::of(value.strip_prefix(SCHEME)?).ok()?;
    values.next().is_none().then(|| digest(token.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_another_each_time_and_never_printed() {
        let token = Token::generate();
        assert!(token.expose().starts_with("idempo-") && token.expose().len() == 50);
        assert_ne!(token.expose(), Token::generate().expose());
        assert_eq!(format!("{token:?}"), "***");
        assert!(!token.line("ana", Role::Viewer).contains(token.expose()));
    }

    #[test]
    fn what_is_sent_is_what_is_kept() {
        let token = Token::generate();
        let mut metadata = MetadataMap::new();
        token.authorize(&mut metadata);
        assert_eq!(sent(&metadata), Some(digest(token.expose())));
        assert!(!format!("{metadata:?}").contains(token.expose()), "{metadata:?}");
        let line = token.line("ana", Role::Operator);
        assert_eq!(line.split(' ').take(2).collect::<Vec<_>>(), ["ana", "operator"]);
        token.authorize(&mut metadata);
        assert!(sent(&metadata).is_some(), "it is there once");
        metadata.append(AUTHORIZATION, "Bearer 0123456789012345678901".parse().expect("ASCII"));
        assert_eq!(sent(&metadata), None, "two are none");
    }

    #[test]
    fn what_is_too_short_or_no_text_is_no_token() {
        for text in ["", "secret", "0123456789 0123456789012345", &"x".repeat(257), "ü123456789012345678901234"] {
            assert_eq!(Token::of(text).map(|_| ()), Err(InvalidToken), "{text}");
        }
        assert!(Token::of(" 0123456789012345678901\n").is_ok());
        for value in ["Basic 0123456789012345678901", "0123456789012345678901", "Bearer ", "Bearer short"] {
            let mut metadata = MetadataMap::new();
            metadata.insert(AUTHORIZATION, value.parse().expect("ASCII"));
            assert_eq!(sent(&metadata), None, "{value}");
        }
    }
}
