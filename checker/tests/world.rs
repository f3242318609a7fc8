//! A small platform in memory: it keeps every promise, and leaves behind what a real one does. A wrong run is a good one with one thing changed:
//! either here, before topics and tables are made from the stores, or afterwards in the evidence.

use bytes::Bytes;
use idempo_checker::checks::money::Sums;
use idempo_checker::checks::vacuity::{Seen, Trouble};
use idempo_checker::facts::{Checkpoint, CursorMove, KeyRow, Outbox, Record, Store, StoredEvent, StreamRow, Topic, View};
use idempo_checker::history::{Answer, Attempt, Expected, History, Purpose, Read, Refusal};
use idempo_checker::inventory::Model;
use idempo_checker::method::Method;
use idempo_checker::position::{self, Position};
use idempo_checker::{Evidence, Report, Rules, check, ids, ledger, partition};
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::wallet::v1 as message;
use prost::Message as _;
use tonic::Code;
use uuid::Uuid;

pub(crate) const TOPIC: &str = "economy-events";
pub(crate) const PARTITIONS: i32 = 12;
/// How long a command takes, in microseconds.
const TOOK_US: u64 = 100;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Wallet,
    Inventory,
}

/// What a command left, and how it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) key: Uuid,
    pub(crate) command: Uuid,
    /// Where its first send stands in the history.
    pub(crate) attempt: usize,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) stores: [Store; 2],
    pub(crate) history: History,
    pub(crate) now_us: u64,
    seq: i64,
    xid: u64,
    keys: u128,
}

pub(crate) fn player(number: u8) -> Uuid {
    Uuid::from_u128((0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(number)) + (u128::from(number) << 64))
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self::default();
        for (store, name) in world.stores.iter_mut().zip(["wallet_db", "inventory_db"]) {
            name.clone_into(&mut store.name);
        }
        world
    }

    pub(crate) fn store(&mut self, at: At) -> &mut Store {
        &mut self.stores[usize::from(at == At::Inventory)]
    }

    pub(crate) fn new_key(&mut self) -> Uuid {
        self.keys += 1;
        Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0001_0000 | (self.keys << 64) | self.keys)
    }

    /// Appends the events of one command in one transaction, and says where they stand.
    pub(crate) fn append(&mut self, at: At, key: Uuid, command: Uuid, events: Vec<(Uuid, Data)>) -> Position {
        self.xid += 1;
        let (xid, now_us) = (self.xid, self.now_us);
        let mut position = Position::new();
        for (ordinal, (owner, data)) in (0_u32..).zip(events) {
            self.seq += 1;
            let seq = self.seq;
            let stream_id = ids::stream(if at == At::Wallet { "wallet" } else { "inventory" }, owner);
            let store = self.store(at);
            let row = match store.streams.iter_mut().find(|row| row.stream_id == stream_id) {
                Some(row) => row,
                None => {
                    store.streams.push(StreamRow { stream_id, partition_key: owner, version: 0 });
                    store.streams.last_mut().expect("just pushed")
                }
            };
            row.version += 1;
            let version = row.version;
            let event_id = ids::event(command, ordinal);
            let decoded = EventEnvelope {
                event_id: bytes_of(event_id),
                stream_id: bytes_of(stream_id),
                version,
                partition_key: bytes_of(owner),
                decided_at: Some(time(now_us)),
                command_id: bytes_of(command),
                correlation_id: bytes_of(key),
                causation_id: Bytes::new(),
                traceparent: String::new(),
                data: Some(data),
            };
            let envelope = decoded.encode_to_vec().into();
            store.events.push(StoredEvent { xid, seq, stream_id, version, event_id, envelope, decoded });
            position.retain(|(stream, _)| *stream != stream_id);
            position.push((stream_id, version));
        }
        position
    }

    /// A command that is sent once and applied.
    pub(crate) fn apply(&mut self, method: Method, at: At, events: Vec<(Uuid, Data)>) -> Made {
        let made = self.send(method, Answer::Unknown { code: Code::Unavailable, reason: String::new() });
        let position = self.append(at, made.key, made.command, events);
        self.acknowledge(at, &made, position);
        made
    }

    /// A send without an answer that says anything, and without an effect.
    pub(crate) fn send(&mut self, method: Method, answer: Answer) -> Made {
        let key = self.new_key();
        let command = ids::command(key, scope(method));
        self.now_us += 2 * TOOK_US;
        self.history.attempts.push(Attempt {
            client: 0,
            method,
            key: Some(key),
            command: Some(command),
            request: Bytes::from(key.to_string()),
            purpose: Purpose::First,
            expected: Expected::Applied,
            invoked_us: self.now_us,
            settled_us: self.now_us + TOOK_US,
            answer,
            position: vec![],
        });
        Made { key, command, attempt: self.history.attempts.len() - 1 }
    }

    /// Stores the reply of a command, and gives it as the answer of its first send.
    pub(crate) fn acknowledge(&mut self, at: At, made: &Made, position: Position) {
        let reply = self.remember(at, made, &position);
        let attempt = &mut self.history.attempts[made.attempt];
        attempt.answer = Answer::Replied { reply, replayed: false };
        attempt.position = position;
    }

    /// Stores the reply of a command under its key.
    pub(crate) fn remember(&mut self, at: At, made: &Made, position: &Position) -> Bytes {
        let method = self.history.attempts[made.attempt].method;
        let wallet = if method == Method::ReverseTransaction { None } else { self.wallet_at(position) };
        let reply = reply(method, wallet, position);
        self.store(at).keys.push(KeyRow { key: made.key, scope: scope(method), is_refused: false, reply: reply.clone() });
        reply
    }

    /// The wallet of a position's first stream, as a reply shows it.
    fn wallet_at(&self, position: &Position) -> Option<message::Wallet> {
        let (stream, version) = position.first()?;
        let row = self.stores[0].streams.iter().find(|row| row.stream_id == *stream)?;
        let (owner, etag) = (row.partition_key, version.to_string());
        let own = self.stores[0].events.iter().filter(|event| event.stream_id == *stream && event.version <= *version);
        let balances = ledger::fold(own).balances.into_iter().map(|((_, asset), balance)| {
            let (posted, held) = (i64::try_from(balance.posted).expect("small"), i64::try_from(balance.held).expect("small"));
            message::Balance { asset, posted, held, available: posted - held }
        });
        Some(message::Wallet { name: format!("wallets/{owner}"), balances: balances.collect(), etag, open_time: None })
    }

    /// A command that the rules refuse.
    pub(crate) fn refuse(&mut self, method: Method, at: At, reason: &'static str) -> Made {
        let refusal = refusal(reason);
        let made = self.send(method, Answer::Refused { refusal: refusal.clone(), replayed: false });
        self.history.attempts[made.attempt].expected = Expected::Refused(reason.into());
        self.store(at).keys.push(KeyRow { key: made.key, scope: scope(method), is_refused: true, reply: refusal.details });
        made
    }

    /// Sends a command again and gets what is stored.
    pub(crate) fn again(&mut self, made: &Made, purpose: Purpose) -> usize {
        self.now_us += 2 * TOOK_US;
        let rows = self.stores.iter().flat_map(|store| &store.keys);
        let row = rows.into_iter().find(|row| row.key == made.key).expect("the key is stored").clone();
        let first = self.history.attempts[made.attempt].clone();
        let position = self.position_of(made.command);
        let answer = if row.is_refused {
            let Answer::Refused { refusal, .. } = &first.answer else { panic!("a refusal") };
            Answer::Refused { refusal: refusal.clone(), replayed: true }
        } else {
            Answer::Replied { reply: row.reply, replayed: true }
        };
        let (invoked_us, settled_us) = (self.now_us, self.now_us + TOOK_US);
        self.history.attempts.push(Attempt { purpose, invoked_us, settled_us, answer, position, ..first });
        self.history.attempts.len() - 1
    }

    pub(crate) fn position_of(&self, command: Uuid) -> Position {
        let mut position = Position::new();
        for event in self.stores.iter().flat_map(|store| &store.events).filter(|event| event.command_id() == command) {
            position.retain(|(stream, _)| *stream != event.stream_id);
            position.push((event.stream_id, event.version));
        }
        position
    }

    /// A read of a wallet that shows its last version.
    pub(crate) fn read_wallet(&mut self, owner: Uuid) {
        self.now_us += 2 * TOOK_US;
        let stream = ids::stream("wallet", owner);
        let mark = self.stores[0].streams.iter().find(|row| row.stream_id == stream).map_or(0, |row| row.version);
        let subject = format!("wallets/{owner}");
        self.history.reads.push(Read {
            client: 0,
            method: Method::GetWallet,
            wanted: vec![("name".into(), subject.clone())],
            seen: Some(vec![("name".into(), subject.clone())]),
            subject,
            invoked_us: self.now_us,
            settled_us: self.now_us + TOOK_US,
            awaited: vec![],
            refused: String::new(),
            mark,
            floor: mark,
            lag_events: None,
            retries: 0,
        });
    }

    /// Everything that follows from the stores: topics, tables, read model; and a platform at rest.
    pub(crate) fn finish(self) -> Evidence {
        let Self { stores, history, .. } = self;
        let topic = topic_of(&stores);
        let view = view_of(&topic);
        let ledger = ledger::fold(stores.iter().flat_map(|store| &store.events));
        let mut total = std::collections::BTreeMap::new();
        for ((_, asset), balance) in &ledger.balances {
            *total.entry(*asset).or_insert(0) += balance.posted;
        }
        for ((_, asset), sum) in &ledger.system {
            *total.entry(*asset).or_insert(0) += sum;
        }
        let sums = Sums { transactions: 1, unbalanced: vec![], total, balances: ledger.balances };
        let outbox =
            |store: &Store| Outbox { name: store.name.clone(), owner: Some("relay-1".to_owned()), held: true, ..Outbox::default() };
        let mut met = Seen::default();
        met.add(Trouble::Takeover, 1);
        met.add(Trouble::Fenced, 1);
        Evidence {
            outboxes: stores.iter().map(outbox).collect(),
            history,
            stores: stores.into(),
            topics: vec![topic],
            wallet_tables: ledger.tables,
            wallet_sums: Some(sums),
            view: Some(view),
            met,
            cursor_moves: cursor_moves(),
            last_fault_us: Some(0),
            ..Evidence::default()
        }
    }
}

fn reply(method: Method, wallet: Option<message::Wallet>, position: &Position) -> Bytes {
    let position = position::encode(position);
    let encoded = match method {
        Method::PlaceHold => message::PlaceHoldResponse { wallet, position, ..Default::default() }.encode_to_vec(),
        Method::CaptureHold => message::CaptureHoldResponse { wallet, position, ..Default::default() }.encode_to_vec(),
        // The others have it in their first field.
        _ => message::GrantFundsResponse { wallet, position, ..Default::default() }.encode_to_vec(),
    };
    encoded.into()
}

fn time(us: u64) -> prost_types::Timestamp {
    let seconds = 1_700_000_000 + i64::try_from(us / 1_000_000).expect("short");
    prost_types::Timestamp { seconds, nanos: i32::try_from(us % 1_000_000 * 1_000).expect("below a second") }
}

pub(crate) fn topic_of(stores: &[Store]) -> Topic {
    let mut records: Vec<Record> = Vec::new();
    let mut next = [0_i64; PARTITIONS as usize];
    for event in stores.iter().flat_map(|store| &store.events) {
        let key = event.partition_key().to_string();
        let partition = partition::of_key(key.as_bytes(), PARTITIONS).expect("there are partitions");
        let offset = &mut next[usize::try_from(partition).expect("not below zero")];
        records.push(Record {
            partition,
            offset: *offset,
            produced_ms: None,
            key: key.into(),
            value: event.envelope.clone(),
            headers: vec![],
        });
        *offset += 1;
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Topic { name: TOPIC.to_owned(), partitions: PARTITIONS, records }
}

pub(crate) fn view_of(topic: &Topic) -> View {
    let checkpoint = |partition| {
        let last = topic.records.iter().rfind(|record| record.partition == partition);
        Checkpoint { topic: TOPIC.to_owned(), partition, next_offset: last.map_or(0, |record| record.offset + 1) }
    };
    let mut view = View { checkpoints: (0..topic.partitions).map(checkpoint).collect(), ..View::default() };
    let (model, versions) = idempo_checker::checks::rows::fold_topics(std::slice::from_ref(topic), &view);
    assert_eq!(model.broken, Vec::<String>::new());
    (view.tables, view.versions) = (Model::tables(&model), versions.into_iter().collect());
    view
}

pub(crate) fn refusal(reason: &str) -> Refusal {
    Refusal {
        code: Code::FailedPrecondition,
        reason: reason.to_owned(),
        fields: vec![],
        message: "a message".to_owned(),
        details: Bytes::copy_from_slice(reason.as_bytes()),
    }
}

pub(crate) fn scope(method: Method) -> Uuid {
    ids::scope("client-0", method.path().trim_start_matches('/'))
}

pub(crate) fn bytes_of(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// Changes what an event says, in its bytes too.
pub(crate) fn rewrite(event: &mut StoredEvent, change: impl FnOnce(&mut EventEnvelope)) {
    change(&mut event.decoded);
    event.envelope = event.decoded.encode_to_vec().into();
}

/// What every good run is held to.
pub(crate) fn rules() -> Rules {
    let must_meet = vec![
        Trouble::Replayed,
        Trouble::Refused,
        Trouble::Unknown,
        Trouble::RetriedToTheEnd,
        Trouble::Read,
        Trouble::Expired,
        Trouble::Takeover,
        Trouble::Fenced,
    ];
    Rules { must_meet, ..Rules::default() }
}

pub(crate) fn passes(evidence: &Evidence) {
    let report = check(evidence, &rules());
    assert!(report.holds(), "{report}");
}

/// The run is flagged: claims of these invariants are broken, no others, and one of the flaws says `phrase`.
#[track_caller]
pub(crate) fn flagged(evidence: &Evidence, invariants: &[&str], phrase: &str) {
    flagged_under(evidence, &rules(), invariants, phrase);
}

/// A cursor on its way through a batch in two steps and behind the next one, with a take-over in the middle of the first.
fn cursor_moves() -> Vec<CursorMove> {
    let steps = [("3:3:", 3, "", 0), ("3:3:", 3, "8:9:", 2), ("3:3:", 3, "8:9:", 4), ("8:9:", 9, "", 0), ("10:12:10", 12, "", 0)];
    let moves = (1_i64..).zip(steps).map(|(number, (done, done_xmax, batch, acked_seq))| CursorMove {
        outbox: "wallet_db".to_owned(),
        number,
        session: if number < 3 { 71 } else { 72 },
        epoch: if number < 3 { 1 } else { 2 },
        by_holder: true,
        done: done.to_owned(),
        done_xmax,
        batch: batch.to_owned(),
        acked_seq,
    });
    moves.collect()
}

#[track_caller]
pub(crate) fn flagged_under(evidence: &Evidence, rules: &Rules, invariants: &[&str], phrase: &str) {
    let report: Report = check(evidence, rules);
    let mut broken: Vec<&str> = report.broken().map(|verdict| verdict.id).collect();
    broken.sort_unstable();
    broken.dedup();
    assert_eq!(broken, invariants, "{report}");
    assert!(report.broken().flat_map(|verdict| &verdict.flaws).any(|flaw| flaw.contains(phrase)), "no flaw says «{phrase}»: {report}");
}
