//! A stream of bytes between two domains of the fake's, by the traits of embedded-io where there are these.

use std::thread;
use std::time::Duration;

use granite::driver::bytes::{ByteStream, StreamError};
use granite::event::{Interdomain, Unbound};
use granite::grant::{ReadWrite, Version};
use granite::mm::Guest;
use granite::ring::stream::{End, Stream, references};
use granite::ring::{GrantedPages, RingMemory};

use super::HOST;
use crate::grant::bed::{Bed, fail};
use crate::harness::{Case, NotPassed};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("store::bytes::go_both_ways_in_order", HOST, |_| both_ways()),
    Case::new("store::bytes::what_was_written_before_the_end_is_read", HOST, |_| last_words()),
    Case::new("store::bytes::a_peer_that_does_nothing_or_goes_away", HOST, |_| silent_and_gone()),
];

const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a front end, and a back end in a thread of its own.
fn with_ends<R>(
    patience: Duration,
    front: impl FnOnce(&mut dyn Bytes) -> R,
    back: impl FnOnce(&mut dyn Bytes) -> Result<(), StreamError> + Send,
) -> Result<(R, Result<(), StreamError>), NotPassed> {
    let bed = Bed::on_new_machine(Version::V1)?;
    let page = || bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail);
    let (indices, data) = (page()?, vec![page()?, page()?]);
    let grefs: Vec<_> = data.iter().map(|grant| grant.gref()).collect();
    let gref = indices.gref();
    let stream = Stream::new(indices, GrantedPages(data), &grefs).ok_or_else(|| fail("no stream"))?;
    let listens = Unbound::new(bed.fake.us, bed.their_id).map_err(fail)?;
    let port = listens.port();
    let (them, fake, our_id) = (bed.them, bed.fake.them, bed.our_id);
    let result = thread::scope(|scope| {
        let (connected, is_connected) = std::sync::mpsc::channel();
        let (accepted, is_accepted) = std::sync::mpsc::channel::<()>();
        let theirs = scope.spawn(move || {
            let indices = them.map::<ReadWrite>(our_id, gref).map_err(fail)?;
            let grefs: Vec<_> = references(&indices).map_err(fail)?.1.collect();
            let data = them.map_all::<ReadWrite>(our_id, &grefs).map_err(fail)?;
            let stream = Stream::attach(indices, data).ok_or_else(|| fail("no stream there"))?;
            let channel = Interdomain::connect(fake, our_id, port).map_err(fail)?;
            connected.send(()).map_err(fail)?;
            // One that left before would not have been there.
            is_accepted.recv().map_err(fail)?;
            Ok::<_, NotPassed>(back(&mut ByteStream::new(stream, channel, patience)))
        });
        is_connected.recv().map_err(fail)?;
        let channel = listens.accept().map_err(|(error, _)| fail(error))?;
        accepted.send(()).map_err(fail)?;
        let ours = front(&mut ByteStream::new(stream, channel, patience));
        Ok::<_, NotPassed>((ours, theirs.join().map_err(|_| fail("the back end panicked"))??))
    })?;
    bed.us.reap(u32::MAX);
    bed.nothing_lost()?;
    check_same!((bed.fake.us.open_ports(), bed.fake.them.open_ports()), (0, 0));
    Ok(result)
}

/// Either end, by the traits of other crates if they are there. A call is made as is, or awaited.
trait Bytes {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, StreamError>;
    fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError>;
    fn read_awaited(&mut self, into: &mut [u8]) -> Result<usize, StreamError>;
    fn write_awaited(&mut self, bytes: &[u8]) -> Result<usize, StreamError>;

    fn read_all(&mut self, awaited: bool, mut into: &mut [u8]) -> Result<(), StreamError> {
        while !into.is_empty() {
            let count = if awaited { self.read_awaited(into) } else { self.read(into) }?;
            into = &mut into[count..];
        }
        Ok(())
    }

    fn write_all(&mut self, awaited: bool, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let count = if awaited { self.write_awaited(bytes) } else { self.write(bytes) }?;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

impl<E: End, X: Guest, I: RingMemory, D: RingMemory> Bytes for ByteStream<E, X, I, D> {
    #[cfg(not(feature = "embedded-io"))]
    fn read(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        ByteStream::read(self, into)
    }

    #[cfg(not(feature = "embedded-io"))]
    fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        ByteStream::write(self, bytes)
    }

    #[cfg(not(feature = "embedded-io"))]
    fn read_awaited(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        ByteStream::read(self, into)
    }

    #[cfg(not(feature = "embedded-io"))]
    fn write_awaited(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        ByteStream::write(self, bytes)
    }

    #[cfg(feature = "embedded-io")]
    fn read(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        embedded_io::Read::read(self, into)
    }

    #[cfg(feature = "embedded-io")]
    fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        embedded_io::Write::write(self, bytes)
    }

    #[cfg(feature = "embedded-io")]
    fn read_awaited(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        until_ready(embedded_io_async::Read::read(self, into))
    }

    #[cfg(feature = "embedded-io")]
    fn write_awaited(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        until_ready(embedded_io_async::Write::write(self, bytes))
    }
}

/// The fake has no interrupts that would wake a task: it is polled until it is ready.
#[cfg(feature = "embedded-io")]
fn until_ready<T>(future: impl Future<Output = Result<T, StreamError>>) -> Result<T, StreamError> {
    let mut future = std::pin::pin!(future);
    let end = std::time::Instant::now() + TIMEOUT;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while std::time::Instant::now() < end {
        if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        thread::yield_now();
    }
    Err(StreamError::TimedOut)
}

fn both_ways() -> Result<(), NotPassed> {
    const BYTES: usize = 100_000;
    let sent: Vec<u8> = (0..BYTES).map(|i| (i * 7 + i / 251) as u8).collect();
    let front = |end: &mut dyn Bytes| {
        check_same!(end.write(&[]).map_err(fail)?, 0);
        let mut back = vec![0; BYTES];
        // No more at once than both directions hold, or the two would wait for each other.
        for (turn, (sent, back)) in sent.chunks(5000).zip(back.chunks_mut(5000)).enumerate() {
            end.write_all(turn % 2 == 0, sent).map_err(fail)?;
            end.read_all(turn % 3 == 0, back).map_err(fail)?;
        }
        check!(back.iter().zip(&sent).all(|(back, sent)| *back == !sent), "other bytes came back");
        Ok::<_, NotPassed>(())
    };
    let back = |end: &mut dyn Bytes| {
        let (mut done, mut buffer) = (0, [0; 777]);
        while done < BYTES {
            let count = end.read(&mut buffer)?;
            buffer[..count].iter_mut().for_each(|byte| *byte = !*byte);
            end.write_all(done % 2 == 0, &buffer[..count])?;
            done += count;
        }
        Ok(())
    };
    let (ours, theirs) = with_ends(TIMEOUT, front, back)?;
    ours?;
    theirs.map_err(fail)
}

/// The peer writes, tells nobody, and is gone, while this end waits.
fn last_words() -> Result<(), NotPassed> {
    let bed = Bed::on_new_machine(Version::V1)?;
    let page = || bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail);
    let (indices, data) = (page()?, page()?);
    let mapped = |gref| bed.them.map::<ReadWrite>(bed.our_id, gref).map_err(fail);
    let (their_indices, their_data) = (mapped(indices.gref())?, mapped(data.gref())?);
    let grefs = [data.gref()];
    let stream = Stream::new(indices, GrantedPages(vec![data]), &grefs).ok_or_else(|| fail("no stream"))?;
    let mut theirs = Stream::attach(their_indices, their_data).ok_or_else(|| fail("no stream there"))?;
    let listens = Unbound::new(bed.fake.us, bed.their_id).map_err(fail)?;
    let channel = Interdomain::connect(bed.fake.them, bed.our_id, listens.port()).map_err(fail)?;
    let mut end =
        ByteStream::new(stream, listens.accept().map_err(|(error, _)| fail(error))?, Duration::from_secs(5));
    let mut channel = Some(channel);
    let leave = || {
        let Some(channel) = channel.take() else { return false };
        let written = theirs.write(b"last words");
        drop(channel);
        written.is_ok()
    };
    let mut read = [0; 16];
    let count = granite::time::meanwhile(leave, || Bytes::read(&mut end, &mut read)).map_err(fail)?;
    check_same!(&read[..count], b"last words");
    check_same!(Bytes::read(&mut end, &mut read), Err(StreamError::Gone));
    Ok(())
}

fn silent_and_gone() -> Result<(), NotPassed> {
    let short = Duration::from_millis(30);
    let (stay, leave) = std::sync::mpsc::channel::<()>();
    let front = move |end: &mut dyn Bytes| {
        let silent = end.read(&mut [0; 8]);
        let mut full = Ok(0);
        while full.is_ok() {
            full = end.write(&[1; 1000]);
        }
        let _ = stay.send(());
        (silent, full)
    };
    let ((silent, full), _) = with_ends(short, front, move |_| {
        let _ = leave.recv();
        Ok(())
    })?;
    check_same!((silent, full), (Err(StreamError::TimedOut), Err(StreamError::TimedOut)));
    let front = |end: &mut dyn Bytes| end.read(&mut [0; 8]);
    let (gone, _) = with_ends(TIMEOUT, front, |_| Ok(()))?;
    check_same!(gone, Err(StreamError::Gone));
    Ok(())
}
