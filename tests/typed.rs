//! Awaits the text typed at the console of a domU. `cargo xtask test lab::awaited` boots this program and types at it.

#![cfg_attr(granite_guest, no_std, no_main)]
#![cfg_attr(not(granite_guest), allow(dead_code, unused_imports, reason = "it is booted"))]

extern crate alloc;

use alloc::sync::Arc;
use alloc::task::Wake;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use granite::driver::console::{Input, InputError};
use granite::prelude::*;
use granite::time::wait_until;

#[cfg(granite_guest)]
granite::entry!(guest_main);

#[cfg(not(granite_guest))]
fn main() {
    println!("This is a guest for Xen: cargo xtask test lab::awaited");
}

fn guest_main(_: &'static Platform) -> Result<(), InputError> {
    let early = Input::take()?;
    println!("taken twice: {:?}", Input::take().err());
    drop(early);
    let mut input = Input::take()?;
    println!("nothing typed: {:?}", input.read(&mut [0], Deadline::after(Duration::from_millis(1))));
    println!("an empty buffer: {:?}", input.read(&mut [], Deadline::NEVER));
    let mut buffer = [0; 8];
    for _ in 0..2 {
        let line = awaited(&mut input, &mut buffer)?;
        println!("typed: {line:?}");
    }
    Ok(())
}

/// A waker that leaves a note.
struct Note(AtomicBool);

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        // Release: pairs with the Acquire in `awaited`.
        self.0.store(true, Ordering::Release);
    }
}

/// Awaits a line. Polls only after a wake-up, so a lost one ends in a timeout.
fn awaited<'b>(input: &mut Input, buffer: &'b mut [u8]) -> Result<&'b str, InputError> {
    let note = Arc::new(Note(AtomicBool::new(false)));
    let waker = Waker::from(note.clone());
    let mut line = pin!(input.read_line_async(buffer));
    loop {
        if let Poll::Ready(line) = line.as_mut().poll(&mut Context::from_waker(&waker)) {
            return line;
        }
        // Acquire: pairs with the Release in `wake`.
        let is_woken = || note.0.swap(false, Ordering::Acquire).then_some(());
        wait_until(Deadline::after(Duration::from_secs(20)), is_woken)?;
    }
}
