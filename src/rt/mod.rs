//! The application surface: [`entry!`](crate::entry), [`Platform`], [`ExitCode`], and the end of a guest.

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

/// An application, passed by [`entry!`](crate::entry) to src/start.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Application {
    /// The application's main function.
    pub main: fn(&'static Platform) -> ExitCode,
    /// The application's own command-line options, in addition to the runtime's.
    pub options: &'static [&'static str],
    /// Whether `main` may run without Xen. Useful only for tests of the lower layers.
    pub xen_optional: bool,
}

/// Names the application's main function: `fn(&'static Platform) -> R`, where `R` is an [`ExitCode`], `()`, or a
/// `Result` ([`Termination`](crate::rt::Termination)).
///
/// The application's command-line options may follow. Any other option on the command line causes a warning.
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
        /// The application, under the name by which src/start finds it.
        #[unsafe(no_mangle)]
        static GRANITE_APPLICATION: $crate::rt::Application = $crate::rt::Application {
            main: |platform| $crate::rt::Termination::report($main(platform)),
            options: &[$($($option),*)?],
            xen_optional: false $(|| $xen_optional)?,
        };
    };
}

/// Names the application's main function. On the host, the program prints how to boot it.
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

/// Prints how to boot the program, and returns the status for wrong usage. This is all a program does on the host.
#[cfg(not(granite_guest))]
#[doc(hidden)]
pub fn not_on_the_host() -> core::ffi::c_int {
    crate::println!(
        "This is a guest for Xen. Boot it with: cargo xtask run, or a test with: cargo xtask test"
    );
    2
}
