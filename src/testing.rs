//! Layer 11: tests that run in a guest, for `cargo xtask test`: a table of cases, each with one verdict. If a case
//! ends the guest, the next boot continues with the following case.
//!
//! `tests/NAME.rs` of an application:
//!
//! ```no_run
//! #![no_std]
//! #![no_main]
//!
//! use granite::prelude::*;
//! use granite::testing::{NotPassed, check, check_same};
//!
//! granite::tests![a_page_is_zeroed];
//!
//! fn a_page_is_zeroed(_: &'static Platform) -> Result<(), NotPassed> {
//!     let page = Page::zeroed().ok_or("no memory for a page")?;
//!     check_same!(page.bytes().len(), 4096);
//!     check!(page.bytes().iter().all(|&byte| byte == 0));
//!     Ok(())
//! }
//! ```

use alloc::string::{String, ToString};
use core::fmt;

use crate::error::Reason;
use crate::println;
use crate::rt::{ExitCode, Platform};

#[doc(inline)]
pub use crate::{check, check_same};

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// The test's function.
    pub run: fn(&'static Platform) -> Result<(), NotPassed>,
}

/// Why a case didn't pass. `?` turns every error of Granite, and every `&'static str`, into a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotPassed {
    /// The case can't run here, and the reason.
    Skip(String),
    /// The case ran and failed, and the reason.
    Fail(String),
}

impl NotPassed {
    /// Makes a failure with the text of `why`.
    pub fn fail(why: impl fmt::Display) -> Self {
        Self::Fail(why.to_string())
    }
}

impl<R: Reason> From<R> for NotPassed {
    fn from(reason: R) -> Self {
        Self::Fail(reason.into_error().to_string())
    }
}

/// Runs one case and reports it to `cargo xtask test`, with a line before it and a line after, so that a crash has a
/// name. Returns whether the case passed or was skipped.
pub fn report(index: usize, name: &str, run: impl FnOnce() -> Result<(), NotPassed>) -> bool {
    println!("##test run {index} {name}");
    match run() {
        Ok(()) => println!("##test pass {index}"),
        Err(NotPassed::Skip(reason)) => println!("##test skip {index} {}", one_line(&reason)),
        Err(NotPassed::Fail(reason)) => {
            println!("##test fail {index} {}", one_line(&reason));
            return false;
        }
    }
    true
}

/// Reports the end of the table, and returns the exit code: success if `passed`.
pub fn done(passed: bool) -> ExitCode {
    println!("##test done");
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " | ")
}

/// Returns whether a case with this name is asked for: `filter` is empty, or the name contains one of its words.
pub fn is_selected(name: &str, filter: &str) -> bool {
    let mut words = filter.split_whitespace().peekable();
    words.peek().is_none() || words.any(|word| name.contains(word))
}

/// Runs the cases selected by the option `filter`, from place `from` on. [`tests!`](crate::tests) makes a program that
/// does this; `cargo xtask test` gives the options.
pub fn run(cases: &[Case], platform: &'static Platform) -> ExitCode {
    let options = platform.options();
    let filter = options.get("filter").unwrap_or_default();
    let from = options.parse("from").ok().flatten().unwrap_or(0);
    let selected = cases.iter().filter(|case| is_selected(case.name, filter)).enumerate().skip(from);
    let mut passed = true;
    for (index, case) in selected {
        passed &= report(index, case.name, || (case.run)(platform));
    }
    done(passed)
}

/// Makes a program of functions `fn(&'static Platform) -> Result<(), NotPassed>`, each of them a case.
#[cfg(granite_guest)]
#[macro_export]
macro_rules! tests {
    ($($case:path),+ $(,)?) => {
        $crate::entry!(run_the_tests, options = ["filter", "from", "rig", "smp", "mem"]);

        fn run_the_tests(platform: &'static $crate::rt::Platform) -> $crate::rt::ExitCode {
            const CASES: &[$crate::testing::Case] =
                &[$($crate::testing::Case { name: stringify!($case), run: $case }),+];
            $crate::testing::run(CASES, platform)
        }
    };
}

/// Makes a program of cases. On the host, where `cargo test` runs it, the program prints how to run them and
/// succeeds.
#[cfg(not(granite_guest))]
#[macro_export]
macro_rules! tests {
    ($($case:path),+ $(,)?) => {
        const _: () = {
            #[unsafe(export_name = "main")]
            extern "C" fn host_main() -> core::ffi::c_int {
                const CASES: &[$crate::testing::Case] =
                    &[$($crate::testing::Case { name: stringify!($case), run: $case }),+];
                $crate::println!("{} cases run in a guest: cargo xtask test", CASES.len());
                0
            }
        };
    };
}

/// Ends a case as failed unless a condition holds. A message may follow, as in `assert!`.
#[macro_export]
macro_rules! check {
    ($condition:expr $(, $($message:tt)+)?) => {{
        let holds: bool = $condition;
        if !holds {
            #[allow(unused_mut, unused_assignments, reason = "without a message it stays")]
            let mut detail = $crate::testing::Text::new();
            $(detail = $crate::testing::text(format_args!(": {}", format_args!($($message)+)));)?
            return Err($crate::testing::NotPassed::Fail($crate::testing::text(format_args!(
                "{}:{}: {}{detail}", file!(), line!(), stringify!($condition)
            ))));
        }
    }};
}

/// Ends a case as failed unless two values are the same.
#[macro_export]
macro_rules! check_same {
    ($left:expr, $right:expr $(,)?) => {{
        let (left, right) = (&$left, &$right);
        $crate::check!(left == right, "{left:?} and {right:?}");
    }};
}

#[doc(hidden)]
pub use alloc::fmt::format as text;
#[doc(hidden)]
pub use alloc::string::String as Text;

#[cfg(test)]
mod tests {
    use super::is_selected;

    #[test]
    fn a_case_is_selected_by_any_word_of_the_filter() {
        assert!(is_selected("grant::v1::twice", ""));
        assert!(is_selected("grant::v1::twice", " "));
        assert!(is_selected("grant::v1::twice", "ring v1"));
        assert!(!is_selected("grant::v1::twice", "ring v2"));
    }
}
