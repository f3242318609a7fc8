//! The command line against a running platform. The tests have a main function of their own, because they share one platform and an order: what is
//! damaged on purpose is damaged last.

mod audit;
mod dead_letter_jobs;
mod dead_letters;
mod exits;
mod following;
mod manners;
mod projections;
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
        exits::a_replay_into_a_live_topic_is_noted_before_it_or_not_made,
        exits::a_doctor_tells_what_does_not_move,
        following::a_command_is_found_by_each_of_its_ids,
        following::a_command_is_followed_as_far_as_what_is_there_tells,
        following::what_happens_is_seen_as_it_comes,
        following::colour_is_where_it_is_wanted_and_nowhere_else,
        following::whoever_is_asked_at_a_terminal_decides,
        following::top_shows_what_moves_until_it_is_left,
        manners::whoever_interrupts_a_question_has_nothing_done,
        manners::a_command_s_time_is_not_over_while_a_person_thinks,
        manners::nothing_is_asked_where_no_input_is_wanted,
        manners::a_terminal_has_colour_unless_somebody_wants_none,
        manners::a_dry_run_has_data_for_scripts,
        manners::a_projection_that_may_be_where_nobody_answers_is_not_said_to_be_none,
        manners::days_and_weeks_are_lengths_of_time,
        dead_letters::what_is_settled_can_not_be_settled_again,
        dead_letters::what_is_exported_is_known_when_it_comes_back,
        dead_letter_jobs::what_is_discarded_by_name_heeds_pace_and_limit,
        dead_letter_jobs::what_is_replayed_heeds_pace_limit_and_force,
        dead_letter_jobs::what_was_asked_about_is_what_is_done,
        dead_letter_jobs::a_dry_run_has_looked_and_a_name_that_is_none_is_not_none,
        dead_letter_jobs::a_change_that_nobody_answers_is_not_made_by_another_process,
        dead_letter_jobs::whoever_leaves_a_job_behind_is_told_of_it,
        projections::one_rebuild_at_a_time_goes_on_without_whoever_waits_for_it,
        projections::a_rebuild_from_kafka_is_one_of_all_records,
        projections::a_switch_that_is_asked_for_twice_never_flips_readers_back,
        projections::a_generation_that_is_behind_is_switched_to_by_force_alone,
        projections::what_differs_from_a_live_one_that_is_wrong_is_no_fault,
        quarantine::a_refused_row_is_seen_and_sent_again,
        audit::what_it_finds_is_there_as_gauges,
        audit::it_is_green_while_players_play,
        audit::one_damaged_row_of_each_kind_is_named,
    ];
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
