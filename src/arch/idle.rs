//! Waiting for an interrupt.

/// Waits for an interrupt if there is no work; returns at once if there is. It calls `is_idle` with interrupts
/// masked. The instruction before the halt unmasks them, and the processor accepts none in its shadow, so an
/// interrupt that came in between ends the wait. Interrupts are unmasked afterwards.
pub fn wait_for_interrupt(is_idle: impl FnOnce() -> bool) {
    #[cfg(granite_guest)]
    {
        x86_64::instructions::interrupts::disable();
        if is_idle() {
            // SAFETY: it unmasks interrupts and halts, and otherwise obeys the calling convention.
            unsafe { here::idle() };
        } else {
            x86_64::instructions::interrupts::enable();
        }
    }
    #[cfg(not(granite_guest))]
    if is_idle() {
        std::thread::yield_now();
    }
}

/// Returns where to continue after an interrupt: after the halt, if the interrupt came just before it.
///
/// The processor delivers no interrupt there. QEMU's does if Xen has other work at that moment: `VMRUN` doesn't
/// restore the interrupt shadow, so Xen's interrupt comes before the halt, and the halt would last until the next
/// one.
pub(super) fn behind_halt(rip: u64) -> u64 {
    #[cfg(granite_guest)]
    if rip == &raw const here::idle_halt as u64 {
        return &raw const here::idle_over as u64;
    }
    rip
}

#[cfg(granite_guest)]
mod here {
    unsafe extern "C" {
        /// boot/idle.S
        pub fn idle();
        /// boot/idle.S: the halt itself, and the instruction after it.
        pub static idle_halt: u8;
        pub static idle_over: u8;
    }
    core::arch::global_asm!(include_str!("../../boot/idle.S"));
}
