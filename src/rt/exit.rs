//! The end of a guest, and how it is reported to the outside.

use crate::abi::sched::ShutdownReason;
use crate::arch::{self, port};
use crate::driver::console;
use crate::hypercall::{Xen, sched};
use crate::vcpu;

/// The exit code returned by an application's main function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
#[must_use]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// Success.
    pub const SUCCESS: Self = Self(0);
    /// Failure.
    pub const FAILURE: Self = Self(1);
    /// A domain started by this one reported a failure. `cargo xtask run` ends with status 5.
    pub const CHILD_FAILED: Self = Self(101);
    /// A domain started by this one crashed. `cargo xtask run` ends with status 6.
    pub const CHILD_CRASHED: Self = Self(102);
    /// A domain started by this one didn't end, or didn't answer. `cargo xtask run` ends with status 7.
    pub const CHILD_TIMED_OUT: Self = Self(103);
}

/// The return types allowed for `main`.
pub trait Termination {
    /// Returns the exit code. Logs an error first.
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

/// The ways a guest ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The application returned.
    Exit(ExitCode),
    /// A panic.
    Panic,
    /// A processor exception.
    Exception,
    /// There is no Xen.
    NoXen,
    /// The guest could not start here: too little memory, or a nonsensical start info.
    CannotStart,
}

impl End {
    /// Returns the value to write to QEMU's exit device. For a value `c`, QEMU's status is `2c + 1`; QEMU itself uses
    /// none of these statuses. xtask/src/outcome.rs reads them.
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

    /// Returns the shutdown reason reported to the toolstack.
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

/// Ends the guest: prints a last line on the console, then reports the same result through the machine (the exit port
/// and the shutdown hypercall). A run counts as a success only if the two agree.
pub fn end(how: End) -> ! {
    // No other vCPU may print after the last line, or into it.
    vcpu::freeze_others();
    console::print_last_words(format_args!("granite: end: {how}"));
    // In a domU no device has this port, and Xen ignores the write.
    port::debug_exit(how.debug_exit_code());
    if let Some(xen) = Xen::enabled() {
        let error = sched::shutdown(&xen, how.shutdown_reason());
        console::print_last_words(format_args!("granite: Xen refuses to end this domain: {error}"));
    }
    arch::halt()
}
