//! Detects the hypervisor by CPUID.

use core::fmt;

use crate::abi::DomId;
use crate::abi::cpuid::{
    BASE_STEP, FIRST_BASE, HVM_DOMID_PRESENT, LAST_BASE, LEAF_HVM, LEAF_HYPERCALL, SIGNATURE,
};

/// EAX, EBX, ECX and EDX of a CPUID leaf (subleaf 0).
pub type Registers = [u32; 4];

/// The hypervisor shown by CPUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hypervisor {
    /// No hypervisor: the processor's hypervisor bit is clear.
    None,
    /// Another hypervisor, with its signature from the first leaf.
    Other([u8; 12]),
    /// Xen, with its leaves from `base` on.
    Xen {
        /// The first of Xen's leaves.
        base: u32,
    },
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("CPUID shows no hypervisor"),
            Self::Other(signature) => {
                write!(f, "CPUID shows the hypervisor \"{}\"", signature.escape_ascii())
            }
            Self::Xen { base } => write!(f, "CPUID shows Xen at leaf {base:#x}"),
        }
    }
}

/// Reads a CPUID leaf of this processor.
pub fn processor(leaf: u32) -> Registers {
    let result = core::arch::x86_64::__cpuid_count(leaf, 0);
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Finds the hypervisor. Xen may show Viridian leaves first, so this checks every possible base.
pub fn hypervisor(cpuid: impl Fn(u32) -> Registers) -> Hypervisor {
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if cpuid(1)[2] & HYPERVISOR_PRESENT == 0 {
        return Hypervisor::None;
    }
    (FIRST_BASE..LAST_BASE)
        .step_by(BASE_STEP as usize)
        .find(|&base| signature(cpuid(base)) == SIGNATURE)
        .map_or_else(|| Hypervisor::Other(signature(cpuid(FIRST_BASE))), |base| Hypervisor::Xen { base })
}

fn signature([_, ebx, ecx, edx]: Registers) -> [u8; 12] {
    let mut text = [0; 12];
    for (bytes, word) in text.chunks_exact_mut(4).zip([ebx, ecx, edx]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    text
}

/// Returns the number of the MSR for the hypercall page's address.
pub fn hypercall_msr(base: u32, cpuid: impl Fn(u32) -> Registers) -> u32 {
    cpuid(base + LEAF_HYPERCALL)[1]
}

/// Returns this domain's number, if this Xen shows it.
pub fn domain(base: u32, cpuid: impl Fn(u32) -> Registers) -> Option<DomId> {
    let [flags, _, id, _] = cpuid(base + LEAF_HVM);
    (flags & HVM_DOMID_PRESENT != 0).then_some(DomId(id as u16))
}

#[cfg(test)]
mod tests {
    use super::{DomId, Hypervisor, Registers, domain, hypercall_msr, hypervisor};
    use std::string::ToString;

    /// A processor with Xen's leaves at `base`, and another hypervisor's before.
    fn xen_at(base: u32) -> impl Fn(u32) -> Registers + Copy {
        move |leaf| match leaf {
            1 => [0, 0, 1 << 31, 0],
            _ if leaf == base => [base + 4, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e],
            _ if leaf == base + 2 => [1, 0x4000_0000, 0, 0],
            _ if leaf == base + 4 => [1 << 4, 0, 7, 0],
            0x4000_0000 => [0, 0x7263_694d, 0x666f_736f, 0x7648_2074],
            _ => [0; 4],
        }
    }

    #[test]
    fn xen_is_found_behind_viridian_leaves() {
        for base in [0x4000_0000, 0x4000_0100, 0x4000_ff00] {
            let cpuid = xen_at(base);
            assert_eq!(hypervisor(cpuid), Hypervisor::Xen { base });
            assert_eq!(hypercall_msr(base, cpuid), 0x4000_0000);
            assert_eq!(domain(base, cpuid), Some(DomId(7)));
        }
    }

    #[test]
    fn others_are_named() {
        let viridian = xen_at(0x5000_0000);
        assert_eq!(hypervisor(viridian).to_string(), "CPUID shows the hypervisor \"Microsoft Hv\"");
        assert_eq!(hypervisor(|_| [0; 4]).to_string(), "CPUID shows no hypervisor");
    }

    #[test]
    fn an_old_xen_does_not_tell_the_domain() {
        assert_eq!(domain(0x4000_0000, |_| [0; 4]), None);
    }
}
