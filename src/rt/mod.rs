//! The application surface: [`entry!`](crate::entry), [`Platform`], [`ExitCode`], and what happens when a
//! guest ends.

mod exit;
mod logger;
#[cfg(granite_guest)]
mod panic;
mod platform;
pub(crate) mod report;

pub use crate::loader::{BadOption, Options};
pub(crate) use exit::end;
pub use exit::{End, ExitCode, Termination};
pub(crate) use logger::{DEFAULT_LEVEL, install as install_logger, set_level};
#[cfg(granite_guest)]
pub(crate) use platform::Modules;
pub use platform::{Domain, Grants, Platform};

/// An application, as [`entry!`](crate::entry) hands it to src/start.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Application {
    /// The application's main function.
    pub main: fn(&'static Platform) -> ExitCode,
    /// The options that it knows, beside the runtime's own.
    pub options: &'static [&'static str],
    /// Whether `main` may run without Xen. Only tests of the floors below can use that.
    pub xen_optional: bool,
}

/// Names the application's main function: `fn(&'static Platform) -> R`, where `R` says how it ended: an [`ExitCode`],
/// nothing, or a `Result` ([`Termination`](crate::rt::Termination)).
///
/// The command-line options that it knows may follow; the rest of the command line is warned about.
///
/// ```no_run
/// #![no_std]
/// #![no_main]
///
/// use granite::prelude::*;
///
/// granite::entry!(main, options = ["name"]);
///
/// fn main(platform: &'static Platform) -> Result<(), Error> {
///     println!("hello, {}", platform.options().get("name").unwrap_or("whoever you are"));
///     Ok(())
/// }
/// ```
#[cfg(granite_guest)]
#[macro_export]
macro_rules! entry {
    ($main:path $(, options = [$($option:literal),* $(,)?])? $(, xen_optional = $xen_optional:literal)? $(,)?) => {
        /// The application, by the name under which src/start looks for it.
        #[unsafe(no_mangle)]
        static GRANITE_APPLICATION: $crate::rt::Application = $crate::rt::Application {
            main: |platform| $crate::rt::Termination::report($main(platform)),
            options: &[$($($option),*)?],
            xen_optional: false $(|| $xen_optional)?,
        };
    };
}

/// Names the application's main function. On the host the program says how it is meant to be started.
#[cfg(not(granite_guest))]
#[macro_export]
macro_rules! entry {
    ($main:path $(, options = [$($option:literal),* $(,)?])? $(, xen_optional = $xen_optional:literal)? $(,)?) => {
        const _: () = {
            #[unsafe(export_name = "main")]
            extern "C" fn host_main() -> core::ffi::c_int {
                let _: fn(&'static $crate::rt::Platform) -> $crate::rt::ExitCode =
                    |platform| $crate::rt::Termination::report($main(platform));
                $crate::rt::not_on_the_host()
            }
        };
    };
}

/// What a program does on the host: it says how it is booted, and returns the status of a wrong use.
#[cfg(not(granite_guest))]
#[doc(hidden)]
pub fn not_on_the_host() -> core::ffi::c_int {
    crate::println!(
        "This is a guest for Xen. Boot it with: cargo xtask run, or a test with: cargo xtask test"
    );
    2
}
