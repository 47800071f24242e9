//! What compiled Rust takes for granted.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::hint::black_box;

use granite::rt::Options;

use crate::harness::{ALL, Case, Context, NotPassed};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("runtime::memory_functions", ALL, memory_functions),
    Case::new("runtime::floating_point", ALL, floating_point),
    Case::new("runtime::text", ALL, text),
    Case::new("runtime::options", ALL, options),
    Case::new("runtime::print_and_log", ALL, print_and_log),
    Case::new("runtime::what_is_printed_may_print", ALL, print_inside),
];

/// Copies within one buffer in both directions, against the same done byte by byte.
fn memory_functions(_: &Context) -> Result<(), NotPassed> {
    for (from, to, count) in
        [(0, 0, 64), (0, 1, 63), (1, 0, 63), (0, 32, 32), (5, 20, 40), (20, 5, 40), (9, 3, 0)]
    {
        let original: Vec<u8> = (0..64).collect();
        let mut expected = original.clone();
        for (place, byte) in (to..).zip(&original[from..from + count]) {
            expected[place] = *byte;
        }
        let mut moved = original.clone();
        moved.copy_within(black_box(from)..from + black_box(count), black_box(to));
        check_same!(moved, expected);
    }
    let mut filled = [1u8; 33];
    filled[..black_box(32)].fill(black_box(9));
    check!(filled[..32].iter().all(|&byte| byte == 9) && filled[32] == 1);
    let compare = |a: &[u8], b: &[u8]| black_box(a).cmp(black_box(b));
    check!(compare(b"abc", b"abd").is_lt() && compare(b"\xff", b"\x01").is_gt());
    check!(compare(b"", b"").is_eq() && compare(b"same", b"same").is_eq());
    Ok(())
}

fn floating_point(_: &Context) -> Result<(), NotPassed> {
    let sum: f64 = (1..=black_box(1000u32)).map(|i| 1.0 / f64::from(i * i)).sum();
    check!((sum - 1.643_934_566_681_561).abs() < 1e-9, "{sum}");
    check_same!(alloc::format!("{:.3}", black_box(2.0f32) / 3.0), "0.667");
    Ok(())
}

fn text(_: &Context) -> Result<(), NotPassed> {
    let mut text = String::new();
    check!(write!(text, "{:>5}|{:#x}|{:?}", -3, 255, Some("x")).is_ok());
    check_same!(text, "   -3|0xff|Some(\"x\")");
    check_same!("12 34".split(' ').filter_map(|word| word.parse::<u32>().ok()).sum::<u32>(), 46);
    Ok(())
}

fn options(_: &Context) -> Result<(), NotPassed> {
    let options = Options::new("log=info name=\"a b\" flag");
    check_same!((options.get("name"), options.has("flag"), options.has("no")), (Some("a b"), true, false));
    Ok(())
}

/// Longer than any buffer on the way.
fn print_and_log(_: &Context) -> Result<(), NotPassed> {
    let long: String = (b'a'..=b'z').map(char::from).cycle().take(3000).collect();
    granite::println!("{long}");
    log::warn!("a warning of a test");
    log::trace!("not shown");
    Ok(())
}

/// The console's lock is not held while a value shows itself.
fn print_inside(_: &Context) -> Result<(), NotPassed> {
    struct Talkative;

    impl core::fmt::Display for Talkative {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            granite::println!("inside");
            log::warn!("inside");
            f.write_str("outside")
        }
    }

    granite::println!("{Talkative}");
    log::warn!("{Talkative}");
    Ok(())
}
