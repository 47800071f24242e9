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

/// Loads our own descriptor tables. From here on an exception calls `report`, instead of causing a triple fault.
#[cfg(granite_guest)]
pub(crate) fn load_tables(report: trap::Report) {
    // In this order: the interrupt table refers to stacks listed in the task segment.
    vcpu::load_first();
    trap::report_with(report);
    idt::load();
}

/// To be called only without Xen: Xen gives a PVH guest no such controllers.
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

/// Returns the processor's family, model and stepping, encoded as in EAX of CPUID's leaf 1.
pub(crate) fn processor_signature() -> u32 {
    core::arch::x86_64::__cpuid(1).eax
}

/// Returns the time-stamp counter, read after all preceding instructions. Otherwise a processor may read it early,
/// and a time received from another vCPU could be later than a time read after receiving it.
pub fn time_stamp() -> u64 {
    // SAFETY: neither instruction changes any state.
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

/// Returns whether interrupts are unmasked on this vCPU. Always true on the host: a process can't mask them.
pub fn interrupts_are_enabled() -> bool {
    !cfg!(granite_guest) || x86_64::instructions::interrupts::are_enabled()
}
