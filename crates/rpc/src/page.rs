//! Page tokens: where a list goes on, as text that clients hand back as they got it.
//!
//! A token is base64url of 8 bytes of digest and then the last key. The digest is over the method's request without `page_size` and
//! `page_token`, and over the key: so a token of another list, another filter, or with a changed byte is refused. It guards against
//! mistakes, not against forgers, who could only ever ask for another place in a list that they may read anyway.

use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Buf as _;
use prost::Message;
use siphasher::sip::SipHasher13;

use crate::descriptor;
use crate::fingerprint::digest_except;

/// The longest text that is looked at. A last key takes at most 370 bytes.
const CHARS_MAX: usize = 512;

/// The fixed key of the digest.
const KEY: &[u8; 16] = b"idempo.pagetok.1";

/// The token for the page after `last_key`, of the list that `request` asks for; `message` is the request's full name, such as
/// `idempo.wallet.v1.ListEntriesRequest`. The key's form is the list's own.
#[must_use]
pub fn encode<M: Message>(message: &str, request: &M, last_key: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(8 + last_key.len());
    bytes.extend_from_slice(&digest(message, request, last_key).to_be_bytes());
    bytes.extend_from_slice(last_key);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The last key in a token that was made for the same request but for its `page_size` and `page_token`; `None` for any other text.
#[must_use]
pub fn decode<M: Message>(message: &str, request: &M, token: &str) -> Option<Vec<u8>> {
    if token.len() > CHARS_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let mut last_key = bytes.as_slice();
    let given = last_key.try_get_u64().ok()?;
    (given == digest(message, request, last_key)).then(|| last_key.to_vec())
}

/// A page of a list that goes by a number: up or down, each number once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberedPage {
    last: Option<i64>,
    size: u32,
}

impl NumberedPage {
    pub(crate) const fn new(last: Option<i64>, size: u32) -> Self {
        Self { last, size }
    }

    /// The last number of the page before; `beginning` for the first page.
    #[must_use]
    pub fn last_or(self, beginning: i64) -> i64 {
        self.last.unwrap_or(beginning)
    }

    /// How many things to look for: one more than the page may have, by which it is known whether there are more.
    #[must_use]
    pub fn wanted(self) -> i64 {
        i64::from(self.size) + 1
    }

    /// The page of what was found, each with its number, and the token of the next page: none where there is no more. `message` is the request's full name.
    #[must_use]
    pub fn cut<M: Message, T>(self, message: &str, request: &M, mut found: Vec<(i64, T)>) -> (Vec<T>, String) {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let has_more = found.len() > size;
        found.truncate(size);
        let next_page_token = match found.last() {
            Some((last, _)) if has_more => encode(message, request, &last.to_be_bytes()),
            _ => String::new(),
        };
        (found.into_iter().map(|(_, thing)| thing).collect(), next_page_token)
    }
}

fn digest<M: Message>(message: &str, request: &M, last_key: &[u8]) -> u64 {
    let paging: Vec<u32> = ["page_size", "page_token"].iter().filter_map(|field| descriptor::field_number(message, field)).collect();
    let mut digest = SipHasher13::new_with_key(KEY);
    digest.write(message.as_bytes());
    digest.write_u8(0);
    digest.write_u64(digest_except(request, &paging).to_be());
    digest.write(last_key);
    digest.finish()
}

#[cfg(test)]
mod tests {
    use idempo_proto::wallet::v1::{EntryFilter, ListEntriesRequest};

    use super::*;

    const MESSAGE: &str = "idempo.wallet.v1.ListEntriesRequest";

    fn list() -> ListEntriesRequest {
        ListEntriesRequest { parent: "wallets/a".to_owned(), page_size: 10, ..Default::default() }
    }

    #[test]
    fn a_token_gives_its_key_back_to_the_same_request() {
        let token = encode(MESSAGE, &list(), b"key");
        let next = ListEntriesRequest { page_token: token.clone(), page_size: 20, ..list() };
        assert_eq!(decode(MESSAGE, &next, &token), Some(b"key".to_vec()));
        assert_eq!(decode(MESSAGE, &list(), &encode(MESSAGE, &list(), b"")), Some(Vec::new()));
    }

    #[test]
    fn a_token_of_another_list_or_filter_is_refused() {
        let token = encode(MESSAGE, &list(), b"key");
        let elsewhere = ListEntriesRequest { parent: "wallets/b".to_owned(), ..list() };
        let filtered = ListEntriesRequest { filter: Some(EntryFilter { asset: 1, ..Default::default() }), ..list() };
        assert_eq!(decode(MESSAGE, &elsewhere, &token), None);
        assert_eq!(decode(MESSAGE, &filtered, &token), None);
        assert_eq!(decode("idempo.inventory.v1.ListItemTypesRequest", &list(), &token), None);
    }

    #[test]
    fn pages_by_number_follow_each_other_and_end() {
        let page = |things: i64, token: &str| {
            let asked = ListEntriesRequest { page_size: 2, page_token: token.to_owned(), ..list() };
            let mut violations = crate::Violations::new();
            let page = violations.numbered_page(MESSAGE, &asked, asked.page_size, &asked.page_token).expect("valid");
            let found = (page.last_or(0) + 1..=things).take(usize::try_from(page.wanted()).expect("small")).map(|n| (n, n)).collect();
            page.cut(MESSAGE, &asked, found)
        };
        let (first, token) = page(5, "");
        let (second, next) = page(5, &token);
        let (third, end) = page(5, &next);
        assert_eq!((first, second, third, end.as_str()), (vec![1, 2], vec![3, 4], vec![5], ""));
        // A last page that is full is the last one.
        assert_eq!(page(4, &token), (vec![3, 4], String::new()));
        let key = encode(MESSAGE, &list(), b"seven b");
        assert!(crate::Violations::new().numbered_page(MESSAGE, &list(), 2, &key).is_none(), "no number");
    }

    #[test]
    fn a_token_with_any_byte_changed_is_refused() {
        let bytes = URL_SAFE_NO_PAD.decode(encode(MESSAGE, &list(), b"key")).expect("base64");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(decode(MESSAGE, &list(), &URL_SAFE_NO_PAD.encode(changed)), None, "byte {at}");
        }
        for text in ["", "AAAA", "!", &"A".repeat(513)] {
            assert_eq!(decode(MESSAGE, &list(), text), None, "{text}");
        }
    }
}
