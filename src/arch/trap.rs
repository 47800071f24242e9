//! The state saved by a trap, and the handlers of traps. boot/traps.S passes every vector here.

use core::fmt;

use spin::Once;
use x86_64::registers::control::Cr2;

use crate::sync::this_vcpu;

/// The complete state of the interrupted code, in the order of boot/traps.S and of the processor.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are registers and have their names")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    /// Zero if the processor provides none.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const PAGE_FAULT: u64 = 14;
/// Vectors below this one belong to the processor.
pub(super) const EXCEPTIONS: u64 = 32;

impl TrapFrame {
    /// Returns the exception's name, as in the processor's manuals.
    pub const fn name(&self) -> &'static str {
        match self.vector {
            0 => "divide error (#DE)",
            1 => "debug exception (#DB)",
            2 => "non-maskable interrupt",
            3 => "breakpoint (#BP)",
            4 => "overflow (#OF)",
            5 => "bound range exceeded (#BR)",
            6 => "invalid opcode (#UD)",
            7 => "device not available (#NM)",
            8 => "double fault (#DF)",
            10 => "invalid TSS (#TS)",
            11 => "segment not present (#NP)",
            12 => "stack fault (#SS)",
            13 => "general protection fault (#GP)",
            14 => "page fault (#PF)",
            16 => "x87 floating-point error (#MF)",
            17 => "alignment check (#AC)",
            18 => "machine check (#MC)",
            19 => "SIMD floating-point error (#XM)",
            20 => "virtualization exception (#VE)",
            21 => "control protection exception (#CP)",
            28 => "hypervisor injection exception (#HV)",
            29 => "VMM communication exception (#VC)",
            30 => "security exception (#SX)",
            EXCEPTIONS.. => "interrupt",
            _ => "reserved exception",
        }
    }

    /// Returns the faulting address if this is a page fault.
    pub fn fault_address(&self) -> Option<u64> {
        (self.vector == PAGE_FAULT).then(Cr2::read_raw)
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  rip {:016x}  rsp {:016x}  rflags {:08x}", self.rip, self.rsp, self.rflags)?;
        writeln!(f, "  rax {:016x}  rbx {:016x}  rcx {:016x}", self.rax, self.rbx, self.rcx)?;
        writeln!(f, "  rdx {:016x}  rsi {:016x}  rdi {:016x}", self.rdx, self.rsi, self.rdi)?;
        writeln!(f, "  rbp {:016x}  r8  {:016x}  r9  {:016x}", self.rbp, self.r8, self.r9)?;
        writeln!(f, "  r10 {:016x}  r11 {:016x}  r12 {:016x}", self.r10, self.r11, self.r12)?;
        write!(f, "  r13 {:016x}  r14 {:016x}  r15 {:016x}", self.r13, self.r14, self.r15)
    }
}

/// A function called after an unrecoverable exception; it ends the guest.
pub type Report = fn(&TrapFrame) -> !;

static REPORT: Once<Report> = Once::new();

/// Sets the function called on exceptions. Only the first call has an effect.
#[cfg(granite_guest)]
pub(super) fn report_with(report: Report) {
    REPORT.call_once(|| report);
}

/// The handler of an interrupt. It runs on the interrupted stack with interrupts masked. When it returns, the
/// interrupted code continues.
pub type Handler = fn(&TrapFrame);

static HANDLERS: [Once<Handler>; 256 - EXCEPTIONS as usize] =
    [const { Once::new() }; 256 - EXCEPTIONS as usize];

/// A vector that can't get a handler: it is an exception's, or already has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHandled(
    /// The vector.
    pub u8,
);

impl fmt::Display for NotHandled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vector {} is an exception's, or has a handler", self.0)
    }
}

impl core::error::Error for NotHandled {}

/// Installs the handler of a vector, permanently.
///
/// # Errors
///
/// [`NotHandled`] if the vector is one of the processor's (below 32), or already has a handler.
///
/// # Safety
///
/// The handler must leave interrupts masked: otherwise they would nest without end.
pub unsafe fn handle(vector: u8, handler: Handler) -> Result<(), NotHandled> {
    let slot = usize::from(vector).checked_sub(EXCEPTIONS as usize).and_then(|index| HANDLERS.get(index));
    let slot = slot.ok_or(NotHandled(vector))?;
    let mut taken = true;
    slot.call_once(|| {
        taken = false;
        handler
    });
    if taken { Err(NotHandled(vector)) } else { Ok(()) }
}

/// Called by boot/traps.S, with interrupts masked. Returning resumes the interrupted code.
#[cfg_attr(not(granite_guest), expect(dead_code, reason = "called by boot/traps.S, which is the guest's"))]
pub(super) extern "sysv64" fn dispatch(frame: &mut TrapFrame) {
    if let Some(index) = frame.vector.checked_sub(EXCEPTIONS) {
        match HANDLERS.get(index as usize).and_then(Once::get) {
            Some(handler) => this_vcpu::handle(|| handler(frame)),
            // The message can't wait for a lock held on this vCPU: all locks mask interrupts.
            None => log::warn!("interrupt on vector {} without a handler", frame.vector),
        }
        frame.rip = super::idle::behind_halt(frame.rip);
        return;
    }
    match REPORT.get() {
        Some(report) => this_vcpu::handle(|| report(frame)),
        None => super::halt(),
    }
}

#[cfg(test)]
mod tests {
    use super::{NotHandled, handle};

    #[test]
    fn a_vector_is_handled_once_and_exceptions_never() {
        // SAFETY: the handler is empty.
        let handle = |vector| unsafe { handle(vector, |_| {}) };
        assert_eq!(handle(31), Err(NotHandled(31)));
        assert_eq!(handle(32), Ok(()));
        assert_eq!(handle(32), Err(NotHandled(32)));
        assert_eq!(handle(255), Ok(()));
    }
}
