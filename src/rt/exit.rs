//! How a guest ends, and how those outside learn of it.

use crate::abi::sched::ShutdownReason;
use crate::arch::{self, port};
use crate::driver::console;
use crate::hypercall::{Xen, sched};
use crate::vcpu;

/// What an application's main function returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
#[must_use]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// All went well.
    pub const SUCCESS: Self = Self(0);
    /// It didn't.
    pub const FAILURE: Self = Self(1);
    /// A domain that this one started reported a failure. `cargo xtask run` ends with 5.
    pub const CHILD_FAILED: Self = Self(101);
    /// A domain that this one started crashed. `cargo xtask run` ends with 6.
    pub const CHILD_CRASHED: Self = Self(102);
    /// A domain that this one started didn't end, or didn't answer. `cargo xtask run` ends with 7.
    pub const CHILD_SILENT: Self = Self(103);
}

/// What `main` may return.
pub trait Termination {
    /// How it ended. What went wrong is told first.
    fn report(self) -> ExitCode;
}

impl Termination for ExitCode {
    fn report(self) -> ExitCode {
        self
    }
}

impl Termination for () {
    fn report(self) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl<T: Termination, E: core::fmt::Display> Termination for Result<T, E> {
    fn report(self) -> ExitCode {
        match self {
            Ok(end) => end.report(),
            Err(error) => {
                log::error!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Every way in which a guest ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The application returned.
    Exit(ExitCode),
    /// A panic.
    Panic,
    /// An exception of the processor.
    Exception,
    /// There is no Xen.
    NoXen,
    /// The guest could not start here: too little memory, or a start info that makes no sense.
    CannotStart,
}

impl End {
    /// What is written to QEMU's exit device: QEMU's status is `2c + 1`, which is never one that QEMU uses
    /// for itself. xtask/src/outcome.rs reads them.
    pub const fn debug_exit_code(self) -> u32 {
        match self {
            Self::Exit(ExitCode::SUCCESS) => 0x10,
            Self::Exit(_) => 0x11,
            Self::Panic => 0x12,
            Self::Exception => 0x13,
            Self::NoXen => 0x14,
            Self::CannotStart => 0x15,
        }
    }

    /// What the toolstack is told.
    const fn shutdown_reason(self) -> ShutdownReason {
        match self {
            Self::Exit(ExitCode::SUCCESS) => ShutdownReason::POWEROFF,
            _ => ShutdownReason::CRASH,
        }
    }
}

impl core::fmt::Display for End {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Exit(ExitCode::SUCCESS) => f.write_str("success"),
            Self::Exit(ExitCode(code)) => write!(f, "failure {code}"),
            Self::Panic => f.write_str("panic"),
            Self::Exception => f.write_str("exception"),
            Self::NoXen => f.write_str("no-xen"),
            Self::CannotStart => f.write_str("cannot-start"),
        }
    }
}

/// Ends the guest: a last line on the console, and the same again in the machine's own way. The two must
/// agree for a run to count as a success.
pub fn end(how: End) -> ! {
    // Nobody else may print behind the last line, or into it.
    vcpu::freeze_others();
    console::print_last_words(format_args!("granite: end: {how}"));
    // In a domU nobody listens on the port, and Xen ignores it.
    port::debug_exit(how.debug_exit_code());
    if let Some(xen) = Xen::enabled() {
        let error = sched::shutdown(&xen, how.shutdown_reason());
        console::print_last_words(format_args!("granite: Xen refuses to end this domain: {error}"));
    }
    arch::halt()
}
