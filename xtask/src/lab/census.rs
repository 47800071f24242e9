//! What exists in the lab beside its guests: to find what a guest leaves behind, and what it holds at its end.

use std::time::Duration;

use super::dom0::{Dom0, Output};
use crate::error::Result;

/// The first grant reference that isn't the toolstack's.
const FIRST_FREE: u32 = 8;

/// The domains, the control domain's event channels, and xenstore's tree of domains.
#[derive(Debug, PartialEq, Eq)]
pub struct Census {
    domains: String,
    channels: String,
    tree: String,
}

impl Census {
    /// Asks the control domain.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn take(dom0: &mut Dom0) -> Result<Self> {
        let mut ask = |command| dom0.output(command);
        Ok(Self {
            // Without the times, which change.
            domains: ask("xl list | awk '{print $1, $2}'")?,
            channels: ask("lsevtchn 0 | wc -l")?,
            tree: ask("xenstore-list /local/domain")?,
        })
    }

    /// Returns what differs from an earlier census. `None` if nothing does.
    pub fn difference(&self, earlier: &Self) -> Option<String> {
        let pairs = [
            ("domains", &self.domains, &earlier.domains),
            ("event channels of the control domain", &self.channels, &earlier.channels),
            ("domains in xenstore", &self.tree, &earlier.tree),
        ];
        let changed = pairs.into_iter().filter(|(_, now, before)| now != before);
        let texts: Vec<_> = changed
            .map(|(what, now, before)| format!("{what}: {} instead of {}", now.trim(), before.trim()))
            .collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

/// Returns the grants of all guests that a peer uses, beyond the toolstack's own, as Xen prints them.
///
/// # Errors
///
/// If the control domain is gone.
pub fn grants_in_use(dom0: &mut Dom0) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    dom0.run("xl debug-keys g", Some(Duration::from_secs(30)), &mut |output| {
        if let Output::Console(line) = output {
            lines.push(line.to_owned());
        }
    })?;
    if !lines.iter().any(|line| is_last(line)) {
        dom0.drain(Duration::from_secs(5), |line| {
            lines.push(line.to_owned());
            is_last(line)
        })?;
    }
    Ok(lines.iter().filter(|line| reference(line).is_some_and(|gref| gref >= FIRST_FREE)).cloned().collect())
}

fn is_last(line: &str) -> bool {
    line.contains("gnttab_usage_print_all ] done")
}

/// Reads the reference of an entry: `(XEN) [    4.1] [0x001]      0 0x03f7fe 0x00000001 ...`.
fn reference(line: &str) -> Option<u32> {
    let (_, rest) = line.strip_prefix("(XEN)")?.split_once("[0x")?;
    u32::from_str_radix(rest.split_once(']')?.0, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::reference;

    #[test]
    fn entries_are_read() {
        assert_eq!(
            reference("(XEN) [   24.9] [0x01f]      0 0x03f7fe 0x1          0 0x0feffe 0x19"),
            Some(31)
        );
        assert_eq!(reference("(XEN) [   24.9] gnttab_usage_print_all ] done"), None);
        assert_eq!(reference("[0x01f]"), None);
    }
}
