//! Each mutant removes one ordering, fence or second check: its model must fail.

use super::Mutant;

const BITS: &str = "core/src/sync/bits.rs";
const LIST: &str = "core/src/freelist/mod.rs";
const MANY: &str = "core/src/freelist/many.rs";
const WAITERS: &str = "core/src/freelist/waiters.rs";
const ENTRY: &str = "core/src/entry.rs";
const RING: &str = "core/src/ring/mod.rs";

/// The mutants of the modelled code, each with a model expected to fail.
pub const MUTANTS: &[(Mutant, &str)] = &[
    (
        ("insert_without_release", BITS, "Ordering::Release); // insert", "Ordering::Relaxed);"),
        "loom::freelist::alloc_against_free",
    ),
    (
        (
            "take_without_acquire",
            BITS,
            "Ordering::Acquire) & wanted; // take",
            "Ordering::Relaxed) & wanted;",
        ),
        "loom::freelist::alloc_against_free",
    ),
    (
        (
            "take_what_another_took",
            BITS,
            "word.fetch_and(!wanted, Ordering::Acquire) & wanted; // take",
            "{ word.fetch_and(!wanted, Ordering::Acquire); wanted };",
        ),
        "loom::freelist::alloc_against_alloc",
    ),
    (
        ("take_gives_up", BITS, "        // Other vCPUs took all of them meanwhile.", "        return 0;"),
        "loom::freelist::exhausted_only_if_none_is_free_however_often_another_is_first",
    ),
    (
        ("run_not_put_back", BITS, "                self.insert_word(index, taken);", ""),
        "loom::freelist::run_against_run_across_words",
    ),
    (
        (
            "run_put_back_in_part",
            BITS,
            "                self.insert(range.start..(index * BITS).max(range.start));",
            "",
        ),
        "loom::freelist::run_against_run_across_words",
    ),
    (
        ("shortage_without_fence", WAITERS, "fence(Ordering::SeqCst); // declare_scarce", ""),
        "loom::freelist::wait_against_free",
    ),
    (
        ("wake_without_fence", WAITERS, "fence(Ordering::SeqCst); // wake_if_scarce", ""),
        "loom::freelist::wait_against_free",
    ),
    (
        ("exhausted_without_a_second_look", LIST, "first.or_else(again).map(", "first.map("),
        "loom::freelist::wait_against_free",
    ),
    (("free_wakes_no_one", LIST, "self.wake_if_scarce(); // free", ""), "loom::freelist::wait_against_free"),
    (
        ("flush_wakes_no_one", LIST, "self.wake_if_scarce(); // flush", ""),
        "loom::freelist::wait_against_a_vcpu_that_frees_and_halts",
    ),
    (
        ("growth_wakes_no_one", LIST, "self.wake_if_scarce(); // grow", ""),
        "loom::freelist::wait_against_growth",
    ),
    (
        ("many_wake_no_one", MANY, "self.flush(); // and wakes", ""),
        "loom::freelist::wait_against_many_that_fail",
    ),
    (
        ("publish_without_release", ENTRY, "Ordering::Release); // publish", "Ordering::Relaxed);"),
        "loom::protocol::publish_against_xen_v1",
    ),
    (
        ("end_access_without_acquire", ENTRY, "Ordering::Acquire, // end_access", "Ordering::Relaxed,"),
        "loom::protocol::end_access_against_xen_pinning_v1",
    ),
    (
        ("end_access_v2_without_fence", ENTRY, "fence(Ordering::SeqCst); // end_access, version 2", ""),
        "loom::protocol::end_access_against_xen_pinning_v2",
    ),
    (
        (
            "end_access_v2_not_restored",
            ENTRY,
            "self.word().store(word, Ordering::Release); // end_access, version 2: restored",
            "",
        ),
        "loom::protocol::a_grant_that_could_not_be_ended_grants_again_v2",
    ),
    (
        (
            "make_readonly_without_acquire",
            ENTRY,
            "Ordering::Acquire, // make_readonly",
            "Ordering::Relaxed, //",
        ),
        "loom::protocol::make_readonly_against_xen_pinning_for_write_v1",
    ),
    (
        ("make_readonly_v2_without_fence", ENTRY, "fence(Ordering::SeqCst); // make_readonly, version 2", ""),
        "loom::protocol::make_readonly_against_xen_pinning_for_write_v2",
    ),
    (
        (
            "make_readonly_v2_not_restored",
            ENTRY,
            "self.word().store(word, Ordering::Release); // make_readonly, version 2: restored",
            "",
        ),
        "loom::protocol::make_readonly_against_xen_pinning_for_write_v2",
    ),
    (
        (
            "make_writable_without_release",
            ENTRY,
            "Ordering::Release); // make_writable",
            "Ordering::Relaxed);",
        ),
        "loom::protocol::make_writable_against_xen_mapping_for_write_v1",
    ),
    (
        ("withdraw_without_acquire", ENTRY, "Ordering::Acquire, // withdraw", "Ordering::Relaxed,"),
        "loom::protocol::withdraw_against_a_transfer_that_is_refused",
    ),
    (
        ("ring_publish_without_release", RING, "Ordering::Release); // publish", "Ordering::Relaxed);"),
        "loom::ring::a_request_is_seen_with_its_index_and_so_is_the_response",
    ),
    (
        ("ring_publish_without_fence", RING, "fence(Ordering::SeqCst); // publish", ""),
        "loom::ring::a_front_end_that_sleeps_is_told",
    ),
    (
        ("ring_look_without_acquire", RING, "Ordering::Acquire); // look", "Ordering::Relaxed);"),
        "loom::ring::a_request_is_seen_with_its_index_and_so_is_the_response",
    ),
    (
        ("ring_arm_without_fence", RING, "fence(Ordering::SeqCst); // arm", ""),
        "loom::ring::a_back_end_that_sleeps_is_told",
    ),
];
