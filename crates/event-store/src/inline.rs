//! Inline projections: tables of a command service's own streams, written in the transaction of the events.

use tokio_postgres::types::ToSql;

/// A statement parameter that a batch owns.
pub type Parameter = Box<dyn ToSql + Sync + Send>;

/// The rows that a batch of commands adds to a service's own tables.
///
/// The service brings one SQL function that takes the parameters of `es.append` and then its own, calls `es.append`, writes the rows of the
/// commands that were applied, and returns what `es.append` returned. So the rows are there if and only if the events are.
pub trait InlineProjection: Send + Sync + 'static {
    /// The rows of one batch, gathered command by command. The command's number in the batch (from 1) is set by [`Self::begin`].
    type Rows: Default + Send;

    /// The statement: `SELECT x.* FROM unnest(<schema>.append($1, …, $22, $23, …)) AS x`.
    fn statement() -> &'static str;

    /// Says that the rows which follow belong to the command with this number in the batch.
    fn begin(rows: &mut Self::Rows, command: i32);

    /// The statement's parameters from `$23` on.
    fn parameters(rows: Self::Rows) -> Vec<Parameter>;
}

/// No inline projection.
#[derive(Debug)]
pub struct NoInline;

impl InlineProjection for NoInline {
    type Rows = ();

    fn statement() -> &'static str {
        include_str!("sql/append.sql")
    }

    fn begin((): &mut (), _command: i32) {}

    fn parameters((): ()) -> Vec<Parameter> {
        Vec::new()
    }
}
