//! Splits an image's code into functions, for inspecting its instructions.

use object::elf::{FileHeader64, SHF_EXECINSTR, STT_FUNC};
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::{LittleEndian, SectionIndex};

type Elf = FileHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// One function.
pub struct Function<'a> {
    /// Its demangled name.
    pub name: String,
    /// The address of its first instruction.
    pub address: u64,
    /// Its instructions.
    pub code: &'a [u8],
}

/// Returns the functions named by the symbols of an ELF file, in the order of their addresses, without the 32-bit
/// entry. Returns `None` if the file can't be read, or if most of its code has no symbols.
pub fn of(bytes: &[u8]) -> Option<Vec<Function<'_>>> {
    let elf = Elf::parse(bytes).ok()?;
    let sections = elf.sections(LE, bytes).ok()?;
    let symbols = sections.symbols(LE, bytes, object::elf::SHT_SYMTAB).ok()?;
    let executable = sections.iter().filter(|section| section.sh_flags(LE) & u64::from(SHF_EXECINSTR) != 0);
    let all: u64 = executable.map(|section| section.sh_size(LE)).sum();
    let mut seen = 0;
    let mut functions = Vec::new();
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
        seen += symbol.st_size(LE);
        let name = addr2line::demangle_auto(name, None).into_owned();
        functions.push(Function { name, address: symbol.st_value(LE), code });
    }
    // Code without symbols should be only padding and the hypercall page.
    if seen * 2 < all {
        return None;
    }
    functions.sort_by_key(|function| function.address);
    // Several names of the same code.
    functions.dedup_by_key(|function| (function.address, function.code.len()));
    Some(functions)
}
