//! Commands to a running QEMU, in its protocol QMP: a JSON object per line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The timeout of one answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

fn lost(error: impl std::fmt::Display) -> Error {
    Error::new(format!("QEMU's monitor: {error}"))
}

impl Qmp {
    /// Greets QEMU.
    ///
    /// # Errors
    ///
    /// If QEMU doesn't answer.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(TIMEOUT)).map_err(lost)?;
        let mut this = Self { stream: BufReader::new(stream) };
        this.read()?;
        this.execute("qmp_capabilities", json!({}))?;
        Ok(this)
    }

    /// Executes a command and returns its result.
    ///
    /// # Errors
    ///
    /// If QEMU refuses the command, or doesn't answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let text = json!({ "execute": command, "arguments": arguments }).to_string();
        self.stream.get_mut().write_all((text + "\n").as_bytes()).map_err(lost)?;
        loop {
            let mut answer = self.read()?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(lost(format!("{command}: {error}")));
            }
            // An event: QEMU sends them at any time.
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).map_err(lost)? == 0 {
            return Err(lost("QEMU has ended"));
        }
        serde_json::from_str(&line).map_err(lost)
    }
}
