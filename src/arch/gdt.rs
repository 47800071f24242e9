//! The segment and task tables, one set per vCPU. The only part of segmentation still in use is the list of trap
//! stacks.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::stack::TrapStack;

/// The number of stack slots (IST) in a task segment.
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
    /// Creates tables with these stack tops, in the order of their IST slots.
    pub(super) fn new(tops: impl Iterator<Item = u64>) -> Self {
        let mut task = TaskStateSegment::new();
        // By index: the segment is packed, so a reference to a slot isn't allowed.
        for (slot, top) in tops.take(IST_SLOTS).enumerate() {
            task.interrupt_stack_table[slot] = VirtAddr::new(top);
        }
        Self { task, segments: Once::new() }
    }

    /// Loads these tables in place of the vCPU's initial ones.
    pub(super) fn load(&'static self) {
        let (table, selectors) = self.segments.call_once(|| {
            let mut table = GlobalDescriptorTable::new();
            let code = table.append(Descriptor::kernel_code_segment());
            let data = table.append(Descriptor::kernel_data_segment());
            let task = table.append(Descriptor::tss_segment(&self.task));
            (table, Selectors { code, data, task })
        });
        table.load();
        // SAFETY: the selectors belong to the table just loaded: flat 64-bit code, flat data, and a task segment that
        // is never freed. FS and GS are unchanged; GS belongs to the vCPU.
        unsafe {
            CS::set_reg(selectors.code);
            SS::set_reg(selectors.data);
            DS::set_reg(selectors.data);
            ES::set_reg(selectors.data);
            load_tss(selectors.task);
        }
    }
}

/// Returns the first vCPU's tables. They are static: it needs them before there is a heap.
pub(super) fn first() -> &'static Tables {
    static FIRST: Once<Tables> = Once::new();
    FIRST.call_once(|| Tables::new(TrapStack::ALL.into_iter().map(TrapStack::top)))
}
