//! The transcripts in `docs/cli` are what a shell prints.
//!
//! Each is a page with blocks of `console`: a line that begins with `$ ` is run, what follows is what it must print on stdout and stderr. Times, ids and
//! addresses differ from run to run: they are masked on both sides, and runs of spaces count as one. With `UPDATE_TRANSCRIPTS=1` the pages are written
//! anew instead.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use crate::dead_letters;
use crate::world::World;

/// How many masks there are.
const MASK_COUNT: usize = 21;

/// In how many parts rows were compared.
const BUCKETS: &str = r"\bbuckets +(\d+)";

/// What differs from run to run, and what stands for it.
static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let masks: [(&str, &str); MASK_COUNT] = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "(id)"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "(time)"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?\+00(:00)?", "(time)"),
        (r"127\.0\.0\.1:\d+", "(address)"),
        (r"\d+(ms|s|m|h|d)( \d+(s|m|h))? ago|in \d+(ms|s|m|h|d)( \d+(s|m|h))?", "(when)"),
        (r"[\w.-]+/\d+/[0-9a-f]+", "(instance)"),
        (r"\b\d+:\d+:[\d,]*", "(snapshot)"),
        (r#""(backlog_age_ms|size_bytes|epoch)": ?\d+"#, "\"$1\": (number)"),
        (r#"/\S+\.(toml|token)"#, "(file)"),
        (r"\bidempo-[\w-]{43}", "(token)"),
        (r"\b[0-9a-f]{64}\b", "(digest)"),
        (r#"auditEntries/\d+"#, "auditEntries/(number)"),
        // Two outboxes are relayed side by side: which of their events comes first into a partition is chance, and who relays which.
        (r#"@\d+|offset"?:? \d+|goes on at \d+"#, "(offset)"),
        (r"(economy-events\.\d+)\.\d+", "$1.(offset)"),
        (r"offsets \d+ to \d+", "offsets (offsets)"),
        // A time takes more or fewer bytes.
        (r"bytes +\d+", "bytes (number)"),
        // Ids are random; whether the number follows from them is looked at by itself.
        (BUCKETS, "buckets (number)"),
        (r"holds \d of 2 outboxes", "(held)"),
        (r"PostgreSQL \d+\.\d+.*", "PostgreSQL (version)"),
        (r"[ \t]+", " "),
        (r"\(id\) \d+ (\d+) \(when\)", "(id) (bytes) $1 (when)"),
    ];
    masks.iter().filter_map(|(pattern, mask)| Some((Regex::new(pattern).ok()?, *mask))).collect()
});

fn masked(text: &str) -> String {
    let text = MASKS.iter().fold(text.to_owned(), |text, (pattern, mask)| pattern.replace_all(&text, *mask).into_owned());
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

pub(crate) async fn every_transcript_in_the_docs_is_what_a_shell_prints(world: &mut World) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli");
    let mut pages: Vec<PathBuf> = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    ensure!(MASKS.len() == MASK_COUNT, "a mask is no pattern");
    ensure!(!pages.is_empty(), "there are no transcripts in {}", folder.display());
    let update = std::env::var_os("UPDATE_TRANSCRIPTS").is_some_and(|update| !update.is_empty());
    let (mut wrong, mut commands) = (String::new(), 0);
    for page in &pages {
        if page.ends_with("dlq.md") {
            dead_letters::poison(world).await.context("poisoning the platform")?;
        }
        let text = std::fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
        let written = replayed(&text, world, &mut commands)?;
        check_buckets(&written, world).await.with_context(|| page.display().to_string())?;
        if masked(&written) == masked(&text) {
            continue;
        }
        if update {
            std::fs::write(page, written)?;
        } else {
            writeln!(wrong, "{}", page.display())?;
            for (was, is) in masked(&text).lines().zip(masked(&written).lines()).filter(|(was, is)| was != is).take(8) {
                writeln!(wrong, "  - {was}\n  + {is}")?;
            }
            writeln!(wrong, "  ({} lines were, {} lines are)", text.lines().count(), written.lines().count())?;
        }
    }
    ensure!(wrong.is_empty(), "these pages don't show what is printed (UPDATE_TRANSCRIPTS=1 writes them anew):\n{wrong}");
    ensure!(commands > 0, "the transcripts have no commands");
    Ok(())
}

/// Rows are compared in parts by the last byte of their ids, each table by itself: there are as many as there are such bytes.
async fn check_buckets(written: &str, world: &World) -> Result<()> {
    let pattern = Regex::new(BUCKETS)?;
    let printed: Vec<usize> = pattern.captures_iter(written).filter_map(|found| found.get(1)?.as_str().parse().ok()).collect();
    if !printed.is_empty() {
        let mut expected = 0;
        for ids in world.compared_ids().await? {
            expected += ids.into_iter().filter_map(|id| id.as_bytes().last().copied()).collect::<BTreeSet<u8>>().len();
        }
        ensure!(
            printed.iter().all(|buckets| *buckets == expected),
            "rows are in {expected} parts by their ids, and {printed:?} are printed"
        );
    }
    Ok(())
}

/// The page, with what its commands print today.
fn replayed(page: &str, world: &World, commands: &mut usize) -> Result<String> {
    let mut written = String::new();
    let mut in_console = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_console = line == "```console";
            writeln!(written, "{line}")?;
        } else if !in_console {
            writeln!(written, "{line}")?;
        } else if let Some(command) = line.strip_prefix("$ ") {
            *commands += 1;
            writeln!(written, "{line}")?;
            let output = world.shell(&format!("{{ {command}\n}} 2>&1")).output()?;
            let printed = String::from_utf8(output.stdout)?;
            written.push_str(&printed);
            if !printed.is_empty() && !printed.ends_with('\n') {
                written.push('\n');
            }
        }
    }
    Ok(written)
}
