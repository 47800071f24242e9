//! Images of kernels, which may be anything.

use alloc::vec;
use alloc::vec::Vec;

use granite::toolstack::kernel::{Kernel, KernelError};

use crate::harness::{ALL, Case, Context, NotPassed};
use granite::testing::check_same;

/// The cases.
pub const CASES: &[Case] = &[Case::new("kernel::images_that_are_none", ALL, no_kernels)];

/// An ELF header for x86-64, with so many program headers behind it.
fn elf(headers: &[[u64; 7]]) -> Vec<u8> {
    let mut image = vec![0; 64];
    image[..6].copy_from_slice(b"\x7fELF\x02\x01");
    image[6] = 1;
    image[16..18].copy_from_slice(&2u16.to_le_bytes());
    image[18..20].copy_from_slice(&62u16.to_le_bytes());
    image[20] = 1;
    image[32] = 64; // program headers
    image[52] = 64;
    image[54] = 56;
    image[56..58].copy_from_slice(&(headers.len() as u16).to_le_bytes());
    for header in headers {
        header.iter().for_each(|word| image.extend(word.to_le_bytes()));
    }
    image
}

fn no_kernels(_: &Context) -> Result<(), NotPassed> {
    const LOAD: u64 = 1;
    const NOTE: u64 = 4;
    let read = |image: &[u8]| Kernel::read(image).err();
    for image in [&b""[..], b"\x7fELF", b"text", &[0; 4096]] {
        check_same!(read(image), Some(KernelError::NotElf));
    }
    check_same!(read(&elf(&[])), Some(KernelError::NoEntry));
    let mut other = elf(&[]);
    other[18] = 40; // Arm
    check_same!(read(&other), Some(KernelError::NotElf));
    // Type, offset, virtual and physical address, sizes in the file and in memory, alignment.
    let with_note = |segment: [u64; 7]| {
        let offset = 64 + 2 * 56;
        let mut image = elf(&[[NOTE, offset, 0, 0, 20, 20, 4], segment]);
        for word in [4u32, 4, 18, u32::from_le_bytes(*b"Xen\0"), 0x20_0000] {
            image.extend(word.to_le_bytes());
        }
        image
    };
    let good = [LOAD, 0, 0x20_0000, 0x20_0000, 16, 4096, 4096];
    let image = with_note(good);
    let kernel = Kernel::read(&image).map_err(|error| NotPassed::Fail(alloc::format!("{error}")))?;
    check_same!((kernel.entry, kernel.end(), kernel.segments.len()), (0x20_0000, 0x20_1000, 1));
    check_same!(kernel.segments[0].bytes.len(), 16);
    let bad = |change: fn(&mut [u64; 7])| {
        let mut segment = good;
        change(&mut segment);
        read(&with_note(segment))
    };
    check_same!(bad(|s| s[0] = 7), Some(KernelError::BadSegment)); // nothing to load
    check_same!(bad(|s| s[3] = 0x30_0000), Some(KernelError::BadSegment)); // entered outside of it
    check_same!(bad(|s| s[3] = u64::MAX - 10), Some(KernelError::BadSegment)); // it wraps
    check_same!(bad(|s| s[5] = 8), Some(KernelError::BadSegment)); // larger than its place
    check_same!(bad(|s| s[4] = 1 << 40), Some(KernelError::NotElf)); // cut off
    check_same!(bad(|s| s[1] = u64::MAX), Some(KernelError::NotElf));
    // Whatever is cut off anywhere is no kernel, or one with less in it; never a panic.
    for end in 0..image.len() {
        let _ = Kernel::read(&image[..end]);
    }
    Ok(())
}
