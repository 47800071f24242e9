//! A trap that is resumed leaves no trace in what it interrupted.

use core::arch::asm;

use crate::check_same;
use crate::harness::{Case, Context, GUESTS, NotPassed};

/// The cases.
pub const CASES: &[Case] = &[
    Case { name: "traps::a_breakpoint_keeps_all_registers", rigs: GUESTS, run: registers },
    Case { name: "traps::a_trap_keeps_what_lies_below_the_stack", rigs: GUESTS, run: red_zone },
    Case { name: "traps::an_unknown_interrupt_is_survived", rigs: GUESTS, run: unknown_interrupt },
];

fn registers(_: &Context) -> Result<(), NotPassed> {
    let (mut a, mut b, mut c, mut d): (u64, u64, u64, u64) = (1, 2, 3, 4);
    let mut float = 1.5f64;
    let mut flags: u64;
    // SAFETY: a breakpoint changes no register and no memory of ours, which is what is tested; the flags are
    // saved by pushing and popping them.
    unsafe {
        asm!(
            "stc",
            "int3",
            "pushfq",
            "pop {flags}",
            flags = out(reg) flags,
            inout("rax") a,
            inout("rcx") b,
            inout("r11") c,
            inout("r15") d,
            inout("xmm15") float,
        );
    }
    check_same!((a, b, c, d, float), (1, 2, 3, 4, 1.5));
    check_same!(flags & 1, 1);
    Ok(())
}

/// The precompiled `core` may keep data below the stack pointer: an exception must come on another stack.
fn red_zone(_: &Context) -> Result<(), NotPassed> {
    let mut differing: u64;
    // SAFETY: the 128 bytes below the stack pointer belong to nobody while this runs, as no call does.
    unsafe {
        asm!(
            "lea rdi, [rsp - 128]",
            "mov rcx, 16",
            "mov rax, 0x5a5a5a5a5a5a5a5a",
            "rep stosq",
            "int3",
            "lea rdi, [rsp - 128]",
            "mov rcx, 16",
            "repe scasq",
            "setne cl",
            "movzx rcx, cl",
            out("rcx") differing,
            out("rax") _,
            out("rdi") _,
        );
    }
    check_same!(differing, 0);
    Ok(())
}

fn unknown_interrupt(_: &Context) -> Result<(), NotPassed> {
    let mut kept = 7u64;
    // SAFETY: the gate exists, and what it leads to only prints.
    unsafe { asm!("int 0x80", "int 0xff", inout("r12") kept, options(nostack)) };
    check_same!(kept, 7);
    Ok(())
}
