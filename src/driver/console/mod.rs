//! The console: text for the operator of the guest. A domU has two: the toolstack's (`xl console`), and Xen's log.

mod editor;
mod input;
mod pv;

use core::fmt::{self, Write};

use crate::arch::port;
use crate::hypercall::{self, Xen};
use crate::sync::IrqMutex;
pub use input::{Input, InputError};
use pv::PvConsole;

/// The destination of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Every port that may be a console, until the hypervisor is known.
    Early,
    /// Xen's console, owned by the control domain.
    Xen(Xen),
    /// Port 0xe9: from a domU it reaches Xen's log.
    DebugPort,
    /// The first serial line, used without Xen.
    Serial,
    /// Standard output of a process on the host.
    #[cfg(not(granite_guest))]
    Host,
}

/// Size of the line buffer in bytes: one hypercall sends a line, not a fragment.
const BUFFER: usize = 256;

/// The console: a line buffer and its destinations.
#[derive(Debug)]
pub struct Console {
    output: Output,
    /// The toolstack's console, in a domU that has one.
    pv: Option<PvConsole>,
    buffer: heapless::Vec<u8, BUFFER>,
    /// The last line has not ended.
    mid_line: bool,
}

static CONSOLE: IrqMutex<Console> = IrqMutex::new(Console::new());

impl Console {
    const fn new() -> Self {
        #[cfg(granite_guest)]
        let output = Output::Early;
        #[cfg(not(granite_guest))]
        let output = Output::Host;
        Self { output, pv: None, buffer: heapless::Vec::new(), mid_line: false }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.mid_line = bytes.last().map_or(self.mid_line, |&byte| byte != b'\n');
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            for part in piece.chunks(BUFFER) {
                if self.buffer.len() + part.len() > BUFFER {
                    self.flush();
                }
                // It fits: a part is never longer than the empty buffer.
                let _ = self.buffer.extend_from_slice(part);
            }
            if piece.ends_with(b"\n") {
                self.flush();
            }
        }
    }

    /// Sends the buffered text.
    fn flush(&mut self) {
        send(&mut self.output, &self.buffer);
        if let Some(pv) = &mut self.pv {
            pv.write(&self.buffer);
        }
        self.buffer.clear();
    }
}

fn send(output: &mut Output, text: &[u8]) {
    match output {
        Output::Early => {
            port::write_debug_console(text);
            port::write_serial(text);
        }
        Output::Xen(xen) => {
            if hypercall::console::write(xen, text).is_err() {
                // A release build of Xen refuses all but the control domain. Its log still takes the text from the
                // debug port.
                *output = Output::DebugPort;
                port::write_debug_console(text);
            }
        }
        Output::DebugPort => port::write_debug_console(text),
        Output::Serial => port::write_serial(text),
        #[cfg(not(granite_guest))]
        Output::Host => std::print!("{}", std::string::String::from_utf8_lossy(text)),
    }
}

/// Sends all further text to `output`.
#[cfg(granite_guest)]
pub(crate) fn direct_to(output: Output) {
    CONSOLE.with(|console| {
        console.flush();
        console.output = output;
    });
}

/// Also sends all further text to the toolstack's console, if there is one.
#[cfg(granite_guest)]
pub(crate) fn add_pv(xen: Xen) {
    let found = PvConsole::find(xen);
    CONSOLE.with(|console| {
        console.flush();
        console.pv = found;
    });
}

/// Sends text that is still buffered, because its line hasn't ended.
pub fn flush() {
    CONSOLE.with(Console::flush);
}

/// Returns the current destination of text.
pub fn output() -> Output {
    CONSOLE.with(|console| console.output)
}

/// A message on its way to the console. It is formatted here, without the lock, because formatting runs the caller's
/// code, which may print too. A message longer than the buffer is sent in pieces.
struct Message {
    buffer: heapless::Vec<u8, BUFFER>,
}

impl Message {
    const fn new() -> Self {
        Self { buffer: heapless::Vec::new() }
    }

    fn send(&mut self) {
        CONSOLE.with(|console| console.put(&self.buffer));
        self.buffer.clear();
    }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes().chunks(BUFFER) {
            if self.buffer.len() + part.len() > BUFFER {
                self.send();
            }
            // It fits: a part is never longer than the empty buffer.
            let _ = self.buffer.extend_from_slice(part);
        }
        Ok(())
    }
}

/// Writes a message; called by [`println!`](crate::println).
pub fn print(text: fmt::Arguments<'_>) {
    let mut message = Message::new();
    // The console accepts any text, so an error can only come from a `Display` that fails half-way.
    let _ = message.write_fmt(text);
    message.send();
}

/// Writes a message on its own lines when all may be lost: even if the crash came while the lock was held, or in the
/// middle of a line.
pub(crate) fn print_last_words(text: fmt::Arguments<'_>) {
    /// Takes the lock if it is free, and otherwise writes without it.
    struct Piece;

    impl Write for Piece {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            if CONSOLE.try_with(|console| console.put(text.as_bytes())).is_none() {
                let mut output = Xen::enabled().map_or(Output::Early, Output::Xen);
                send(&mut output, text.as_bytes());
            }
            Ok(())
        }
    }

    // The output of the lock's holder is unknown, so assume an open line.
    let mid_line = CONSOLE.try_with(|console| console.mid_line).unwrap_or(true);
    let _ = Piece.write_fmt(format_args!("{}{text}\n", if mid_line { "\n" } else { "" }));
}

/// Prints to the console without a newline. The text is buffered until a newline comes or the buffer is full.
#[macro_export]
macro_rules! print {
    ($($message:tt)*) => { $crate::driver::console::print(core::format_args!($($message)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($message:tt)*) => { $crate::driver::console::print(core::format_args!("{}\n", core::format_args!($($message)*))) };
}

#[cfg(test)]
mod tests {
    use super::Console;

    #[test]
    fn a_line_is_held_until_it_ends() {
        let mut console = Console::new();
        console.put(b"no end yet");
        assert_eq!(console.buffer.len(), 10);
        console.put(b"\nnext");
        assert_eq!(console.buffer.as_slice(), b"next");
        assert!(console.mid_line);
        console.put(b"");
        assert!(console.mid_line);
        console.put(b"\n");
        assert!(!console.mid_line);
    }
}
