//! Process and end-to-end tests. They have a main function of their own, because they share one stack and an order.

mod dead_letters;
mod deadlines;
mod drain;
mod items;
mod kills;
mod memory;
mod operators;
mod outages;
mod overload;
mod processes;
mod racing;
mod reflection;
mod settings;
mod shedding;
mod takeovers;
mod traces;
mod wallets;

use std::process::ExitCode;

use idempo_tests::Suite;
use libtest_mimic::{Arguments, Failed, Trial};

/// Functions by their paths, as tests on the stack.
macro_rules! on_the_stack {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), (|world| Box::pin($module::$name(world))) as idempo_tests::Test)),+]
    };
}

/// Functions by their paths, as tests that need no stack.
macro_rules! alone {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        vec![$(Trial::test(concat!(stringify!($module), "::", stringify!($name)), || {
            $module::$name().map_err(|error| Failed::from(format!("{error:?}")))
        })),+]
    };
}

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let suite = Suite::new()?;
    let mut trials = alone![
        settings::every_binary_prints_its_effective_settings_with_secrets_masked,
        settings::what_a_binary_prints_can_be_given_back_to_it_as_a_file,
        settings::every_binary_refuses_an_unknown_key_and_names_it,
    ];
    trials.extend(suite.trials(on_the_stack![
        processes::every_process_is_ready_and_alive,
        processes::every_process_tells_its_metrics,
        processes::every_service_is_serving_by_its_name,
        reflection::every_service_and_its_methods_can_be_looked_up,
        memory::every_process_is_small_at_rest,
        wallets::what_was_opened_granted_and_transferred_is_read_back,
        wallets::the_same_request_twice_gets_equal_answers,
        wallets::a_refusal_is_the_same_the_second_time,
        wallets::another_payload_under_a_used_key_is_refused_by_field,
        items::what_was_granted_and_transferred_is_listed_at_its_position,
        racing::sixty_four_racing_sends_of_one_command_have_one_effect,
        traces::the_trace_of_a_call_goes_with_its_events_to_kafka,
        processes::nobody_has_complained_so_far,
        operators::every_operation_refuses_who_may_not_do_it_and_notes_what_was_to_be_changed,
        operators::a_token_takes_the_place_of_another_while_all_run_on,
        takeovers::a_standby_goes_on_when_the_relay_is_killed,
        takeovers::a_killed_projector_goes_on_and_doubles_nothing,
        kills::a_command_service_is_killed_at_every_point_of_the_append,
        kills::a_command_service_dies_inside_the_append,
        kills::a_relay_is_killed_at_every_point,
        kills::a_projector_is_killed_at_every_point,
        kills::a_projector_is_killed_while_it_parks_and_drains,
        dead_letters::what_the_read_model_refuses_is_found_rehearsed_mended_and_replayed_in_order,
        dead_letters::what_is_replayed_at_the_projector_itself_comes_to_be_replayed,
        kills::a_rebuild_is_killed_at_every_point,
        deadlines::a_storm_of_short_deadlines_poisons_no_pool_and_loses_or_doubles_no_command,
        overload::five_times_the_sustainable_rate_is_refused_and_the_rest_is_done_as_before,
        shedding::commands_that_can_wait_are_refused_while_no_relay_is_alive,
        outages::work_goes_on_by_itself_when_postgresql_is_back,
        outages::commands_go_on_while_kafka_is_away_and_the_backlog_drains,
        outages::what_is_stored_is_in_kafka_and_in_the_read_model,
        memory::every_process_is_still_small_after_the_work,
    ]));
    trials.push(suite.last("drain::every_process_drains_on_sigterm_and_complained_of_nothing_else", drain::every_process_drains));
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
