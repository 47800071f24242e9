//! What went wrong, where, and what to do next: for a person, so it is text.

use std::fmt;
use std::path::Path;

/// An error of usage or set-up. It ends xtask with status 2.
#[derive(Debug)]
pub struct Error(String);

/// A result of set-up.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// With this text: what was wrong first, what to do about it on lines of their own.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A file operation that failed: `context` says what was being done.
    pub fn io(context: &str, path: &Path, error: &std::io::Error) -> Self {
        Self(format!("{context} {}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        Self(format!("{error}\ntry: cargo xtask --help"))
    }
}

/// Adds to an I/O error what was being done, and to which file.
pub trait Context<T> {
    /// `context` is a verb in its -ing form.
    fn context(self, context: &str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, context: &str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::io(context, path, &error))
    }
}
