//! Stacks, each above an unmapped guard page: an overflow is a page fault with an address that identifies the stack,
//! and not silent damage to the memory below.

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A guard page, left unmapped by src/start, and `N` bytes of stack above it.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct GuardedStack<const N: usize> {
    guard: [u8; GUARD],
    bytes: UnsafeCell<[u8; N]>,
}

// SAFETY: no Rust code reads or writes the bytes; it only takes their addresses.
unsafe impl<const N: usize> Sync for GuardedStack<N> {}

const GUARD: usize = 4096;

impl<const N: usize> GuardedStack<N> {
    /// The size of guard page and stack together, in bytes.
    pub const SIZE: usize = GUARD + N;

    const fn new() -> Self {
        Self { guard: [0; GUARD], bytes: UnsafeCell::new([0; N]) }
    }

    /// Returns the address just above the stack, the initial RSP.
    pub fn top(&'static self) -> u64 {
        self.bytes.get() as u64 + N as u64
    }

    fn span(&'static self, name: &'static str) -> StackSpan {
        let bottom = self.bytes.get() as u64;
        let guard = &raw const self.guard as u64..bottom;
        StackSpan { name, vcpu: 0, guard, bytes: bottom..bottom + N as u64 }
    }
}

/// The size of the application's stack in KiB: `stack` in the manifest's `[package.metadata.granite]`, passed on by
/// `cargo xtask`. Half of the default was too little for an unoptimised build.
const BOOT_STACK_KIB: usize = match option_env!("GRANITE_STACK_KIB") {
    Some(text) => whole_number(text),
    None => 128,
};
const _: () = assert!(
    BOOT_STACK_KIB >= 64 && BOOT_STACK_KIB <= 64 << 10 && BOOT_STACK_KIB.is_multiple_of(4),
    "the stack must have 64 to 65536 KiB, a multiple of 4: see `stack` in [package.metadata.granite]"
);

/// Parses a decimal number. Returns 0, an invalid stack size, for any other text.
const fn whole_number(text: &str) -> usize {
    match usize::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => 0,
    }
}

/// The stack of boot/entry.S and of the application.
pub(crate) type BootStack = GuardedStack<{ BOOT_STACK_KIB << 10 }>;
/// See [`BootStack`].
pub(crate) static BOOT_STACK: BootStack = BootStack::new();

/// The stack of an exception, by the index of its IST slot. Each kind that can occur while another is being handled
/// has its own. Interrupts run on the interrupted stack; `idt` says why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum TrapStack {
    /// Exceptions caused by the running code.
    Exception = 0,
    /// Double fault.
    DoubleFault = 1,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// Machine check.
    MachineCheck = 3,
}

const TRAP_STACK_NAMES: [&str; 4] = ["exception", "double-fault", "NMI", "machine-check"];

const TRAP_STACK_SIZE: usize = 16 << 10;

static TRAP_STACKS: [GuardedStack<TRAP_STACK_SIZE>; 4] = [const { GuardedStack::new() }; 4];

impl TrapStack {
    /// All of them, in the order of their IST slots.
    pub const ALL: [Self; 4] = [Self::Exception, Self::DoubleFault, Self::Nmi, Self::MachineCheck];

    /// Returns the initial RSP on the first vCPU.
    pub fn top(self) -> u64 {
        TRAP_STACKS[self as usize].top()
    }
}

/// The addresses of one stack.
#[derive(Clone, Debug)]
pub struct StackSpan {
    /// Its purpose: `boot`, `vCPU`, or the kind of trap.
    pub name: &'static str,
    /// The number of its vCPU.
    pub vcpu: usize,
    /// The guard page below it, never mapped.
    pub guard: Range<u64>,
    /// The stack itself.
    pub bytes: Range<u64>,
}

/// Returns the stacks of the first vCPU, in no order of addresses. They are part of the image.
pub(crate) fn in_image() -> impl Iterator<Item = StackSpan> {
    let trap = TRAP_STACKS.iter().zip(TRAP_STACK_NAMES).map(|(stack, name)| stack.span(name));
    core::iter::once(BOOT_STACK.span("boot")).chain(trap)
}

/// The start of the other vCPUs' stacks: above any RAM, and above the heap.
const OTHERS: u64 = 0x6000_0000_0000;
/// The distance from one vCPU's stacks to the next's, in bytes.
const STRIDE: u64 = 1 << 20;
/// The size of another vCPU's own stack, in bytes.
const OWN_STACK_SIZE: u64 = 64 << 10;

/// Returns the stacks of another vCPU: its own first, then its trap stacks in the order of their IST slots. They have
/// addresses of their own, a page apart, and are mapped when the vCPU starts.
pub fn of_vcpu(vcpu: usize) -> impl Iterator<Item = StackSpan> {
    let sizes = [OWN_STACK_SIZE].into_iter().chain(TRAP_STACK_NAMES.map(|_| TRAP_STACK_SIZE as u64));
    let names = ["vCPU"].into_iter().chain(TRAP_STACK_NAMES);
    let mut end = OTHERS + vcpu as u64 * STRIDE;
    names.zip(sizes).map(move |(name, size)| {
        let guard = end..end + GUARD as u64;
        end = guard.end + size;
        StackSpan { name, vcpu, bytes: guard.end..end, guard }
    })
}

/// The number of vCPUs with mapped stacks.
static VCPUS: AtomicUsize = AtomicUsize::new(1);

/// Records that the stacks of all vCPUs below `vcpus` are mapped.
pub(crate) fn announce(vcpus: usize) {
    // Release: pairs with the Acquire of `spans`.
    VCPUS.fetch_max(vcpus, Ordering::Release);
}

/// Returns all mapped stacks.
pub fn spans() -> impl Iterator<Item = StackSpan> {
    // Acquire: pairs with the Release of `announce`: the stacks are mapped.
    in_image().chain((1..VCPUS.load(Ordering::Acquire)).flat_map(of_vcpu))
}

#[cfg(test)]
mod tests {
    use super::{OTHERS, STRIDE, of_vcpu};
    use std::vec::Vec;

    #[test]
    fn the_stacks_of_vcpus_lie_apart_with_a_page_below_each() {
        let mut last = OTHERS + STRIDE;
        for vcpu in 1..4 {
            let spans: Vec<_> = of_vcpu(vcpu).collect();
            assert_eq!(spans.len(), 5);
            for span in spans {
                assert!(span.guard.start >= last && span.guard.end == span.bytes.start);
                assert_eq!((span.guard.end - span.guard.start, span.bytes.start % 4096), (4096, 0));
                last = span.bytes.end;
            }
            assert!(last <= OTHERS + (vcpu as u64 + 1) * STRIDE);
        }
    }
}
