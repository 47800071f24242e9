//! The segment and task tables, of which each vCPU has its own: what is left of segmentation is the list of
//! trap stacks.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::stack::TrapStack;

/// Slots for stacks in a task segment.
const IST_SLOTS: usize = 7;

/// One vCPU's tables.
pub(super) struct Tables {
    task: TaskStateSegment,
    segments: Once<(GlobalDescriptorTable, Selectors)>,
}

struct Selectors {
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

impl Tables {
    /// Tables that name these stacks, in the order of their IST slots.
    pub(super) fn new(tops: impl Iterator<Item = u64>) -> Self {
        let mut task = TaskStateSegment::new();
        // By index: the segment is packed, so there is no reference to a slot.
        for (slot, top) in tops.take(IST_SLOTS).enumerate() {
            task.interrupt_stack_table[slot] = VirtAddr::new(top);
        }
        Self { task, segments: Once::new() }
    }

    /// Loads them in place of those that the vCPU came with.
    pub(super) fn load(&'static self) {
        let (table, selectors) = self.segments.call_once(|| {
            let mut table = GlobalDescriptorTable::new();
            let code = table.append(Descriptor::kernel_code_segment());
            let data = table.append(Descriptor::kernel_data_segment());
            let task = table.append(Descriptor::tss_segment(&self.task));
            (table, Selectors { code, data, task })
        });
        table.load();
        // SAFETY: the selectors are those of the table just loaded: flat 64-bit code, flat data, and a task
        // segment that stays for ever. FS and GS keep what they are; GS is the vCPU's own.
        unsafe {
            CS::set_reg(selectors.code);
            SS::set_reg(selectors.data);
            DS::set_reg(selectors.data);
            ES::set_reg(selectors.data);
            load_tss(selectors.task);
        }
    }
}

/// The first vCPU's: it has them before there is a heap.
pub(super) fn first() -> &'static Tables {
    static FIRST: Once<Tables> = Once::new();
    FIRST.call_once(|| Tables::new(TrapStack::ALL.into_iter().map(TrapStack::top)))
}
