//! The console as the backend of the `log` crate's macros.

use log::{LevelFilter, Log, Metadata, Record};

/// The log level unless the command line says `log=`.
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

/// Sends the `log` macros to the console, at [`DEFAULT_LEVEL`]. A logger installed earlier stays.
pub fn install() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(DEFAULT_LEVEL);
    }
}

/// Sets the least severe level shown: `off`, `error`, `warn`, `info`, `debug` or `trace`.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}
