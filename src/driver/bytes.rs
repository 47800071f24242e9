//! A stream of bytes between two domains: a ring of bytes and the event channel that goes with it. With the feature
//! `embedded-io` it has the traits of `embedded-io` and `embedded-io-async`. Awaited calls have no deadline of their own.

use core::fmt;
use core::time::Duration;

use crate::event::{EventError, Interdomain};
use crate::mm::Guest;
use crate::ring::flex::{End, Stream};
use crate::ring::{Notify, PeerBroke, RingMemory};
use crate::time::Deadline;

/// How often to look whether the peer is there: one that goes away tells no one.
const LOOK: Duration = Duration::from_millis(100);

/// Why no bytes come or go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer broke the ring.
    Ring(PeerBroke),
    /// The peer can't be told.
    Event(EventError),
    /// The peer's domain, or its end of the channel, is gone.
    Gone,
    /// The peer neither read nor wrote in time.
    Silent,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(broke) => broke.fmt(f),
            Self::Event(error) => error.fmt(f),
            Self::Gone => f.write_str("the other end of the stream is gone"),
            Self::Silent => f.write_str("the other end of the stream neither reads nor writes"),
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
    /// Of a ring, and of the channel by which both ends tell each other. A call waits for the peer for `patience` at most.
    pub fn new(stream: Stream<E, I, D>, channel: Interdomain<X>, patience: Duration) -> Self {
        Self { stream, channel, patience }
    }

    /// Reads the bytes that are there, as far as they fit; waits if there are none. How many: 0 for an empty buffer alone.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: [`Silent`](StreamError::Silent) if none come in time.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        self.moved(into.is_empty(), |stream| stream.read(into))
    }

    /// Writes as many bytes as there is room for; waits if there is no room. How many: 0 for no bytes alone.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: [`Silent`](StreamError::Silent) if no room comes in time.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        self.moved(bytes.is_empty(), |stream| stream.write(bytes))
    }

    /// Moves bytes, and waits until some can be moved.
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
                return Err(StreamError::Silent);
            }
            // Only now are further events let through.
            drop(heard.take());
            heard = channel.wait(deadline.or_earlier(Deadline::after(LOOK))).ok();
            has_waited = true;
        }
    }

    /// As [`moved`](Self::moved), awaited. It has no deadline: put one around it, for a peer that goes away tells no one.
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

/// How many bytes a ring has moved, and whether the peer is to be told.
type Moved = Result<(usize, Notify), PeerBroke>;

/// Moves what can be moved now. `None` says that the caller is to wait; who has waited looks whether the peer is there.
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

/// The traits of other crates.
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
                Self::Silent => ErrorKind::TimedOut,
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

        /// What was written is shown at once.
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
