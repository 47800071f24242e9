//! The verdicts: printed as they arrive, counted, and written to a JSON file.

use std::fmt;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Context, Result};

/// How a test ended, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ran and succeeded.
    Pass,
    /// It can't run here; the detail is the reason.
    Skip,
    /// It reported a failure.
    Fail,
    /// It ended without reporting a verdict.
    Crash,
    /// It didn't end before its timeout.
    Timeout,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Skip => "SKIP",
            Self::Fail => "FAIL",
            Self::Crash => "CRASH",
            Self::Timeout => "TIMEOUT",
        })
    }
}

/// The result of one test.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The rig, or `host`.
    pub rig: String,
    /// The name of the test.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, if it didn't pass.
    pub detail: String,
    /// How long it took; zero if unknown.
    pub duration: Duration,
}

/// How many of the last lines of a failed test are printed again at the end, for users with only the tail of a long
/// output.
const LAST_LINES: usize = 30;

/// The verdicts so far, shared by groups of tests running at the same time.
pub struct Report {
    heard: Mutex<Heard>,
    bar: Option<ProgressBar>,
}

#[derive(Default)]
struct Heard {
    entries: Vec<Entry>,
    /// The failed tests, as printed again at the end.
    bad: Vec<String>,
}

impl Report {
    /// Creates a report: with a progress bar for this many rounds, or without one for a single round.
    pub fn new(rounds: Option<u32>) -> Self {
        let bar = rounds.map(|rounds| {
            let style =
                ProgressStyle::with_template("{bar:40} round {pos}/{len}, {msg}, {elapsed}, {eta} left");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(rounds.into()).with_style(style.progress_chars("=> ")).with_message("0 failed")
        });
        Self { heard: Mutex::default(), bar }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        // Every change is a single push, so a panicking thread leaves consistent contents.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a test's verdict, with its guest's output if it failed.
    pub fn add(&self, entry: Entry, log: &[String]) {
        let mut heard = self.heard();
        let bad = !matches!(entry.verdict, Verdict::Pass | Verdict::Skip);
        if self.bar.is_none() || bad {
            let mut text = format!("{} {:<6} {}", coloured(entry.verdict), entry.rig, entry.name);
            if !entry.duration.is_zero() {
                text.push_str(&format!(" ({:.2} s)", entry.duration.as_secs_f64()));
            }
            if !entry.detail.is_empty() {
                text.push_str(&format!(": {}", entry.detail));
            }
            let lines = |from: usize| log.iter().skip(from).map(|line| format!("\n    | {line}"));
            if bad {
                heard
                    .bad
                    .push(text.clone() + &lines(log.len().saturating_sub(LAST_LINES)).collect::<String>());
                text.extend(lines(0));
            }
            self.say(&text);
        }
        heard.entries.push(entry);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} failed", heard.failed()));
        }
    }

    /// Prints a line, above the bar if there is one.
    pub fn say(&self, text: &str) {
        let print = || say!("{text}");
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Counts one round of a repetition.
    pub fn round_ends(&self) {
        let Some(bar) = &self.bar else { return };
        bar.inc(1);
        // If the bar can't be drawn, print a line now and then.
        let (done, rounds) = (bar.position(), bar.length().unwrap_or(1));
        if bar.is_hidden() && (done == rounds || done.is_multiple_of(rounds.div_ceil(10))) {
            say!("round {done}/{rounds}, {} failed", self.heard().failed());
        }
    }

    /// Prints the totals, and returns xtask's status: success only if a test passed and none failed.
    pub fn finish(&self, filter: &str) -> u8 {
        if let Some(bar) = &self.bar {
            bar.finish();
            say!();
        }
        let heard = self.heard();
        if heard.entries.is_empty() {
            complain!("no test was run: none that is selected has \"{filter}\" in its name");
        }
        heard.bad.iter().for_each(|text| say!("{text}"));
        let (passed, skipped) = (heard.count(&[Verdict::Pass]), heard.count(&[Verdict::Skip]));
        say!("{passed} passed, {} failed, {skipped} skipped", heard.failed());
        u8::from(!heard.bad.is_empty() || passed == 0)
    }

    /// Writes the results as JSON: an object with the totals and the list of tests.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let heard = self.heard();
        let test = |entry: &Entry| {
            serde_json::json!({
                "rig": entry.rig,
                "name": entry.name,
                "verdict": entry.verdict.to_string(),
                "detail": entry.detail,
                "seconds": (entry.duration.as_secs_f64() * 1000.0).round() / 1000.0,
            })
        };
        let all = serde_json::json!({
            "passed": heard.count(&[Verdict::Pass]),
            "failed": heard.failed(),
            "skipped": heard.count(&[Verdict::Skip]),
            "tests": heard.entries.iter().map(test).collect::<Vec<_>>(),
        });
        let text = format!("{all:#}\n");
        std::fs::write(path, text).context("writing", path)
    }
}

impl Heard {
    fn count(&self, verdicts: &[Verdict]) -> usize {
        self.entries.iter().filter(|entry| verdicts.contains(&entry.verdict)).count()
    }

    fn failed(&self) -> usize {
        self.count(&[Verdict::Fail, Verdict::Crash, Verdict::Timeout])
    }
}

fn coloured(verdict: Verdict) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return format!("{verdict:<7}");
    }
    let colour = match verdict {
        Verdict::Pass => 32,
        Verdict::Skip => 33,
        _ => 31,
    };
    format!("\x1b[{colour}m{verdict:<7}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::{Entry, Report, Verdict};
    use std::time::Duration;

    fn report(verdicts: &[Verdict]) -> Report {
        let report = Report::new(None);
        for &verdict in verdicts {
            let (rig, name, detail) = ("r".into(), "n".into(), "line\n\"quoted\" \u{1}".into());
            report.add(Entry { rig, name, verdict, detail, duration: Duration::ZERO }, &[]);
        }
        report
    }

    #[test]
    fn only_passing_is_success() {
        use Verdict::{Crash, Fail, Pass, Skip, Timeout};
        assert_eq!(report(&[Pass, Skip]).finish(""), 0);
        for bad in [Fail, Crash, Timeout] {
            assert_eq!(report(&[Pass, bad]).finish(""), 1);
        }
        assert_eq!(report(&[]).finish("filter"), 1, "no test is no success");
        assert_eq!(report(&[Skip]).finish(""), 1, "skipping everything neither");
    }

    #[test]
    fn the_results_are_json() {
        let path = std::env::temp_dir().join(format!("granite-report-{}.json", std::process::id()));
        report(&[Verdict::Pass, Verdict::Crash]).write_json(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&all["passed"], &all["failed"], &all["skipped"]), (&1.into(), &1.into(), &0.into()));
        assert_eq!(all["tests"][1]["verdict"], "CRASH");
        assert_eq!(all["tests"][1]["detail"], "line\n\"quoted\" \u{1}");
    }
}
