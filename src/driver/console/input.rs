//! Input from the console of a domU: the text typed at `xl console`.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;

use super::editor::{Edit, Editor};
use super::{CONSOLE, flush};
use crate::event::{EventError, Interdomain};
use crate::ring::PeerBroke;
use crate::time::{Deadline, TimedOut};

/// The event channel of the console. It is never closed, because text is announced through it, too.
static CHANNEL: Once<Interdomain> = Once::new();
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why the console can't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum InputError {
    /// The domain has no console for input: only the toolstack of a domU makes one.
    NoConsole,
    /// Other code reads from it.
    Taken,
    /// Its events can't be received.
    Event(EventError),
    /// The daemon at the other end broke the ring.
    Ring(PeerBroke),
    /// The deadline has passed.
    TimedOut,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConsole => {
                f.write_str("no console to type at: only a domain created by a toolstack has one")
            }
            Self::Taken => f.write_str("other code reads from the console"),
            Self::Event(error) => error.fmt(f),
            Self::Ring(broke) => broke.fmt(f),
            Self::TimedOut => f.write_str("no input came in time"),
        }
    }
}

impl core::error::Error for InputError {}

impl From<TimedOut> for InputError {
    fn from(_: TimedOut) -> Self {
        Self::TimedOut
    }
}

/// The reader of the console's input. There is one at a time.
///
/// ```no_run
/// # use granite::driver::console::{Input, InputError};
/// # use granite::prelude::*;
/// # fn ask() -> Result<(), InputError> {
/// let mut input = Input::take()?;
/// granite::print!("name: ");
/// let mut buffer = [0; 80];
/// let name = input.read_line(&mut buffer, Deadline::NEVER)?;
/// granite::println!("hello {name}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Input {
    channel: &'static Interdomain,
    editor: Editor,
}

impl Drop for Input {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `take`.
        TAKEN.store(false, Ordering::Release);
    }
}

impl Input {
    /// Takes the console's input.
    ///
    /// # Errors
    ///
    /// [`InputError::NoConsole`] if the domain has none, [`InputError::Taken`] if other code has taken it,
    /// [`InputError::Event`] if its events can't be received.
    pub fn take() -> Result<Self, InputError> {
        let (xen, port) = CONSOLE
            .with(|console| console.pv.as_ref().map(|pv| pv.channel()))
            .ok_or(InputError::NoConsole)?;
        // Acquire: pairs with the Release in `drop`.
        if TAKEN.swap(true, Ordering::Acquire) {
            return Err(InputError::Taken);
        }
        match CHANNEL.try_call_once(|| Interdomain::adopt(xen, port)) {
            Ok(channel) => Ok(Self { channel, editor: Editor::new() }),
            Err(error) => {
                TAKEN.store(false, Ordering::Release);
                Err(InputError::Event(error))
            }
        }
    }

    /// Returns the number of its events so far.
    pub fn events(&self) -> u64 {
        self.channel.interrupts()
    }

    /// Reads the bytes typed so far, as far as they fit. Returns their number, which may be 0.
    ///
    /// # Errors
    ///
    /// [`InputError::Ring`] if the daemon broke the ring, now or earlier.
    pub fn try_read(&mut self, into: &mut [u8]) -> Result<usize, InputError> {
        let read = CONSOLE.with(|console| console.pv.as_mut().map(|pv| pv.read(into)));
        read.unwrap_or(Ok(0)).map_err(InputError::Ring)
    }

    /// As [`try_read`](Self::try_read), but waits for the first byte. Returns 0 only if `into` is empty.
    ///
    /// # Errors
    ///
    /// [`InputError::TimedOut`] after the deadline; otherwise as [`try_read`](Self::try_read).
    pub fn read(&mut self, into: &mut [u8], deadline: Deadline) -> Result<usize, InputError> {
        let mut heard = None;
        loop {
            let count = self.try_read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            // Dropping the event lets further events through.
            drop(heard.take());
            heard = Some(self.channel.wait(deadline)?);
        }
    }

    /// As [`try_read`](Self::try_read), but awaits input. Returns 0 only if `into` is empty.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Self::try_read).
    pub async fn read_async(&mut self, into: &mut [u8]) -> Result<usize, InputError> {
        let mut heard = None;
        loop {
            let count = self.try_read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            drop(heard.take());
            heard = Some(self.channel.ready().await);
        }
    }

    /// Reads a line, without its end, and shows it while it is typed. Backspace erases. Bytes beyond the buffer's size
    /// are not taken.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read). What was typed so far is lost.
    pub fn read_line<'b>(&mut self, buffer: &'b mut [u8], deadline: Deadline) -> Result<&'b str, InputError> {
        self.editor.start();
        flush();
        loop {
            let mut byte = [0];
            self.read(&mut byte, deadline)?;
            if self.edit(byte[0], buffer) {
                return Ok(self.editor.line(buffer));
            }
        }
    }

    /// As [`read_line`](Self::read_line), but awaited.
    ///
    /// # Errors
    ///
    /// As [`read_async`](Self::read_async). What was typed so far is lost.
    pub async fn read_line_async<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b str, InputError> {
        self.editor.start();
        flush();
        loop {
            let mut byte = [0];
            self.read_async(&mut byte).await?;
            if self.edit(byte[0], buffer) {
                return Ok(self.editor.line(buffer));
            }
        }
    }

    /// Edits the line, and shows the change. Returns whether the line has ended.
    fn edit(&mut self, byte: u8, buffer: &mut [u8]) -> bool {
        match self.editor.put(byte, buffer) {
            Edit::Nothing => return false,
            Edit::Show(byte) => crate::print!("{}", char::from(byte)),
            Edit::Erase => crate::print!("\x08 \x08"),
            Edit::End => crate::println!(),
        }
        flush();
        self.editor.has_ended()
    }
}

#[cfg(feature = "embedded-io")]
mod traits {
    use embedded_io::{ErrorKind, ErrorType};

    use super::{Input, InputError};
    use crate::time::Deadline;

    impl embedded_io::Error for InputError {
        fn kind(&self) -> ErrorKind {
            match self {
                Self::NoConsole | Self::Event(_) => ErrorKind::NotConnected,
                Self::Taken => ErrorKind::AddrInUse,
                Self::Ring(_) => ErrorKind::InvalidData,
                Self::TimedOut => ErrorKind::TimedOut,
            }
        }
    }

    impl ErrorType for Input {
        type Error = InputError;
    }

    impl embedded_io::Read for Input {
        /// Waits without a deadline.
        fn read(&mut self, into: &mut [u8]) -> Result<usize, InputError> {
            Input::read(self, into, Deadline::NEVER)
        }
    }

    impl embedded_io_async::Read for Input {
        async fn read(&mut self, into: &mut [u8]) -> Result<usize, InputError> {
            self.read_async(into).await
        }
    }
}
