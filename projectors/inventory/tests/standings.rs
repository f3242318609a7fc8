//! What the projector says to whoever asks how dead letters stand.

use idempo_dead_letter::DeadLetterId;
use idempo_devstack::testing::eventually;
use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::parked_letter_standing::Standing;
use idempo_proto::ops::v1::{GetParkedLetterRequest, GetParkedLetterStandingsRequest, ParkedLetter, ParkedLetterEnd};
use tonic::Code;

use crate::stage::{Stage, said};
use crate::support::LIMIT;
use crate::world::{player, sample};

/// An offset that no topic of these tests comes to.
pub(crate) const FAR: i64 = 1_000_000;

impl Stage {
    pub(crate) async fn standings(&self, names: &[String]) -> Vec<Option<Standing>> {
        let asked = GetParkedLetterStandingsRequest { names: names.to_vec() };
        let standings = self.parked.clone().get_parked_letter_standings(said(asked)).await.expect("an answer").into_inner().standings;
        assert_eq!(standings.iter().map(|standing| standing.name.as_str()).collect::<Vec<_>>(), names);
        standings.into_iter().map(|standing| standing.standing).collect()
    }

    async fn first_follower(&self, letter: &ParkedLetter) -> String {
        let asked = GetParkedLetterRequest { name: letter.name.clone() };
        let found = self.parked.clone().get_parked_letter(said(asked)).await.expect("an answer").into_inner();
        beside(letter, letter.partition, found.parked_records[0].offset)
    }
}

/// The name that another record of the same consumer would have as a dead letter.
pub(crate) fn beside(letter: &ParkedLetter, partition: i32, offset: i64) -> String {
    let (group, topic) = (letter.consumer_group.clone(), letter.topic.clone());
    DeadLetterId { group, topic, partition, offset }.to_string()
}

/// How those stand that are expected to be gone.
pub(crate) fn end_of(standing: Option<&Standing>) -> ParkedLetterEnd {
    match standing {
        Some(Standing::Gone(gone)) => gone.end(),
        other => panic!("it is not gone: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_or_may_come_is_not_called_gone_and_what_is_gone_has_its_end() {
    let stage = Stage::start().await;
    for number in [0, 1] {
        stage.garbage(player(number).uuid(), Some(b"not an envelope")).await;
    }
    stage.publish(&sample(3).envelopes).await;
    eventually(LIMIT, "all is read", async || stage.lag().await == 0).await;
    let letters = stage.letters().await;
    let of = |number: usize| letters.iter().find(|letter| letter.key == player(number).to_string()).expect("it is there");
    let (first, second) = (of(0), of(1));
    let behind = [stage.first_follower(first).await, stage.first_follower(second).await];

    // The record behind the second one is not called gone, though no row of a dead letter is there: its position is passed.
    let names = [first.name.clone(), behind[0].clone(), second.name.clone(), behind[1].clone()];
    let standings = stage.standings(&names).await;
    assert!(standings.iter().all(|standing| matches!(standing, Some(Standing::Held(_)))), "{standings:?}");

    assert!(matches!(stage.discard(std::slice::from_ref(&second.name)).await[..], [Outcome::Discarded(_)]));
    // An end that is noted of a record that the consumer has not come to is of an earlier life.
    let coming = beside(first, first.partition, FAR);
    let (group, topic, partition) = (&first.consumer_group, &first.topic, first.partition);
    let ended = format!(
        "INSERT INTO projection.dead_letter_end (projection, generation, topic, partition, record_offset, discarded, applied_records, wished_by, wish_reason)
         VALUES ('inventory', 1, '{topic}', {partition}, {FAR}, false, 1, 'nobody', '')"
    );
    stage.damage(&ended).await;
    let names = [
        names.to_vec(),
        vec![coming, beside(first, 99, 0), first.name.replace(".g1.", ".g9."), first.name.replace(group.as_str(), "strangers.g1")],
    ]
    .concat();
    let standings = stage.standings(&names).await;
    assert!(standings[..2].iter().all(|standing| matches!(standing, Some(Standing::Held(_)))), "{standings:?}");
    let Some(Standing::Gone(gone)) = &standings[2] else { panic!("{standings:?}") };
    assert_eq!((gone.end(), gone.caller.as_str(), gone.blocked_by.as_str()), (ParkedLetterEnd::Discarded, "tester", ""));
    assert!(gone.records == second.parked_records && gone.end_time.is_some(), "{gone:?}");
    assert_eq!(end_of(standings[3].as_ref()), ParkedLetterEnd::Unspecified);
    assert!(standings[4..6].iter().all(|standing| matches!(standing, Some(Standing::Coming(_)))), "{standings:?}");
    assert_eq!(end_of(standings[6].as_ref()), ParkedLetterEnd::GenerationGone);
    assert_eq!(standings[7], None);
    assert_eq!(stage.letters().await.len(), 1, "asking changes nothing");

    let many = (0..=1_000).map(|offset| beside(first, partition, offset)).collect();
    for names in [vec![], vec![first.name.clone(); 2], vec!["deadLetters/nonsense".to_owned()], many] {
        let asked = GetParkedLetterStandingsRequest { names };
        let refused = stage.parked.clone().get_parked_letter_standings(said(asked)).await.expect_err("it is refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    stage.stop().await;
}
