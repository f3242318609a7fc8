//! Breaks a promise on purpose in a scratch build, and wants the checker of a run with faults to see it. A check that stays green then is blind.
//!
//! Each patch in `chaos/sabotage` breaks one thing, and says which claim must go red, with what options, and which seeds are tried until it does. The
//! same options without a patch must be green. What is broken is a commit, the last one by default; what is in the working tree is not looked at, but for the patches.

mod patch;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
pub(crate) use patch::{ENDING, FOLDER, Patch};

use crate::build::CHAOS;
use crate::setup::{home, root};
use crate::step::{self, tell};

/// Where everything is kept where no folder is given, from the root.
const SCRATCH: &str = "target/sabotage";
/// How much of what the checker said is shown, in characters.
const SAID_MAX: usize = 160;
/// What the runs without a patch are called.
const NOTHING: &str = "nothing";

/// Breaks what is named, or everything, of the commit `at`, in `folder`.
pub(crate) fn run(names: &[String], at: &str, folder: Option<PathBuf>) -> Result<ExitCode> {
    let all = Patch::read_all(&root())?;
    let unknown = names.iter().find(|name| !all.iter().any(|patch| patch.name.contains(name.as_str())));
    ensure!(unknown.is_none(), "{FOLDER} has no patch called {}", unknown.map_or("", String::as_str));
    let chosen: Vec<&Patch> =
        all.iter().filter(|patch| names.is_empty() || names.iter().any(|name| patch.name.contains(name.as_str()))).collect();
    let workshop = Workshop::open(at, folder.unwrap_or_else(|| root().join(SCRATCH)))?;
    let mut outcomes = workshop.run_unbroken(&chosen)?;
    if outcomes.iter().all(|outcome| outcome.is_due) {
        for patch in chosen {
            outcomes.push(workshop.run_broken(patch)?);
        }
    }
    tell(&format!("\n{}", table(&outcomes)));
    let failed = outcomes.iter().filter(|outcome| !outcome.is_due).count();
    tell(&match failed {
        0 => format!("Every sabotage was seen. Each run's report, history and logs are in {}.", workshop.runs.display()),
        count => format!("{count} of {} runs did not come out as they must; each is in {}.", outcomes.len(), workshop.runs.display()),
    });
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of a patch.
struct Outcome {
    name: String,
    seed: u64,
    /// Whether it is what must come of it: green without a patch, red for the right reason with one.
    is_due: bool,
    /// The claims that went red, by their invariants.
    red: Vec<String>,
    /// What the checker said of the claim that had to.
    said: String,
}

/// A scratch tree with a target folder of its own.
struct Workshop {
    source: PathBuf,
    target: PathBuf,
    runs: PathBuf,
}

impl Workshop {
    /// Makes the folder, or brings the one that is there to the commit `at`.
    fn open(at: &str, folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("finding {}", folder.display()))?;
        let [source, target, runs] = ["src", "target", "runs"].map(|name| folder.join(name));
        fs::create_dir_all(&runs).with_context(|| format!("making {}", runs.display()))?;
        let commit = git(&root(), &["rev-parse", "--verify", &format!("{at}^{{commit}}")])?;
        if source.join(".git").exists() {
            git(&source, &["fetch", "--quiet", "origin"])?;
        } else {
            let (from, to) = (root().display().to_string(), source.display().to_string());
            git(&folder, &["clone", "--quiet", "--shared", "--no-checkout", &from, &to])?;
        }
        git(&source, &["checkout", "--quiet", "--force", "--detach", commit.trim()])?;
        git(&source, &["clean", "--quiet", "-fd"])?;
        tell(&format!("Breaking commit {} in {}", commit.trim().get(..12).unwrap_or_default(), folder.display()));
        Ok(Self { source, target, runs })
    }

    /// Runs what is not broken, with the first seed of each set of options: it must be green.
    fn run_unbroken(&self, patches: &[&Patch]) -> Result<Vec<Outcome>> {
        self.build(NOTHING)?;
        let (mut outcomes, mut done) = (Vec::new(), Vec::new());
        for patch in patches {
            let Some(seed) = patch.seeds.first().filter(|_| !done.contains(&&patch.options)) else { continue };
            done.push(&patch.options);
            let report = self.chaos(&format!("{NOTHING}-{}", done.len()), *seed, &patch.options)?;
            let said = report.claims.first().map_or_else(|| report.end.clone(), |broken| broken.said.clone());
            outcomes.push(Outcome { name: NOTHING.to_owned(), seed: *seed, is_due: report.is_green, red: report.red(), said });
        }
        Ok(outcomes)
    }

    /// Breaks something and runs it with one seed after the other, until the right claim goes red.
    fn run_broken(&self, patch: &Patch) -> Result<Outcome> {
        let file = root().join(FOLDER).join(format!("{}{ENDING}", patch.name));
        tell(&format!("\n{}: {}", patch.name, patch.breaks));
        git(&self.source, &["apply", &file.display().to_string()])?;
        let outcome = self.build(&patch.name).and_then(|()| self.until_red(patch));
        git(&self.source, &["checkout", "--quiet", "--force", "."])?;
        outcome
    }

    fn until_red(&self, patch: &Patch) -> Result<Outcome> {
        let mut last = Outcome { name: patch.name.clone(), seed: 0, is_due: false, red: Vec::new(), said: "no seed was tried".to_owned() };
        for seed in &patch.seeds {
            let report = self.chaos(&patch.name, *seed, &patch.options)?;
            let due = report.claims.iter().find(|broken| broken.claim == patch.must_go_red && broken.has_flaws);
            let said = due.map_or_else(|| report.end.clone(), |broken| broken.said.clone());
            last = Outcome { seed: *seed, is_due: !report.is_green && due.is_some(), red: report.red(), said, ..last };
            if last.is_due {
                break;
            }
        }
        Ok(last)
    }

    fn build(&self, what: &str) -> Result<()> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--bins"]).args(CHAOS.iter().flat_map(|package| ["-p", package])).current_dir(&self.source);
        cargo.env("CARGO_TARGET_DIR", &self.target).env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
        step::run(&format!("Building with {what} broken"), &mut cargo, &self.runs.join(format!("{what}.build.log")))
    }

    fn chaos(&self, name: &str, seed: u64, options: &[String]) -> Result<Report> {
        let folder = self.runs.join(format!("{name}-{seed}"));
        let mut chaos = Command::new(self.target.join("debug/idempo-chaos"));
        chaos.args(["--seed", &seed.to_string(), "--out"]).arg(&folder).args(options).current_dir(&self.source).env("IDEMPO_HOME", home());
        let log = folder.with_extension("log");
        let status = step::status(&format!("Running {name} with seed {seed}"), &mut chaos, &log)?;
        let report = Report::read(&folder.join("report.json"), status.success());
        Ok(report.unwrap_or_else(|_| Report { is_green: false, claims: Vec::new(), end: last_line(&log) }))
    }
}

/// What the checker said of a run.
struct Report {
    is_green: bool,
    /// The claims that don't hold.
    claims: Vec<Broken>,
    /// What is to be said where no claim says it.
    end: String,
}

/// A claim that does not hold.
struct Broken {
    id: String,
    /// Its invariant and its words.
    claim: String,
    /// Whether something is wrong, and not only nothing was there to be looked at.
    has_flaws: bool,
    /// The first flaw.
    said: String,
}

impl Report {
    fn read(path: &Path, is_green: bool) -> Result<Self> {
        let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let verdicts = report.get("verdicts").and_then(serde_json::Value::as_array).context("a report has verdicts")?;
        let number = |verdict: &serde_json::Value, name| verdict.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let text = |verdict: &serde_json::Value, name| verdict.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let broken = verdicts.iter().filter(|verdict| number(verdict, "flaw_count") > 0 || number(verdict, "looked_at") == 0);
        let claims = broken.map(|verdict| Broken {
            id: text(verdict, "id"),
            claim: format!("{} {}", text(verdict, "id"), text(verdict, "claim")),
            has_flaws: number(verdict, "flaw_count") > 0,
            said: verdict.pointer("/flaws/0").and_then(serde_json::Value::as_str).unwrap_or("nothing was looked at").to_owned(),
        });
        Ok(Self { is_green, claims: claims.collect(), end: "the claim holds".to_owned() })
    }

    /// The invariants of the claims that don't hold, each once.
    fn red(&self) -> Vec<String> {
        let mut red: Vec<String> = self.claims.iter().map(|broken| broken.id.clone()).collect();
        red.dedup();
        red
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().context("running git")?;
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn last_line(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    text.lines().rev().find(|line| !line.is_empty()).unwrap_or("nothing was said").to_owned()
}

/// The outcomes as a table of Markdown.
fn table(outcomes: &[Outcome]) -> String {
    let mut table = "| broken | seed | red | what the checker said |\n|---|---|---|---|\n".to_owned();
    for Outcome { name, seed, is_due, red, said } in outcomes {
        let red = if red.is_empty() { "nothing".to_owned() } else { red.join(", ") };
        let said: String = if name == NOTHING && *is_due { "every claim holds".to_owned() } else { said.chars().take(SAID_MAX).collect() };
        let mark = if *is_due { "" } else { " ✗" };
        // Nothing can go wrong in writing to a string.
        let _ = writeln!(table, "| {name}{mark} | {seed} | {red} | {} |", said.replace('|', "\\|"));
    }
    table
}
