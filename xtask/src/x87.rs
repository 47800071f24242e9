//! Finds instructions of x87 and MMX. A trap doesn't save their registers (boot/traps.S), so a handler changing them
//! would corrupt the interrupted code. Rust compiles to none of them; C with `long double` does, and assembly may.

use std::fmt;

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Mnemonic};

use crate::functions::Function;

/// One such instruction.
#[derive(Debug, PartialEq, Eq)]
pub struct Use {
    /// Its address.
    pub address: u64,
    /// The function containing it.
    pub function: String,
    /// Its mnemonic.
    pub mnemonic: Mnemonic,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} in {}, {:?}", self.address, self.function, self.mnemonic)
    }
}

/// Returns the uses in these functions.
pub fn find(functions: &[Function<'_>]) -> Vec<Use> {
    let mut found = Vec::new();
    for function in functions {
        for (address, mnemonic) in in_code(function.code, function.address) {
            found.push(Use { address, function: function.name.clone(), mnemonic });
        }
    }
    found
}

fn in_code(code: &[u8], address: u64) -> Vec<(u64, Mnemonic)> {
    let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let has_a_register = |features: &[CpuidFeature]| {
        use CpuidFeature::{FPU, FPU287, FPU387, MMX};
        features.iter().any(|feature| matches!(*feature, FPU | FPU287 | FPU387 | MMX))
    };
    decoder
        .into_iter()
        // Allowed: the reset at the start of a vCPU, and waiting for the x87.
        .filter(|instruction| !matches!(instruction.mnemonic(), Mnemonic::Fninit | Mnemonic::Wait))
        .filter(|instruction| {
            has_a_register(instruction.cpuid_features())
                || (0..instruction.op_count()).any(|operand| instruction.op_register(operand).is_mm())
        })
        .map(|instruction| (instruction.ip(), instruction.mnemonic()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::in_code;
    use iced_x86::Mnemonic;

    #[test]
    fn what_a_trap_does_not_keep_is_seen_and_nothing_else() {
        let code = [
            &[0xd9, 0xe8][..],               // fld1
            &[0xdd, 0x5c, 0x24, 0x08],       // fstp qword [rsp+8]
            &[0x0f, 0x6f, 0x07],             // movq mm0, [rdi]
            &[0xf2, 0x0f, 0x2d, 0xc0],       // cvtsd2si eax, xmm0
            &[0x66, 0x0f, 0x2d, 0xc8],       // cvtpd2pi mm1, xmm0
            &[0x0f, 0x77],                   // emms
            &[0xdb, 0xe3],                   // fninit
            &[0x0f, 0x29, 0x44, 0x24, 0x10], // movaps [rsp+16], xmm0
            &[0x0f, 0xae, 0x14, 0x24],       // ldmxcsr [rsp]
        ]
        .concat();
        let found: Vec<_> = in_code(&code, 0x1000).into_iter().map(|(_, mnemonic)| mnemonic).collect();
        assert_eq!(
            found,
            [Mnemonic::Fld1, Mnemonic::Fstp, Mnemonic::Movq, Mnemonic::Cvtpd2pi, Mnemonic::Emms]
        );
    }
}
