//! A line that is typed: ASCII text, with backspace.

/// The change that a byte makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit {
    /// None.
    Nothing,
    /// Show this character.
    Show(u8),
    /// Erase the last character.
    Erase,
    /// The line has ended.
    End,
}

/// The state of a line in the caller's buffer.
#[derive(Debug)]
pub struct Editor {
    len: usize,
    has_ended: bool,
    /// The last byte was a carriage return: a line feed after it belongs to the same end.
    after_return: bool,
}

impl Editor {
    /// Makes an empty line.
    pub const fn new() -> Self {
        Self { len: 0, has_ended: false, after_return: false }
    }

    /// Starts the next line.
    pub fn start(&mut self) {
        (self.len, self.has_ended) = (0, false);
    }

    /// Takes a byte. Control characters have no effect, nor has a character that doesn't fit.
    pub fn put(&mut self, byte: u8, buffer: &mut [u8]) -> Edit {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => Edit::Nothing,
            b'\r' | b'\n' => {
                self.has_ended = true;
                Edit::End
            }
            8 | 127 if self.len > 0 => {
                self.len -= 1;
                Edit::Erase
            }
            b' '..=b'~' if self.len < buffer.len() => {
                buffer[self.len] = byte;
                self.len += 1;
                Edit::Show(byte)
            }
            _ => Edit::Nothing,
        }
    }

    /// Returns whether the line has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the line.
    pub fn line<'b>(&self, buffer: &'b [u8]) -> &'b str {
        // The editor takes only ASCII.
        buffer.get(..self.len).and_then(|line| core::str::from_utf8(line).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Edit, Editor};
    use crate::prelude::{String, ToOwned, Vec, vec};

    fn typed(text: &[u8], buffer: &mut [u8]) -> (Vec<Edit>, Vec<String>) {
        let (mut editor, mut lines) = (Editor::new(), Vec::new());
        let mut edits = Vec::new();
        for &byte in text {
            edits.push(editor.put(byte, buffer));
            if editor.has_ended() {
                lines.push(editor.line(buffer).to_owned());
                editor.start();
            }
        }
        (edits, lines)
    }

    #[test]
    fn any_end_of_line_ends_one_line() {
        assert_eq!(typed(b"a\rb\nc\r\n\nd", &mut [0; 8]).1, ["a", "b", "c", ""]);
    }

    #[test]
    fn backspace_erases_what_is_there() {
        let (edits, lines) = typed(b"\x7fab\x08\x7f\x7fc\r", &mut [0; 8]);
        assert_eq!(lines, ["c"]);
        assert_eq!(edits.iter().filter(|edit| **edit == Edit::Erase).count(), 2);
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let (edits, lines) = typed(b"abcd\r", &mut [0; 3]);
        assert_eq!((lines, edits[3]), (vec!["abc".to_owned()], Edit::Nothing));
        assert_eq!(typed(b"a\r", &mut []).1, [""]);
    }

    #[test]
    fn bytes_that_are_no_text_have_no_effect() {
        let all: Vec<u8> = (0..=255u8).filter(|byte| !b"\r\n".contains(byte)).chain([b'\r']).collect();
        let (_, lines) = typed(&all, &mut [0; 300]);
        // 127 erases the tilde, the last one before it.
        assert_eq!(lines, [(b' '..b'~').map(char::from).collect::<String>()]);
    }
}
