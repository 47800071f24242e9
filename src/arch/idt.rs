//! The interrupt table: one stub per vector (boot/traps.S). Exceptions switch to a stack of their kind, because an
//! exception may report that no stack is left.
//!
//! Interrupts run on the interrupted stack. On a stack of their own (IST) each would begin at its top, over the frame
//! of one that has just begun. QEMU's SVM now and then delivers an interrupt injected by Xen twice, the second time
//! before the first instruction of its handler, masked or not. On the interrupted stack the second one nests and is
//! harmless. No code may keep data below RSP: `cargo xtask` boots no image with an instruction that reaches there.

#[cfg(granite_guest)]
use spin::Once;

use super::stack::TrapStack;
use super::trap::EXCEPTIONS;

/// A gate of the interrupt table. Source: Intel SDM volume 3, 64-bit IDT gate descriptors.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    attributes: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

impl Gate {
    /// A present interrupt gate for ring 0: further interrupts stay masked while it runs.
    const INTERRUPT: u8 = 0x8e;

    const fn new(handler: u64, selector: u16, stack: Option<TrapStack>) -> Self {
        Self {
            offset_low: handler as u16,
            selector,
            ist: match stack {
                Some(stack) => stack as u8 + 1,
                None => 0, // no switch
            },
            attributes: Self::INTERRUPT,
            offset_middle: (handler >> 16) as u16,
            offset_high: (handler >> 32) as u32,
            reserved: 0,
        }
    }
}

#[repr(C, align(16))]
struct Table([Gate; 256]);
crate::abi::assert_layout!(Table, size = 4096, align = 16, {});

const fn stack_of(vector: u64) -> Option<TrapStack> {
    match vector {
        2 => Some(TrapStack::Nmi),
        8 => Some(TrapStack::DoubleFault),
        18 => Some(TrapStack::MachineCheck),
        0..EXCEPTIONS => Some(TrapStack::Exception),
        _ => None,
    }
}

/// Builds the table for the 256 stubs at `stubs`, 16 bytes apart.
fn table(stubs: u64, selector: u16) -> Table {
    const STUB_SIZE: u64 = 16;
    Table(core::array::from_fn(|vector| {
        let vector = vector as u64;
        Gate::new(stubs + vector * STUB_SIZE, selector, stack_of(vector))
    }))
}

/// Loads the table. The trap stacks must be in place (`gdt::Tables::load`). From here on an exception is
/// reported, instead of causing a triple fault.
#[cfg(granite_guest)]
pub(super) fn load() {
    use x86_64::VirtAddr;
    use x86_64::instructions::segmentation::{CS, Segment};
    use x86_64::instructions::tables::lidt;
    use x86_64::structures::DescriptorTablePointer;

    unsafe extern "C" {
        /// boot/traps.S
        static trap_stubs: [[u8; 16]; 256];
    }
    static TABLE: Once<Table> = Once::new();
    let table = TABLE.call_once(|| table(&raw const trap_stubs as u64, CS::get_reg().0));
    let pointer =
        DescriptorTablePointer { limit: (size_of::<Table>() - 1) as u16, base: VirtAddr::from_ptr(table) };
    // SAFETY: the table is static, each gate leads to a stub, and `gdt::Tables::load` has filled each IST slot
    // named by a gate.
    unsafe { lidt(&pointer) };
}

#[cfg(granite_guest)]
core::arch::global_asm!(include_str!("../../boot/traps.S"), dispatch = sym super::trap::dispatch);

#[cfg(test)]
mod tests {
    use super::table;
    use crate::arch::stack::TrapStack;

    #[test]
    fn gates_hold_the_whole_address_and_a_stack() {
        let table = table(0x1234_5678_9abc_0000, 8);
        let gate = &table.0[14];
        assert_eq!((gate.offset_low, gate.offset_middle, gate.offset_high), (0x00e0, 0x9abc, 0x1234_5678));
        assert_eq!((gate.selector, gate.attributes, gate.ist), (8, 0x8e, 1));
        let slots = [2, 8, 18, 32, 255].map(|vector: usize| table.0[vector].ist);
        let slot = |stack: TrapStack| stack as u8 + 1;
        let own = [TrapStack::Nmi, TrapStack::DoubleFault, TrapStack::MachineCheck].map(slot);
        assert_eq!(
            (&slots[..3], &slots[3..]),
            (&own[..], &[0, 0][..]),
            "interrupts nest on the stack that they come on"
        );
        assert!(
            table.0[..32].iter().all(|gate| gate.ist != 0),
            "no exception may run on the interrupted stack"
        );
    }
}
