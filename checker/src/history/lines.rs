//! A history as lines of JSON: an object for each send and each read, bytes in hexadecimal.

use std::io::{BufRead, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tonic::Code;
use uuid::Uuid;

use super::{Answer, Attempt, Expected, History, Purpose, Read, Refusal, Word};
use crate::error::Error;
use crate::method::Method;

/// Every gRPC code, by the number that stands for it.
const CODES_MAX: i32 = 16;

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Send(SendLine),
    Read(ReadLine),
}

#[derive(Serialize, Deserialize)]
struct SendLine {
    client: u16,
    method: String,
    request_id: Option<Uuid>,
    command_id: Option<Uuid>,
    purpose: Purpose,
    expected: Expected,
    invoke_us: u64,
    settle_us: u64,
    request: String,
    outcome: Outcome,
    code: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    answer: String,
    replayed: bool,
    position: Vec<(Uuid, u64)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    Refused,
    Unknown,
}

#[derive(Serialize, Deserialize)]
struct ReadLine {
    client: u16,
    method: String,
    subject: String,
    invoke_us: u64,
    settle_us: u64,
    wanted: Vec<(Word, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    awaited: Vec<(Uuid, u64)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    refused: String,
    seen: Option<Vec<(Word, String)>>,
    mark: u64,
    floor: u64,
    lag_events: Option<i64>,
    retries: u32,
}

impl History {
    /// Writes the history, one JSON object a line, bytes in hexadecimal.
    ///
    /// # Errors
    /// Where `to` can't be written.
    pub fn write_jsonl(&self, to: &mut impl Write) -> std::io::Result<()> {
        let sends = self.attempts.iter().map(|attempt| Line::Send(SendLine::from(attempt)));
        for line in sends.chain(self.reads.iter().map(|read| Line::Read(ReadLine::from(read)))) {
            serde_json::to_writer(&mut *to, &line)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    /// Reads what [`History::write_jsonl`] has written.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] where a line is no send and no read.
    pub fn read_jsonl(from: impl BufRead) -> Result<Self, Error> {
        let mut history = Self::default();
        for (number, line) in (1_u64..).zip(from.lines()) {
            let wrong = |why: String| Error::Format(format!("line {number} of the history: {why}"));
            match serde_json::from_str(&line?).map_err(|error| wrong(error.to_string()))? {
                Line::Send(send) => {
                    history.attempts.push(send.attempt().ok_or_else(|| wrong("bytes, a code or a method is none".to_owned()))?)
                }
                Line::Read(read) => history.reads.push(read.read().ok_or_else(|| wrong("the method is none".to_owned()))?),
            }
        }
        Ok(history)
    }
}

impl From<&Attempt> for SendLine {
    fn from(attempt: &Attempt) -> Self {
        let (outcome, code, reason, answer) = match &attempt.answer {
            Answer::Replied { reply, .. } => (Outcome::Ok, Code::Ok, "", hex(reply)),
            Answer::Refused { refusal, .. } => (Outcome::Refused, refusal.code, refusal.reason.as_str(), hex(&refusal.details)),
            Answer::Unknown { code, reason } => (Outcome::Unknown, *code, reason.as_str(), String::new()),
        };
        let (fields, message) = match &attempt.answer {
            Answer::Refused { refusal, .. } => (refusal.fields.clone(), refusal.message.clone()),
            Answer::Replied { .. } | Answer::Unknown { .. } => (Vec::new(), String::new()),
        };
        Self {
            client: attempt.client,
            method: attempt.method.name().to_owned(),
            request_id: attempt.key,
            command_id: attempt.command,
            purpose: attempt.purpose,
            expected: attempt.expected.clone(),
            invoke_us: attempt.invoked_us,
            settle_us: attempt.settled_us,
            request: hex(&attempt.request),
            outcome,
            code: format!("{code:?}"),
            reason: reason.to_owned(),
            fields,
            message,
            answer,
            replayed: attempt.answer.is_replayed(),
            position: attempt.position.clone(),
        }
    }
}

impl SendLine {
    fn attempt(self) -> Option<Attempt> {
        let code = code_named(&self.code)?;
        let (bytes, replayed) = (unhex(&self.answer)?, self.replayed);
        let answer = match self.outcome {
            Outcome::Ok => Answer::Replied { reply: bytes, replayed },
            Outcome::Refused => {
                let refusal = Refusal { code, reason: self.reason, fields: self.fields, message: self.message, details: bytes };
                Answer::Refused { refusal, replayed }
            }
            Outcome::Unknown => Answer::Unknown { code, reason: self.reason },
        };
        Some(Attempt {
            client: self.client,
            method: Method::named(&self.method)?,
            key: self.request_id,
            command: self.command_id,
            request: unhex(&self.request)?,
            purpose: self.purpose,
            expected: self.expected,
            invoked_us: self.invoke_us,
            settled_us: self.settle_us,
            answer,
            position: self.position,
        })
    }
}

impl From<&Read> for ReadLine {
    fn from(read: &Read) -> Self {
        Self {
            client: read.client,
            method: read.method.name().to_owned(),
            subject: read.subject.clone(),
            invoke_us: read.invoked_us,
            settle_us: read.settled_us,
            wanted: read.wanted.clone(),
            awaited: read.awaited.clone(),
            refused: read.refused.clone(),
            seen: read.seen.clone(),
            mark: read.mark,
            floor: read.floor,
            lag_events: read.lag_events,
            retries: read.retries,
        }
    }
}

impl ReadLine {
    fn read(self) -> Option<Read> {
        Some(Read {
            client: self.client,
            method: Method::named(&self.method)?,
            subject: self.subject,
            invoked_us: self.invoke_us,
            settled_us: self.settle_us,
            wanted: self.wanted,
            awaited: self.awaited,
            refused: self.refused,
            seen: self.seen,
            mark: self.mark,
            floor: self.floor,
            lag_events: self.lag_events,
            retries: self.retries,
        })
    }
}

fn code_named(name: &str) -> Option<Code> {
    (0..=CODES_MAX).map(Code::from_i32).find(|code| format!("{code:?}") == name)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| (high << 4) | low).collect())
}
