//! A byte stream between two domains: a byte ring and its event channel. The feature `embedded-io` adds the traits of
//! `embedded-io` and `embedded-io-async`. Awaited calls have no deadline of their own.

use core::fmt;
use core::time::Duration;

use crate::event::{EventError, Interdomain};
use crate::mm::Guest;
use crate::ring::stream::{End, Stream};
use crate::ring::{Notify, PeerBroke, RingMemory};
use crate::time::Deadline;

/// Interval for checking whether the peer is still there: it sends no event when it goes away.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why a stream can't move bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer broke the ring.
    Ring(PeerBroke),
    /// The peer can't be notified.
    Event(EventError),
    /// The peer's domain, or its end of the channel, is gone.
    Gone,
    /// The peer neither read nor wrote before the timeout.
    TimedOut,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(broke) => broke.fmt(f),
            Self::Event(error) => error.fmt(f),
            Self::Gone => f.write_str("the other end of the stream is gone"),
            Self::TimedOut => f.write_str("the other end of the stream neither reads nor writes"),
        }
    }
}

impl core::error::Error for StreamError {}

/// One end of a stream.
#[derive(Debug)]
pub struct ByteStream<E: End, X: Guest, I: RingMemory, D: RingMemory> {
    stream: Stream<E, I, D>,
    channel: Interdomain<X>,
    patience: Duration,
}

impl<E: End, X: Guest, I: RingMemory, D: RingMemory> ByteStream<E, X, I, D> {
    /// Makes a stream from a ring and the channel through which both ends notify each other. A call waits for the
    /// peer for at most `patience`.
    pub fn new(stream: Stream<E, I, D>, channel: Interdomain<X>, patience: Duration) -> Self {
        Self { stream, channel, patience }
    }

    /// Reads the available bytes, as far as they fit; waits if there are none. Returns their number: 0 only if `into`
    /// is empty.
    ///
    /// # Errors
    ///
    /// [`StreamError::TimedOut`] if none come in time; [`StreamError::Gone`] if the peer has left;
    /// [`StreamError::Ring`] if it broke the ring; [`StreamError::Event`] if it can't be notified.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        self.moved(into.is_empty(), |stream| stream.read(into))
    }

    /// Writes as many bytes as there is room for; waits if there is no room. Returns their number: 0 only if `bytes`
    /// is empty.
    ///
    /// # Errors
    ///
    /// [`StreamError::TimedOut`] if no room comes in time; [`StreamError::Gone`] if the peer has left;
    /// [`StreamError::Ring`] if it broke the ring; [`StreamError::Event`] if it can't be notified.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        self.moved(bytes.is_empty(), |stream| stream.write(bytes))
    }

    /// Moves bytes; waits until at least one can be moved.
    fn moved(
        &mut self,
        is_empty: bool,
        mut some: impl FnMut(&mut Stream<E, I, D>) -> Moved,
    ) -> Result<usize, StreamError> {
        let deadline = Deadline::after(self.patience);
        let Self { stream, channel, .. } = self;
        let (mut heard, mut has_waited) = (None, false);
        loop {
            if let Some(count) = step(stream, channel, &mut some, is_empty, has_waited)? {
                return Ok(count);
            }
            if deadline.has_passed() {
                return Err(StreamError::TimedOut);
            }
            // Dropping the event lets further events through, so it is held until here.
            drop(heard.take());
            heard = channel.wait(deadline.or_earlier(Deadline::after(POLL_INTERVAL))).ok();
            has_waited = true;
        }
    }

    /// Like [`moved`](Self::moved), but awaited. There is no deadline, so the caller should add one: a peer sends no
    /// event when it goes away.
    #[cfg(feature = "embedded-io")]
    async fn moved_async(
        &mut self,
        is_empty: bool,
        mut some: impl FnMut(&mut Stream<E, I, D>) -> Moved,
    ) -> Result<usize, StreamError> {
        let Self { stream, channel, .. } = self;
        let mut heard = None;
        loop {
            if let Some(count) = step(stream, channel, &mut some, is_empty, heard.is_some())? {
                return Ok(count);
            }
            drop(heard.take());
            heard = Some(channel.ready().await);
        }
    }
}

/// The number of bytes moved by a ring, and whether the peer must be notified.
type Moved = Result<(usize, Notify), PeerBroke>;

/// Moves the bytes that can be moved now. Returns `None` if the caller must wait. After a wait without bytes it also
/// checks whether the peer is still there.
fn step<E: End, X: Guest, I: RingMemory, D: RingMemory>(
    stream: &mut Stream<E, I, D>,
    channel: &Interdomain<X>,
    some: &mut impl FnMut(&mut Stream<E, I, D>) -> Moved,
    is_empty: bool,
    has_waited: bool,
) -> Result<Option<usize>, StreamError> {
    let mut move_some = || {
        let (count, notify) = some(stream).map_err(StreamError::Ring)?;
        if notify.is_needed() {
            channel.send().map_err(StreamError::Event)?;
        }
        Ok(count)
    };
    match move_some()? {
        0 if is_empty => Ok(Some(0)),
        0 if has_waited && !channel.is_interdomain() => match move_some()? {
            0 => Err(StreamError::Gone),
            // The peer wrote them before it left.
            count => Ok(Some(count)),
        },
        0 => Ok(None),
        count => Ok(Some(count)),
    }
}

/// The traits of `embedded-io` and `embedded-io-async`.
#[cfg(feature = "embedded-io")]
mod traits {
    use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};

    use super::{ByteStream, End, Guest, RingMemory, StreamError};

    impl embedded_io::Error for StreamError {
        fn kind(&self) -> ErrorKind {
            match self {
                Self::Ring(_) => ErrorKind::InvalidData,
                Self::Event(_) => ErrorKind::NotConnected,
                Self::Gone => ErrorKind::BrokenPipe,
                Self::TimedOut => ErrorKind::TimedOut,
            }
        }
    }

    impl<E: End, X: Guest, I: RingMemory, D: RingMemory> ErrorType for ByteStream<E, X, I, D> {
        type Error = StreamError;
    }

    impl<E: End, X: Guest, I: RingMemory, D: RingMemory> Read for ByteStream<E, X, I, D> {
        fn read(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
            ByteStream::read(self, into)
        }
    }

    impl<E: End, X: Guest, I: RingMemory, D: RingMemory> ReadReady for ByteStream<E, X, I, D> {
        fn read_ready(&mut self) -> Result<bool, StreamError> {
            Ok(self.stream.waiting().map_err(StreamError::Ring)? > 0)
        }
    }

    impl<E: End, X: Guest, I: RingMemory, D: RingMemory> Write for ByteStream<E, X, I, D> {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
            ByteStream::write(self, bytes)
        }

        /// Returns at once: `write` has already published its bytes.
        fn flush(&mut self) -> Result<(), StreamError> {
            Ok(())
        }
    }

    impl<E: End, X: Guest, I: RingMemory, D: RingMemory> WriteReady for ByteStream<E, X, I, D> {
        fn write_ready(&mut self) -> Result<bool, StreamError> {
            Ok(self.stream.room().map_err(StreamError::Ring)? > 0)
        }
    }

    impl<E: End, X: Guest, I: RingMemory, D: RingMemory> embedded_io_async::Read for ByteStream<E, X, I, D> {
        async fn read(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
            self.moved_async(into.is_empty(), |stream| stream.read(into)).await
        }
    }

    impl<E: End, X: Guest, I: RingMemory, D: RingMemory> embedded_io_async::Write for ByteStream<E, X, I, D> {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
            self.moved_async(bytes.is_empty(), |stream| stream.write(bytes)).await
        }

        async fn flush(&mut self) -> Result<(), StreamError> {
            Ok(())
        }
    }
}
