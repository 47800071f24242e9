//! Typical bugs: off-by-one boundaries, leaks on error paths, second pages, races of two vCPUs. A test must fail for
//! each.

use super::{Check, Mutant};

const fn host(mutant: Mutant, filter: &'static str) -> (Mutant, Check) {
    (mutant, Check::Host(filter))
}

const fn rig(mutant: Mutant, rig: &'static str, filter: &'static str) -> (Mutant, Check) {
    (mutant, Check::Rig(rig, filter))
}

/// The bugs, each with the tests expected to fail.
pub const BUGS: &[(Mutant, Check)] = &[
    // Grants.
    host(
        (
            "the_last_error_of_a_copy",
            "src/grant/copy.rs",
            "            tell(chunk, &operations, called);\n        }\n        copies.iter().find_map(|copy| copy.result.err()).map_or(Ok(()), Err)\n    }\n\n    /// As",
            "            tell(chunk, &operations, called);\n        }\n        copies.last().map_or(Ok(()), |copy| copy.result)\n    }\n\n    /// As",
        ),
        "op_copy",
    ),
    host(
        (
            "a_page_that_was_not_transferred_is_gone",
            "src/grant/transfer.rs",
            "let stays = status == Status::BAD_PAGE || matches!",
            "let stays = matches!",
        ),
        "stardust_offered",
    ),
    host(
        (
            "one_frame_of_status_words_too_few",
            "src/grant/table/mod.rs",
            "(max_frames * version.entries_per_frame()).div_ceil(STATUS_PER_FRAME)",
            "(max_frames * version.entries_per_frame()) / STATUS_PER_FRAME",
        ),
        "the_last_frame_of_status_words",
    ),
    // Events.
    host(
        (
            "a_port_stays_masked_after_a_lost_race",
            "src/event/upcall.rs",
            "        if masked_here {\n            release(page, slot, port, tell);\n        }\n",
            "",
        ),
        "event::upcall",
    ),
    host(
        (
            "a_claim_that_found_nothing_stays_masked",
            "src/event/upcall.rs",
            "if masked_here && !taken {",
            "if false {",
        ),
        "event::upcall",
    ),
    host(
        (
            "a_task_does_not_look_again",
            "src/event/port.rs",
            "        take().map_or(Poll::Pending, Poll::Ready)\n",
            "        Poll::Pending\n",
        ),
        "event::port",
    ),
    host(
        (
            "a_mark_of_the_port_before",
            "src/event/port.rs",
            "        self.marked.store(false, Ordering::Relaxed);\n        self.moved",
            "        self.moved",
        ),
        "event::port",
    ),
    host(
        (
            "an_event_unmasks_what_the_program_masked",
            "src/event/upcall.rs",
            "    if slot.is_held() {\n        return;\n    }\n    two_level::clear_mask(page, port);\n    if slot.is_held() {",
            "    two_level::clear_mask(page, port);\n    if false {",
        ),
        "event::upcall",
    ),
    // Time and vCPUs.
    host(
        (
            "a_clock_that_is_being_written",
            "src/time/clock.rs",
            "if version.is_multiple_of(2) && info.version",
            "if info.version",
        ),
        "time::clock",
    ),
    rig(
        (
            "a_timer_that_is_not_set_again",
            "src/time/timer.rs",
            "        program(timer, xen, Some(Instant::from_nanoseconds(now)));\n",
            "",
        ),
        "solo",
        "time::",
    ),
    rig(
        (
            "calls_wait_for_a_vcpu_that_has_ended",
            "src/vcpu/call.rs",
            "answered.store(u64::MAX, Ordering::Release);",
            "answered.store(LAST.load(Ordering::Relaxed), Ordering::Release);",
        ),
        "solo",
        "die::vcpus-end",
    ),
    // Memory.
    host(
        (
            "a_run_moves_the_hint_over_free_frames",
            "src/mm/frames.rs",
            "if count == 1 || index == span.hint {",
            "if true {",
        ),
        "mm::frames",
    ),
    host(
        (
            "page_tables_are_not_counted",
            "src/mm/heap.rs",
            "pages.saturating_add(table_frames(pages)) <= free",
            "pages <= free",
        ),
        "mm::heap",
    ),
    host(
        (
            "a_frame_that_cannot_be_mapped_is_lost",
            "src/mm/page_tables.rs",
            "        if mapped.is_err() {\n            // SAFETY: it was allocated above",
            "        if false {\n            // SAFETY: it was allocated above",
        ),
        "mm::page_tables",
    ),
    rig(
        (
            "an_address_that_is_not_flushed",
            "src/mm/page_tables.rs",
            "        flush.flush_here();\n        Ok(Gfn::containing(frame.start_address().as_u64()))\n    }\n\n    /// Maps a large",
            "        flush.ignore();\n        Ok(Gfn::containing(frame.start_address().as_u64()))\n    }\n\n    /// Maps a large",
        ),
        "solo",
        "die::unmapped-again",
    ),
    host(
        (
            "windows_end_below_the_limit",
            "src/mm/windows.rs",
            "while start + SIZE <= limit {",
            "while start + SIZE < limit {",
        ),
        "mm::windows",
    ),
    rig(
        (
            "memory_that_is_not_there_is_used",
            "src/start/reservation.rs",
            "    if has >= named {",
            "    if has > 0 {",
        ),
        "pair",
        "die::less-memory",
    ),
    // Rings.
    host(
        (
            "an_index_of_a_stream_goes_back",
            "core/src/ring/stream.rs",
            "self.look(self.inward.producer, self.given, ",
            "self.look(self.inward.producer, self.read, ",
        ),
        "ring::tests",
    ),
    host(
        (
            "room_of_a_stream_goes_back",
            "core/src/ring/stream.rs",
            "self.look(self.outward.consumer, self.taken, self.written)",
            "self.look(self.outward.consumer, self.written.wrapping_sub(self.outward.size), self.written)",
        ),
        "ring::tests",
    ),
    host(
        (
            "a_slot_is_written_in_its_first_page_alone",
            "src/ring/memory.rs",
            "bytes.split_at(bytes.len().min(PAGE - at % PAGE));",
            "bytes.split_at(bytes.len().min(PAGE));",
        ),
        "a_slot_across_two",
    ),
    host(
        (
            "a_slot_is_read_in_its_first_page_alone",
            "src/ring/memory.rs",
            "into.split_at_mut(into.len().min(PAGE - at % PAGE));",
            "into.split_at_mut(into.len().min(PAGE));",
        ),
        "a_slot_across_two",
    ),
    // The block device.
    host(
        (
            "no_flush_before_the_data",
            "src/driver/block/batch.rs",
            "if flushes_first { disk.flush() } else { Ok(()) }",
            "Ok(())",
        ),
        "a_flush_lies_before",
    ),
    host(
        (
            "a_page_that_cannot_be_lent_is_lost",
            "src/driver/block/bounce.rs",
            "self.idle.push_back(Idle::Bare(failed.value));",
            "drop(failed.value);",
        ),
        "a_table_that_is_full",
    ),
    host(
        (
            "the_first_mapped_is_the_first_unmapped",
            "src/driver/block/persistent.rs",
            "Some((_, used)) => *used = self.now,",
            "Some(_) => {}",
        ),
        "what_was_not_used",
    ),
    // Two domains.
    rig(
        (
            "a_message_one_byte_too_long",
            "src/pair/link.rs",
            "        if length as usize > room {",
            "        if length as usize > room + 1 {",
        ),
        "pair",
        "link::a_peer_that_claims",
    ),
    host(
        (
            "a_peer_has_any_number_of_keys",
            "src/pair/connector.rs",
            "if self.keys.len() >= MOST_KEYS && ",
            "if false && ",
        ),
        "pair::connector",
    ),
    host(
        (
            "a_domain_is_destroyed_twice",
            "src/toolstack/build.rs",
            "            self.is_destroyed = true;\n",
            "",
        ),
        "toolstack::tests",
    ),
    host(
        (
            "some_of_the_memory_is_enough",
            "src/toolstack/build.rs",
            "Ok::<_, ToolstackError>((end, done == some.len() as u64))",
            "Ok::<_, ToolstackError>((end.max(range.start + (some.len() as u64) << order), done > 0))",
        ),
        "toolstack::tests",
    ),
    host(
        (
            "segments_may_overlap_by_a_byte",
            "src/toolstack/kernel.rs",
            "pair[0].end > pair[1].start",
            "pair[0].end > pair[1].start + 1",
        ),
        "toolstack::tests",
    ),
];
