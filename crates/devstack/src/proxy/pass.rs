//! One connection through a proxy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::wire::{Answers, Requests};
use super::{Held, Line, Swallow, Weather, locked};

/// How many bytes are carried at a time.
const CHUNK_BYTES: usize = 64 * 1_024;
/// In what the connection keeps: no request whose answer is to be lost.
const NONE: u64 = u64::MAX;

/// Carries bytes both ways until one side closes, or an answer is swallowed.
pub(super) async fn pass(client: TcpStream, line: Arc<Line>) {
    let Ok(server) = TcpStream::connect(&*line.server).await else { return };
    let _unsent = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // The number of the request whose answer is to be lost. It is set before the request goes on, so before there can be an answer.
    let (lose, losing) = watch::channel(NONE);
    tokio::select! {
        () = carry_requests(from_client, to_server, &line, &lose) => {}
        () = carry_answers(from_server, to_client, &line, &losing) => {}
    }
}

async fn carry_requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &Line, lose: &watch::Sender<u64>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut weather = line.weather.subscribe();
    let mut requests = Requests::default();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Some(chunk) = buffer.get(..count) else { return };
        requests.feed(chunk, |number, statements| {
            let mut swallow = locked(&line.swallow);
            if let Some(Swallow::AnswerTo(texts)) = *swallow
                && statements.iter().any(|statement| texts.iter().any(|text| statement.contains(text)))
            {
                *swallow = None;
                lose.send_replace(number);
            }
        });
        wait(&mut weather, line, &[Held::Requests, Held::Everything]).await;
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

async fn carry_answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &Line, losing: &watch::Receiver<u64>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut weather = line.weather.subscribe();
    let mut answers = Answers::default();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Some(chunk) = buffer.get(..count) else { return };
        answers.feed(chunk);
        let lost = *losing.borrow();
        if lost != NONE {
            // Nothing passes any more, also of earlier answers: for the client the connection is dead from here on.
            if answers.answered() >= lost {
                line.swallowed.fetch_add(1, Ordering::SeqCst);
                return;
            }
            continue;
        }
        if take_next_answer(line) {
            line.swallowed.fetch_add(1, Ordering::SeqCst);
            return;
        }
        wait(&mut weather, line, &[Held::Answers, Held::Everything]).await;
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

fn take_next_answer(line: &Line) -> bool {
    let mut swallow = locked(&line.swallow);
    let taken = *swallow == Some(Swallow::NextAnswer);
    if taken {
        *swallow = None;
    }
    taken
}

/// Waits as long as a chunk is delayed and held.
async fn wait(weather: &mut watch::Receiver<Weather>, line: &Line, by: &[Held]) {
    let delay = weather.borrow_and_update().delay;
    if let Some(delay) = delay {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let micros = line.random(micros(delay.least)..micros(delay.most));
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
    // Fails when the proxy is gone, and with it this task.
    let _ = weather.wait_for(|weather| !by.contains(&weather.held)).await;
}
