//! Layer 1: the processor. Descriptor tables, traps, stacks, ports and the page-table register.

pub(crate) mod backtrace;
#[cfg(granite_guest)]
mod gdt;
mod idle;
#[cfg(any(granite_guest, test))]
mod idt;
pub(crate) mod paging;
pub(crate) mod port;
pub mod stack;
pub mod trap;
#[cfg(granite_guest)]
pub(crate) mod vcpu;
/// A process has no vCPUs to start.
#[cfg(not(granite_guest))]
pub(crate) mod vcpu {
    pub fn context(_: usize, _: fn() -> !) -> Option<crate::abi::vcpu::VcpuContext> {
        None
    }
}

pub(crate) use idle::wait_for_interrupt;

/// Loads our own descriptor tables. From here on an exception is what `report` makes of it, and not a
/// triple fault.
#[cfg(granite_guest)]
pub(crate) fn load_tables(report: trap::Report) {
    // In this order: the interrupt table names stacks that the task segment holds.
    vcpu::load_first();
    trap::report_with(report);
    idt::load();
}

/// To be called where there is no Xen, which gives a PVH guest no such controllers.
#[cfg(granite_guest)]
pub(crate) use port::silence_legacy_interrupts;

#[cfg(granite_guest)]
core::arch::global_asm!(include_str!("../../boot/memory.S"));

/// Unmasks interrupts on this vCPU.
pub(crate) fn unmask_interrupts() {
    if cfg!(granite_guest) {
        x86_64::instructions::interrupts::enable();
    }
}

/// Family, model and stepping of the processor, as CPUID's leaf 1 has them in EAX.
pub(crate) fn processor_signature() -> u32 {
    core::arch::x86_64::__cpuid(1).eax
}

/// The time-stamp counter, read after all that comes before: a processor may otherwise read it early, and what another
/// vCPU was told would be later than what comes after it.
pub fn time_stamp() -> u64 {
    // SAFETY: both change nothing.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// Stops this vCPU for good.
pub(crate) fn halt() -> ! {
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

/// Whether interrupts are unmasked on this vCPU. On the host, always: a process may not mask them.
pub fn interrupts_are_enabled() -> bool {
    !cfg!(granite_guest) || x86_64::instructions::interrupts::are_enabled()
}
