//! The panic handler.

use core::panic::PanicInfo;

use super::{End, end, report};
use crate::arch::backtrace;
use crate::driver::console::print_last_words;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let rbp = backtrace::frame_pointer();
    report::claim(End::Panic);
    match info.location() {
        Some(location) => print_last_words(format_args!("granite: panic at {location}: {}", info.message())),
        None => print_last_words(format_args!("granite: panic: {}", info.message())),
    }
    report::print_callers(backtrace::return_addresses(rbp));
    end(End::Panic)
}
