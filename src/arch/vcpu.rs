//! Per-vCPU state, and the start of another vCPU.

use alloc::boxed::Box;

use x86_64::VirtAddr;
use x86_64::registers::control::Cr3;
use x86_64::registers::model_specific::GsBase;

use super::gdt::Tables;
use super::{gdt, idt, stack};
use crate::abi::vcpu::{MODE_64B, VcpuContext};
use crate::sync::MAX_VCPUS;
use crate::sync::this_vcpu::ThisVcpu;

core::arch::global_asm!(include_str!("../../boot/vcpu_entry.S"), vcpu_entry_in_rust = sym enter);

/// The first vCPU's words. The others have theirs in their `Start`.
struct First(ThisVcpu);

// SAFETY: only the first vCPU uses it.
unsafe impl Sync for First {}

static FIRST: First = First(ThisVcpu::new(0));

/// Points this vCPU's GS at its words.
///
/// # Safety
///
/// The words must belong to this vCPU alone.
unsafe fn own(words: *const ThisVcpu) {
    // Only the base counts in 64-bit mode.
    GsBase::write(VirtAddr::from_ptr(words));
}

/// Points the first vCPU's GS at its words, and loads tables of our own.
pub(super) fn load_first() {
    // SAFETY: only the first vCPU runs this, and the words are its own.
    unsafe { own(&raw const FIRST.0) };
    gdt::first().load();
}

/// The initial state of another vCPU. It is never freed: a vCPU that is down still points to it.
struct Start {
    words: ThisVcpu,
    tables: Tables,
    main: fn() -> !,
}

/// Returns the registers for a vCPU to start `main` on its own stack. Returns `None` for vCPU 0, which is already
/// running, and for numbers from `MAX_VCPUS` on.
///
/// Its stacks, [`stack::of_vcpu`], must be mapped before it runs.
pub fn context(vcpu: usize, main: fn() -> !) -> Option<VcpuContext> {
    // PE, MP, ET, NE, WP, PG; PAE, OSFXSR, OSXMMEXCPT; LME, LMA, NXE: as boot/entry.S sets them for the first vCPU.
    const CR0: u64 = 0x8001_0033;
    const CR4: u64 = 0x620;
    const EFER: u64 = 0xd00;
    if !(1..MAX_VCPUS).contains(&vcpu) {
        return None;
    }
    unsafe extern "C" {
        /// boot/vcpu_entry.S
        static vcpu_entry: u8;
    }
    let mut tops = stack::of_vcpu(vcpu).map(|span| span.bytes.end);
    let rsp = tops.next()?;
    let start = Box::leak(Box::new(Start { words: ThisVcpu::new(vcpu), tables: Tables::new(tops), main }));
    Some(VcpuContext {
        mode: MODE_64B,
        rdi: &raw const *start as u64,
        rsp,
        rip: &raw const vcpu_entry as u64,
        rflags: 2,
        cr0: CR0,
        cr3: Cr3::read_raw().0.start_address().as_u64(),
        cr4: CR4,
        efer: EFER,
        ..VcpuContext::default()
    })
}

/// Called by boot/vcpu_entry.S, on the vCPU's own stack, with the `Start` made by `context`.
extern "sysv64" fn enter(start: &'static Start) -> ! {
    // SAFETY: the words were made for this vCPU.
    unsafe { own(&raw const start.words) };
    start.tables.load();
    idt::load();
    (start.main)()
}
