//! Each mutant removes one ordering, fence or second check: a model must fail.

use super::Mutant;

const BITS: &str = "core/src/sync/bits.rs";
const LIST: &str = "core/src/freelist/mod.rs";
const MANY: &str = "core/src/freelist/many.rs";
const WAITERS: &str = "core/src/freelist/waiters.rs";
const ENTRY: &str = "core/src/entry.rs";
const RING: &str = "core/src/ring/mod.rs";

/// The mutants of the modelled code.
pub const MUTANTS: &[Mutant] = &[
    ("insert_without_release", BITS, "Ordering::Release); // insert", "Ordering::Relaxed);"),
    ("take_without_acquire", BITS, "Ordering::Acquire) & wanted; // take", "Ordering::Relaxed) & wanted;"),
    (
        "take_what_another_took",
        BITS,
        "word.fetch_and(!wanted, Ordering::Acquire) & wanted; // take",
        "{ word.fetch_and(!wanted, Ordering::Acquire); wanted };",
    ),
    ("take_gives_up", BITS, "        // Other vCPUs took all of them meanwhile.", "        return 0;"),
    ("run_not_put_back", BITS, "                self.insert_word(index, taken);", ""),
    (
        "run_put_back_in_part",
        BITS,
        "                self.insert(range.start..(index * BITS).max(range.start));",
        "",
    ),
    ("shortage_without_fence", WAITERS, "fence(Ordering::SeqCst); // declare_scarce", ""),
    ("wake_without_fence", WAITERS, "fence(Ordering::SeqCst); // wake_if_scarce", ""),
    ("exhausted_without_a_second_look", LIST, "first.or_else(again).map(", "first.map("),
    ("free_wakes_no_one", LIST, "self.wake_if_scarce(); // free", ""),
    ("flush_wakes_no_one", LIST, "self.wake_if_scarce(); // flush", ""),
    ("growth_wakes_no_one", LIST, "self.wake_if_scarce(); // grow", ""),
    ("many_wake_no_one", MANY, "self.flush(); // and wakes", ""),
    ("publish_without_release", ENTRY, "Ordering::Release); // publish", "Ordering::Relaxed);"),
    ("end_access_without_acquire", ENTRY, "Ordering::Acquire, // end_access", "Ordering::Relaxed,"),
    ("end_access_v2_without_fence", ENTRY, "fence(Ordering::SeqCst); // end_access, version 2", ""),
    (
        "end_access_v2_not_restored",
        ENTRY,
        "self.word().store(word, Ordering::Release); // end_access, version 2: restored",
        "",
    ),
    ("make_readonly_without_acquire", ENTRY, "Ordering::Acquire, // make_readonly", "Ordering::Relaxed, //"),
    ("make_readonly_v2_without_fence", ENTRY, "fence(Ordering::SeqCst); // make_readonly, version 2", ""),
    (
        "make_readonly_v2_not_restored",
        ENTRY,
        "self.word().store(word, Ordering::Release); // make_readonly, version 2: restored",
        "",
    ),
    ("make_writable_without_release", ENTRY, "Ordering::Release); // make_writable", "Ordering::Relaxed);"),
    ("withdraw_without_acquire", ENTRY, "Ordering::Acquire, // withdraw", "Ordering::Relaxed,"),
    ("ring_publish_without_release", RING, "Ordering::Release); // publish", "Ordering::Relaxed);"),
    ("ring_publish_without_fence", RING, "fence(Ordering::SeqCst); // publish", ""),
    ("ring_look_without_acquire", RING, "Ordering::Acquire); // look", "Ordering::Relaxed);"),
    ("ring_arm_without_fence", RING, "fence(Ordering::SeqCst); // arm", ""),
];
