//! `idempo top`: relays, projections and dead letters, live in a terminal.

mod screen;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use idempo_proto::ops::v1::{DeadLetterGroup, Outbox, Projection};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::dlq::service::Service;
use super::projection::projectors::Projectors;
use crate::context::{Context, parse_timeout};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::relays::{Away, Relays};

/// How long one wait for a key takes: so soon the thread that waits sees that nobody listens any more.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// How many keys may wait to be heeded.
const KEYS_MAX: usize = 16;

/// Shows relays, projections and dead letters, and how they move, until q is pressed.
#[derive(Debug, Args)]
pub struct Command {
    /// How often everything is looked at.
    #[arg(long, default_value = "1s", value_name = "TIME")]
    every: String,
}

/// What was seen at one moment.
struct Seen {
    at: Instant,
    outboxes: Result<(Vec<Outbox>, Away), Failure>,
    projections: Result<(Vec<Projection>, Away), Failure>,
    dead_letters: Result<Vec<DeadLetterGroup>, Failure>,
}

/// What is shown: the last look, and how it differs from the one before.
#[derive(Default)]
struct Shown {
    outboxes: Vec<Outbox>,
    projections: Vec<Projection>,
    /// Open dead letters, by what they have in common.
    dead_letters: Vec<DeadLetterGroup>,
    /// By projection: records that came into its topic a second, and records that it read a second.
    rates: BTreeMap<String, (f64, f64)>,
    /// What went wrong at the last look.
    problems: Vec<String>,
}

/// The terminal in its other mode. Dropping it gives it back.
struct Screen(ratatui::DefaultTerminal);

impl Screen {
    fn open() -> Result<Self, Failure> {
        Ok(Self(ratatui::try_init()?))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`] where there is no terminal.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, Failure> {
    let every = parse_timeout(&command.every)?;
    if !std::io::stdout().is_terminal() {
        let failure = Failure::usage("`top` needs a terminal");
        return Err(failure.hint("`idempo relay status` and `idempo projection list` are for machines too"));
    }
    let (relays, projectors, letters) = (Relays::new(context)?, Projectors::new(context)?, Service::quiet(context)?);
    let mut keys = keys();
    let mut screen = Screen::open()?;
    let (mut shown, mut last) = (Shown::default(), None);
    let mut looks = tokio::time::interval(every);
    loop {
        tokio::select! {
            key = keys.recv() => match key {
                Some(key) if !is_end(&key) => {}
                _ => return Ok(Exit::Done),
            },
            _ = looks.tick() => {
                let seen = look(&relays, &projectors, letters.as_ref()).await;
                shown.take(seen, &mut last);
            }
        }
        screen.0.draw(|frame| screen::draw(frame, &shown, every))?;
    }
}

/// The keys that are pressed, as long as somebody listens.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    tokio::task::spawn_blocking(move || {
        while !sender.is_closed() {
            match event::poll(KEY_WAIT) {
                Ok(false) => {}
                Ok(true) => {
                    let Ok(event) = event::read() else { return };
                    if sender.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    receiver
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

async fn look(relays: &Relays<'_>, projectors: &Projectors<'_>, letters: Option<&Service<'_>>) -> Seen {
    let projections = async {
        let (all, away) = projectors.look().await?;
        let mut projections = Vec::new();
        for (projector, projection) in all {
            // With its partitions, which tell how fast it moves.
            projections.push(projector.projection(&projection.name).await?);
        }
        Ok((projections, away))
    };
    let dead_letters = async {
        match letters {
            Some(letters) => Ok(letters.groups("", "").await?.groups),
            None => Ok(Vec::new()),
        }
    };
    let (outboxes, projections, dead_letters) = tokio::join!(relays.look(), projections, dead_letters);
    Seen { at: Instant::now(), outboxes, projections, dead_letters }
}

/// Where a projection was: the ends of its topic's partitions together, and its own offsets in them.
type Places = BTreeMap<String, (i64, i64)>;

impl Shown {
    fn take(&mut self, seen: Seen, last: &mut Option<(Instant, Places)>) {
        self.problems.clear();
        match seen.outboxes {
            Ok((outboxes, away)) => {
                self.outboxes = outboxes;
                self.problems.extend(away.addresses.iter().map(|address| format!("the relay at {address} is away")));
            }
            Err(failure) => self.problems.push(failure.message),
        }
        match seen.projections {
            Ok((projections, away)) => {
                self.projections = projections;
                self.problems.extend(away.addresses.iter().map(|address| format!("the projector at {address} is away")));
                let places = places(&self.projections);
                if let Some((at, before)) = last.take() {
                    self.rates = rates(&before, &places, seen.at.duration_since(at));
                }
                *last = Some((seen.at, places));
            }
            Err(failure) => self.problems.push(failure.message),
        }
        match seen.dead_letters {
            Ok(groups) => self.dead_letters = groups,
            Err(failure) => self.problems.push(failure.message),
        }
    }
}

fn places(projections: &[Projection]) -> Places {
    // Where the brokers do not say how far a topic is, nothing can be said of rates.
    let place = |projection: &Projection| {
        if projection.lag_events < 0 {
            return None;
        }
        let live = projection.generations.iter().find(|generation| generation.generation == projection.live_generation);
        let partitions = live.map_or(&[][..], |live| live.partitions.as_slice());
        let sum = |of: fn(&idempo_proto::ops::v1::Partition) -> i64| partitions.iter().map(of).sum::<i64>();
        Some((projection.name.clone(), (sum(|partition| partition.head), sum(|partition| partition.next_offset))))
    };
    projections.iter().filter_map(place).collect()
}

fn rates(before: &Places, now: &Places, passed: Duration) -> BTreeMap<String, (f64, f64)> {
    let rate = |before: i64, now: i64| {
        let moved = u32::try_from((now - before).max(0)).unwrap_or(u32::MAX);
        f64::from(moved) / passed.as_secs_f64().max(f64::EPSILON)
    };
    let both = now.iter().filter_map(|(name, now)| Some((name, before.get(name)?, now)));
    both.map(|(name, before, now)| (name.clone(), (rate(before.0, now.0), rate(before.1, now.1)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_has_moved_by_the_time_that_has_passed() {
        let places = |head, next| Places::from([("projections/inventory".to_owned(), (head, next))]);
        let rates = rates(&places(100, 50), &places(300, 450), Duration::from_secs(2));
        assert_eq!(rates.get("projections/inventory"), Some(&(100.0, 200.0)));
        assert!(super::rates(&Places::new(), &places(1, 1), Duration::from_secs(1)).is_empty(), "a projection that was not there before");
    }
}
