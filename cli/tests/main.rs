//! The command line against a running platform. The tests have a main function of their own, because they share one platform and an order: what is
//! damaged on purpose is damaged last.

mod audit;
mod dead_letters;
mod exits;
mod following;
mod quarantine;
mod transcripts;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use world::Suite;

/// Functions by their paths, as tests on the shared platform.
macro_rules! trials {
    ($suite:expr, $($module:ident :: $name:ident),+ $(,)?) => {
        vec![$({
            let suite = $suite.clone();
            Trial::test(concat!(stringify!($module), "::", stringify!($name)), move || {
                suite.run($module::$name).map_err(|error| Failed::from(format!("{error:?}")))
            })
        }),+]
    };
}

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let suite = Suite::new()?;
    let trials = trials![
        suite,
        transcripts::every_transcript_in_the_docs_is_what_a_shell_prints,
        exits::every_way_to_end_has_its_code,
        following::a_command_is_found_by_each_of_its_ids,
        following::what_happens_is_seen_as_it_comes,
        following::colour_is_where_it_is_wanted_and_nowhere_else,
        following::whoever_is_asked_at_a_terminal_decides,
        following::top_shows_what_moves_until_it_is_left,
        dead_letters::what_is_settled_can_not_be_settled_again,
        dead_letters::what_is_exported_is_known_when_it_comes_back,
        quarantine::a_refused_row_is_seen_and_sent_again,
        audit::what_it_finds_is_there_as_gauges,
        audit::it_is_green_while_players_play,
        audit::one_damaged_row_of_each_kind_is_named,
    ];
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
