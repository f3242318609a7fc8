//! Rows on their way into a table by binary COPY: less work for the server than arrays of parameters, from some hundreds of rows on.

use std::error::Error as StdError;
use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use idempo_ids::Uuid;
use idempo_pg::{Error, Transaction};
use jiff::Timestamp;
use tokio_postgres::CopyInSink;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

/// What a binary COPY begins with: its signature, no flags, no extension of the header.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with: a row of -1 columns.
const TRAILER: i16 = -1;
/// The length that means null.
const NULL: i32 = -1;
/// Midnight of 2000-01-01, from where PostgreSQL counts, in microseconds since 1970.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A moment in whole microseconds, as a parameter of type `timestamptz`. What the driver does with a [`Timestamp`] itself goes through calendar
/// arithmetic, and costs a batch more than its rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Micros(pub Timestamp);

impl Micros {
    fn since_2000(self) -> i64 {
        self.0.as_microsecond().saturating_sub(EPOCH_MICROS)
    }
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, buffer: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        buffer.put_i64(self.since_2000());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

/// Rows in the format of binary COPY. Each is begun by [`Self::row`]; then its values follow, in the order of the columns.
#[derive(Debug)]
pub struct CopyRows {
    buffer: BytesMut,
    columns: i16,
}

impl CopyRows {
    /// No rows yet, of so many columns; with room for `bytes`.
    #[must_use]
    pub fn new(columns: i16, bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(bytes.saturating_add(HEADER.len()));
        buffer.put_slice(HEADER);
        Self { buffer, columns }
    }

    /// Begins a row.
    pub fn row(&mut self) {
        self.buffer.put_i16(self.columns);
    }

    /// A `uuid`.
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_i32(16);
        self.buffer.put_slice(value.as_bytes());
    }

    /// A `uuid`, or null.
    pub fn optional_uuid(&mut self, value: Option<Uuid>) {
        match value {
            Some(value) => self.uuid(value),
            None => self.buffer.put_i32(NULL),
        }
    }

    /// A `bigint`, or null.
    pub fn optional_bigint(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.bigint(value),
            None => self.buffer.put_i32(NULL),
        }
    }

    /// A `bigint`.
    pub fn bigint(&mut self, value: i64) {
        self.buffer.put_i32(8);
        self.buffer.put_i64(value);
    }

    /// An `integer`.
    pub fn integer(&mut self, value: i32) {
        self.buffer.put_i32(4);
        self.buffer.put_i32(value);
    }

    /// A `text`, of less than 2 GiB.
    pub fn text(&mut self, value: &str) {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.buffer.put_i32(length);
        self.buffer.put_slice(value.as_bytes());
    }

    /// A `boolean`.
    pub fn boolean(&mut self, value: bool) {
        self.buffer.put_i32(1);
        self.buffer.put_u8(u8::from(value));
    }

    /// A `smallint`.
    pub fn smallint(&mut self, value: i16) {
        self.buffer.put_i32(2);
        self.buffer.put_i16(value);
    }

    /// A `timestamptz`, in whole microseconds.
    pub fn timestamp(&mut self, value: Timestamp) {
        self.bigint(Micros(value).since_2000());
    }

    /// Sends the rows by a statement `COPY … FROM STDIN (FORMAT binary)`; gives their number.
    ///
    /// # Errors
    /// What the database says; the transaction is broken then.
    pub async fn send(mut self, transaction: &Transaction<'_>, sql: &str) -> Result<u64, Error> {
        self.buffer.put_i16(TRAILER);
        let statement = transaction.prepare_cached(sql).await?;
        let mut sink = pin!(transaction.copy_in::<_, Bytes>(&statement).await?);
        sink.send(self.buffer.freeze()).await?;
        Ok(CopyInSink::finish(sink).await?)
    }
}
