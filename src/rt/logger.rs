//! The `log` crate's macros, on the console.

use log::{LevelFilter, Log, Metadata, Record};

/// What is shown where the command line doesn't say `log=`.
pub const DEFAULT_LEVEL: LevelFilter = LevelFilter::Info;

#[derive(Debug)]
struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            crate::println!("[{:<5} {}] {}", record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Sends the `log` macros to the console, from [`DEFAULT_LEVEL`] on. Where somebody else did so already,
/// theirs stays.
pub fn install() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(DEFAULT_LEVEL);
    }
}

/// Shows messages of this level and graver ones: `off`, `error`, `warn`, `info`, `debug` or `trace`.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}
