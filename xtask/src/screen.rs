//! The output of `run`: the guest's lines, and a second domain's lines with its mark. Xen's lines are shown with
//! `--verbose`, or after a failure.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::boot::Line;

/// The screen during one boot.
pub struct Screen {
    /// Whether to show Xen's lines at once.
    verbose: bool,
    is_terminal: bool,
    /// Xen's lines, kept for a failure.
    hidden: Vec<String>,
    /// The second domain's lines. The first domain may read them from Xen and print them again.
    second: Vec<String>,
    /// The progress in the guest's last line, on a terminal.
    bar: Option<(String, ProgressBar)>,
}

impl Screen {
    /// Makes an empty screen.
    pub fn new(verbose: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self { verbose, is_terminal, hidden: Vec::new(), second: Vec::new(), bar: None }
    }

    /// Shows a line, or keeps it.
    pub fn show(&mut self, line: Line<'_>) {
        match line {
            Line::Xen(text) if self.verbose => self.print(&dimmed(text, self.is_terminal)),
            Line::Xen(text) => self.hidden.push(text.to_owned()),
            Line::Second { domain, text } => {
                self.second.push(text.to_owned());
                self.print(&format!("(d{domain}) {text}"));
            }
            Line::Guest(text) if repeated(text).is_some_and(|text| self.has_shown(text)) => {}
            Line::Guest(text) => match Progress::read(text).filter(|_| self.is_terminal) {
                Some(progress) => self.advance(&progress),
                None => self.print(text),
            },
        }
    }

    /// Returns whether the second domain printed this line. The screen has it with addresses resolved.
    fn has_shown(&self, line: &str) -> bool {
        let is_it = |shown: &String| {
            shown
                .strip_prefix(line)
                .is_some_and(|explained| explained.is_empty() || explained.starts_with("  "))
        };
        self.second.iter().any(is_it)
    }

    /// Ends the screen. After a failure, prints Xen's lines.
    pub fn end(self, failed: bool) {
        drop(self.bar);
        if failed && !self.hidden.is_empty() {
            say!("Xen's log:");
            self.hidden.iter().for_each(|text| say!("{}", dimmed(text, self.is_terminal)));
        }
    }

    fn print(&mut self, text: &str) {
        match &self.bar {
            Some((_, bar)) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    fn advance(&mut self, progress: &Progress<'_>) {
        let Progress { label, done, total, .. } = *progress;
        if self.bar.as_ref().is_none_or(|(shown, _)| shown != label) {
            let style = ProgressStyle::with_template("{prefix} {bar:40} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
            let bar = ProgressBar::new(total).with_style(style).with_prefix(label.to_owned());
            self.bar = Some((label.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_message(progress.text.to_owned());
            bar.set_position(done);
        }
        if done >= total
            && let Some((_, bar)) = self.bar.take()
        {
            // The last line of a job stays on the screen.
            bar.finish_and_clear();
            say!("{label}: {}", progress.text);
        }
    }
}

/// A line of progress: `map:  1024 of 3072 KiB,    25 requests`.
#[derive(Debug, PartialEq, Eq)]
struct Progress<'t> {
    label: &'t str,
    done: u64,
    total: u64,
    text: &'t str,
}

impl<'t> Progress<'t> {
    fn read(line: &'t str) -> Option<Self> {
        let (label, text) = line.split_once(": ")?;
        let mut words = text.split_whitespace();
        let done = words.next()?.parse().ok()?;
        let total = words.next().filter(|&of| of == "of").and_then(|_| words.next()?.parse().ok())?;
        // "0 of 0" ends no job.
        (total > 0 && words.next().is_some()).then_some(Self { label, done, total, text })
    }
}

/// Returns the text repeated by a line such as `domain 1 said: text`.
fn repeated(line: &str) -> Option<&str> {
    let (before, text) = line.split_once(" said: ")?;
    let (_, number) = before.rsplit_once("domain ")?;
    number.bytes().all(|digit| digit.is_ascii_digit()).then_some(text)
}

fn dimmed(text: &str, is_terminal: bool) -> String {
    if is_terminal && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[2m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Progress, Screen, repeated};
    use crate::boot::Line;

    #[test]
    fn lines_of_progress_are_known_by_their_form() {
        let progress = Progress::read("map:  1024 of 3072 KiB,    25 requests").unwrap();
        assert_eq!((progress.label, progress.done, progress.total), ("map", 1024, 3072));
        for other in ["map: mapped the ring", "1 of 2", "a: 1 of 2", "a: 0 of 0 KiB", "a: x of 2 KiB"] {
            assert_eq!(Progress::read(other), None, "{other}");
        }
    }

    #[test]
    fn a_repeated_line_is_known() {
        assert_eq!(repeated("domain 1 said: hello"), Some("hello"));
        assert_eq!(repeated("[WARN  granite::pair] domain 12 said: a said: b"), Some("a said: b"));
        assert_eq!(repeated("it said: hello"), None);
        assert_eq!(repeated("domain x said: hello"), None);
    }

    #[test]
    fn a_second_domains_line_is_shown_once() {
        let mut screen = Screen::new(false);
        screen.show(Line::Second { domain: "1", text: "  from 0x201000  main (src/main.rs:1)" });
        assert!(
            screen.has_shown("  from 0x201000") && screen.has_shown("  from 0x201000  main (src/main.rs:1)")
        );
        assert!(!screen.has_shown("  from 0x20100") && !screen.has_shown("  from 0x201008"));
    }
}
