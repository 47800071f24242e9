//! A trap that is resumed leaves no trace in what it interrupted.

use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use granite::arch::stack;
use granite::arch::trap::{self, NotHandled, TrapFrame};
use granite::sync::{InterruptGuard, IrqMutex};

use crate::harness::{Case, Context, GUESTS, NotPassed};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("traps::a_trap_keeps_every_register", GUESTS, registers),
    Case::new("traps::an_interrupt_in_an_interrupt_nests", GUESTS, nested),
    Case::new("traps::an_interrupt_before_the_halt_ends_it", GUESTS, before_the_halt),
    Case::new("traps::an_unknown_interrupt_is_survived", GUESTS, unknown_interrupt),
    Case::new("traps::each_kind_of_exception_has_a_stack_of_its_own", GUESTS, own_stacks),
    Case::new("traps::a_lock_masks_interrupts", GUESTS, masking),
];

/// A vector with a handler that uses everything up.
const VECTOR: u8 = 0x81;
static HANDLED: AtomicU32 = AtomicU32::new(0);
/// MXCSR in the handler.
static CONTROL: AtomicU32 = AtomicU32::new(0);

/// Leaves nothing in a register that a function may change as it was, and copies with string instructions,
/// which would run backwards, and into other memory, had the stub left the direction flag as it came.
fn destroy(frame: &TrapFrame) {
    let copy = black_box([frame.vector; 32]);
    if black_box(&copy).iter().all(|&word| word == u64::from(VECTOR)) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    let mut control = 0u32;
    // SAFETY: writes MXCSR to where it is told to.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control) };
    CONTROL.store(control, Ordering::Relaxed);
    let mut zeros = [0u8; 4];
    // SAFETY: every register that is written is said to be; the control word is that of a new task.
    unsafe {
        asm!(
            "pxor xmm0, xmm0", "pxor xmm1, xmm1", "pxor xmm2, xmm2", "pxor xmm3, xmm3", "pxor xmm4, xmm4",
            "pxor xmm5, xmm5", "pxor xmm6, xmm6", "pxor xmm7, xmm7", "pxor xmm8, xmm8", "pxor xmm9, xmm9",
            "pxor xmm10, xmm10", "pxor xmm11, xmm11", "pxor xmm12, xmm12", "pxor xmm13, xmm13",
            "pxor xmm14, xmm14", "pxor xmm15, xmm15",
            "mov dword ptr [rdi], 0x1f80", "ldmxcsr [rdi]",
            "xor eax, eax", "xor ecx, ecx", "xor edx, edx", "xor esi, esi", "xor edi, edi",
            "xor r8d, r8d", "xor r9d, r9d", "xor r10d, r10d", "xor r11d, r11d",
            "xor r12d, r12d", "xor r13d, r13d", "xor r14d, r14d",
            inout("rdi") zeros.as_mut_ptr() => _,
            out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
        );
    }
}

/// What the processor holds, as far as a program can tell: 15 registers, 16 vectors, MXCSR and the flags.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C, align(16))]
struct State {
    vectors: [[u64; 2]; 16],
    registers: [u64; 15],
    flags: u64,
    mxcsr: u32,
}

/// Arithmetic flags and the direction flag.
const FLAGS: u64 = 0xcd5;
const CARRY_AND_DIRECTION: u64 = 0x401;

fn registers(_: &Context) -> Result<(), NotPassed> {
    // SAFETY: the handler leaves interrupts masked.
    if let Err(NotHandled(vector)) = unsafe { trap::handle(VECTOR, destroy) } {
        return Err(NotPassed::Fail(alloc::format!("vector {vector} is taken")));
    }
    let before = State {
        vectors: core::array::from_fn(|i| [0x1111_0000 + i as u64, 0x2222_0000 + i as u64]),
        registers: core::array::from_fn(|i| 0x3333_0000 + i as u64),
        flags: CARRY_AND_DIRECTION,
        mxcsr: 0x7f80, // rounds towards zero, which nothing else here does
    };
    let mut after = State { vectors: [[0; 2]; 16], registers: [0; 15], flags: 0, mxcsr: 0 };
    // The flags that are loaded have interrupts masked.
    let _masked = InterruptGuard::mask();
    // SAFETY: loads all registers from `before`, traps, and stores them to `after`; what it changes is
    // said, or pushed and popped: rbx and rbp, and the pointers, which wait on the stack while all
    // registers are in use.
    unsafe {
        asm!(
            "push rbx", "push rbp", "push rsi", "push rdi",
            "mov r15, [rsp]",
            "movdqa xmm0, [r15]", "movdqa xmm1, [r15 + 16]", "movdqa xmm2, [r15 + 32]",
            "movdqa xmm3, [r15 + 48]", "movdqa xmm4, [r15 + 64]", "movdqa xmm5, [r15 + 80]",
            "movdqa xmm6, [r15 + 96]", "movdqa xmm7, [r15 + 112]", "movdqa xmm8, [r15 + 128]",
            "movdqa xmm9, [r15 + 144]", "movdqa xmm10, [r15 + 160]", "movdqa xmm11, [r15 + 176]",
            "movdqa xmm12, [r15 + 192]", "movdqa xmm13, [r15 + 208]", "movdqa xmm14, [r15 + 224]",
            "movdqa xmm15, [r15 + 240]",
            "ldmxcsr [r15 + 384]",
            "mov rax, [r15 + 256]", "mov rbx, [r15 + 264]", "mov rcx, [r15 + 272]", "mov rdx, [r15 + 280]",
            "mov rsi, [r15 + 288]", "mov rdi, [r15 + 296]", "mov rbp, [r15 + 304]", "mov r8, [r15 + 312]",
            "mov r9, [r15 + 320]", "mov r10, [r15 + 328]", "mov r11, [r15 + 336]", "mov r12, [r15 + 344]",
            "mov r13, [r15 + 352]", "mov r14, [r15 + 360]",
            "push qword ptr [r15 + 376]", "popfq",
            "mov r15, [r15 + 368]",
            "int {vector}",
            "pushfq", "push r15",
            "mov r15, [rsp + 24]", // `after`: below it lie `before`, the flags and r15
            "pop qword ptr [r15 + 368]", "pop qword ptr [r15 + 376]", "cld",
            "mov [r15 + 256], rax", "mov [r15 + 264], rbx", "mov [r15 + 272], rcx", "mov [r15 + 280], rdx",
            "mov [r15 + 288], rsi", "mov [r15 + 296], rdi", "mov [r15 + 304], rbp", "mov [r15 + 312], r8",
            "mov [r15 + 320], r9", "mov [r15 + 328], r10", "mov [r15 + 336], r11", "mov [r15 + 344], r12",
            "mov [r15 + 352], r13", "mov [r15 + 360], r14",
            "movdqa [r15], xmm0", "movdqa [r15 + 16], xmm1", "movdqa [r15 + 32], xmm2",
            "movdqa [r15 + 48], xmm3", "movdqa [r15 + 64], xmm4", "movdqa [r15 + 80], xmm5",
            "movdqa [r15 + 96], xmm6", "movdqa [r15 + 112], xmm7", "movdqa [r15 + 128], xmm8",
            "movdqa [r15 + 144], xmm9", "movdqa [r15 + 160], xmm10", "movdqa [r15 + 176], xmm11",
            "movdqa [r15 + 192], xmm12", "movdqa [r15 + 208], xmm13", "movdqa [r15 + 224], xmm14",
            "movdqa [r15 + 240], xmm15",
            "stmxcsr [r15 + 384]",
            "push 0x1f80", "ldmxcsr [rsp]", "add rsp, 8",
            "add rsp, 16", "pop rbp", "pop rbx",
            inout("rdi") &raw const before => _,
            inout("rsi") &raw mut after => _,
            vector = const VECTOR,
            out("rax") _, out("rcx") _, out("rdx") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _,
            out("r15") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
        );
    }
    after.flags &= FLAGS;
    check_same!(after, before);
    check_same!(HANDLED.load(Ordering::Relaxed), 1);
    check_same!(CONTROL.load(Ordering::Relaxed), 0x1f80);
    Ok(())
}

/// The same vector again, from inside its handler: each has its own frame, and both return.
fn nested(_: &Context) -> Result<(), NotPassed> {
    const NESTED: u8 = 0x82;
    static DEPTH: AtomicU32 = AtomicU32::new(0);
    static FRAMES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
    fn handler(frame: &TrapFrame) {
        let depth = DEPTH.fetch_add(1, Ordering::Relaxed) as usize;
        if let Some(place) = FRAMES.get(depth) {
            place.store(core::ptr::from_ref(frame) as u64, Ordering::Relaxed);
        }
        if depth < 2 {
            // SAFETY: the vector has this handler.
            unsafe { asm!("int {vector}", vector = const NESTED) };
        }
    }
    // SAFETY: the handler leaves interrupts masked, and nests twice.
    if unsafe { trap::handle(NESTED, handler) }.is_err() {
        return Err(NotPassed::Fail("the vector is taken".into()));
    }
    let mut kept = 7u64;
    // SAFETY: as above.
    unsafe { asm!("int {vector}", vector = const NESTED, inout("r12") kept) };
    let frames = FRAMES.each_ref().map(|frame| frame.load(Ordering::Relaxed));
    check_same!((kept, DEPTH.load(Ordering::Relaxed)), (7, 3));
    check!(frames[0] > frames[1] && frames[1] > frames[2], "{frames:x?}");
    Ok(())
}

/// As an interrupt comes that Xen brings where a halt's is masked still, on a processor that has forgotten the interrupt
/// shadow: its frame says that the halt is what to go on with. Nothing would end that halt.
#[cfg(granite_guest)]
fn before_the_halt(_: &Context) -> Result<(), NotPassed> {
    const BEFORE_HALT: u8 = 0x83;
    static CAME: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" {
        /// boot/traps.S: 256 stubs of 16 bytes.
        static trap_stubs: [[u8; 16]; 256];
        /// boot/idle.S
        static idle_halt: u8;
    }
    fn handler(_: &TrapFrame) {
        CAME.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler leaves interrupts masked.
    if unsafe { trap::handle(BEFORE_HALT, handler) }.is_err() {
        return Err(NotPassed::Fail("the vector is taken".into()));
    }
    let stub = (&raw const trap_stubs as u64) + 16 * u64::from(BEFORE_HALT);
    let masked = InterruptGuard::mask();
    // SAFETY: on the stack lies what `idle`'s caller and `idle` have pushed before the halt, and on it the frame of an
    // interrupt that comes there. Functions are called: registers are as behind a call.
    unsafe {
        asm!(
            "lea rax, [rip + 2f]", "push rax", "push rbp",
            "mov rcx, rsp", "mov eax, ss", "push rax", "push rcx",
            "pushfq", "or qword ptr [rsp], 0x200", "mov eax, cs", "push rax", "push rdx",
            "jmp rsi",
            "2: cli",
            in("rdx") &raw const idle_halt, in("rsi") stub,
            clobber_abi("sysv64"),
        );
    }
    drop(masked);
    check_same!(CAME.load(Ordering::Relaxed), 1);
    Ok(())
}

#[cfg(not(granite_guest))]
fn before_the_halt(_: &Context) -> Result<(), NotPassed> {
    Err(NotPassed::Fail("a process has no halt".into()))
}

fn unknown_interrupt(_: &Context) -> Result<(), NotPassed> {
    let mut kept = 7u64;
    // SAFETY: the gate exists, and what it leads to only prints.
    unsafe { asm!("int 0x80", "int 0xff", inout("r12") kept) };
    check_same!(kept, 7);
    Ok(())
}

/// Asks the live tables: where four kinds of exceptions begin, and whether that is on four stacks that are known.
fn own_stacks(_: &Context) -> Result<(), NotPassed> {
    const IST: u64 = 36; // Intel SDM volume 3, 64-bit task segment
    let mut pointer = [0u8; 10];
    let selector: u64;
    // SAFETY: both store what the processor holds.
    unsafe { asm!("sgdt [{}]", "str {:x}", in(reg) pointer.as_mut_ptr(), out(reg) selector) };
    let gdt = pointer[2..].first_chunk().copied().map_or(0, u64::from_le_bytes);
    // SAFETY: the descriptor of the task segment that is loaded lies there, 16 bytes of it.
    let [low, high] = unsafe { ((gdt + (selector & 0xfff8)) as *const [u64; 2]).read_unaligned() };
    let tss = (low >> 16 & 0xff_ffff) | (low >> 56 << 24) | (high << 32);
    // SAFETY: the task segment has seven slots at this offset.
    let slots = unsafe { ((tss + IST) as *const [u64; 7]).read_unaligned() };
    for (i, top) in slots[..4].iter().enumerate() {
        let span = stack::spans().find(|span| span.bytes.end == *top);
        check!(span.is_some_and(|span| span.name != "boot" && span.vcpu == 0), "slot {i} begins at {top:#x}");
        check!(!slots[..i].contains(top), "slot {i} shares its stack");
    }
    Ok(())
}

/// With interrupts enabled, and masked while a lock is held.
fn masking(_: &Context) -> Result<(), NotPassed> {
    static OUTER: IrqMutex<()> = IrqMutex::new(());
    static INNER: IrqMutex<()> = IrqMutex::new(());
    let enabled = || x86_64::instructions::interrupts::are_enabled();
    let inside_and_between = || OUTER.with(|()| (INNER.with(|()| enabled()), enabled()));
    let before = enabled();
    x86_64::instructions::interrupts::disable();
    let with_masked = (inside_and_between(), enabled());
    x86_64::instructions::interrupts::enable();
    let with_enabled = (inside_and_between(), enabled());
    if !before {
        x86_64::instructions::interrupts::disable();
    }
    check_same!(with_masked, ((false, false), false));
    check_same!(with_enabled, ((false, false), true));
    Ok(())
}
