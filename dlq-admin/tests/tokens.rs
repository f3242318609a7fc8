//! The token with which consumers are asked takes the place of another while all run on.

use std::path::PathBuf;

use idempo_devstack::testing;
use idempo_proto::ops::v1::JobState;

use crate::support::{LIMIT, Stage, apply, comes_to, job, plan_names};

const FIRST: &str = "the-first-token-of-the-service";
const SECOND: &str = "the-second-token-of-the-service";

/// A file with a token; it is gone with this value.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("idempo-dlq-admin-{name}-{}", std::process::id())))
    }

    /// In the place of what was there: nobody reads half of it.
    fn write(&self, token: &str) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{token}\n")).expect("it is written");
        std::fs::rename(next, &self.0).expect("it is there");
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_token_takes_the_place_of_another_while_all_run_on_and_no_dead_letter_is_refused() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 3).await;
    let file = TokenFile::new("rotation");
    file.write(FIRST);
    stage.fake.accepts(&[FIRST]);
    let settings = format!("consumer_token_file = \"{}\"\nconsumer_check_interval_ms = 100", file.0.display());
    let process = stage.start_with(None, &settings);
    let mut client = process.client().await;
    testing::eventually(LIMIT, "the first is used", async || stage.fake.question_count() > 0 && stage.fake.sent() == FIRST).await;

    // As the runbook has it: both are known while the holder changes over.
    stage.fake.accepts(&[FIRST, SECOND]);
    file.write(SECOND);
    testing::eventually(LIMIT, "the second is used", async || stage.fake.sent() == SECOND).await;
    stage.fake.accepts(&[SECOND]);
    let planned = plan_names(&mut client, vec![stage.name(1)]).await;
    apply(&mut client, &planned).await.expect("begun");
    assert_eq!(comes_to(&mut client, &planned.name, JobState::Done).await.counts.expect("counts").applied, 1);
    assert!(!process.log().contains("can't be asked what became"), "{}", process.log());

    // In the wrong order, work waits and nothing is refused for good.
    stage.fake.accepts(&[FIRST]);
    let planned = plan_names(&mut client, vec![stage.name(2), stage.name(3)]).await;
    apply(&mut client, &planned).await.expect("begun");
    testing::eventually(LIMIT, "the job says what hinders it", async || {
        let mut client = client.clone();
        job(&mut client, &planned.name).await.hindrance.contains("no token of the service")
    })
    .await;
    file.write(FIRST);
    assert_eq!(comes_to(&mut client, &planned.name, JobState::Done).await.counts.expect("counts").applied, 2);
}
