//! The data of the running vCPU. In a guest, the vCPU's GS register points at it, so one instruction reads it; on the
//! host, threads stand in for vCPUs.

use core::cell::Cell;

use super::NO_VCPU;

/// Maximum number of vCPUs used. Xen gives an HVM or PVH domain no more (`HVM_MAX_VCPUS`).
pub const MAX_VCPUS: usize = 128;

/// One vCPU's own words. Only code on this vCPU uses them, so they need no atomics: an interrupt handler restores its
/// changes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ThisVcpu {
    /// The number, or [`NO_VCPU`] while an interrupt is being handled.
    slot: Cell<usize>,
    /// The number.
    number: Cell<usize>,
}

impl ThisVcpu {
    /// Creates the words of a vCPU that isn't running yet.
    pub const fn new(number: usize) -> Self {
        Self { slot: Cell::new(number), number: Cell::new(number) }
    }
}

/// Returns the vCPU's number, in handlers too.
#[inline]
pub fn number() -> usize {
    here::number()
}

/// Returns the index for per-vCPU data: the vCPU's number, or [`NO_VCPU`] in an interrupt handler, because the
/// handler may have interrupted a user of this data.
#[inline]
pub fn slot() -> usize {
    here::slot()
}

/// Returns whether the caller is in an interrupt handler, or called by one.
#[inline]
pub fn is_handling() -> bool {
    slot() == NO_VCPU
}

/// Runs a handler. Handlers may nest.
pub fn handle<R>(handler: impl FnOnce() -> R) -> R {
    let outer = here::replace_slot(NO_VCPU);
    let result = handler();
    here::replace_slot(outer);
    result
}

#[cfg(granite_guest)]
mod here {
    use core::arch::asm;
    use core::mem::offset_of;

    use super::ThisVcpu;

    #[inline]
    pub fn number() -> usize {
        let number;
        // SAFETY: GS points at this vCPU's `ThisVcpu`: a vCPU sets GS before it does anything else.
        unsafe {
            asm!(
                "mov {}, gs:[{}]", out(reg) number, const offset_of!(ThisVcpu, number),
                options(nostack, preserves_flags, readonly),
            );
        }
        number
    }

    #[inline]
    pub fn slot() -> usize {
        let slot;
        // SAFETY: as above.
        unsafe {
            asm!(
                "mov {}, gs:[{}]", out(reg) slot, const offset_of!(ThisVcpu, slot),
                options(nostack, preserves_flags, readonly),
            );
        }
        slot
    }

    #[inline]
    pub fn replace_slot(new: usize) -> usize {
        let old = slot();
        // SAFETY: as above; only handlers write it too, and they restore it.
        unsafe {
            asm!(
                "mov gs:[{}], {}", const offset_of!(ThisVcpu, slot), in(reg) new,
                options(nostack, preserves_flags),
            );
        }
        old
    }
}

#[cfg(not(granite_guest))]
mod here {
    use core::cell::Cell;

    use super::super::{HostThread, Vcpu};

    std::thread_local! {
        /// `None` means the thread's number.
        static SLOT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub fn number() -> usize {
        HostThread.index()
    }

    pub fn slot() -> usize {
        SLOT.get().unwrap_or_else(number)
    }

    pub fn replace_slot(new: usize) -> usize {
        SLOT.replace(Some(new)).unwrap_or_else(number)
    }
}

#[cfg(test)]
mod tests {
    use super::{handle, is_handling, number, slot};

    #[test]
    fn handlers_inside_of_handlers_have_no_slot_and_the_same_number() {
        let own = (number(), slot());
        assert_eq!(own.0, own.1);
        handle(|| {
            handle(|| assert!(is_handling()));
            assert!(is_handling() && number() == own.0);
        });
        assert_eq!((number(), slot()), own);
    }
}
