//! The life of a process: ready, asked to stop, gone.

use rustix::process::Signal;

use crate::sample::{Sample, get, output, program};

#[test]
fn a_role_becomes_ready_and_sigterm_ends_it_with_exit_code_0() {
    let mut sample = Sample::start(&["open=true"]);
    let ready = sample.message("ready");
    assert_eq!((&ready["service"], &ready["level"], &ready["role"]), (&"sample".into(), &"INFO".into(), &"sample".into()));
    assert!(ready["timestamp"].is_string() && ready["target"] == "idempo_runtime::readiness", "{ready}");
    assert_eq!(get(sample.address("admin"), "/readyz").unwrap(), (200, r#"{"ready":true,"missing":[]}"#.to_owned()));
    sample.signal(Signal::TERM);
    assert_eq!(sample.exit_code(), Some(0));
    assert_eq!(sample.message("stopping")["by"], "SIGTERM");
    assert!(sample.complaints().is_empty(), "{:#?}", sample.complaints());
}

#[test]
fn sigint_and_the_role_itself_end_it_in_order_too() {
    let mut sample = Sample::start(&["open=true"]);
    sample.message("ready");
    sample.signal(Signal::INT);
    assert_eq!(sample.exit_code(), Some(0));
    let mut sample = Sample::start(&[]);
    assert_eq!(sample.connect().ask("stop"), "ok");
    assert_eq!(sample.exit_code(), Some(0));
}

#[test]
fn readyz_lists_what_is_missing() {
    let mut sample = Sample::start(&[]);
    let mut connection = sample.connect();
    let admin = sample.address("admin");
    let (status, body) = get(admin, "/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(body.contains(r#"{"condition":"open","reason":"not yet"}"#), "{body}");
    assert_eq!(get(admin, "/livez").unwrap().0, 200);
    connection.ask("open");
    sample.message("ready");
    assert_eq!(get(admin, "/readyz").unwrap().0, 200);
    connection.ask("close");
    let (status, body) = get(admin, "/readyz").unwrap();
    assert_eq!((status, body.as_str()), (503, r#"{"ready":false,"missing":[{"condition":"open","reason":"told to close"}]}"#));
    assert_eq!(get(admin, "/nothing").unwrap().0, 404);
}

#[test]
fn work_in_flight_is_finished_before_what_it_needs_is_stopped() {
    let mut sample = Sample::start(&["open=true", "platform.grace_ms=60000"]);
    let mut connection = sample.connect();
    assert_eq!(connection.ask("count"), "1");
    connection.send("cou");
    sample.signal(Signal::TERM);
    sample.message("stopping");
    let (status, body) = get(sample.address("admin"), "/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(body.contains(r#"{"condition":"running","reason":"stopping"}"#), "{body}");
    connection.send("nt\n");
    assert_eq!(connection.answer(), "2");
    drop(connection);
    assert_eq!(sample.exit_code(), Some(0));
    assert!(sample.complaints().is_empty(), "{:#?}", sample.complaints());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut sample = Sample::start(&["open=true", "platform.grace_ms=600000"]);
        assert_eq!(sample.connect().ask("stall"), "ok");
        sample.signal(Signal::TERM);
        sample.message("stopping");
        sample.signal(signal);
        assert_eq!(sample.exit_code(), Some(code));
    }
}

#[test]
fn what_outlasts_the_grace_period_is_named_and_exit_code_124_says_so() {
    let mut sample = Sample::start(&["open=true", "platform.grace_ms=200"]);
    assert_eq!(sample.connect().ask("stall"), "ok");
    sample.signal(Signal::TERM);
    assert_eq!(sample.exit_code(), Some(124));
    let overrun = sample.message("tasks were still running at the end of the grace period");
    assert_eq!((&overrun["tasks"], &overrun["level"]), (&"stalled".into(), &"ERROR".into()));
}

#[test]
fn the_failure_of_a_critical_task_ends_it_with_exit_code_1() {
    for (command, error) in [("fail", "told to fail"), ("panic", "it panicked: told to panic")] {
        let mut sample = Sample::start(&["open=true"]);
        sample.message("ready");
        sample.connect().send(&format!("{command}\n"));
        assert_eq!(sample.exit_code(), Some(1));
        let failed = sample.message("task failed");
        assert_eq!((&failed["task"], &failed["error"], &failed["level"]), (&"journal".into(), &error.into(), &"ERROR".into()));
        sample.message("stopped");
    }
}

#[test]
fn a_restarting_task_comes_back_and_the_process_stays() {
    let mut sample = Sample::start(&["open=true"]);
    let mut connection = sample.connect();
    assert_eq!(connection.ask("flap"), "ok");
    let ended = sample.message("task ended; starting it again");
    assert_eq!((&ended["task"], &ended["error"], &ended["attempts"]), (&"flapping".into(), &"told to flap".into(), &1.into()));
    assert_eq!(connection.ask("count"), "1");
    let (_, metrics) = get(sample.address("admin"), "/metrics").unwrap();
    assert!(metrics.contains("idempo_task_restarts_total{task=\"flapping\"} 1"), "{metrics}");
    assert!(metrics.contains("sample_lines_total 1"), "{metrics}");
    sample.signal(Signal::TERM);
    drop(connection);
    assert_eq!(sample.exit_code(), Some(0));
}

#[test]
fn a_signal_during_the_start_ends_it_in_order() {
    let mut sample = Sample::start(&["start=hangs"]);
    assert!(get(sample.address("admin"), "/readyz").unwrap().1.contains(r#""condition":"started""#));
    sample.signal(Signal::TERM);
    assert_eq!(sample.exit_code(), Some(0));
}

#[test]
fn a_role_that_cannot_start_or_listen_ends_with_exit_code_1() {
    let mut sample = Sample::start(&["start=fails"]);
    assert_eq!(sample.exit_code(), Some(1));
    assert_eq!(sample.message("cannot start")["error"], "told to fail at the start");
    let mut taken = Sample::start(&[]);
    let admin = taken.address("admin").to_string();
    let (code, stdout, _) = output(&mut program(&["--admin-listen", &admin]));
    assert_eq!(code, Some(1));
    assert!(stdout.contains("platform.admin_listen") && stdout.contains("in use"), "{stdout}");
}

#[test]
fn the_effective_settings_can_be_seen_without_their_secrets() {
    let mut command = program(&["--dump-config", "--listen", "127.0.0.1:7", "--set", "journal.lines_max=3"]);
    command.env("IDEMPO_JOURNAL__PASSWORD", "hunter2").env("IDEMPO_JOURNAL__URL", "journal://sample:hunter2@localhost");
    let (code, stdout, stderr) = output(&mut command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for line in
        ["listen = \"127.0.0.1:7\"", "lines_max = 3", "password = \"***\"", "url = \"journal://sample:***@localhost\"", "grace_ms = 10000"]
    {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    assert!(!stdout.contains("hunter2"), "{stdout}");
}

#[test]
fn what_cannot_be_used_is_refused_with_exit_code_2() {
    let (code, stdout, stderr) = output(program(&[]).env("IDEMPO_JOURNAL__LINES", "3"));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert_eq!(
        stderr,
        "sample: unknown key journal.lines (environment variable IDEMPO_JOURNAL__LINES): known there are url, password, lines_max\n"
    );
    let (code, _, stderr) = output(&mut program(&["--set", "journal.lines_max=0"]));
    assert_eq!((code, stderr.as_str()), (Some(2), "sample: journal.lines_max (flag --set journal.lines_max): must be at least 1\n"));
    assert_eq!(output(&mut program(&["--unknown"])).0, Some(2));
    assert_eq!(output(&mut program(&["--set", "no-value"])).0, Some(2));
    let (code, _, stderr) = output(program(&["--admin-listen", "127.0.0.1:0"]).env("RUST_LOG", "a=b=c"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("RUST_LOG"), "{stderr}");
}

#[test]
fn help_and_version_say_who_it_is() {
    let (code, stdout, _) = output(&mut program(&["--version"]));
    assert_eq!((code, stdout), (Some(0), format!("sample {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, stdout, _) = output(&mut program(&["--help"]));
    assert_eq!(code, Some(0));
    assert!(stdout.contains("Serves lines") && stdout.contains("--dump-config") && stdout.contains("IDEMPO_CONFIG"), "{stdout}");
}

#[test]
fn an_idle_process_is_small() {
    let mut sample = Sample::start(&["open=true"]);
    sample.message("ready");
    let mebibytes = sample.resident_bytes() / 1_048_576.0;
    assert!(mebibytes < 30.0, "{mebibytes} MiB resident");
}
