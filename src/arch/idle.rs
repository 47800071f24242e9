//! Waiting for an interrupt.

/// Waits for an interrupt, if there is nothing to do: `is_idle` is asked with interrupts masked, and they are
/// unmasked by the instruction before the halt, in whose shadow none comes: one that came in between ends the wait.
/// Returns at once if there is something to do. Interrupts are unmasked after it.
pub fn wait_for_interrupt(is_idle: impl FnOnce() -> bool) {
    #[cfg(granite_guest)]
    {
        x86_64::instructions::interrupts::disable();
        if is_idle() {
            // SAFETY: it unmasks interrupts and halts, and changes nothing that a function may not.
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

/// Where to go on after an interrupt: behind the halt, if it came before it.
///
/// The processor lets none come there. But QEMU's forgets that when Xen has something else to do just then: `VMRUN` doesn't
/// put back the interrupt shadow, and Xen's interrupt comes before the halt, which would last until the next one.
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
        /// boot/idle.S: the halt itself, and what comes behind it.
        pub static idle_halt: u8;
        pub static idle_over: u8;
    }
    core::arch::global_asm!(include_str!("../../boot/idle.S"));
}
