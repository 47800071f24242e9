//! Return addresses, read from the chain of frame pointers; every guest build keeps them.

use super::stack;

/// The maximum number of frames in a walk.
const MAX_DEPTH: usize = 32;

/// Follows the chain of frame pointers from `rbp` and returns each return address.
///
/// The walk goes on only while the chain climbs inside one of our own stacks. A damaged chain therefore ends the walk
/// and doesn't fault.
pub fn return_addresses(rbp: u64) -> impl Iterator<Item = u64> {
    let stack = stack::spans().map(|span| span.bytes).find(|bytes| bytes.contains(&rbp));
    let mut frame = rbp;
    core::iter::from_fn(move || {
        let bytes = stack.as_ref()?;
        let room = bytes.end.checked_sub(frame).filter(|_| frame >= bytes.start);
        let inside = frame.is_multiple_of(8) && room.is_some_and(|room| room >= 16);
        if !inside {
            return None;
        }
        // SAFETY: both words are aligned and lie inside a stack; stacks stay mapped while the kernel runs. It may be
        // the running stack, but this function doesn't write these words.
        let [next, address] = unsafe { (frame as *const [u64; 2]).read_volatile() };
        // Callers' frames lie above; a frame that doesn't climb could make the walk endless.
        frame = if next > frame { next } else { 0 };
        (address != 0).then_some(address)
    })
    .take(MAX_DEPTH)
}

/// Returns the caller's frame pointer (RBP).
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: it only reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

#[cfg(test)]
mod tests {
    use super::return_addresses;
    use crate::arch::stack;
    use std::vec::Vec;

    #[test]
    fn a_damaged_chain_ends_the_walk() {
        let Some(span) = stack::spans().find(|span| span.name == "NMI") else { panic!("no such stack") };
        let (low, high) = (span.bytes.start, span.bytes.start + 64);
        let walk = |next: u64| {
            // SAFETY: the host doesn't use this stack, and no other test writes to it.
            unsafe { (low as *mut [u64; 2]).write_volatile([next, 1]) };
            return_addresses(low).collect::<Vec<_>>()
        };
        for end in [
            0,
            1,
            low,
            low - 8,
            high + 1,
            span.bytes.end - 8,
            span.bytes.end,
            u64::MAX,
            u64::MAX - 7,
            u64::MAX - 15,
        ] {
            assert_eq!(walk(end), [1], "{end:#x}");
        }
        // SAFETY: as above.
        unsafe { (high as *mut [u64; 2]).write_volatile([0, 2]) };
        assert_eq!(walk(high), [1, 2]);
        assert_eq!(return_addresses(0x1000).count(), 0, "no stack of ours");
    }
}
