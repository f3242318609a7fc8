//! The headers of a record, as bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// What stands for the length of a value that is not there.
const NO_VALUE: u32 = u32::MAX;

/// The headers of a record, in their order: each a name, and a value that may be missing. Cheap to keep: one piece of bytes.
///
/// The bytes, which can be stored: for each header the length of its name (4 bytes, big-endian), the name, the length of its value (4 bytes,
/// 0xffffffff where it has none), the value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordHeaders(Bytes);

impl RecordHeaders {
    /// Copies a message's headers to the end of `chunk`.
    ///
    /// rdkafka panics on a name that is not UTF-8, which anybody can write: such a record counts as one without headers.
    pub(super) fn copy_of(message: &BorrowedMessage<'_>, chunk: &mut BytesMut) -> Self {
        let Some(headers) = message.headers() else { return Self::default() };
        let copied = catch_unwind(AssertUnwindSafe(|| headers.iter().for_each(|header| put(chunk, header.key, header.value))));
        let bytes = chunk.split().freeze();
        Self(if copied.is_ok() { bytes } else { Bytes::new() })
    }

    /// These headers.
    #[must_use]
    pub fn of<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Self {
        let mut bytes = BytesMut::new();
        headers.into_iter().for_each(|(name, value)| put(&mut bytes, name, value));
        Self(bytes.freeze())
    }

    /// The headers that [`Self::as_bytes`] gave. Bytes of another form end the headers where they cease to be of this one.
    #[must_use]
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The headers as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The headers, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let name = str::from_utf8(piece(&mut rest)??).ok()?;
            Some((name, piece(&mut rest)?))
        })
    }
}

fn put(bytes: &mut BytesMut, name: &str, value: Option<&[u8]>) {
    let length = |length: usize| u32::try_from(length).unwrap_or(NO_VALUE);
    bytes.put_u32(length(name.len()));
    bytes.put_slice(name.as_bytes());
    bytes.put_u32(value.map_or(NO_VALUE, |value| length(value.len())));
    bytes.put_slice(value.unwrap_or_default());
}

/// Takes a length and so many bytes; `None` where they are not there, `Some(None)` for a value that is missing.
fn piece<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    if rest.len() < size_of::<u32>() {
        return None;
    }
    let length = rest.get_u32();
    if length == NO_VALUE {
        return Some(None);
    }
    let (piece, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Some(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_whatever_is_in_them() {
        let headers = [("a", Some(&b"1"[..])), ("", Some(b"")), ("a", None), ("n\0me", Some(b"\xff\xfe"))];
        let kept = RecordHeaders::of(headers);
        assert_eq!(RecordHeaders::from_bytes(kept.as_bytes().clone()).iter().collect::<Vec<_>>(), headers);
        assert_eq!(RecordHeaders::default().iter().count(), 0);
    }

    #[test]
    fn bytes_of_another_form_are_no_headers() {
        for bytes in [&b"\0\0"[..], b"\xff\xff\xff\xff", b"\0\0\0\x09short", b"\0\0\0\x01a\0\0\0\x05cut"] {
            assert_eq!(RecordHeaders::from_bytes(Bytes::from_static(bytes)).iter().count(), 0, "{bytes:?}");
        }
    }
}
