//! The interrupt table: one stub a vector (boot/traps.S), each on a stack of its own kind, all of them
//! through [`TrapFrame`].

use core::fmt;

use spin::Once;
use x86_64::registers::control::Cr2;

use super::stack::TrapStack;

/// Everything that a trap interrupted. The order is that of boot/traps.S and of the processor.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are registers and have their names")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    /// Zero where the processor gives none.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const BREAKPOINT: u64 = 3;
const PAGE_FAULT: u64 = 14;
const EXCEPTIONS: u64 = 32;

impl TrapFrame {
    /// The exception's name, as the manuals have it.
    pub const fn name(&self) -> &'static str {
        match self.vector {
            0 => "divide error (#DE)",
            1 => "debug exception (#DB)",
            2 => "non-maskable interrupt",
            3 => "breakpoint (#BP)",
            4 => "overflow (#OF)",
            5 => "bound range exceeded (#BR)",
            6 => "invalid opcode (#UD)",
            7 => "device not available (#NM)",
            8 => "double fault (#DF)",
            10 => "invalid TSS (#TS)",
            11 => "segment not present (#NP)",
            12 => "stack fault (#SS)",
            13 => "general protection fault (#GP)",
            14 => "page fault (#PF)",
            16 => "x87 floating-point error (#MF)",
            17 => "alignment check (#AC)",
            18 => "machine check (#MC)",
            19 => "SIMD floating-point error (#XM)",
            20 => "virtualization exception (#VE)",
            21 => "control protection exception (#CP)",
            28 => "hypervisor injection exception (#HV)",
            29 => "VMM communication exception (#VC)",
            30 => "security exception (#SX)",
            0..EXCEPTIONS => "reserved exception",
            _ => "interrupt",
        }
    }

    /// The address whose use was a page fault, if that is what this is.
    pub fn fault_address(&self) -> Option<u64> {
        (self.vector == PAGE_FAULT).then(Cr2::read_raw)
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  rip {:016x}  rsp {:016x}  rflags {:08x}", self.rip, self.rsp, self.rflags)?;
        writeln!(f, "  rax {:016x}  rbx {:016x}  rcx {:016x}", self.rax, self.rbx, self.rcx)?;
        writeln!(f, "  rdx {:016x}  rsi {:016x}  rdi {:016x}", self.rdx, self.rsi, self.rdi)?;
        writeln!(f, "  rbp {:016x}  r8  {:016x}  r9  {:016x}", self.rbp, self.r8, self.r9)?;
        writeln!(f, "  r10 {:016x}  r11 {:016x}  r12 {:016x}", self.r10, self.r11, self.r12)?;
        write!(f, "  r13 {:016x}  r14 {:016x}  r15 {:016x}", self.r13, self.r14, self.r15)
    }
}

/// What ends the guest after an exception that nothing can mend.
pub type Report = fn(&TrapFrame) -> !;

static REPORT: Once<Report> = Once::new();

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

    const fn new(handler: u64, selector: u16, stack: TrapStack) -> Self {
        Self {
            offset_low: handler as u16,
            selector,
            ist: stack as u8 + 1, // slot 0 means: no switch
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

const fn stack_of(vector: u64) -> TrapStack {
    match vector {
        2 => TrapStack::Nmi,
        8 => TrapStack::DoubleFault,
        18 => TrapStack::MachineCheck,
        0..EXCEPTIONS => TrapStack::Exception,
        _ => TrapStack::Interrupt,
    }
}

/// Builds the table over `stubs`, 256 of them, 16 bytes apart.
fn table(stubs: u64, selector: u16) -> Table {
    const STUB_SIZE: u64 = 16;
    Table(core::array::from_fn(|vector| {
        let vector = vector as u64;
        Gate::new(stubs + vector * STUB_SIZE, selector, stack_of(vector))
    }))
}

/// Loads the interrupt table. From here on an exception is a report and not a triple fault.
#[cfg(granite_guest)]
pub fn load(report: Report) {
    use x86_64::VirtAddr;
    use x86_64::instructions::segmentation::{CS, Segment};
    use x86_64::instructions::tables::lidt;
    use x86_64::structures::DescriptorTablePointer;

    unsafe extern "C" {
        /// boot/traps.S
        static trap_stubs: [[u8; 16]; 256];
    }
    static TABLE: Once<Table> = Once::new();
    REPORT.call_once(|| report);
    let table = TABLE.call_once(|| table(&raw const trap_stubs as u64, CS::get_reg().0));
    let pointer = DescriptorTablePointer {
        limit: (size_of::<Table>() - 1) as u16,
        base: VirtAddr::from_ptr(table),
    };
    // SAFETY: the table is static, each gate leads to a stub, and segments::load has filled each IST slot
    // that a gate names.
    unsafe { lidt(&pointer) };
}

#[cfg(granite_guest)]
core::arch::global_asm!(include_str!("../../boot/traps.S"), dispatch = sym dispatch);

/// Called by boot/traps.S on a trap stack, with interrupts masked. Returning resumes what was interrupted.
#[cfg_attr(not(granite_guest), expect(dead_code, reason = "called by boot/traps.S, which is the guest's"))]
extern "sysv64" fn dispatch(frame: &mut TrapFrame) {
    if frame.vector == BREAKPOINT {
        log::info!("breakpoint at {:#x}", frame.rip);
        return;
    }
    if frame.vector >= EXCEPTIONS {
        log::warn!("interrupt on vector {} that nobody asked for", frame.vector);
        return;
    }
    match REPORT.get() {
        Some(report) => report(frame),
        None => super::halt(),
    }
}

#[cfg(test)]
mod tests {
    use super::{TrapStack, table};

    #[test]
    fn gates_hold_the_whole_address_and_a_stack() {
        let table = table(0x1234_5678_9abc_0000, 8);
        let gate = &table.0[14];
        assert_eq!((gate.offset_low, gate.offset_middle, gate.offset_high), (0x00e0, 0x9abc, 0x1234_5678));
        assert_eq!((gate.selector, gate.attributes, gate.ist), (8, 0x8e, 1));
        let stacks = [2, 8, 18, 32, 255].map(|vector| table.0[vector].ist - 1);
        let expected = [
            TrapStack::Nmi,
            TrapStack::DoubleFault,
            TrapStack::MachineCheck,
            TrapStack::Interrupt,
            TrapStack::Interrupt,
        ];
        assert_eq!(stacks, expected.map(|stack| stack as u8));
        assert!(table.0.iter().all(|gate| gate.ist != 0), "no trap may run on the interrupted stack");
    }
}
