//! The console of a domU: a page shared with the toolstack's daemon. `xl console` shows its text.

use crate::abi::event::Port;
use crate::abi::hvm::{PARAM_CONSOLE_EVTCHN, PARAM_CONSOLE_PFN};
use crate::arch;
use crate::hypercall::{Xen, event, hvm, sched};
use crate::mm::{SharedBytes, toolstack_page};
use crate::ring::stream::Stream;
use crate::ring::{Front, PeerBroke};

/// The longest wait for room in a full ring, in ticks of the time-stamp counter: about a tenth of a second. The clock
/// isn't used here: its first use starts events, and may print.
const PATIENCE: u64 = 1 << 28;

/// The console's page, and the port that wakes the daemon.
#[derive(Debug)]
pub struct PvConsole {
    stream: Stream<Front, SharedBytes<'static>, SharedBytes<'static>>,
    xen: Xen,
    port: Port,
    /// False after a wait in vain. The next text is written without a wait, as far as it fits.
    is_served: bool,
}

impl PvConsole {
    /// Finds the console made by the toolstack. Returns `None` if there is none, or if its page can't be mapped.
    pub fn find(xen: Xen) -> Option<Self> {
        let page = toolstack_page::map(&xen, PARAM_CONSOLE_PFN)?;
        let port = Port(u32::try_from(hvm::param(&xen, PARAM_CONSOLE_EVTCHN).ok()?).ok()?);
        Some(Self { stream: Stream::console(page)?, xen, port, is_served: true })
    }

    /// Returns Xen, and the port for the events of both ends.
    pub fn channel(&self) -> (Xen, Port) {
        (self.xen, self.port)
    }

    /// Reads input, as far as it fits.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the daemon broke the ring.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, PeerBroke> {
        let (count, notify) = self.stream.read(into)?;
        if notify.is_needed() {
            let _ = event::send(&self.xen, self.port);
        }
        Ok(count)
    }

    /// Writes text. Each line ends with `\r\n`: a raw terminal needs both.
    pub fn write(&mut self, text: &[u8]) {
        for piece in text.split_inclusive(|&byte| byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', line)) => {
                    self.write_all(line);
                    self.write_all(b"\r\n");
                }
                _ => self.write_all(piece),
            }
        }
    }

    /// Writes bytes. If the ring stays full for too long, the rest is lost.
    fn write_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // A daemon that broke the ring is lost for good.
            let Ok((written, notify)) = self.stream.write(bytes) else { return };
            if notify.is_needed() {
                let _ = event::send(&self.xen, self.port);
                self.is_served = true;
            }
            bytes = &bytes[written..];
            if !bytes.is_empty() && !self.wait_for_room() {
                return;
            }
        }
    }

    /// Waits until there is room. Returns whether there is.
    fn wait_for_room(&mut self) -> bool {
        let started = arch::time_stamp();
        let patience = if self.is_served { PATIENCE } else { 0 };
        loop {
            match self.stream.room() {
                Ok(0) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
            if arch::time_stamp().wrapping_sub(started) >= patience {
                self.is_served = false;
                return false;
            }
            // The daemon may run on this processor.
            sched::yield_now(&self.xen);
        }
    }
}
