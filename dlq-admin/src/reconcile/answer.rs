//! What a consumer's answer means for dead letters that are open here.

use idempo_proto::ops::v1::parked_letter_standing::Standing;
use idempo_proto::ops::v1::{ParkedLetterEnd, ParkedLetterGone, ParkedLetterStanding};
use idempo_rpc::timestamp;
use jiff::Timestamp;

use super::store::OpenLetter;

const REPLAYED: &str = "replayed";
const DISCARDED: &str = "discarded";
const GONE: &str = "gone";

/// Dead letters that have ended, as they are written down: of each its number, how it was when it was asked about, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) ids: Vec<i64>,
    pub(super) revisions: Vec<i64>,
    pub(super) failed_at: Vec<Timestamp>,
    pub(super) states: Vec<&'static str>,
    pub(super) ended_at: Vec<Option<Timestamp>>,
    pub(super) details: Vec<String>,
}

impl Ended {
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Those of the letters of which their consumer says that they have ended; the answers are in the order of the letters.
    pub(super) fn of(letters: Vec<OpenLetter>, standings: Vec<ParkedLetterStanding>) -> Self {
        let mut ended = Self::default();
        let mut standings = standings.into_iter();
        for letter in letters {
            // An answer that is about another dead letter is none.
            let standing = standings.next().filter(|standing| standing.name == letter.name).and_then(|standing| standing.standing);
            let Some(Standing::Gone(gone)) = standing else { continue };
            let Some((state, how)) = how(&gone) else { continue };
            let ended_at = gone.end_time.as_ref().and_then(timestamp::from_proto);
            ended.ids.push(letter.id);
            ended.revisions.push(letter.revision);
            ended.failed_at.push(letter.last_failed_at);
            ended.states.push(state);
            ended.details.push(detail(how, &gone, ended_at));
            ended.ended_at.push(ended_at);
        }
        ended
    }
}

/// What a dead letter comes to be, and how that is told. `None` for an end that is not known here: a later version's.
fn how(gone: &ParkedLetterGone) -> Option<(&'static str, &'static str)> {
    Some(match ParkedLetterEnd::try_from(gone.end).ok()? {
        ParkedLetterEnd::Applied => (REPLAYED, "its consumer has applied it"),
        ParkedLetterEnd::Discarded => (DISCARDED, "its consumer has discarded it"),
        ParkedLetterEnd::GenerationGone => (GONE, "its generation is gone"),
        ParkedLetterEnd::Unspecified => (GONE, "its consumer has passed it and knows no more of it"),
    })
}

fn detail(how: &str, gone: &ParkedLetterGone, ended_at: Option<Timestamp>) -> String {
    let mut detail = how.to_owned();
    if !gone.caller.is_empty() {
        detail.push_str(&format!(", as {} wanted", gone.caller));
    }
    if let Some(at) = ended_at {
        detail.push_str(&format!(", at {at}, with {} records", gone.records));
    }
    if !gone.blocked_by.is_empty() {
        detail.push_str(&format!("; the next record of its key failed: {}", gone.blocked_by));
    }
    detail
}

#[cfg(test)]
mod tests {
    use idempo_proto::ops::v1::{ParkedLetterComing, ParkedLetterHeld};

    use super::*;

    fn letter(id: i64) -> OpenLetter {
        let last_failed_at = Timestamp::from_second(1_760_000_000).expect("a time");
        OpenLetter { id, name: format!("deadLetters/g.t.0.{id}"), revision: 10 + id, last_failed_at }
    }

    fn standing(id: i64, standing: Option<Standing>) -> ParkedLetterStanding {
        ParkedLetterStanding { name: format!("deadLetters/g.t.0.{id}"), standing }
    }

    fn gone(end: i32) -> Option<Standing> {
        Some(Standing::Gone(ParkedLetterGone { end, ..Default::default() }))
    }

    #[test]
    fn only_what_its_consumer_calls_gone_has_ended() {
        let letters = (1..=8).map(letter).collect();
        let standings = vec![
            standing(1, Some(Standing::Held(ParkedLetterHeld {}))),
            standing(2, gone(ParkedLetterEnd::Applied.into())),
            standing(3, Some(Standing::Coming(ParkedLetterComing {}))),
            standing(4, gone(ParkedLetterEnd::Discarded.into())),
            standing(5, None),
            standing(6, gone(ParkedLetterEnd::GenerationGone.into())),
            standing(7, gone(77)),
            standing(8, gone(ParkedLetterEnd::Unspecified.into())),
        ];
        let ended = Ended::of(letters, standings);
        assert_eq!((ended.ids, ended.revisions), (vec![2, 4, 6, 8], vec![12, 14, 16, 18]));
        assert_eq!(ended.states, [REPLAYED, DISCARDED, GONE, GONE]);
    }

    #[test]
    fn an_answer_about_another_dead_letter_or_none_at_all_ends_nothing() {
        let applied = || gone(ParkedLetterEnd::Applied.into());
        assert_eq!(Ended::of(vec![letter(1), letter(2)], vec![standing(2, applied()), standing(1, applied())]), Ended::default());
        assert_eq!(Ended::of(vec![letter(1), letter(2)], vec![standing(1, applied())]).ids, [1]);
    }

    #[test]
    fn what_is_known_of_an_end_is_told() {
        let whole = ParkedLetterGone {
            end: ParkedLetterEnd::Applied.into(),
            records: 3,
            end_time: Some(timestamp::to_proto(Timestamp::from_second(1_760_000_000).expect("a time"))),
            caller: "ana".to_owned(),
            blocked_by: "deadLetters/g.t.0.9".to_owned(),
        };
        let ended = Ended::of(vec![letter(1)], vec![standing(1, Some(Standing::Gone(whole)))]);
        let expected = "its consumer has applied it, as ana wanted, at 2025-10-09T08:53:20Z, with 3 records; the next record of its key failed: \
            deadLetters/g.t.0.9";
        assert_eq!(ended.details, [expected]);
        assert_eq!(ended.ended_at, [Timestamp::from_second(1_760_000_000).ok()]);
    }
}
