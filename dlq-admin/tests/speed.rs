//! What must be quick with 100,000 dead letters.

use std::time::{Duration, Instant};

use idempo_proto::ops::v1::{JobState, ListDeadLetterGroupsRequest};

use crate::support::{Stage, apply, comes_to, plan_all};

const LETTERS: i64 = 100_000;
const LETTERS_F: f64 = 100_000.0;

#[tokio::test]
async fn a_hundred_thousand_dead_letters_are_grouped_planned_and_replayed_quickly() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, LETTERS).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    process.ready().await;

    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let groups = client.list_dead_letter_groups(ListDeadLetterGroupsRequest::default()).await.expect("an answer").into_inner();
        best = best.min(began.elapsed());
        let found: Vec<_> = groups.groups.iter().map(|group| (group.code.as_str(), group.event_type.as_str(), group.count)).collect();
        assert_eq!(groups.total_count, LETTERS);
        assert_eq!(found.len(), 4);
        assert!(found.contains(&("ROWS_REFUSED", "item_sent", 25_000)) && found.contains(&("UNDECODABLE", "", 25_000)), "{found:?}");
    }
    println!("the groups of {LETTERS} dead letters took {best:?}");
    assert!(best < Duration::from_millis(100), "{best:?}");
    let explain = format!("EXPLAIN {}", include_str!("../src/sql/count_groups.sql"));
    let rows = session.client.query(&explain, &[&None::<String>, &None::<String>, &1_000_i64]).await.expect("a plan");
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    println!("{}", plan.join("\n"));
    assert!(plan.iter().any(|line| line.contains("Index Only Scan using dead_letter_open")), "{plan:#?}");

    let began = Instant::now();
    let planned = plan_all(&mut client).await;
    let took = began.elapsed();
    println!("a plan of {LETTERS} members took {took:?}");
    assert_eq!(planned.member_count, LETTERS);
    assert!(took < Duration::from_secs(2), "{took:?}");

    let began = Instant::now();
    apply(&mut client, &planned).await.expect("begun");
    println!("to begin it took {:?}", began.elapsed());
    let done = comes_to(&mut client, &planned.name, JobState::Done).await;
    let rate = LETTERS_F / began.elapsed().as_secs_f64();
    println!("{rate:.0} members a second were replayed");
    assert_eq!(done.counts.expect("counts").applied, LETTERS);
    assert!(rate >= 5_000.0, "{rate}");
}
