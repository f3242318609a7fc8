//! Whether relays answer, and whether they relay: each outbox is judged by what its holder says of it.

use std::time::Duration;

use futures_util::future::join_all;
use idempo_proto::ops::v1::relay_service_client::RelayServiceClient;
use idempo_proto::ops::v1::{GetRelayStatusRequest, GetRelayStatusResponse, Outbox, OutboxState, QuarantineCounts};
use jiff::SignedDuration;

use super::{BEHIND_MAX, Check, Finding};
use crate::context::{Context, channel};
use crate::failure::Failure;
use crate::print::span;
use crate::relays::short;

/// Every relay, and every outbox that one of them tells of.
pub(super) async fn check(context: &Context, limit: Duration) -> Vec<Check> {
    let profile = context.profile();
    let asking = profile.relays.iter().map(|address| async move { (address, tokio::time::timeout(limit, status(address, context)).await) });
    let (mut checks, mut answers) = (Vec::new(), Vec::new());
    for (address, answer) in join_all(asking).await {
        checks.push(match answer {
            Ok(Ok(answer)) => {
                let held = answer.outboxes.iter().filter(|outbox| outbox.held_here).count();
                let detail = format!("holds {held} of {} outboxes", answer.outboxes.len());
                answers.push(answer);
                Check::new("relay", address, Finding::Fine, detail)
            }
            Ok(Err(failure)) => Check::failed("relay", address, failure),
            Err(_) => Check::silent(limit, "relay", address),
        });
    }
    let are_all_heard = answers.len() == profile.relays.len();
    let outboxes = as_holders_see(answers);
    checks.extend(outboxes.iter().map(|outbox| {
        let (finding, detail) = judged(outbox, are_all_heard);
        Check::new("outbox", short(&outbox.name), finding, detail)
    }));
    // Who is not reached is told already; a store that no relay knows is another matter.
    let is_known = |store: &str| outboxes.iter().any(|outbox| short(&outbox.name) == store);
    let unknown = profile.stores.keys().filter(|store| are_all_heard && !profile.relays.is_empty() && !is_known(store));
    checks.extend(unknown.map(|store| {
        let detail = "no relay of the profile is configured with it: nobody relays what is committed there";
        Check::new("outbox", store, Finding::Wrong, detail)
    }));
    checks
}

async fn status(address: &str, context: &Context) -> Result<GetRelayStatusResponse, Failure> {
    let mut client = RelayServiceClient::new(channel(address)?);
    Ok(client.get_relay_status(context.request(GetRelayStatusRequest::default())).await?.into_inner())
}

/// Each outbox once, by its name: as its holder sees it, or else as somebody does who reaches its database.
fn as_holders_see(answers: Vec<GetRelayStatusResponse>) -> Vec<Outbox> {
    let worth = |outbox: &Outbox| (outbox.held_here, outbox.state() != OutboxState::Connecting);
    let mut outboxes: Vec<Outbox> = Vec::new();
    for outbox in answers.into_iter().flat_map(|answer| answer.outboxes) {
        match outboxes.iter_mut().find(|known| known.name == outbox.name) {
            None => outboxes.push(outbox),
            Some(known) if worth(&outbox) > worth(known) => *known = outbox,
            Some(_) => {}
        }
    }
    outboxes.sort_by(|a, b| a.name.cmp(&b.name));
    outboxes
}

/// What is to be said of an outbox. `are_all_heard` says whether every relay of the profile has answered.
fn judged(outbox: &Outbox, are_all_heard: bool) -> (Finding, String) {
    let (name, waiting) = (short(&outbox.name), waiting(outbox));
    let also = |what: String| if waiting.is_empty() { what } else { format!("{what}; {waiting}") };
    if outbox.state() == OutboxState::Connecting {
        return (Finding::Wrong, format!("no relay reaches its database: {}", outbox.last_error));
    }
    if outbox.paused {
        let what = format!("{} has paused it: {}: `idempo relay resume {name}`", outbox.paused_by, outbox.pause_reason);
        return (Finding::Odd, also(what));
    }
    if outbox.holder.is_empty() {
        return (Finding::Wrong, also("no relay has its lease, so nothing is relayed: start one, or look at its log".to_owned()));
    }
    if !outbox.held_here {
        // Whoever has the lease says nothing: a process that has just died has it still, for some seconds.
        let why = if are_all_heard { "no relay of the profile" } else { "no relay that answers" };
        return (Finding::Odd, also(format!("held by {}, which is {why}: what it does is not known", outbox.holder)));
    }
    match outbox.state() {
        OutboxState::Relaying if waiting.is_empty() => (Finding::Fine, "relays, and nothing waits for long".to_owned()),
        OutboxState::Relaying => (Finding::Odd, also("relays".to_owned())),
        OutboxState::Starting => (Finding::Odd, also("its holder prepares; look again in some seconds".to_owned())),
        OutboxState::BrokerAway => (Finding::Wrong, also(format!("its holder does not reach the brokers: {}", outbox.last_error))),
        OutboxState::Blocked => {
            (Finding::Wrong, also(format!("blocked until somebody mends the cause: {}: `idempo relay status {name}`", outbox.last_error)))
        }
        state => (Finding::Odd, also(format!("its holder says {}", state.as_str_name()))),
    }
}

/// What waits in an outbox that should not; empty where nothing does.
fn waiting(outbox: &Outbox) -> String {
    let (name, mut waits) = (short(&outbox.name), Vec::new());
    let QuarantineCounts { held, parked, diverted, requeued } = outbox.quarantine.unwrap_or_default();
    if held + parked + diverted + requeued > 0 {
        let refused = held + diverted;
        waits.push(format!(
            "Kafka refuses {refused} rows, and {} wait behind them or to be sent again: `idempo outbox list {name}`",
            parked + requeued
        ));
    }
    let age = SignedDuration::from_millis(outbox.backlog_age_ms);
    if outbox.backlog_rows > 0 && age > SignedDuration::try_from(BEHIND_MAX).unwrap_or(SignedDuration::MAX) {
        waits.push(format!("{} rows wait to be relayed, the first since {}", outbox.backlog_rows, span(age)));
    }
    waits.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(state: OutboxState) -> Outbox {
        Outbox { name: "outboxes/wallet".to_owned(), state: state.into(), holder: "a".to_owned(), held_here: true, ..Outbox::default() }
    }

    #[test]
    fn only_an_outbox_that_relays_and_in_which_nothing_waits_is_fine() {
        let error = |state| Outbox { last_error: "no topic".to_owned(), ..held(state) };
        let refused = QuarantineCounts { held: 1, ..QuarantineCounts::default() };
        for (outbox, finding, said) in [
            (held(OutboxState::Relaying), Finding::Fine, "relays"),
            (Outbox { backlog_rows: 9, backlog_age_ms: 59_000, ..held(OutboxState::Relaying) }, Finding::Fine, "relays"),
            (Outbox { backlog_rows: 9, backlog_age_ms: 61_000, ..held(OutboxState::Relaying) }, Finding::Odd, "9 rows wait"),
            (Outbox { quarantine: Some(refused), ..held(OutboxState::Relaying) }, Finding::Odd, "`idempo outbox list wallet`"),
            (held(OutboxState::Starting), Finding::Odd, "prepares"),
            (error(OutboxState::BrokerAway), Finding::Wrong, "no topic"),
            (error(OutboxState::Blocked), Finding::Wrong, "`idempo relay status wallet`"),
            (error(OutboxState::Connecting), Finding::Wrong, "no relay reaches its database"),
            (Outbox { paused: true, ..held(OutboxState::Paused) }, Finding::Odd, "`idempo relay resume wallet`"),
            (Outbox { holder: String::new(), held_here: false, ..held(OutboxState::Standby) }, Finding::Wrong, "no relay has its lease"),
            (Outbox { held_here: false, ..held(OutboxState::Standby) }, Finding::Odd, "held by a"),
        ] {
            let (found, detail) = judged(&outbox, true);
            assert!(found == finding && detail.contains(said), "{outbox:?}: {found:?}, {detail}");
        }
    }

    #[test]
    fn an_outbox_is_judged_by_what_its_holder_says() {
        let answer = |outbox: Outbox| GetRelayStatusResponse { instance: String::new(), outboxes: vec![outbox] };
        let standby = |state| Outbox { held_here: false, ..held(state) };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let all = [standby(OutboxState::Connecting), standby(OutboxState::Standby), held(OutboxState::Blocked)];
            let answers = order.iter().filter_map(|at| all.get(*at).cloned()).map(answer).collect();
            let seen = as_holders_see(answers);
            assert_eq!(seen.iter().map(Outbox::state).collect::<Vec<_>>(), [OutboxState::Blocked]);
        }
    }
}
