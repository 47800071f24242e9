//! A domain's output to its debug console (port 0xe9). Xen writes it to its own log, with a prefix `(dN)` on each line,
//! if its option `guest_loglvl` is `all`.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Step, ToolstackError};
use crate::abi::DomId;
use crate::hypercall::{Xen, domctl};

/// Maximum number of reads of 1 KiB in one call. Xen's log has 16 KiB, or somewhat more on a large machine.
const MOST_READS: usize = 256;

/// A domain's debug console, read from Xen's log as it grows. Output is lost if Xen overwrites it before it is read.
#[derive(Debug)]
pub struct Console {
    xen: Xen,
    mark: String,
    index: u32,
    /// The start of an incomplete line.
    rest: Vec<u8>,
}

impl Console {
    /// Starts at the current end of the log.
    pub(super) fn from_now(xen: Xen, domain: DomId) -> Self {
        let mark = alloc::format!("(d{domain}) ");
        let mut this = Self { xen, mark, index: 0, rest: Vec::new() };
        // An error is not lost: the next call of `lines` meets it again.
        let _ = this.lines();
        this
    }

    /// Returns the lines completed since the last call.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] with Xen's errno.
    pub fn lines(&mut self) -> Result<Vec<String>, ToolstackError> {
        let mut lines = Vec::new();
        let mut buffer = [0; 1024];
        // The number of reads is bounded: a domain that prints without end must not keep this vCPU here.
        for _ in 0..MOST_READS {
            let read = domctl::read_console(&self.xen, &mut self.index, &mut buffer);
            let read = read.map_err(|errno| ToolstackError::Xen(Step::Console, errno))?;
            if read.is_empty() {
                return Ok(lines);
            }
            for &byte in read {
                if byte != b'\n' {
                    self.rest.push(byte);
                    continue;
                }
                lines.extend(own_text(&self.mark, &self.rest));
                self.rest.clear();
            }
        }
        Ok(lines)
    }
}

/// Returns the domain's part of a line of Xen's log. A time stamp may stand before or after the mark. Another domain's
/// output starts with its own mark.
fn own_text(mark: &str, line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let text = without_stamp(&line).strip_prefix(mark)?;
    Some(without_stamp(text).trim_end().into())
}

/// Strips a leading time stamp, `[    1.089967] ` or hexadecimal, if there is one.
fn without_stamp(text: &str) -> &str {
    let is_stamp =
        |stamp: &str| stamp.bytes().all(|byte| matches!(byte, b' ' | b'.') || byte.is_ascii_hexdigit());
    match text.strip_prefix('[').and_then(|text| text.split_once("] ")) {
        Some((stamp, rest)) if is_stamp(stamp) => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::own_text;

    #[test]
    fn lines_of_the_domain_are_told_from_others() {
        let own = |line: &str| own_text("(d1) ", line.as_bytes());
        assert_eq!(own("(d1) text").as_deref(), Some("text"));
        assert_eq!(own("(d1) [    1.234567] text\r").as_deref(), Some("text"));
        assert_eq!(own("[    1.2] (d1) text").as_deref(), Some("text"));
        assert_eq!(own("(d1) [abc] text").as_deref(), Some("text"), "a stamp may be hexadecimal");
        assert_eq!(own("(d1) [log] text").as_deref(), Some("[log] text"));
        assert_eq!(own("(d11) text"), None);
        assert_eq!(own("(XEN) [    1.2] text"), None);
        assert_eq!(own("(d2) [    1.2] (d1) granite: end: success"), None, "another domain's word");
        assert_eq!(own("a domain says, at some length and in its own words: (d1) text"), None);
    }
}
