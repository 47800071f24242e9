//! The command line, as options.

use core::fmt;
use core::str::FromStr;

/// The command line as options, `name` or `name=value`, separated by spaces. A value with spaces is quoted:
/// `name="some words"`. A word that can't be an option is skipped, never an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    line: &'a str,
}

/// An option with an invalid value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadOption<'n, 'a> {
    /// The option's name.
    pub name: &'n str,
    /// Its value.
    pub value: &'a str,
}

impl fmt::Display for BadOption<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option {}: \"{}\" is not a valid value", self.name, self.value)
    }
}

impl core::error::Error for BadOption<'_, '_> {}

impl<'a> Options<'a> {
    /// Creates the options of a command line.
    pub const fn new(line: &'a str) -> Self {
        Self { line }
    }

    /// Returns the whole line, unchanged.
    pub const fn line(&self) -> &'a str {
        self.line
    }

    /// Returns all options in order, as name and value. An option without `=` has an empty value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.line;
        core::iter::from_fn(move || {
            loop {
                let word;
                (word, rest) = next_word(rest)?;
                let (name, value) = word.split_once('=').unwrap_or((word, ""));
                if !name.is_empty() {
                    return Some((name, unquote(value)));
                }
            }
        })
    }

    /// Returns the value of an option. If it is given twice, the last one counts.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().filter(|&(given, _)| given == name).last().map(|(_, value)| value)
    }

    /// Returns whether an option is given, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns an option's value as a `T`, or `None` if the option isn't given.
    ///
    /// # Errors
    ///
    /// [`BadOption`] if the option is given and its value isn't a `T`.
    pub fn parse<'n, T: FromStr>(&self, name: &'n str) -> Result<Option<T>, BadOption<'n, 'a>> {
        self.get(name).map(|value| value.parse().map_err(|_| BadOption { name, value })).transpose()
    }

    /// Returns the names of options missing from all of these lists.
    pub fn unknown(&self, known: &[&[&str]]) -> impl Iterator<Item = &'a str> {
        self.iter().map(|(name, _)| name).filter(move |name| !known.iter().any(|list| list.contains(name)))
    }
}

/// Splits off the first word. Spaces between quotes don't end it.
fn next_word(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_ascii_start();
    if line.is_empty() {
        return None;
    }
    let mut quoted = false;
    let end = line.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte.is_ascii_whitespace() && !quoted
    });
    line.split_at_checked(end.unwrap_or(line.len()))
}

/// Removes the quotes around a value. Quotes inside it, or without a partner, are part of it.
fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::{BadOption, Options};
    use std::vec::Vec;

    #[test]
    fn words_values_and_quotes() {
        let options = Options::new("  quiet log=debug\tname=\"two words\" a=b=c empty= odd=\"x log=info ");
        let all: Vec<_> = options.iter().collect();
        let expected = [("quiet", ""), ("log", "debug"), ("name", "two words"), ("a", "b=c"), ("empty", "")];
        assert_eq!(all[..5], expected);
        assert_eq!(all[5], ("odd", "\"x log=info "), "an open quote runs to the end");
        assert!(options.has("quiet") && !options.has("qui"));
        assert_eq!(Options::new("x=1 x=2").get("x"), Some("2"));
    }

    #[test]
    fn nonsense_is_skipped() {
        for line in ["", "   ", "=", "= =x \"", "\u{1F980}=\u{FFFD}", "\0\0"] {
            let _ = Options::new(line).iter().count();
        }
        assert_eq!(Options::new("=x y").iter().collect::<Vec<_>>(), [("y", "")]);
    }

    #[test]
    fn values_are_parsed_or_named() {
        let options = Options::new("n=12 m=twelve");
        assert_eq!(options.parse::<u32>("n"), Ok(Some(12)));
        assert_eq!(options.parse::<u32>("k"), Ok(None));
        assert_eq!(options.parse::<u32>("m"), Err(BadOption { name: "m", value: "twelve" }));
    }

    #[test]
    fn unknown_options_are_those_that_nobody_declared() {
        let options = Options::new("log=debug bogus name=x other=1");
        let unknown: Vec<_> = options.unknown(&[&["log"], &["name"]]).collect();
        assert_eq!(unknown, ["bogus", "other"]);
    }
}
