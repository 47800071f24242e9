//! Errors as text for a person: the problem, its place, and the next step.

use std::fmt;
use std::path::Path;

/// An error of usage or set-up. xtask ends with status 2.
#[derive(Debug)]
pub struct Error(String);

/// A result of set-up.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error from a text: first the problem, then the advice on separate lines.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Makes an error from a failed file operation. `context` names the operation.
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

/// Adds the operation and the file to an I/O error.
pub trait Context<T> {
    /// `context` is a verb in its -ing form.
    fn context(self, context: &str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, context: &str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::io(context, path, &error))
    }
}
