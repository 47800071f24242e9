//! What each vCPU has for itself, and how another one starts.

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

/// The first vCPU's words. The others have theirs in what they start with.
struct First(ThisVcpu);

// SAFETY: only the first vCPU uses it.
unsafe impl Sync for First {}

static FIRST: First = First(ThisVcpu::new(0));

/// Points GS of this vCPU at its words.
///
/// # Safety
///
/// They are this vCPU's alone.
unsafe fn own(words: *const ThisVcpu) {
    // Only the base counts in 64-bit mode.
    GsBase::write(VirtAddr::from_ptr(words));
}

/// Makes the first vCPU know itself, and gives it tables of our own.
pub(super) fn load_first() {
    // SAFETY: this is the first vCPU, which alone comes here.
    unsafe { own(&raw const FIRST.0) };
    gdt::first().load();
}

/// What another vCPU starts with. It stays for ever: a vCPU that is down still points here.
struct Start {
    words: ThisVcpu,
    tables: Tables,
    main: fn() -> !,
}

/// The registers with which a vCPU starts `main`, on a stack of its own. Nothing, for a number that no vCPU has.
///
/// Its stacks, [`stack::of_vcpu`], must be mapped before it runs.
pub fn context(vcpu: usize, main: fn() -> !) -> Option<VcpuContext> {
    // PE, MP, ET, NE, WP, PG; PAE, OSFXSR, OSXMMEXCPT; LME, LMA, NXE: what boot/entry.S sets for the first.
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

/// Called by boot/vcpu_entry.S, on the vCPU's own stack, with what `context` gave it.
extern "sysv64" fn enter(start: &'static Start) -> ! {
    // SAFETY: the words were made for this vCPU.
    unsafe { own(&raw const start.words) };
    start.tables.load();
    idt::load();
    (start.main)()
}
