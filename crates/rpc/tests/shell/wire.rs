//! HTTP/2 made by hand: what no client library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::support::GET_ITEM;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// What a server has said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Last {
    /// GOAWAY, with this code and text.
    Away(u32, String),
    /// Nothing: it has ended, or was reset.
    Nothing,
}

/// A client's half of a connection that writes.
pub(crate) struct Writer {
    half: OwnedWriteHalf,
    next_stream: u32,
    pings: u64,
}

/// The half that reads.
pub(crate) struct Reader(OwnedReadHalf);

/// Opens a connection, and says what HTTP/2 begins with.
pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<(Writer, Reader)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (read, mut half) = stream.into_split();
    let mut beginning = PREFACE.to_vec();
    frame(&mut beginning, SETTINGS, 0, 0, &[]);
    half.write_all(&beginning).await?;
    Ok((Writer { half, next_stream: 1, pings: 0 }, Reader(read)))
}

fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    to.extend_from_slice(&length[1..]);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// The headers of a call: `:method: POST` and `:scheme: http` by their numbers in the static table. The first call of a connection has the other ones,
/// and `a:`, put into the table that both sides keep, where later calls have them by their numbers: a byte each.
fn headers(is_first: bool) -> Vec<u8> {
    if !is_first {
        return vec![0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63];
    }
    let text = |to: &mut Vec<u8>, text: &str| {
        to.push(u8::try_from(text.len()).expect("a short one"));
        to.extend_from_slice(text.as_bytes());
    };
    let mut block = vec![0x83, 0x86];
    // The names of `:path`, `:authority` and `content-type` are in the static table. What comes last has number 62.
    for (name, value) in [(4, GET_ITEM), (1, "localhost"), (31, "application/grpc")] {
        block.push(0x40 | name);
        text(&mut block, value);
    }
    block.extend_from_slice(&[0x40, 1, b'a', 0]);
    block
}

/// `a:` as it stands in that table.
const FURTHER: u8 = 0x80 | 62;

/// The message of a call, in its gRPC frame.
fn message(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short one");
    let mut body = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    body.extend_from_slice(name.as_bytes());
    body
}

/// What a client sends of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sent<'a> {
    /// Its headers only.
    Headers,
    /// All of it, for an item of this name.
    Whole(&'a str),
    /// Its headers, and so many further ones, each a byte long.
    Swollen(usize),
}

impl Writer {
    /// Appends the frames of a call to `frames`, and answers its stream.
    pub(crate) fn open(&mut self, frames: &mut Vec<u8>, sent: Sent<'_>) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let mut block = headers(stream == 1);
        if let Sent::Swollen(further) = sent {
            block.extend(std::iter::repeat_n(FURTHER, further));
        }
        frame(frames, HEADERS, END_HEADERS, stream, &block);
        if let Sent::Whole(name) = sent {
            frame(frames, DATA, END_STREAM, stream, &message(name));
        }
        stream
    }

    /// Appends the reset of a call.
    pub(crate) fn reset(frames: &mut Vec<u8>, stream: u32) {
        frame(frames, RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// So many calls, each reset at once.
    pub(crate) fn opened_and_reset(&mut self, calls: usize, sent: Sent<'_>) -> Vec<u8> {
        let mut frames = Vec::new();
        for _ in 0..calls {
            let stream = self.open(&mut frames, sent);
            Self::reset(&mut frames, stream);
        }
        frames
    }

    pub(crate) async fn write(&mut self, frames: &[u8]) -> std::io::Result<()> {
        self.half.write_all(frames).await
    }

    /// Sends a ping, and answers what comes back.
    pub(crate) async fn ping(&mut self) -> std::io::Result<[u8; 8]> {
        self.pings += 1;
        let payload = self.pings.to_be_bytes();
        let mut frames = Vec::new();
        frame(&mut frames, PING, 0, 0, &payload);
        self.write(&frames).await?;
        Ok(payload)
    }
}

impl Reader {
    /// The next frame: its kind, flags and payload. `None` where there is no more.
    async fn frame(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("24 bits")];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((head[3], head[4], payload))
    }

    /// Reads until the ping is answered. Whoever is cut off before is told what was said last.
    pub(crate) async fn answered(&mut self, ping: [u8; 8]) -> Result<(), Last> {
        loop {
            match self.frame().await {
                Some((PING, ACK, payload)) if payload == ping => return Ok(()),
                Some((GOAWAY, _, payload)) => return Err(away(&payload)),
                Some(_) => {}
                None => return Err(Last::Nothing),
            }
        }
    }

    /// Reads until the connection ends.
    pub(crate) async fn last(&mut self) -> Last {
        let mut last = Last::Nothing;
        while let Some((kind, _, payload)) = self.frame().await {
            if kind == GOAWAY {
                last = away(&payload);
            }
        }
        last
    }
}

fn away(payload: &[u8]) -> Last {
    let code = payload.get(4..8).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes);
    Last::Away(code, String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned())
}
