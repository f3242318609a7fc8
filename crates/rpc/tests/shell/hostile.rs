//! Clients that open calls and reset them ("rapid reset", CVE-2023-44487), and what that costs others.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use idempo_rpc::ServerConfig;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::support::{Client, get, start, within};
use super::wire::{ENHANCE_YOUR_CALM, Last, Sent, Writer, connect};

/// How often a client gives up all its calls while the server does not come to look at one of them, in a test.
const TIMES_OVER: usize = 8;
/// The calls that are reset at once on a connection that goes as far as it is let.
const BURST: usize = 128;
/// How often a test does something.
const ROUNDS: usize = 20;
/// What a call asks for that somebody means.
const NAME: &str = "items/01890000-0000-7000-8000-00000000000a";
/// The hostile connections of a test.
const CONNECTIONS: u64 = 64;
/// For how long they attack.
const ATTACK: Duration = Duration::from_secs(3);
/// How long an honest call may take meanwhile, on the cores that the attackers use too.
const HONEST_MAX: Duration = Duration::from_secs(5);
/// The most memory that a hostile connection may cost, in bytes.
const CONNECTION_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn too_many_resets() -> Last {
    Last::Away(ENHANCE_YOUR_CALM, "too_many_resets".to_owned())
}

/// Calls one after the other until `during` ends: how long each took.
async fn honest<F: Future>(client: Client, during: F) -> (F::Output, Vec<Duration>) {
    let mut took = Vec::new();
    let calling = async {
        loop {
            let began = Instant::now();
            get(client.clone(), "fast").await.expect("honest calls are answered");
            took.push(began.elapsed());
        }
    };
    let ended = tokio::select! {
        ended = during => ended,
        () = calling => unreachable!("it calls for ever"),
    };
    took.sort_unstable();
    (ended, took)
}

fn check_honest(took: &[Duration]) {
    let (slowest, calls) = (took.last().copied().unwrap_or_default(), took.len());
    assert!(calls > 0 && slowest <= HONEST_MAX, "of {calls} calls the slowest took {slowest:?}");
}

/// Opens and resets calls without end, and answers what the server says in the end.
async fn flood(address: SocketAddr, sent: Sent<'_>) -> Last {
    let Ok((mut writer, mut reader)) = connect(address).await else { return Last::Nothing };
    let flooding = async {
        loop {
            let frames = writer.opened_and_reset(2_000, sent);
            if writer.write(&frames).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        last = reader.last() => last,
        () = flooding => Last::Nothing,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_opens_and_resets_calls_as_fast_as_it_can_is_cut_off_while_others_are_answered() {
    let server = start(ServerConfig::default()).await;
    let attack = async {
        for _ in 0..20 {
            assert_eq!(within(flood(server.address, Sent::Headers)).await, too_many_resets());
        }
    };
    let ((), took) = honest(server.client().await, attack).await;
    check_honest(&took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_reset_as_they_come_begin_no_handler() {
    let server = start(ServerConfig::default()).await;
    let (mut writer, mut reader) = connect(server.address).await.expect("it listens");
    for _ in 0..ROUNDS {
        let frames = writer.opened_and_reset(BURST, Sent::Whole(NAME));
        writer.write(&frames).await.expect("it is not cut off");
        let ping = writer.ping().await.expect("it is not cut off");
        assert_eq!(within(reader.answered(ping)).await, Ok(()));
    }
    assert!(get(server.client().await, "fast").await.is_ok());
    // Where a read ends between a call and its reset, the call may be begun.
    let begun = *server.gate.begun.borrow();
    assert!(begun <= ROUNDS * BURST / 20, "{begun} of {}", ROUNDS * BURST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_reset_while_they_are_worked_on_end_there_and_never_exceed_the_limit() {
    const LIMIT: usize = 8;
    let server = start(ServerConfig { concurrency_limit: LIMIT, ..Default::default() }).await;
    let (mut writer, mut reader) = connect(server.address).await.expect("it listens");
    for _ in 0..ROUNDS {
        let mut frames = Vec::new();
        let streams: Vec<u32> = (0..8 * LIMIT).map(|_| writer.open(&mut frames, Sent::Whole("gate"))).collect();
        writer.write(&frames).await.expect("it is not cut off");
        let ping = writer.ping().await.expect("it is not cut off");
        assert_eq!(within(reader.answered(ping)).await, Ok(()));
        let mut frames = Vec::new();
        streams.into_iter().for_each(|stream| Writer::reset(&mut frames, stream));
        writer.write(&frames).await.expect("it is not cut off");
    }
    server.inside(0).await;
    assert!(*server.gate.begun.borrow() > LIMIT && *server.gate.peak.borrow() <= LIMIT, "{:?}", server.gate);
    assert!(get(server.client().await, "fast").await.is_ok());
}

/// What becomes of a client that opens and resets so many calls while the server gets no core.
fn given_up_unseen(calls: usize, sent: Sent<'_>) -> Result<(), Last> {
    // One thread, which a handler can keep.
    let serving = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = serving.block_on(serving.spawn(start(ServerConfig::default()))).expect("no panic");
    let answered = Runtime::new().expect("a runtime").block_on(async {
        let (mut stalling, _) = connect(server.address).await.expect("it listens");
        let (mut writer, mut reader) = connect(server.address).await.expect("it listens");
        let ping = writer.ping().await.expect("it is not cut off");
        within(reader.answered(ping)).await.expect("it is not cut off");
        server.gate.stalls.store(true, Ordering::SeqCst);
        let mut frames = Vec::new();
        stalling.open(&mut frames, Sent::Whole("stall"));
        stalling.write(&frames).await.expect("it listens");
        within(server.gate.begun.subscribe().wait_for(|begun| *begun == 1)).await.expect("the gate lives");
        let frames = writer.opened_and_reset(calls, sent);
        // What the kernel takes at once, it has when the server looks.
        let sending = async {
            writer.write(&frames).await.map_err(|_| ())?;
            writer.ping().await.map_err(|_| ())
        };
        let freeing = async { server.gate.stalls.store(false, Ordering::SeqCst) };
        let (sent, ()) = tokio::join!(biased; sending, freeing);
        let Ok(ping) = sent else { return Err(within(reader.last()).await) };
        within(reader.answered(ping)).await
    });
    serving.shutdown_background();
    answered
}

#[test]
fn a_client_may_give_up_all_its_calls_many_times_over_while_the_server_gets_no_core_and_empty_ones_cut_it_off() {
    let streams = usize::try_from(ServerConfig::default().streams_per_connection_limit).expect("few");
    assert_eq!(given_up_unseen(streams * TIMES_OVER, Sent::Whole(NAME)), Ok(()));
    assert_eq!(given_up_unseen(streams * TIMES_OVER, Sent::Headers), Err(too_many_resets()));
}

/// A server in a process of its own, whose memory is nobody else's.
struct Apart {
    child: Child,
    address: SocketAddr,
}

impl Apart {
    async fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "shell::hostile::serves_for_another_process", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let address = within(async {
            loop {
                let line = lines.next_line().await.expect("it can be read").expect("it says where it listens");
                if let Some((_, address)) = line.split_once(LISTENS) {
                    break address.parse().expect("an address");
                }
            }
        })
        .await;
        // It writes no more, so nobody has to read it.
        Self { child, address }
    }

    async fn client(&self) -> Client {
        Client::new(Channel::from_shared(format!("http://{}", self.address)).expect("a URL").connect().await.expect("it listens"))
    }

    /// The most memory that it ever had, in bytes.
    fn peak_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().expect("it runs"));
        let status = std::fs::read_to_string(path).expect("Linux says");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak of its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

const LISTENS: &str = "the server listens on ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of a test"]
async fn serves_for_another_process() {
    let server = start(ServerConfig::default()).await;
    let said = format!("\n{LISTENS}{}\n", server.address);
    std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes()).expect("somebody listens");
    // For as long as the other one lives.
    let ended = tokio::task::spawn_blocking(|| std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new())).await;
    ended.expect("no panic").expect("its input ends");
}

/// Attacks again and again until `end`. Answers how often it was cut off.
async fn besiege(address: SocketAddr, sent: Sent<'static>, how: Attack, end: Instant) -> usize {
    let mut cut = 0;
    while Instant::now() < end {
        let attack = async {
            match how {
                Attack::Flood => flood(address, sent).await,
                Attack::Bursts => bursts(address, sent).await,
            }
        };
        if let Ok(Last::Away(ENHANCE_YOUR_CALM, _)) = tokio::time::timeout_at(end, attack).await {
            cut += 1;
        }
    }
    cut
}

#[derive(Debug, Clone, Copy)]
enum Attack {
    /// Without end.
    Flood,
    /// As much at once as a connection is let, again when that is done with.
    Bursts,
}

/// Opens and resets as many calls at once as a connection is let, again and again.
async fn bursts(address: SocketAddr, sent: Sent<'_>) -> Last {
    let Ok((mut writer, mut reader)) = connect(address).await else { return Last::Nothing };
    loop {
        let frames = writer.opened_and_reset(BURST, sent);
        if writer.write(&frames).await.is_err() {
            return reader.last().await;
        }
        let Ok(ping) = writer.ping().await else { return reader.last().await };
        if let Err(last) = reader.answered(ping).await {
            return last;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_hostile_connections_neither_take_the_memory_nor_keep_others_from_being_answered() {
    for (how, sent) in [
        (Attack::Flood, Sent::Headers),
        (Attack::Bursts, Sent::Headers),
        (Attack::Flood, Sent::Swollen(240)),
        (Attack::Bursts, Sent::Swollen(240)),
    ] {
        let server = Apart::start().await;
        get(server.client().await, "fast").await.expect("an answer");
        let before = server.peak_bytes();
        let attack = async {
            let end = Instant::now() + ATTACK;
            let mut attackers = JoinSet::new();
            for _ in 0..CONNECTIONS {
                attackers.spawn(besiege(server.address, sent, how, end));
            }
            attackers.join_all().await.into_iter().sum::<usize>()
        };
        let (cut, took) = honest(server.client().await, attack).await;
        let grown = server.peak_bytes() - before;
        // Headers as long as they may be cost the cores that all share, in turns: then it is enough that everybody is answered.
        if matches!(sent, Sent::Headers) {
            check_honest(&took);
        }
        get(server.client().await, "fast").await.expect("an answer");
        assert!(grown <= CONNECTIONS * CONNECTION_BYTES_MAX, "{how:?} of {sent:?}: {grown} bytes for {CONNECTIONS} connections");
        assert!(cut > 0 || !matches!((how, sent), (Attack::Flood, Sent::Headers)), "a flood is cut off");
    }
}
