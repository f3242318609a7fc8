//! Whether projections move, and how many keys they have parked.

use std::time::Duration;

use idempo_proto::ops::v1::parked_service_client::ParkedServiceClient;
use idempo_proto::ops::v1::projection_service_client::ProjectionServiceClient;
use idempo_proto::ops::v1::{ListParkedLettersRequest, ListProjectionsRequest, ParkedLetter, Projection, RebuildPhase};
use jiff::SignedDuration;

use super::{BEHIND_MAX, Check, Finding};
use crate::commands::projection::projectors::short;
use crate::context::{Context, channel};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::span;

/// How many dead letters of a projection are counted.
const LETTERS_MAX: i32 = 1_000;

/// Every projection that a projector keeps. Nothing where the projector is away, which is told elsewhere.
pub(super) async fn check(name: &str, address: &str, context: &Context, limit: Duration) -> Vec<Check> {
    match tokio::time::timeout(limit, looked(address, context)).await {
        Ok(Ok(found)) => found.into_iter().flat_map(|(projection, letters)| checks(&projection, &letters)).collect(),
        Ok(Err(failure)) if failure.exit == Exit::Unavailable => Vec::new(),
        Ok(Err(failure)) => vec![Check::failed("projection", name, failure)],
        Err(_) => vec![Check::silent(limit, "projection", name)],
    }
}

/// The projections, and the first of the dead letters that each has.
async fn looked(address: &str, context: &Context) -> Result<Vec<(Projection, Vec<ParkedLetter>)>, Failure> {
    let channel = channel(address)?;
    let mut client = ProjectionServiceClient::new(channel.clone());
    let projections = client.list_projections(context.request(ListProjectionsRequest {})).await?.into_inner().projections;
    let mut found = Vec::new();
    for projection in projections {
        let parent = projection.name.clone();
        let asked = ListParkedLettersRequest { parent, page_size: LETTERS_MAX, ..ListParkedLettersRequest::default() };
        let letters = ParkedServiceClient::new(channel.clone()).list_parked_letters(context.request(asked)).await?.into_inner();
        found.push((projection, letters.parked_letters));
    }
    Ok(found)
}

fn checks(projection: &Projection, letters: &[ParkedLetter]) -> Vec<Check> {
    let name = short(&projection.name);
    let (finding, detail) = judged(projection);
    let mut checks = vec![Check::new("projection", name, finding, detail)];
    let keys = letters.iter().filter(|letter| letter.has_key).count();
    if !letters.is_empty() {
        let behind: i64 = letters.iter().map(|letter| letter.parked_records).sum();
        let most = if usize::try_from(LETTERS_MAX) == Ok(letters.len()) { " or more" } else { "" };
        let detail = format!(
            "has not taken {}{most} records; {keys} keys are parked, with {behind} records behind: `idempo dlq parked {name}`",
            letters.len()
        );
        checks.push(Check::new("projection", name, Finding::Odd, detail));
    }
    checks
}

fn judged(projection: &Projection) -> (Finding, String) {
    let (name, lag) = (short(&projection.name), SignedDuration::from_millis(projection.lag_ms));
    if projection.stopped_partitions > 0 {
        let detail = format!(
            "{} partitions have stopped until somebody mends the cause: `idempo projection status {name}` tells it, `idempo projection resume {name}` goes on",
            projection.stopped_partitions
        );
        return (Finding::Wrong, detail);
    }
    if projection.paused {
        let detail = format!("{} has paused it: {}: `idempo projection resume {name}`", projection.paused_by, projection.pause_reason);
        return (Finding::Odd, detail);
    }
    let is_failed = |rebuild: &idempo_proto::ops::v1::Rebuild| rebuild.phase() == RebuildPhase::Failed;
    if let Some(failed) = projection.generations.iter().find(|one| one.rebuild.as_ref().is_some_and(is_failed)) {
        let code = failed.rebuild.as_ref().map_or("", |rebuild| rebuild.failure_code.as_str());
        return (
            Finding::Odd,
            format!("the rebuild of generation {} can't go on ({code}): `idempo projection status {name}`", failed.generation),
        );
    }
    let live = format!("generation {} is live", projection.live_generation);
    if projection.lag_events < 0 {
        return (Finding::Odd, format!("{live}; how far it is behind is not known: the brokers have not said what there is"));
    }
    if projection.lag_events == 0 {
        return (Finding::Fine, format!("{live}, and has everything"));
    }
    let is_far = lag > SignedDuration::try_from(BEHIND_MAX).unwrap_or(SignedDuration::MAX);
    let finding = if is_far { Finding::Odd } else { Finding::Fine };
    (finding, format!("{live}, {} events behind, since {}", projection.lag_events, span(lag)))
}

#[cfg(test)]
mod tests {
    use idempo_proto::ops::v1::{Generation, Rebuild};

    use super::*;

    #[test]
    fn only_a_projection_that_moves_and_is_near_is_fine() {
        let named = || Projection { name: "projections/inventory".to_owned(), live_generation: 1, ..Projection::default() };
        let rebuild = Rebuild { phase: RebuildPhase::Failed.into(), failure_code: "GONE".to_owned(), ..Rebuild::default() };
        let failed = Generation { generation: 2, rebuild: Some(rebuild), ..Generation::default() };
        for (projection, finding, said) in [
            (named(), Finding::Fine, "has everything"),
            (Projection { lag_events: 7, lag_ms: 900, ..named() }, Finding::Fine, "7 events behind"),
            (Projection { lag_events: 7, lag_ms: 61_000, ..named() }, Finding::Odd, "7 events behind, since 1m 1s"),
            (Projection { lag_events: -1, lag_ms: -1, ..named() }, Finding::Odd, "not known"),
            (Projection { stopped_partitions: 1, paused: true, ..named() }, Finding::Wrong, "1 partitions have stopped"),
            (Projection { paused: true, paused_by: "ana".to_owned(), ..named() }, Finding::Odd, "ana has paused it"),
            (Projection { generations: vec![failed], ..named() }, Finding::Odd, "generation 2 can't go on (GONE)"),
        ] {
            let (found, detail) = judged(&projection);
            assert!(found == finding && detail.contains(said), "{projection:?}: {found:?}, {detail}");
        }
    }

    #[test]
    fn what_is_parked_is_counted() {
        let letter = |has_key, parked_records| ParkedLetter { has_key, parked_records, ..ParkedLetter::default() };
        let found = checks(&Projection::default(), &[letter(true, 3), letter(false, 0), letter(true, 4)]);
        let told: Vec<_> =
            found.iter().map(|check| (check.finding, check.detail.contains("3 records; 2 keys are parked, with 7"))).collect();
        assert_eq!(told, [(Finding::Fine, false), (Finding::Odd, true)]);
    }
}
