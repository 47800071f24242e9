//! Stacks, each above a guard page that stays unmapped: running off the end is a page fault with an
//! address that tells which stack it was, and not silent damage to whatever lies below.

use core::cell::UnsafeCell;
use core::ops::Range;

/// A page that src/start leaves unmapped, and `N` bytes of stack above it.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct GuardedStack<const N: usize> {
    guard: [u8; GUARD],
    bytes: UnsafeCell<[u8; N]>,
}

// SAFETY: nothing in Rust reads or writes the bytes; only addresses are taken of them.
unsafe impl<const N: usize> Sync for GuardedStack<N> {}

const GUARD: usize = 4096;

impl<const N: usize> GuardedStack<N> {
    /// Guard page and stack together.
    pub const SIZE: usize = GUARD + N;

    const fn new() -> Self {
        Self { guard: [0; GUARD], bytes: UnsafeCell::new([0; N]) }
    }

    /// The address just above the stack, where RSP begins.
    pub fn top(&'static self) -> u64 {
        self.bytes.get() as u64 + N as u64
    }

    fn span(&'static self, name: &'static str) -> StackSpan {
        let bottom = self.bytes.get() as u64;
        StackSpan { name, guard: &raw const self.guard as u64..bottom, bytes: bottom..bottom + N as u64 }
    }
}

/// The stack that boot/entry.S starts on and the application runs on. Half of it was too little for an
/// unoptimised build.
pub type BootStack = GuardedStack<{ 128 << 10 }>;
/// See [`BootStack`].
pub static BOOT_STACK: BootStack = BootStack::new();

/// Which stack a trap runs on: the index of its IST slot. Each kind of trap that can come while another
/// is being handled has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TrapStack {
    /// Exceptions of the code that runs.
    Exception = 0,
    /// Double fault.
    DoubleFault = 1,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// Machine check.
    MachineCheck = 3,
    /// Everything from a device, an event channel or another vCPU.
    Interrupt = 4,
}

const TRAP_STACK_NAMES: [&str; 5] = ["exception", "double-fault", "NMI", "machine-check", "interrupt"];

static TRAP_STACKS: [GuardedStack<{ 16 << 10 }>; 5] = [const { GuardedStack::new() }; 5];

impl TrapStack {
    /// All of them, in the order of their IST slots.
    pub const ALL: [Self; 5] =
        [Self::Exception, Self::DoubleFault, Self::Nmi, Self::MachineCheck, Self::Interrupt];

    /// Where RSP begins.
    pub fn top(self) -> u64 {
        TRAP_STACKS[self as usize].top()
    }
}

/// Where one stack lies.
#[derive(Clone, Debug)]
pub struct StackSpan {
    /// What it is for.
    pub name: &'static str,
    /// The page below, which must not be mapped.
    pub guard: Range<u64>,
    /// The stack itself.
    pub bytes: Range<u64>,
}

/// Every stack there is, in no order of addresses.
pub fn spans() -> impl Iterator<Item = StackSpan> {
    let trap = TRAP_STACKS.iter().zip(TRAP_STACK_NAMES).map(|(stack, name)| stack.span(name));
    core::iter::once(BOOT_STACK.span("boot")).chain(trap)
}
