//! As much of PostgreSQL's protocol (version 3, "Frontend/Backend Protocol" in its manual) as it takes to know which answer belongs to which
//! statement. Bytes that are something else, such as Kafka's, are misread without harm: nobody asks then.

use std::collections::HashMap;
use std::mem;

/// What the first message says when it asks for encryption (SSL, GSS) instead of beginning a session.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// A message of a client that is longer than this is none, in bytes: the parser gives up on the connection.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What a client sends.
#[derive(Debug, Default)]
pub(super) struct Requests {
    state: State,
    /// The bytes of a message that is not whole yet.
    partial: Vec<u8>,
    /// The texts of the prepared statements.
    statements: HashMap<Vec<u8>, String>,
    /// What was bound since the last request ended.
    bound: Vec<String>,
    /// How many requests were sent; the session's beginning is the first.
    sent: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Opening,
    Session,
    Unreadable,
}

impl Requests {
    /// Takes bytes in. Calls `ended` for each request that they complete, with its number and the statements that it runs.
    pub(super) fn feed(&mut self, bytes: &[u8], mut ended: impl FnMut(u64, &[String])) {
        if self.state == State::Unreadable {
            return;
        }
        self.partial.extend_from_slice(bytes);
        let partial = mem::take(&mut self.partial);
        let mut rest = partial.as_slice();
        while let Some((kind, body, after)) = self.split(rest) {
            rest = after;
            self.message(kind, body, &mut ended);
        }
        if self.state != State::Unreadable {
            self.partial = rest.to_vec();
        }
    }

    /// The first message of these bytes, if it is whole: its kind, its body, and what is after it.
    fn split<'a>(&mut self, bytes: &'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (kind, framed) = match self.state {
            State::Opening => (0, bytes),
            State::Session => bytes.split_first().map(|(kind, framed)| (*kind, framed))?,
            State::Unreadable => return None,
        };
        let length = usize::try_from(number(framed)?).ok()?;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            self.state = State::Unreadable;
            return None;
        }
        Some((kind, framed.get(4..length)?, framed.get(length..)?))
    }

    fn message(&mut self, kind: u8, body: &[u8], ended: &mut impl FnMut(u64, &[String])) {
        match kind {
            0 if number(body).is_some_and(|code| ENCRYPTION_REQUESTS.contains(&code)) => {}
            0 => {
                self.state = State::Session;
                self.sent += 1;
            }
            b'P' => {
                let (name, rest) = text(body);
                let (query, _) = text(rest);
                self.statements.insert(name.to_vec(), String::from_utf8_lossy(query).into_owned());
            }
            b'B' => {
                let (_portal, rest) = text(body);
                let (name, _) = text(rest);
                self.bound.extend(self.statements.get(name).cloned());
            }
            b'C' => {
                if let Some((b'S', name)) = body.split_first() {
                    self.statements.remove(text(name).0);
                }
            }
            b'Q' => {
                self.bound.push(String::from_utf8_lossy(text(body).0).into_owned());
                self.end(ended);
            }
            b'S' => self.end(ended),
            _ => {}
        }
    }

    fn end(&mut self, ended: &mut impl FnMut(u64, &[String])) {
        self.sent += 1;
        ended(self.sent, &mem::take(&mut self.bound));
    }
}

/// What a server sends.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The bytes of a header that is not whole yet.
    header: Vec<u8>,
    /// How many bytes of a message's body are still to come.
    body_left: usize,
    in_session: bool,
    /// How many requests were answered whole.
    answered: u64,
}

impl Answers {
    /// Takes bytes in.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if self.body_left > 0 {
                let skipped = self.body_left.min(rest.len());
                self.body_left -= skipped;
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            rest = after;
            // `N`, `G` or `S` alone answer a wish for encryption; a session's first message is R or E.
            if !self.in_session && self.header.is_empty() && matches!(byte, b'N' | b'G' | b'S') {
                continue;
            }
            self.header.push(*byte);
            if let Some((kind, length)) = self.header.split_first().and_then(|(kind, length)| Some((*kind, number(length)?))) {
                self.in_session = true;
                self.answered += u64::from(kind == b'Z');
                // A ReadyForQuery's body is one byte that says nothing we need.
                self.body_left = usize::try_from(length).unwrap_or_default().saturating_sub(4);
                self.header.clear();
            }
        }
    }

    /// How many requests were answered whole; the session's beginning is the first.
    pub(super) const fn answered(&self) -> u64 {
        self.answered
    }
}

/// The number that these bytes begin with.
fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|first| u32::from_be_bytes(*first))
}

/// The text up to the first zero, and what is after it.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    fn session() -> Vec<u8> {
        let encryption = message(0, &ENCRYPTION_REQUESTS[0].to_be_bytes());
        let startup = message(0, b"\0\x03\0\0user\0me\0\0");
        let mut bytes = [encryption.get(1..).expect("a length"), startup.get(1..).expect("a length")].concat();
        bytes.extend(message(b'P', b"s1\0SELECT es.append($1)\0\0\0"));
        bytes.extend(message(b'S', b""));
        bytes.extend(message(b'B', b"\0s1\0\0\0\0\0\0\0"));
        bytes.extend(message(b'E', b"\0\0\0\0\0"));
        bytes.extend(message(b'S', b""));
        bytes.extend(message(b'Q', b"COMMIT\0"));
        bytes.extend(message(b'C', b"Ss1\0"));
        bytes.extend(message(b'B', b"\0s1\0\0\0\0\0\0\0"));
        bytes.extend(message(b'S', b""));
        bytes
    }

    #[test]
    fn each_request_is_known_by_its_statements_however_the_bytes_are_cut() {
        let wanted: Vec<(u64, Vec<String>)> =
            vec![(2, vec![]), (3, vec!["SELECT es.append($1)".to_owned()]), (4, vec!["COMMIT".to_owned()]), (5, vec![])];
        for size in [1, 3, 7, 1_000] {
            let (mut requests, mut seen) = (Requests::default(), Vec::new());
            for chunk in session().chunks(size) {
                requests.feed(chunk, |number, statements| seen.push((number, statements.to_vec())));
            }
            assert_eq!(seen, wanted, "in chunks of {size}");
        }
    }

    #[test]
    fn an_answer_is_whole_with_its_ready_for_query() {
        let mut bytes = b"N".to_vec();
        bytes.extend(message(b'R', &[0; 4]));
        bytes.extend(message(b'Z', b"I"));
        bytes.extend(message(b'D', b"ZZZZ Z"));
        for size in [1, 2, 5, 1_000] {
            let mut answers = Answers::default();
            bytes.chunks(size).for_each(|chunk| answers.feed(chunk));
            assert_eq!(answers.answered(), 1, "in chunks of {size}");
            answers.feed(&message(b'Z', b"I"));
            assert_eq!(answers.answered(), 2);
        }
    }

    #[test]
    fn bytes_of_another_protocol_are_given_up_on() {
        let mut requests = Requests::default();
        requests.feed(&[0xff; 64], |_, _| unreachable!("no request"));
        requests.feed(&session(), |_, _| unreachable!("no request"));
    }
}
