//! Which generation is meant where none is named, and what is wrong with one that is.

use idempo_proto::ops::v1::{Generation, GenerationState, Projection};

use super::shown;
use crate::exit::Exit;
use crate::failure::Failure;

/// The generation that is meant: the one with this number, or the newest one in this state.
pub(super) fn chosen(projection: &Projection, number: Option<i32>, state: GenerationState) -> Result<&Generation, Failure> {
    match number {
        Some(number) => numbered(projection, number),
        None => newest(projection, |generation| generation.state() == state).ok_or_else(|| {
            let failure =
                Failure::new(Exit::Conflict, format!("{} has no generation that is {}", projection.name, shown::state_text(state)));
            failure.hint("`idempo projection status` shows its generations")
        }),
    }
}

/// The generation with this number.
pub(super) fn numbered(projection: &Projection, number: i32) -> Result<&Generation, Failure> {
    let generations = &projection.generations;
    generations.iter().find(|generation| generation.generation == number).ok_or_else(|| {
        let known: Vec<String> = generations.iter().map(|generation| generation.generation.to_string()).collect();
        Failure::unknown(&format!("generation of {}", projection.name), &number.to_string(), known.iter().map(String::as_str))
    })
}

/// The generation that is to be live. Without a number one that is ready, and never one that was live before: whoever asks again after a switch would
/// flip readers back.
pub(super) fn to_be_live(projection: &Projection, number: Option<i32>) -> Result<&Generation, Failure> {
    if number.is_some() {
        return chosen(projection, number, GenerationState::Ready);
    }
    newest(projection, |generation| generation.state() == GenerationState::Ready).ok_or_else(|| {
        let (name, live) = (&projection.name, projection.live_generation);
        let text = format!("{name} has no generation that is ready, and generation {live} is live already");
        Failure::new(Exit::Conflict, text)
            .hint("a number switches to one that was live before; `idempo projection rollback` to the last one")
    })
}

/// The name of the generation whose comparison is meant: the one with this number, or the newest one that was compared.
pub(super) fn compared(projection: &Projection, number: Option<i32>) -> Result<&Generation, Failure> {
    if let Some(number) = number {
        return numbered(projection, number);
    }
    newest(projection, |generation| generation.verification.is_some()).ok_or_else(|| {
        let failure = Failure::new(Exit::Conflict, format!("no generation of {} was compared yet", projection.name));
        failure.hint("`idempo projection verify` compares one")
    })
}

fn newest(projection: &Projection, fits: impl Fn(&Generation) -> bool) -> Option<&Generation> {
    projection.generations.iter().filter(|generation| fits(generation)).max_by_key(|generation| generation.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projection(states: &[GenerationState]) -> Projection {
        let generation = |(number, state): (i32, &GenerationState)| Generation {
            name: format!("projections/inventory/generations/{number}"),
            generation: number,
            state: (*state).into(),
            ..Generation::default()
        };
        Projection {
            name: "projections/inventory".to_owned(),
            live_generation: 1,
            generations: (1..).zip(states).map(generation).collect(),
            ..Projection::default()
        }
    }

    #[test]
    fn without_a_number_the_newest_generation_that_fits_is_meant() {
        let projection = projection(&[GenerationState::Live, GenerationState::Ready, GenerationState::Ready, GenerationState::Retired]);
        for found in [chosen(&projection, None, GenerationState::Ready), to_be_live(&projection, None)] {
            assert_eq!(found.map(|generation| generation.generation), Ok(3));
        }
        let none = chosen(&projection, None, GenerationState::Building).expect_err("none is being built");
        assert_eq!((none.exit, none.message.as_str()), (Exit::Conflict, "projections/inventory has no generation that is building"));
    }

    #[test]
    fn one_that_was_live_is_switched_to_by_its_number_alone() {
        let projection = projection(&[GenerationState::Live, GenerationState::Retired]);
        let failure = to_be_live(&projection, None).expect_err("none is ready");
        assert_eq!(failure.exit, Exit::Conflict);
        assert!(failure.message.ends_with("no generation that is ready, and generation 1 is live already"), "{}", failure.message);
        assert_eq!(to_be_live(&projection, Some(2)).map(|generation| generation.generation), Ok(2));
    }

    #[test]
    fn a_generation_that_is_not_there_is_not_found() {
        let projection = projection(&[GenerationState::Live, GenerationState::Ready]);
        let failure = to_be_live(&projection, Some(7)).expect_err("there is none");
        assert_eq!((failure.exit, failure.hint.as_deref()), (Exit::NotFound, Some("there are: 1, 2")));
    }
}
