//! Dead letters as lines of JSON, out and in.

use std::collections::HashMap;

use idempo_proto::ops::v1::{ExportDeadLettersRequest, ExportDeadLettersResponse, ImportDeadLettersRequest, ImportDeadLettersResponse};
use idempo_rpc::Violations;
use idempo_rpc::operators::{Attempt, Audit as _, Entry, Refused};
use tokio_stream::Stream;
use tonic::{Request, Status};

use super::filter::Filter;
use super::{DOMAIN, NAMES_MAX, Service, failed_statement};
use crate::letter::Letter;

/// The most lines of one message. Their values are read at once.
const LINES_PER_MESSAGE_MAX: i64 = 50;
/// About how large a message may become, in bytes; one line may be larger.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// An export, on its way.
struct Export {
    pool: idempo_pg::Pool,
    filter: Filter,
    /// The number of the last dead letter that was read.
    behind: i64,
    /// Lines that were read and not sent.
    waiting: Vec<String>,
    is_done: bool,
}

impl Service {
    pub(super) async fn export(
        &self,
        request: Request<ExportDeadLettersRequest>,
    ) -> Result<impl Stream<Item = Result<ExportDeadLettersResponse, Status>> + Send + 'static, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let mut attempt = Attempt { metadata, action: "export", target: String::new(), reason: &asked.reason };
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let filter = Filter::of(&mut violations, asked.filter.as_ref());
        attempt.target = filter.as_ref().map(Filter::target).unwrap_or_default();
        let accepted = violations.accept(DOMAIN, (caller, filter)).map_err(Refused::ToNote);
        let (caller, filter) = attempt.concluded(self, accepted).await?;
        // Who takes the bytes away is noted before the first of them goes.
        let Attempt { action, target, reason, .. } = &attempt;
        self.add(Entry { caller: &caller, action, target, reason, outcome: "DONE", detail: "" }).await?;
        let export = Export { pool: self.pool.clone(), filter, behind: 0, waiting: Vec::new(), is_done: false };
        Ok(futures_util::stream::try_unfold(export, |mut export| async move {
            let lines = export.next().await?;
            Ok((!lines.is_empty()).then_some((ExportDeadLettersResponse { lines }, export)))
        }))
    }

    pub(super) async fn import(&self, request: Request<ImportDeadLettersRequest>) -> Result<ImportDeadLettersResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let target = format!("{} lines", asked.lines.len());
        let attempt = Attempt { metadata, action: "import", target, reason: &asked.reason };
        let outcome = self.try_import(&attempt, asked).await;
        attempt.concluded(self, outcome).await
    }

    async fn try_import(&self, attempt: &Attempt<'_>, asked: &ImportDeadLettersRequest) -> Result<ImportDeadLettersResponse, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        violations.check((1..=NAMES_MAX).contains(&asked.lines.len()), "lines", || format!("must be 1 to {NAMES_MAX}"));
        let mut letters: HashMap<(String, String, i32, i64), Letter> = HashMap::new();
        for (at, line) in asked.lines.iter().enumerate().take(NAMES_MAX) {
            match Letter::of_line(line) {
                Ok(letter) => {
                    let (group, topic, partition, offset) = letter.id();
                    letters.entry((group.to_owned(), topic.to_owned(), partition, offset)).or_insert(letter);
                }
                Err(problem) => violations.add(&format!("lines[{at}]"), problem),
            }
        }
        let (caller,) = violations.accept(DOMAIN, (caller,))?;
        let letters: Vec<Letter> = letters.into_values().collect();
        // Letters are texts and numbers: there is nothing in them that JSON does not have.
        let json = serde_json::to_string(&letters).unwrap_or_default();
        let given = i64::try_from(asked.lines.len()).unwrap_or(i64::MAX);
        let sql = include_str!("../sql/import_letters.sql");
        let row = self.query_one(sql, &[&json, &given, &caller, &attempt.reason]).await.map_err(Refused::Noted)?;
        let imported_count: i64 = row.try_get(0).map_err(|error| Refused::Noted(failed_statement(error)))?;
        Ok(ImportDeadLettersResponse { imported_count, known_count: given - imported_count })
    }
}

impl Export {
    /// The lines of the next message; none when all were sent.
    async fn next(&mut self) -> Result<Vec<String>, Status> {
        if self.waiting.is_empty() && !self.is_done {
            self.read().await?;
        }
        let mut bytes = 0;
        let fits = |line: &String| {
            let is_first = bytes == 0;
            bytes += line.len();
            is_first || bytes <= MESSAGE_BYTES_MAX
        };
        let count = self.waiting.iter().map(fits).take_while(|fits| *fits).count();
        Ok(self.waiting.drain(..count).collect())
    }

    async fn read(&mut self) -> Result<(), Status> {
        let client = self.pool.get().await.map_err(|error| super::failed(&error))?;
        let Filter { state, code, event_type, topic, consumer_group, key, from, before, group } = &self.filter;
        let statement = client.prepare_cached(include_str!("../sql/export_letters.sql")).await.map_err(failed_statement)?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 11] =
            [&self.behind, state, code, event_type, topic, consumer_group, key, from, before, group, &LINES_PER_MESSAGE_MAX];
        let rows = client.query(&statement, &parameters).await.map_err(failed_statement)?;
        self.is_done = i64::try_from(rows.len()).unwrap_or(i64::MAX) < LINES_PER_MESSAGE_MAX;
        for row in &rows {
            self.behind = row.try_get(0).map_err(failed_statement)?;
            self.waiting.push(row.try_get(1).map_err(failed_statement)?);
        }
        Ok(())
    }
}
