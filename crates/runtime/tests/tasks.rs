//! What follows from a task's end, and in which order tasks stop. Time is tokio's, paused.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::bail;
use idempo_runtime::{Overrun, Restart, Stage, Task, Tasks};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const GRACE: Duration = Duration::from_secs(4);

#[tokio::test(start_paused = true)]
async fn the_end_of_a_critical_task_is_a_failure() {
    let tasks = Tasks::new();
    tasks.spawn(Task::critical("heart"), |_| async { Ok(()) });
    let failure = tasks.failure().await;
    assert_eq!((failure.task.as_str(), failure.error.to_string().as_str()), ("heart", "it ended by itself"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_like_any_other() {
    let tasks = Tasks::new();
    tasks.spawn(Task::finite("clumsy"), |_| async { panic!("ouch") });
    assert_eq!(tasks.failure().await.error.to_string(), "it panicked: ouch");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_failure_is_kept() {
    let tasks = Tasks::new();
    tasks.fail("first", anyhow::anyhow!("a"));
    tasks.fail("second", anyhow::anyhow!("b"));
    assert_eq!(tasks.failure().await.task, "first");
}

#[tokio::test(start_paused = true)]
async fn a_finite_task_may_end_and_an_optional_one_may_fail() {
    let tasks = Tasks::new();
    tasks.spawn(Task::finite("short"), |_| async { Ok(()) });
    tasks.spawn(Task::optional("whim"), |_| async { bail!("no matter") });
    assert!(timeout(Duration::from_secs(60), tasks.failure()).await.is_err());
    assert!(tasks.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restarting_task_is_started_again_after_growing_delays() {
    let tasks = Tasks::new();
    let (starts, mut started) = mpsc::unbounded_channel();
    let restart = Restart { min_delay_ms: 100, max_delay_ms: 1_000, attempts_max: 0, steady_ms: 60_000 };
    tasks.spawn_restarting(Task::restarting("poller", restart), move |_| {
        starts.send(Instant::now()).unwrap();
        async { bail!("broker away") }
    });
    let mut times = Vec::new();
    for _ in 0..8 {
        times.push(started.recv().await.unwrap());
    }
    let delays: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(delays[0] >= Duration::from_millis(100) && delays[0] < Duration::from_millis(200), "{delays:?}");
    assert!(delays[6] >= Duration::from_secs(1) && delays[6] <= Duration::from_secs(2), "{delays:?}");
    tasks.shut_down(GRACE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_too_often_in_a_row_is_a_failure_and_a_sound_run_starts_the_count_anew() {
    let tasks = Tasks::new();
    let restart = Restart { min_delay_ms: 1, max_delay_ms: 1, attempts_max: 3, steady_ms: 1_000 };
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    tasks.spawn_restarting(Task::restarting("flaky", restart), move |_| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if run == 2 {
                sleep(Duration::from_secs(2)).await;
            }
            bail!("run {run}")
        }
    });
    let failure = tasks.failure().await;
    // Two that fail, one that was sound, and three started again after it.
    assert_eq!(runs.load(Ordering::SeqCst), 6);
    assert_eq!(format!("{:#}", failure.error), "started again 3 times in a row: run 5");
}

#[tokio::test(start_paused = true)]
async fn the_core_is_stopped_only_once_the_edge_has_drained() {
    let tasks = Tasks::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    for (name, stage, drain_ms) in [("core", Stage::Core, 10), ("edge", Stage::Edge, 500), ("other edge", Stage::Edge, 20)] {
        let log = Arc::clone(&log);
        tasks.spawn(Task::critical(name).stage(stage), move |cancel| async move {
            cancel.cancelled().await;
            log.lock().unwrap().push(format!("{name} asked"));
            sleep(Duration::from_millis(drain_ms)).await;
            log.lock().unwrap().push(format!("{name} ended"));
            Ok(())
        });
    }
    let stop_requested = tasks.stop_requested();
    tasks.shut_down(GRACE).await.unwrap();
    assert!(stop_requested.is_cancelled());
    let log = log.lock().unwrap();
    assert_eq!(log[2..], ["other edge ended", "edge ended", "core asked", "core ended"]);
}

#[tokio::test(start_paused = true)]
async fn a_core_task_may_end_with_the_edge_but_not_fail() {
    for (fails, failures) in [(false, 0), (true, 1)] {
        let tasks = Tasks::new();
        let (to_journal, mut entries) = mpsc::channel::<()>(1);
        tasks.spawn(Task::critical("journal"), move |_| async move {
            entries.recv().await;
            if fails { bail!("disk full") } else { Ok(()) }
        });
        tasks.spawn(Task::critical("server").stage(Stage::Edge), move |cancel| async move {
            cancel.cancelled().await;
            drop(to_journal);
            sleep(Duration::from_millis(100)).await;
            Ok(())
        });
        tasks.shut_down(GRACE).await.unwrap();
        assert_eq!(tasks.failed().iter().count(), failures);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stubborn_edge_leaves_the_core_a_quarter_of_the_grace_period() {
    let tasks = Tasks::new();
    tasks.spawn(Task::critical("stubborn").stage(Stage::Edge), |_| pending());
    let begun = Instant::now();
    let (send, mut asked) = mpsc::unbounded_channel();
    tasks.spawn(Task::critical("journal"), move |cancel| async move {
        cancel.cancelled().await;
        send.send(begun.elapsed()).unwrap();
        Ok(())
    });
    assert_eq!(tasks.shut_down(GRACE).await, Err(Overrun { tasks: vec!["stubborn".to_owned()] }));
    assert_eq!(begun.elapsed().as_secs(), 4);
    assert_eq!(asked.recv().await.unwrap().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_overruns_the_grace_period_is_dropped() {
    struct Dropped(mpsc::UnboundedSender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    let tasks = Tasks::new();
    let (send, mut dropped) = mpsc::unbounded_channel();
    tasks.spawn(Task::optional("stuck"), move |_| {
        let guard = Dropped(send);
        async move {
            let _guard = guard;
            pending().await
        }
    });
    tasks.shut_down(GRACE).await.unwrap_err();
    dropped.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failures_while_stopping_do_not_count_and_late_tasks_find_their_token_cancelled() {
    let tasks = Tasks::new();
    tasks.spawn(Task::critical("server"), |cancel| async move {
        cancel.cancelled().await;
        bail!("a connection was cut")
    });
    tasks.shut_down(GRACE).await.unwrap();
    assert!(timeout(Duration::from_secs(1), tasks.failure()).await.is_err());
    let (send, mut late) = mpsc::unbounded_channel();
    tasks.spawn(Task::critical("late"), move |cancel| async move {
        send.send(cancel.is_cancelled()).unwrap();
        Ok(())
    });
    assert_ne!(late.recv().await, Some(false));
}
