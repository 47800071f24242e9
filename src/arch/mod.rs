//! Floor 1: the processor. Descriptor tables, traps, stacks, ports and the page-table register.

pub mod backtrace;
#[cfg(any(granite_guest, test))]
mod interrupt_table;
#[cfg_attr(not(granite_guest), allow(dead_code, reason = "bring-up uses it"))]
pub(crate) mod paging;
#[cfg_attr(not(granite_guest), allow(dead_code, reason = "bring-up uses it"))]
pub(crate) mod port;
#[cfg_attr(not(granite_guest), allow(dead_code, reason = "bring-up uses it"))]
mod segments;
pub mod stack;
pub mod trap;

/// Loads our own descriptor tables. From here on an exception is what `report` makes of it, and not a
/// triple fault.
#[cfg(granite_guest)]
pub(crate) fn load_tables(report: trap::Report) {
    // In this order: the interrupt table names stacks that the task segment holds.
    port::silence_legacy_interrupts();
    segments::load();
    trap::report_with(report);
    interrupt_table::load();
}

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
