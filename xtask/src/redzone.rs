//! Finds instructions accessing memory below the stack pointer. An interrupt on the same stack overwrites their data.
//! Guest code is compiled without them, and this check verifies it.

use std::fmt;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::functions::Function;

/// One such instruction.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// Its address.
    pub address: u64,
    /// The function containing it.
    pub function: String,
    /// How far below the stack pointer it reaches, in bytes.
    pub below: u64,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} in {}, {} bytes below", self.address, self.function, self.below)
    }
}

/// Returns the accesses in these functions.
pub fn find(functions: &[Function<'_>]) -> Vec<Access> {
    let accesses = functions.iter().flat_map(|function| {
        let found = in_code(function.code, function.address).into_iter();
        found.map(|(address, below)| Access { address, function: function.name.clone(), below })
    });
    accesses.collect()
}

/// Returns the instructions of one function that access memory below RSP, and how far below. They use RSP directly, or
/// RBP with an offset deeper than the function ever moves RSP.
fn in_code(code: &[u8], address: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut frame = Frame::default();
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        frame.follow(&instruction);
        match memory_below(&instruction) {
            Some((Register::RSP, below)) => found.push((instruction.ip(), below)),
            Some((Register::RBP, below)) if frame.kept => frame.used.push((instruction.ip(), below)),
            _ => {}
        }
    }
    let deepest = frame.deepest;
    // Memory between RBP and the deepest RSP belongs to the function. Only memory below it is unprotected.
    found.extend(
        frame.used.iter().filter(|(_, below)| *below > deepest).map(|(ip, below)| (*ip, below - deepest)),
    );
    found
}

/// Returns the base register of a memory access, and how far below it the instruction reaches.
fn memory_below(instruction: &Instruction) -> Option<(Register, u64)> {
    // `lea` computes an address without an access, and `nop` makes none either.
    if matches!(instruction.mnemonic(), Mnemonic::Lea | Mnemonic::Nop) {
        return None;
    }
    let has_memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    let displacement = instruction.memory_displacement64().cast_signed();
    // With an index register, the instruction alone doesn't determine the address.
    let known = has_memory && instruction.memory_index() == Register::None && displacement < 0;
    known.then(|| (instruction.memory_base(), displacement.unsigned_abs()))
}

/// Tracks how far below RBP the stack pointer goes, in a function with a frame pointer, in the order of addresses.
/// Compiled code moves RSP in its prologue and back in its epilogues, and a push in between only deepens the frame. So
/// the deepest point is found, regardless of the function's control flow.
#[derive(Default)]
struct Frame {
    /// Whether RBP points into this function's frame.
    kept: bool,
    depth: u64,
    deepest: u64,
    /// The stack pointer's depth after a loop touching each page of a large frame.
    probed: Option<u64>,
    /// Accesses below RBP.
    used: Vec<(u64, u64)>,
}

impl Frame {
    fn follow(&mut self, instruction: &Instruction) {
        let is = |operand, register| {
            instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand) == register
        };
        let moves_rsp = instruction.op_count() == 2 && is(0, Register::RSP);
        match instruction.mnemonic() {
            Mnemonic::Mov if is(0, Register::RBP) && is(1, Register::RSP) => {
                (self.kept, self.depth) = (true, 0)
            }
            Mnemonic::Mov if moves_rsp && is(1, Register::RBP) => self.depth = 0,
            Mnemonic::Push => self.depth += 8,
            Mnemonic::Pop => self.depth = self.depth.saturating_sub(8),
            Mnemonic::Sub if moves_rsp => {
                // By a register: an array sized at run time, or probing. The depth is unknown then.
                let constant = instruction.try_immediate(1).ok();
                self.depth = constant.map_or(u64::MAX / 2, |constant| self.depth.saturating_add(constant));
            }
            Mnemonic::And if moves_rsp => self.depth = u64::MAX / 2,
            Mnemonic::Add if moves_rsp => {
                self.depth = self.depth.saturating_sub(instruction.try_immediate(1).unwrap_or(0));
            }
            Mnemonic::Lea if moves_rsp && instruction.memory_base() == Register::RBP => {
                self.depth = 0u64.wrapping_sub(instruction.memory_displacement64());
            }
            Mnemonic::Lea if moves_rsp => self.depth = u64::MAX / 2,
            // A probing loop starts with `mov r11, rsp` and `sub r11, SIZE`, and ends once RSP equals R11.
            Mnemonic::Mov if is(0, Register::R11) && is(1, Register::RSP) => self.probed = Some(self.depth),
            Mnemonic::Sub if is(0, Register::R11) => {
                let size = instruction.try_immediate(1).ok();
                self.probed = self.probed.zip(size).map(|(depth, size)| depth.saturating_add(size));
            }
            Mnemonic::Cmp if moves_rsp && is(1, Register::R11) => {
                self.depth = self.probed.take().unwrap_or(self.depth);
            }
            _ => {}
        }
        if self.kept {
            self.deepest = self.deepest.max(self.depth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::in_code;

    #[test]
    fn accesses_below_the_stack_pointer_are_seen_and_others_are_not() {
        let code = [
            &[0x48, 0x89, 0x44, 0x24, 0xf8][..],   // mov [rsp-8], rax
            &[0x0f, 0x29, 0x44, 0x24, 0x80],       // movaps [rsp-0x80], xmm0
            &[0x48, 0x8b, 0x44, 0x24, 0x08],       // mov rax, [rsp+8]
            &[0x48, 0x8d, 0x64, 0x24, 0xf8],       // lea rsp, [rsp-8]
            &[0x48, 0x8b, 0x45, 0xf8],             // mov rax, [rbp-8]
            &[0x66, 0x0f, 0x1f, 0x44, 0x24, 0xf8], // nop [rsp-8]
        ]
        .concat();
        assert_eq!(in_code(&code, 0x1000), [(0x1000, 8), (0x1005, 0x80)]);
    }

    #[test]
    fn a_frame_pointer_hides_nothing() {
        let prologue = [0x55, 0x48, 0x89, 0xe5]; // push rbp; mov rbp, rsp
        let store = [0x48, 0x89, 0x45, 0xf0]; // mov [rbp-16], rax
        let leave = [0x5d, 0xc3]; // pop rbp; ret
        let function = |middle: &[u8]| [&prologue[..], middle, &store, &leave].concat();
        assert_eq!(in_code(&function(&[]), 0), [(4, 16)], "a leaf function in the red zone");
        let sub = [0x48, 0x83, 0xec, 0x10]; // sub rsp, 16
        assert_eq!(in_code(&function(&sub), 0), []);
        assert_eq!(in_code(&function(&[0x53]), 0), [(5, 8)], "push rbx makes room for 8 of the 16");
        assert_eq!(in_code(&function(&[0x53, 0x50]), 0), []);
        let probing = [
            &[0x49, 0x89, 0xe3][..],                           // mov r11, rsp
            &[0x49, 0x81, 0xeb, 0x00, 0x00, 0x08, 0x00],       // sub r11, 0x80000
            &[0x48, 0x81, 0xec, 0x00, 0x10, 0x00, 0x00],       // sub rsp, 0x1000
            &[0x48, 0xc7, 0x04, 0x24, 0x00, 0x00, 0x00, 0x00], // mov qword [rsp], 0
            &[0x4c, 0x39, 0xdc, 0x75, 0xec],                   // cmp rsp, r11; jne back to the sub
        ]
        .concat();
        let deep = |below: i32| {
            [&probing[..], &[0x48, 0x89, 0x85], &below.to_le_bytes()].concat() // mov [rbp-below], rax
        };
        assert_eq!(in_code(&function(&deep(-0x8_0000)), 0), [], "a frame of 512 KiB");
        assert_eq!(in_code(&function(&deep(-0x8_0008)), 0).len(), 1, "and 8 bytes below it");
        let align = [0x48, 0x83, 0xe4, 0xe0]; // and rsp, -32
        assert_eq!(in_code(&function(&align), 0), []);
    }
}
