//! Verdicts: told as they come, counted, and written to a file for machines.

use std::fmt;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Context, Result};

/// How a test ended, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ran, and all was right.
    Pass,
    /// It can't be run here; the detail says why.
    Skip,
    /// Something was wrong.
    Fail,
    /// It ended without a word.
    Crash,
    /// It didn't end.
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

/// One test's end.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it ran.
    pub rig: String,
    /// Which it was.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, if it didn't pass.
    pub detail: String,
    /// How long it took; zero where that isn't known.
    pub duration: Duration,
}

/// How many of the last lines of what failed are told again at the end, which is what is left of a long output.
const LAST_LINES: usize = 30;

/// All that was heard.
pub struct Report {
    entries: Vec<Entry>,
    /// What didn't pass, as it is told at the end.
    bad: Vec<String>,
    bar: Option<ProgressBar>,
}

impl Report {
    /// For so many rounds with a bar, or for one without.
    pub fn new(rounds: Option<u32>) -> Self {
        let bar = rounds.map(|rounds| {
            let style =
                ProgressStyle::with_template("{bar:40} round {pos}/{len}, {msg}, {elapsed}, {eta} left");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(rounds.into()).with_style(style.progress_chars("=> ")).with_message("0 failed")
        });
        Self { entries: Vec::new(), bad: Vec::new(), bar }
    }

    /// Tells of a test's end, with what its guest printed if that helps.
    pub fn add(&mut self, entry: Entry, log: &[String]) {
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
                self.bad
                    .push(text.clone() + &lines(log.len().saturating_sub(LAST_LINES)).collect::<String>());
                text.extend(lines(0));
            }
            self.say(&text);
        }
        self.entries.push(entry);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} failed", self.failed()));
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

    /// One round of a repetition is over.
    pub fn round_ends(&self) {
        let Some(bar) = &self.bar else { return };
        bar.inc(1);
        // Where a bar can't be drawn, a line now and then.
        let (done, rounds) = (bar.position(), bar.length().unwrap_or(1));
        if bar.is_hidden() && (done == rounds || done.is_multiple_of(rounds.div_ceil(10))) {
            say!("round {done}/{rounds}, {} failed", self.failed());
        }
    }

    fn count(&self, verdicts: &[Verdict]) -> usize {
        self.entries.iter().filter(|entry| verdicts.contains(&entry.verdict)).count()
    }

    fn failed(&self) -> usize {
        self.count(&[Verdict::Fail, Verdict::Crash, Verdict::Timeout])
    }

    /// Tells the sums, and gives xtask's status. No test at all is no success.
    pub fn finish(&self, filter: &str) -> u8 {
        if let Some(bar) = &self.bar {
            bar.finish();
            say!();
        }
        if self.entries.is_empty() {
            complain!("no test has \"{filter}\" in its name");
        }
        self.bad.iter().for_each(|text| say!("{text}"));
        let (passed, skipped) = (self.count(&[Verdict::Pass]), self.count(&[Verdict::Skip]));
        say!("{passed} passed, {} failed, {skipped} skipped", self.failed());
        u8::from(!self.bad.is_empty() || passed == 0)
    }

    /// Writes everything as JSON: an object with the sums and the list of tests.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let tests: Vec<_> = self
            .entries
            .iter()
            .map(|entry| {
                format!(
                    "    {{\"rig\": {}, \"name\": {}, \"verdict\": {}, \"detail\": {}, \"seconds\": {:.3}}}",
                    quoted(&entry.rig),
                    quoted(&entry.name),
                    quoted(&entry.verdict.to_string()),
                    quoted(&entry.detail),
                    entry.duration.as_secs_f64()
                )
            })
            .collect();
        let text = format!(
            "{{\n  \"passed\": {},\n  \"failed\": {},\n  \"skipped\": {},\n  \"tests\": [\n{}\n  ]\n}}\n",
            self.count(&[Verdict::Pass]),
            self.failed(),
            self.count(&[Verdict::Skip]),
            tests.join(",\n")
        );
        std::fs::write(path, text).context("writing", path)
    }
}

/// A string as JSON has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
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
    use super::{Entry, Report, Verdict, quoted};
    use std::time::Duration;

    fn report(verdicts: &[Verdict]) -> Report {
        let mut report = Report::new(None);
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
    fn json_is_escaped() {
        assert_eq!(quoted("a\"b\\c\nd\u{1}"), r#""a\"b\\c\nd\u0001""#);
        let path = std::env::temp_dir().join(format!("granite-report-{}.json", std::process::id()));
        report(&[Verdict::Pass, Verdict::Crash]).write_json(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(text.contains("\"passed\": 1,\n  \"failed\": 1") && text.contains("\"verdict\": \"CRASH\""));
    }
}
