//! What is written to files is read back as it was.

use idempo_checker::Error;
use idempo_checker::history::{Answer, Expected, History, Purpose};
use idempo_checker::method::Method;
use tonic::Code;

use crate::good::good_world;
use crate::world::refusal;

#[test]
fn a_history_is_read_back_as_it_was_written() {
    let (mut world, marks) = good_world();
    let made = world.send(Method::EquipItem, Answer::Refused { refusal: refusal("ITEM_NOT_FOUND"), replayed: true });
    let attempt = &mut world.history.attempts[made.attempt];
    (attempt.expected, attempt.purpose) = (Expected::Mismatch("amount".into()), Purpose::Changed);
    (attempt.key, attempt.command) = (None, None);
    world.history.attempts[marks.refused.attempt].expected = Expected::Invalid("wallet".into());
    world.send(Method::GetItem, Answer::Unknown { code: Code::ResourceExhausted, reason: "OVERLOADED".to_owned() });
    world.history.reads[0].seen = None;
    world.history.reads[1].lag_events = Some(-1);
    let mut file = Vec::new();
    world.history.write_jsonl(&mut file).expect("a Vec takes everything");
    assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), world.history.attempts.len() + world.history.reads.len());
    assert_eq!(History::read_jsonl(file.as_slice()).expect("a history"), world.history);
}

#[test]
fn a_file_that_is_no_history_is_refused_with_its_line() {
    let (world, _) = good_world();
    let mut file = Vec::new();
    world.history.write_jsonl(&mut file).expect("a Vec takes everything");
    let text = String::from_utf8(file).expect("JSON is text");
    let said = |text: &str| match History::read_jsonl(text.as_bytes()) {
        Err(Error::Format(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(said(&format!("{}{{", text.lines().next().expect("a line"))).contains("line 1"));
    assert!(said(&text.replacen("\"GrantFunds\"", "\"GrantPower\"", 1)).contains("a method is none"));
    assert!(said(&text.replacen("\"Ok\"", "\"Fine\"", 1)).contains("a code"));
}
