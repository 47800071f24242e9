//! Instructions that reach below the stack pointer. An interrupt that stays on the same stack overwrites what
//! they keep there; code for the guest is compiled without them, and this is how we know.

use std::fmt;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use object::elf::{FileHeader64, SHF_EXECINSTR, STT_FUNC};
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::{LittleEndian, SectionIndex};

type Elf = FileHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// One such instruction.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// Where it is.
    pub address: u64,
    /// The function around it.
    pub function: String,
    /// How far below the stack pointer it reaches, in bytes.
    pub below: u64,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} in {}, {} bytes below", self.address, self.function, self.below)
    }
}

/// Decodes every function of an ELF file and lists what it finds; nothing if the file can't be read.
pub fn find(bytes: &[u8]) -> Option<Vec<Access>> {
    let elf = Elf::parse(bytes).ok()?;
    let sections = elf.sections(LE, bytes).ok()?;
    let symbols = sections.symbols(LE, bytes, object::elf::SHT_SYMTAB).ok()?;
    let mut found = Vec::new();
    for symbol in symbols.iter().filter(|symbol| symbol.st_type() == STT_FUNC) {
        let index = SectionIndex(symbol.st_shndx(LE).into());
        let Ok(section) = sections.section(index) else { continue };
        if section.sh_flags(LE) & u64::from(SHF_EXECINSTR) == 0 {
            continue;
        }
        let name = String::from_utf8_lossy(symbols.symbol_name(LE, symbol).unwrap_or_default());
        if name == "pvh_entry" {
            continue; // 32-bit code, before there is an interrupt table
        }
        let data = section.data(LE, bytes).ok()?;
        let start = usize::try_from(symbol.st_value(LE).checked_sub(section.sh_addr(LE))?).ok()?;
        let size = usize::try_from(symbol.st_size(LE)).ok()?;
        let code = data.get(start..start + size)?;
        found.extend(in_code(code, symbol.st_value(LE)).map(|(address, below)| Access {
            address,
            function: addr2line::demangle_auto(name.clone(), None).into_owned(),
            below,
        }));
    }
    found.sort_by_key(|access| access.address);
    found.dedup_by_key(|access| access.address);
    Some(found)
}

/// The addresses of instructions that read or write below RSP, and how far.
fn in_code(code: &[u8], address: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
        .filter_map(|instruction| Some((instruction.ip(), below_stack_pointer(&instruction)?)))
}

fn below_stack_pointer(instruction: &Instruction) -> Option<u64> {
    // `lea` computes an address and touches nothing, `nop` neither.
    if matches!(instruction.mnemonic(), Mnemonic::Lea | Mnemonic::Nop) {
        return None;
    }
    let has_memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    let displacement = instruction.memory_displacement64().cast_signed();
    let below = has_memory && instruction.memory_base() == Register::RSP && displacement < 0;
    below.then(|| displacement.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::in_code;

    #[test]
    fn accesses_below_the_stack_pointer_are_seen_and_others_are_not() {
        let code = [
            &[0x48, 0x89, 0x44, 0x24, 0xf8][..],       // mov [rsp-8], rax
            &[0x0f, 0x29, 0x44, 0x24, 0x80],           // movaps [rsp-0x80], xmm0
            &[0x48, 0x8b, 0x44, 0x24, 0x08],           // mov rax, [rsp+8]
            &[0x48, 0x8d, 0x64, 0x24, 0xf8],           // lea rsp, [rsp-8]
            &[0x48, 0x8b, 0x45, 0xf8],                 // mov rax, [rbp-8]
            &[0x66, 0x0f, 0x1f, 0x44, 0x24, 0xf8],     // nop [rsp-8]
        ]
        .concat();
        let found: Vec<_> = in_code(&code, 0x1000).collect();
        assert_eq!(found, [(0x1000, 8), (0x1005, 0x80)]);
    }
}
