//! Floor 1: the processor. Descriptor tables, traps, stacks, ports and the page-table register.

pub mod backtrace;
#[cfg(any(granite_guest, test))]
pub mod interrupt_table;
pub mod paging;
pub mod port;
pub mod segments;
pub mod stack;
pub mod trap;

#[cfg(granite_guest)]
core::arch::global_asm!(include_str!("../../boot/memory.S"));

/// Stops this vCPU for good.
pub fn halt() -> ! {
    loop {
        #[cfg(granite_guest)]
        {
            x86_64::instructions::interrupts::disable();
            x86_64::instructions::hlt();
        }
        #[cfg(not(granite_guest))]
        core::hint::spin_loop();
    }
}
