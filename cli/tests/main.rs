//! The command line against a running platform. The tests have a main function of their own, because they share one platform and an order: what is
//! damaged on purpose is damaged last.

mod audit;
mod exits;
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
        audit::it_is_green_while_players_play,
        audit::one_damaged_row_of_each_kind_is_named,
    ];
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
