//! How an outbox row keeps the headers of its Kafka record: name and value, each behind its length in one byte.

use bytes::{BufMut, Bytes, BytesMut};

/// The header that carries the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The longest name or value, in bytes.
pub const PART_BYTES_MAX: usize = 255;

/// Encodes headers for the outbox. A pair with a part longer than [`PART_BYTES_MAX`] is left out.
#[must_use]
pub fn encode<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bytes {
    let mut out = BytesMut::new();
    for (name, value) in headers {
        let (Ok(name_len), Ok(value_len)) = (u8::try_from(name.len()), u8::try_from(value.len())) else { continue };
        out.put_u8(name_len);
        out.put_slice(name.as_bytes());
        out.put_u8(value_len);
        out.put_slice(value.as_bytes());
    }
    out.freeze()
}
