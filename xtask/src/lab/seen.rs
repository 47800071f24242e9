//! The record of guests: their lines, and the reasons of their ends.

use std::collections::BTreeMap;

use super::domain::Domains;
use crate::boot::Line;
use crate::outcome::Outcome;
use crate::symbols::{self, Symbols};

/// The record.
pub struct Seen<'a> {
    domains: &'a Domains<'a>,
    /// Read when they are first needed.
    symbols: Option<Option<Symbols>>,
    log: Vec<String>,
    /// The output of `xl`.
    xl: Vec<String>,
    /// The last line of each guest, by its domain's number.
    last: BTreeMap<String, String>,
    /// The reason of each guest's end, by its domain's number.
    reasons: BTreeMap<String, u32>,
}

impl<'a> Seen<'a> {
    /// Makes an empty record.
    pub fn new(domains: &'a Domains<'a>) -> Self {
        let (log, xl) = (Vec::new(), Vec::new());
        Self { domains, symbols: None, log, xl, last: BTreeMap::new(), reasons: BTreeMap::new() }
    }

    /// Takes a line of `xl`. It is logged as Xen's lines are.
    pub fn command(&mut self, text: &str, show: &mut dyn FnMut(Line<'_>)) {
        self.xl.push(text.to_owned());
        self.reasons.extend(reason(text));
        let line = format!("xl: {text}");
        show(Line::Xen(&line));
        self.log.push(line);
    }

    /// Takes a line of the machine's console. Xen marks the guests' lines. The others are of Xen and Linux.
    pub fn console(&mut self, text: &str, show: &mut dyn FnMut(Line<'_>)) {
        let Line::Second { domain, text } = Line::of(text) else {
            self.log.push(text.to_owned());
            return show(Line::Xen(text));
        };
        let text = if symbols::crash_address(text).is_some() {
            let symbols = self.symbols.get_or_insert_with(|| Symbols::load(&self.domains.image.path));
            symbols.as_ref().map_or_else(|| text.to_owned(), |symbols| symbols.explain(text))
        } else {
            text.to_owned()
        };
        if let Some(end) = text.strip_prefix("granite: end: ") {
            self.last.insert(domain.to_owned(), end.to_owned());
        }
        let is_alone = self.domains.count == 1;
        show(if is_alone { Line::Guest(&text) } else { Line::Second { domain, text: &text } });
        self.log.push(text);
    }

    /// Returns whether the last line of each ended guest has come.
    pub fn is_complete(&self) -> bool {
        self.reasons.keys().all(|domain| self.last.contains_key(domain))
    }

    /// Returns all lines of the machine's console.
    pub fn into_log(self) -> Vec<String> {
        self.log
    }

    /// Returns the outcome: of several guests, the first that isn't a success. `is_late`: the deadline has passed.
    pub fn outcome(&self, is_late: bool) -> Outcome {
        let outcomes = self
            .reasons
            .iter()
            .map(|(domain, &reason)| Outcome::of_domain(reason, self.last.get(domain).map(String::as_str)));
        let wrong = outcomes.into_iter().find(|outcome| *outcome != Outcome::Success);
        if let Some(wrong) = wrong {
            return wrong;
        }
        if self.reasons.len() == self.domains.count as usize {
            return Outcome::Success;
        }
        if is_late { Outcome::Deadline } else { Outcome::Refused(self.xl.join("\n")) }
    }
}

/// Reads a domain's number and the reason of its end: `Domain 1 has shut down, reason code 3 0x3`.
fn reason(line: &str) -> Option<(String, u32)> {
    let (domain, rest) = line.strip_prefix("Domain ")?.split_once(" has shut down, reason code ")?;
    Some((domain.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn reasons_are_read() {
        assert_eq!(reason("Domain 12 has shut down, reason code 3 0x3"), Some(("12".into(), 3)));
        assert_eq!(reason("Domain 12 has been destroyed."), None);
        assert_eq!(reason("Waiting for domain x (domid 1) to die [pid 1]"), None);
    }
}
