//! Sending in transactions: for a reader of what is committed, all records of a transaction are there, or none.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;

use crate::producer::client_config;
use crate::{Config, Delivery, Error, Producer, ProducerConfig};

/// After how long the broker aborts a transaction that is neither committed nor aborted, in milliseconds. Until then it keeps what is behind it
/// from readers of what is committed, unless a successor of the same name comes first.
const TRANSACTION_TIMEOUT_MS: &str = "10000";
/// How long a record may wait until the broker takes it, in milliseconds: less than the transaction, which is lost with it.
const MESSAGE_TIMEOUT_MS: &str = "8000";

/// Why a step of a transaction has failed, by what can be done.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// The same step may be tried again: it was not done yet, or it is not known whether it was.
    #[error("the step of the transaction is not done yet")]
    Retry(#[source] KafkaError),
    /// The transaction must be aborted.
    #[error("the transaction can't be committed")]
    Abort(#[source] KafkaError),
    /// A producer of the same name has begun after this one. This one can do nothing more.
    #[error("another producer of the same name has begun")]
    Fenced(#[source] KafkaError),
    /// The client has stopped for good.
    #[error("the producer has failed")]
    Fatal(#[source] KafkaError),
}

impl TransactionError {
    fn of(source: KafkaError) -> Self {
        let fenced =
            |code| matches!(code, RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch);
        match &source {
            KafkaError::Transaction(error) if fenced(error.code()) => Self::Fenced(source),
            KafkaError::Transaction(error) if error.txn_requires_abort() => Self::Abort(source),
            KafkaError::Transaction(error) if error.is_retriable() => Self::Retry(source),
            KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => Self::Retry(source),
            _ => Self::Fatal(source),
        }
    }
}

impl Producer {
    /// As [`Producer::start`], but everything is sent in transactions under the name `id`. Of all producers with this name the broker lets only
    /// the last one through that has called [`Producer::init_transactions_blocking`].
    ///
    /// # Errors
    /// As [`Producer::start`].
    pub fn start_transactional(
        kafka: &Config,
        config: &ProducerConfig,
        id: &str,
        on_delivery: impl Fn(usize, Delivery) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let mut client = client_config(kafka, config, 1)?;
        client
            .set("transactional.id", id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
        Self::start_with(&client, 1, Arc::new(on_delivery))
    }

    /// Fences every producer of the same name that began before, and waits until what it left open is settled: committed, if that was its last
    /// word and the broker has heard it, or else aborted. Comes before the first transaction.
    ///
    /// # Errors
    /// [`TransactionError`]; after [`TransactionError::Retry`], as when `timeout` is over, it may be called again.
    pub fn init_transactions_blocking(&self, timeout: Duration) -> Result<(), TransactionError> {
        self.only().and_then(|client| client.init_transactions(timeout)).map_err(TransactionError::of)
    }

    /// Begins a transaction: what is sent from now on belongs to it. Does not wait for the broker.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn begin_transaction(&self) -> Result<(), TransactionError> {
        self.only().and_then(|client| client.begin_transaction()).map_err(TransactionError::of)
    }

    /// Commits the transaction. It is called when everything in it is acknowledged.
    ///
    /// # Errors
    /// [`TransactionError`]; after [`TransactionError::Retry`], as when `timeout` is over, it is to be called again: nothing else tells whether
    /// the transaction is committed, but for a successor that reads what is there.
    pub fn commit_blocking(&self, timeout: Duration) -> Result<(), TransactionError> {
        self.only().and_then(|client| client.commit_transaction(timeout)).map_err(TransactionError::of)
    }

    /// Aborts the transaction. What was not acknowledged is thrown away and told of as [`Delivery::Purged`].
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn abort_blocking(&self, timeout: Duration) -> Result<(), TransactionError> {
        self.purge();
        self.only().and_then(|client| client.abort_transaction(timeout)).map_err(TransactionError::of)
    }
}
