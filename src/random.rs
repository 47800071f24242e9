//! Layer 4: random numbers, good enough for keys, with the feature `random`.
//!
//! Xen gives a guest no random numbers, so they come from the processor: RDSEED and RDRAND. [`fill`] mixes their
//! output with the time-stamp counter, its jitter, and the domain's handle into a key of ChaCha20. It replaces the
//! key at every use, so earlier numbers can't be recovered from a later key. A processor with neither instruction gives
//! no numbers: [`NoEntropy`].
//!
//! With this feature the crate `getrandom` (0.3 and 0.4) works in a guest, and so do the crates built on it. [`Rng`] is
//! a generator for `rand`:
//!
//! ```
//! use granite::random;
//! use rand_core::TryRng;
//!
//! let mut key = [0; 32];
//! random::fill(&mut key)?;
//! let die = random::Rng.try_next_u32()? % 6 + 1;
//! # Ok::<_, random::NoEntropy>(())
//! ```

use core::arch::x86_64::{__cpuid, __cpuid_count, _rdrand64_step, _rdseed64_step};
use core::fmt;

use chacha20::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng, TryCryptoRng, TryRng};

use crate::arch;
use crate::hypercall::{Xen, version};
use crate::sync::IrqMutex;

/// The processor gives no random numbers: it has neither RDSEED nor RDRAND, or they fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no random numbers: the processor has neither RDSEED nor RDRAND (of QEMU: -cpu NAME,+rdrand)",
        )
    }
}

impl core::error::Error for NoEntropy {}

type Key = [u8; 32];

/// The key of the next numbers; `None` before the first use.
static KEY: IrqMutex<Option<Key>> = IrqMutex::new(None);

/// The maximum number of bytes made with one key: interrupts are masked meanwhile.
const CHUNK: usize = 512;

/// Fills `bytes` with random bytes.
///
/// # Errors
///
/// [`NoEntropy`] if the first key can't be made; the bytes are unchanged.
pub fn fill(bytes: &mut [u8]) -> Result<(), NoEntropy> {
    if !KEY.with(|key| key.is_some()) {
        reseed()?;
    }
    for chunk in bytes.chunks_mut(CHUNK) {
        let made = KEY.with(|key| key.as_mut().map(|key| next(key, chunk)));
        made.ok_or(NoEntropy)?;
    }
    Ok(())
}

/// Mixes fresh entropy into the key. Call it when another domain may have the same key: after a resume, or in a copy
/// of a domain.
///
/// # Errors
///
/// [`NoEntropy`] if the processor gives no random numbers; the key is unchanged.
pub fn reseed() -> Result<(), NoEntropy> {
    let fresh = fresh()?;
    KEY.with(|key| {
        let mut mixed = key.unwrap_or_default();
        fresh.iter().for_each(|block| absorb(&mut mixed, block));
        *key = Some(mixed);
    });
    Ok(())
}

/// Makes bytes, and the key of the next ones.
fn next(key: &mut Key, bytes: &mut [u8]) {
    let mut stream = ChaCha20Rng::from_seed(*key);
    stream.fill_bytes(key);
    stream.fill_bytes(bytes);
}

/// Mixes a block into a key. The result is as hard to guess as the harder of the two.
fn absorb(key: &mut Key, block: &Key) {
    key.iter_mut().zip(block).for_each(|(byte, mixed)| *byte ^= mixed);
    next(key, &mut []);
}

/// Returns blocks of entropy: random words unknown to other domains, and values that differ between domains.
fn fresh() -> Result<[Key; 4], NoEntropy> {
    let mut blocks = [Key::default(); 4];
    for word in blocks[0].as_chunks_mut::<8>().0 {
        *word = hardware().ok_or(NoEntropy)?.to_le_bytes();
    }
    // Xen or QEMU may handle this instruction, so its duration varies in the low bits.
    let (jitter, rest) = blocks[1..].split_at_mut(2);
    for byte in jitter.iter_mut().flatten() {
        *byte = arch::time_stamp() as u8;
    }
    if let Some(handle) = Xen::enabled().and_then(|xen| version::handle(&xen).ok()) {
        rest[0][..16].copy_from_slice(&handle);
    }
    rest[0][16..24].copy_from_slice(&arch::time_stamp().to_le_bytes());
    Ok(blocks)
}

/// Returns a word from RDSEED, or from RDRAND if RDSEED fails or isn't there.
fn hardware() -> Option<u64> {
    // The number of tries: Intel's manual says 10 for RDRAND, and RDSEED may be short for longer.
    const TRIES: usize = 32;
    // A processor without leaf 7 answers with another leaf.
    let has_rdseed = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 18 != 0;
    let has_rdrand = __cpuid(1).ecx & 1 << 30 != 0;
    let tries = |is_there: bool, read: unsafe fn() -> Option<u64>| {
        // SAFETY: CPUID reports this instruction.
        (0..TRIES).filter(|_| is_there).find_map(|_| unsafe { read() })
    };
    // A processor with a known fault returns all ones and reports success.
    let is_sound = |word: &u64| *word != 0 && *word != u64::MAX;
    tries(has_rdseed, rdseed).filter(is_sound).or_else(|| tries(has_rdrand, rdrand).filter(is_sound))
}

#[target_feature(enable = "rdseed")]
fn rdseed() -> Option<u64> {
    let mut word = 0;
    (_rdseed64_step(&mut word) == 1).then_some(word)
}

#[target_feature(enable = "rdrand")]
fn rdrand() -> Option<u64> {
    let mut word = 0;
    (_rdrand64_step(&mut word) == 1).then_some(word)
}

/// The domain's generator, for the traits of `rand_core`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rng;

impl TryRng for Rng {
    type Error = NoEntropy;

    fn try_next_u32(&mut self) -> Result<u32, NoEntropy> {
        let mut bytes = [0; 4];
        fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoEntropy> {
        let mut bytes = [0; 8];
        fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        fill(bytes)
    }
}

impl TryCryptoRng for Rng {}

/// The function called by the crate getrandom, in versions 0.3 and 0.4; their errors are the same word. `cargo xtask`
/// sets the configuration that selects it.
///
/// # Safety
///
/// `bytes` must be valid for writes of `len` bytes.
#[cfg(granite_guest)]
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(bytes: *mut u8, len: usize) -> Result<(), getrandom::Error> {
    // SAFETY: the caller guarantees the range. Uninitialised bytes are zeroed before a slice is made of them.
    let bytes = unsafe {
        bytes.write_bytes(0, len);
        core::slice::from_raw_parts_mut(bytes, len)
    };
    fill(bytes).map_err(|NoEntropy| getrandom::Error::UNSUPPORTED)
}

#[cfg(test)]
mod tests {
    use super::{Key, NoEntropy, absorb, fill, hardware, next};
    use std::vec;

    #[test]
    fn a_key_is_used_once_and_every_bit_of_a_block_changes_it() {
        let mut key = Key::default();
        let (mut first, mut second) = ([0; 64], [0; 64]);
        next(&mut key, &mut first);
        next(&mut key, &mut second);
        assert_ne!(first, second);
        let of = |bit: usize| {
            let mut block = Key::default();
            block[bit / 8] = 1 << (bit % 8);
            let mut key = Key::default();
            absorb(&mut key, &block);
            key
        };
        let keys: std::collections::BTreeSet<_> = (0..256).map(of).collect();
        assert_eq!(keys.len(), 256);
    }

    /// The cipher of RFC 8439: key and nonce of zeros, from block 0 on. The first 32 bytes are the next key.
    #[test]
    fn the_stream_is_chacha20() {
        let mut key = Key::default();
        let mut bytes = [0; 32];
        next(&mut key, &mut bytes);
        assert_eq!(key[..8], [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        assert_eq!(bytes[..8], [0xda, 0x41, 0x59, 0x7c, 0x51, 0x57, 0x48, 0x8d]);
    }

    #[test]
    fn long_texts_have_no_part_twice() {
        let mut bytes = vec![0; 5000];
        if hardware().is_none() {
            assert_eq!(fill(&mut bytes), Err(NoEntropy));
            assert!(bytes.iter().all(|&byte| byte == 0));
            return;
        }
        fill(&mut bytes).unwrap();
        let parts: std::collections::BTreeSet<_> = bytes.chunks_exact(8).collect();
        assert_eq!(parts.len(), 625);
    }
}
