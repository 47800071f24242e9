//! The segment and task tables: what is left of segmentation is the list of trap stacks.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::stack::TrapStack;

static TSS: Once<TaskStateSegment> = Once::new();
static GDT: Once<(GlobalDescriptorTable, Selectors)> = Once::new();

struct Selectors {
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

/// Loads our own tables in place of those that boot/entry.S came with.
pub(super) fn load() {
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        for stack in TrapStack::ALL {
            tss.interrupt_stack_table[stack as usize] = VirtAddr::new(stack.top());
        }
        tss
    });
    let (gdt, selectors) = GDT.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let task = gdt.append(Descriptor::tss_segment(tss));
        (gdt, Selectors { code, data, task })
    });
    gdt.load();
    // SAFETY: the selectors are those of the table just loaded: flat 64-bit code, flat data, and a task
    // segment that lives in a static.
    unsafe {
        CS::set_reg(selectors.code);
        SS::set_reg(selectors.data);
        DS::set_reg(selectors.data);
        ES::set_reg(selectors.data);
        load_tss(selectors.task);
    }
}
