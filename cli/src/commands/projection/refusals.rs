//! What a projector would refuse, as far as that can be seen beforehand. A dry run ends as the change would.

use idempo_proto::ops::v1::{Generation, GenerationState, Projection, RebuildPhase, Verification, VerificationAgainst, VerificationState};

use super::chosen::numbered;
use super::shown;
use crate::failure::Failure;
use crate::print::tell;

/// Whether a generation can be made the live one.
pub(super) fn switch(projection: &Projection, generation: &Generation, force: bool) -> Result<(), Failure> {
    if generation.generation == projection.live_generation {
        return Ok(());
    }
    in_state(generation, &[GenerationState::Ready, GenerationState::Retired])?;
    if !force && !is_verified(generation, projection.live_generation) {
        let found = generation.verification.as_ref().filter(|found| speaks(found, projection.live_generation));
        let found = found.map_or_else(|| "never compared".to_owned(), |found| shown::verification_text(found.state()));
        let text = format!("generation {} was not found equal to the live one or to the fold ({found})", generation.generation);
        return Err(Failure::refused("GENERATION_UNVERIFIED", &text));
    }
    has_all(projection, generation, force)
}

/// Whether the generation can be made live again that was before the last switch.
pub(super) fn roll_back(projection: &Projection, force: bool) -> Result<(), Failure> {
    if projection.previous_generation == 0 {
        return Err(Failure::refused("NO_PREVIOUS_GENERATION", "there is no generation to go back to"));
    }
    let generation = numbered(projection, projection.previous_generation)?;
    in_state(generation, &[GenerationState::Ready, GenerationState::Retired])?;
    has_all(projection, generation, force)
}

/// Whether a rebuild can begin: there is one at a time.
pub(super) fn rebuild(projection: &Projection) -> Result<(), Failure> {
    let is_under_way = |generation: &&Generation| generation.rebuild.as_ref().is_some_and(|rebuild| rebuild.phase() != RebuildPhase::Done);
    let Some(other) = projection.generations.iter().find(is_under_way) else { return Ok(()) };
    let caller = other.rebuild.as_ref().map(|rebuild| rebuild.caller.as_str()).unwrap_or_default();
    let text = format!("generation {} is being built already, as {caller} asked for", other.generation);
    Err(Failure::refused("REBUILD_UNDER_WAY", &text))
}

/// Whether a generation is in one of the states that this needs.
pub(super) fn in_state(generation: &Generation, states: &[GenerationState]) -> Result<(), Failure> {
    let state = generation.state();
    if states.contains(&state) {
        return Ok(());
    }
    let text = format!("generation {} is {}, in which state this can't be done to it", generation.generation, shown::state_text(state));
    Err(Failure::refused("GENERATION_STATE", &text))
}

/// Whether a comparison says something beside the generation that is live now.
fn speaks(found: &Verification, live: i32) -> bool {
    found.against() == VerificationAgainst::Fold || found.compared_with == live
}

fn is_verified(generation: &Generation, live: i32) -> bool {
    let equal = |found: &Verification| found.state() == VerificationState::Equal && speaks(found, live);
    generation.verification.as_ref().is_some_and(equal)
}

/// Whether a generation has what the live one has. The projector holds the live one for a moment where another lacks something: what can come to have it
/// is not refused here, and what stands still is.
fn has_all(projection: &Projection, generation: &Generation, force: bool) -> Result<(), Failure> {
    let live = projection.generations.iter().find(|one| one.generation == projection.live_generation);
    let live = live.map(|live| live.partitions.as_slice()).unwrap_or_default();
    let own = |partition: i32| generation.partitions.iter().find(|one| one.partition == partition);
    let behind: Vec<_> =
        live.iter().filter(|at| own(at.partition).is_none_or(|own| own.next_offset < at.next_offset)).map(|at| own(at.partition)).collect();
    if behind.is_empty() {
        return Ok(());
    }
    let text = format!("generation {} does not have all that the live one has", generation.generation);
    let stands_still = projection.paused || behind.iter().flatten().any(|own| !own.stop_code.is_empty());
    match (force, stands_still) {
        (true, _) => tell(&format!("warning: {text}")),
        (false, true) => return Err(Failure::refused("GENERATION_LAGGING", &text)),
        (false, false) => {
            tell(&format!("warning: {text} at this moment: it is waited for, and refused (GENERATION_LAGGING) if that lasts"))
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use idempo_proto::ops::v1::{Partition, Rebuild};

    use super::*;
    use crate::exit::Exit;

    fn generation(number: i32, state: GenerationState, next_offset: i64) -> Generation {
        Generation {
            name: format!("projections/inventory/generations/{number}"),
            generation: number,
            state: state.into(),
            partitions: vec![Partition { partition: 0, next_offset, ..Partition::default() }],
            ..Generation::default()
        }
    }

    fn verified(state: VerificationState, against: VerificationAgainst, compared_with: i32) -> Generation {
        let found = Verification { state: state.into(), against: against.into(), compared_with, ..Verification::default() };
        Generation { verification: Some(found), ..generation(2, GenerationState::Ready, 9) }
    }

    fn beside(other: &Generation) -> Projection {
        Projection {
            name: "projections/inventory".to_owned(),
            live_generation: 1,
            generations: vec![generation(1, GenerationState::Live, 9), other.clone()],
            ..Projection::default()
        }
    }

    /// The reason with which something is refused, and empty where it is not.
    fn reason(refused: Result<(), Failure>) -> String {
        refused.err().map_or_else(String::new, |failure| {
            assert_eq!(failure.exit, Exit::Conflict, "{failure:?}");
            let reason = failure.message.rsplit_once('(').map_or("", |(_, reason)| reason);
            reason.trim_end_matches(')').to_owned()
        })
    }

    #[test]
    fn only_what_was_found_equal_beside_the_live_one_or_to_the_fold_is_switched_to() {
        use VerificationAgainst::{Fold, Live};
        use VerificationState::{Different, Equal, Running};
        for (state, against, with, expected) in [
            (Equal, Live, 1, ""),
            (Equal, Fold, 7, ""),
            (Equal, Live, 7, "GENERATION_UNVERIFIED"),
            (Different, Live, 1, "GENERATION_UNVERIFIED"),
            (Running, Fold, 1, "GENERATION_UNVERIFIED"),
        ] {
            let generation = verified(state, against, with);
            assert_eq!(reason(switch(&beside(&generation), &generation, false)), expected, "{state:?} {against:?} {with}");
            assert_eq!(reason(switch(&beside(&generation), &generation, true)), "", "forced");
        }
        let never = generation(2, GenerationState::Ready, 9);
        assert_eq!(reason(switch(&beside(&never), &never, false)), "GENERATION_UNVERIFIED");
    }

    #[test]
    fn what_stands_still_behind_the_live_one_is_not_switched_to() {
        let mut late = verified(VerificationState::Equal, VerificationAgainst::Live, 1);
        late.partitions = vec![Partition { next_offset: 8, ..Partition::default() }];
        assert_eq!(reason(switch(&beside(&late), &late, false)), "", "it comes to have it");
        let paused = Projection { paused: true, ..beside(&late) };
        assert_eq!(reason(switch(&paused, &late, false)), "GENERATION_LAGGING");
        assert_eq!(reason(switch(&paused, &late, true)), "", "forced");
        late.partitions = vec![Partition { next_offset: 8, stop_code: "X".to_owned(), ..Partition::default() }];
        assert_eq!(reason(switch(&beside(&late), &late, false)), "GENERATION_LAGGING");
    }

    #[test]
    fn states_that_nothing_can_be_done_in_are_known_beforehand() {
        let building = generation(2, GenerationState::Building, 0);
        assert_eq!(reason(switch(&beside(&building), &building, true)), "GENERATION_STATE");
        assert_eq!(reason(in_state(&building, &[GenerationState::Ready, GenerationState::Retired])), "GENERATION_STATE");
        assert_eq!(reason(in_state(&building, &[GenerationState::Building])), "");
        let live = generation(1, GenerationState::Live, 9);
        assert_eq!(reason(switch(&beside(&building), &live, false)), "", "the one that is live stays so");
    }

    #[test]
    fn there_is_no_way_back_where_none_was_live_before() {
        let retired = generation(2, GenerationState::Retired, 9);
        assert_eq!(reason(roll_back(&beside(&retired), false)), "NO_PREVIOUS_GENERATION");
        let switched = Projection { previous_generation: 2, ..beside(&retired) };
        assert_eq!(reason(roll_back(&switched, false)), "");
    }

    #[test]
    fn one_rebuild_is_under_way_at_a_time_and_whose_it_is_is_said() {
        let rebuild_in = |phase: RebuildPhase| Generation {
            rebuild: Some(Rebuild { phase: phase.into(), caller: "ana".to_owned(), ..Rebuild::default() }),
            ..generation(2, GenerationState::Building, 0)
        };
        for phase in [RebuildPhase::Waiting, RebuildPhase::Scanning, RebuildPhase::Failed] {
            let failure = rebuild(&beside(&rebuild_in(phase))).expect_err("one is under way");
            assert!(failure.message.contains("generation 2") && failure.message.contains("ana"), "{failure:?}");
        }
        assert_eq!(reason(rebuild(&beside(&rebuild_in(RebuildPhase::Done)))), "");
    }
}
