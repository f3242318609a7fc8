//! Dead letters as lines of JSON: out of the service and into one.

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use idempo_proto::ops::v1::{DeadLetterFilter, ExportDeadLettersRequest, ImportDeadLettersRequest};
use serde_json::json;

use super::service::{SEEN_IN_AUDIT, Service};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Printer, tell};

/// How many lines go into one request.
const LINES_MAX: usize = 1_000;
/// How many bytes of lines go into one request: a server takes 4 MiB.
const BYTES_MAX: usize = 3 << 20;
/// How long an export may take.
const EXPORT_LIMIT: Duration = Duration::from_secs(3_600);
/// What stands for stdin.
const STDIN: &str = "-";

/// Prints dead letters as lines. They are the same in every form of output.
pub(super) async fn export(
    service: &Service<'_>,
    filter: DeadLetterFilter,
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let asked = ExportDeadLettersRequest { filter: Some(filter), reason: context.reason()? };
    if context.dry_run {
        return context.confirm("print dead letters, and leave an audit entry").map(drop);
    }
    let call = async |client: &mut super::service::Client, request| client.export_dead_letters(request).await;
    let mut parts = service.ask_within(Some(EXPORT_LIMIT), asked, call).await?;
    let mut count = 0_usize;
    while let Some(part) = parts.message().await? {
        count += part.lines.len();
        part.lines.iter().try_for_each(|line| printer.line(line))?;
    }
    tell(&format!("{count} dead letters are exported"));
    Ok(())
}

/// Takes dead letters from lines.
pub(super) async fn import(service: &Service<'_>, file: &Path, context: &Context, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let reason = context.reason()?;
    let lines: Box<dyn BufRead> = if file == Path::new(STDIN) {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file).map_err(|error| Failure::new(Exit::NotFound, format!("{}: {error}", file.display())));
        Box::new(std::io::BufReader::new(opened?))
    };
    let lines = lines.lines().filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty()));
    let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
    if !context.confirm(&format!("take in {} dead letters", lines.len()))? {
        return Ok(());
    }
    let (mut imported, mut known) = (0, 0);
    for lines in parts(lines) {
        let asked = ImportDeadLettersRequest { lines, reason: reason.clone() };
        let answer = service.change(asked, SEEN_IN_AUDIT, async |client, request| client.import_dead_letters(request).await).await?;
        imported += answer.imported_count;
        known += answer.known_count;
    }
    printer.one(&json!({ "imported": imported, "known": known }), &[("imported", imported.into()), ("known before", known.into())])
}

/// Lines in parts of which each fits into a request.
fn parts(lines: Vec<String>) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for line in lines {
        bytes += line.len();
        match parts.last_mut().filter(|part| part.len() < LINES_MAX && bytes <= BYTES_MAX) {
            Some(part) => part.push(line),
            None => {
                bytes = line.len();
                parts.push(vec![line]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_in_parts_that_fit_into_a_request() {
        let sizes = |lines: Vec<String>| parts(lines).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec!["x".to_owned(); 2_001]), [1_000, 1_000, 1]);
        assert_eq!(sizes(vec!["x".repeat(2 << 20); 3]), [1, 1, 1]);
        assert!(sizes(Vec::new()).is_empty());
    }
}
