//! Crash reports. `cargo xtask` turns their addresses into functions and lines.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::{backtrace, stack, trap::TrapFrame};
use crate::driver::console::print_last_words;
use crate::mm::layout::NULL_PAGE;
use crate::rt::{End, end};
use crate::vcpu;

static CRASHED: AtomicBool = AtomicBool::new(false);

/// Claims the single crash report. All other vCPUs stop, including one that crashes at the same time. A second crash,
/// while the first is being reported, ends the guest here.
pub(super) fn claim(how: End) {
    vcpu::freeze_others();
    // Relaxed: it publishes no other data.
    if CRASHED.swap(true, Ordering::Relaxed) {
        print_last_words(format_args!("granite: another crash ({how}) while reporting the first"));
        end(how);
    }
}

/// Prints return addresses, innermost first. Each is the address of the instruction after a call.
pub(super) fn print_callers(addresses: impl Iterator<Item = u64>) {
    for address in addresses {
        print_last_words(format_args!("  from {address:#018x}"));
    }
}

/// Reports an exception and ends the guest.
pub fn exception(frame: &TrapFrame) -> ! {
    vcpu::freeze_if_told();
    claim(End::Exception);
    let cause = Cause(frame);
    let (name, code) = (frame.name(), frame.error_code);
    print_last_words(format_args!(
        "granite: exception {}, {name}, error code {code:#x}{cause}\n{frame}\n  at {:#018x}",
        frame.vector, frame.rip
    ));
    print_callers(backtrace::return_addresses(frame.rbp));
    end(End::Exception)
}

/// The address and cause of a page fault.
struct Cause<'a>(&'a TrapFrame);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(address) = self.0.fault_address() else { return Ok(()) };
        write!(f, ", address {address:#x}")?;
        if let Some(span) = stack::spans().find(|span| span.guard.contains(&address)) {
            write!(f, ": the {} stack overflowed", span.name)?;
            return if span.vcpu == 0 { Ok(()) } else { write!(f, " on vCPU {}", span.vcpu) };
        }
        if NULL_PAGE.contains(&address) {
            return f.write_str(": a null pointer");
        }
        const PRESENT: u64 = 1 << 0;
        const WRITE: u64 = 1 << 1;
        const FETCH: u64 = 1 << 4;
        let code = self.0.error_code;
        f.write_str(match (code & FETCH != 0, code & WRITE != 0, code & PRESENT != 0) {
            (true, _, true) => ": not executable",
            (true, _, false) => ": execution of a page that isn't mapped",
            (_, true, true) => ": not writable",
            (_, true, false) => ": write to a page that isn't mapped",
            (_, false, _) => ": read of a page that isn't mapped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Cause;
    use crate::arch::trap::TrapFrame;
    use std::format;

    #[test]
    fn only_a_page_fault_has_an_address() {
        // SAFETY: a TrapFrame consists of integers, and all zeros is a valid value.
        let frame: TrapFrame = unsafe { core::mem::zeroed() };
        assert_eq!(format!("{}", Cause(&frame)), "");
        assert_eq!(frame.name(), "divide error (#DE)");
        assert_eq!(TrapFrame { vector: 255, ..frame }.name(), "interrupt");
    }
}
