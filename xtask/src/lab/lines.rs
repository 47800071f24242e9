//! Streams of lines, read without waiting: one thread follows several of them.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::{Error, Result};

/// A stream of lines, read without waiting.
pub struct Lines<S> {
    stream: S,
    /// The beginning of the next line.
    begun: Vec<u8>,
    /// A file for a copy of every line.
    log: Option<File>,
}

impl<S: Read + AsRawFd> Lines<S> {
    /// Takes a stream. `log` is a file for a copy of every line.
    ///
    /// # Errors
    ///
    /// If the stream can't be set up.
    pub fn new(stream: S, log: Option<File>) -> Result<Self> {
        let file = stream.as_raw_fd();
        // SAFETY: these calls access none of our memory, and the file is open.
        let set =
            unsafe { libc::fcntl(file, libc::F_SETFL, libc::fcntl(file, libc::F_GETFL) | libc::O_NONBLOCK) };
        if set < 0 {
            return Err(Error::new(format!("QEMU's output: {}", io::Error::last_os_error())));
        }
        Ok(Self { stream, begun: Vec::new(), log })
    }

    /// Returns the file descriptor, for [`wait`].
    pub fn file(&self) -> i32 {
        self.stream.as_raw_fd()
    }

    /// Passes on all complete lines so far.
    ///
    /// # Errors
    ///
    /// If the other end is closed.
    pub fn read(&mut self, mut line: impl FnMut(&str)) -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Error::new("the lab's machine has ended")),
                Ok(count) => self.begun.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::new(format!("the lab's machine: {error}"))),
            }
            while let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
                let text = String::from_utf8_lossy(&self.begun[..end]).trim_end_matches('\r').to_owned();
                self.begun.drain(..=end);
                // The log is a convenience: a full disk must not end the run.
                let _ = self.log.as_mut().map(|log| writeln!(log, "{text}"));
                line(&text);
            }
        }
    }
}

impl Lines<UnixStream> {
    /// Sends a text, in pieces if the other end is slow.
    ///
    /// # Errors
    ///
    /// If the other end is closed.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(Error::new(format!("the lab's machine: {error}"))),
            }
        }
        Ok(())
    }
}

/// Waits until one of the files is ready to be read, or until the timeout. Returns the ready files.
///
/// # Errors
///
/// If the system refuses.
pub fn wait(files: &[i32], timeout: Duration) -> Result<Vec<i32>> {
    let mut polled: Vec<_> =
        files.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: `polled` is an array of as many elements as the call is told, borrowed for the call.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    let error = io::Error::last_os_error();
    if result < 0 && error.kind() != ErrorKind::Interrupted {
        return Err(Error::new(format!("the lab's machine: {error}")));
    }
    // A file at its end is ready, too.
    Ok(polled.iter().filter(|file| result > 0 && file.revents != 0).map(|file| file.fd).collect())
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn lines_come_whole() {
        let (mut writer, reader) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(reader, None).unwrap();
        let read = |lines: &mut Lines<UnixStream>| {
            let mut all = Vec::new();
            lines.read(|line| all.push(line.to_owned())).map(|()| all)
        };
        writer.write_all(b"a\r\nb").unwrap();
        assert_eq!(read(&mut lines).unwrap(), ["a"]);
        writer.write_all(b"c\n\nd").unwrap();
        assert_eq!(read(&mut lines).unwrap(), ["bc", ""]);
        drop(writer);
        assert!(read(&mut lines).is_err(), "the other end is closed");
    }
}
