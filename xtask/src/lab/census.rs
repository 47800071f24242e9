//! A census of the lab. A difference shows the leftovers of a guest.

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

    /// Returns the differences to an earlier census, or `None`.
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

/// Returns the guests' grants in use, as Xen prints them, without those of the toolstack.
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
    Ok(in_use(&lines))
}

/// Returns the entries used by another domain, without the toolstack's. A domain also maps grants of its own, and keeps
/// these mappings from its end until it is destroyed.
fn in_use(lines: &[String]) -> Vec<String> {
    let mut owner = None;
    let is_in_use = |line: &&String| {
        owner = granter(line).or(owner);
        entry(line).is_some_and(|(gref, peer)| gref >= FIRST_FREE && Some(peer) != owner)
    };
    lines.iter().filter(is_in_use).cloned().collect()
}

/// Reads the domain whose table follows: `(XEN) [    4.1] grant-table for remote d1 (v1)`.
fn granter(line: &str) -> Option<u16> {
    let (_, rest) = line.strip_prefix("(XEN)")?.split_once("grant-table for remote d")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn is_last(line: &str) -> bool {
    line.contains("gnttab_usage_print_all ] done")
}

/// Reads an entry's reference and peer: `(XEN) [    4.1] [0x001]      0 0x03f7fe 0x00000001 ...`.
fn entry(line: &str) -> Option<(u32, u16)> {
    let (_, rest) = line.strip_prefix("(XEN)")?.split_once("[0x")?;
    let (gref, rest) = rest.split_once(']')?;
    let peer = rest.split_whitespace().next()?.parse().ok()?;
    Some((u32::from_str_radix(gref, 16).ok()?, peer))
}

#[cfg(test)]
mod tests {
    use super::in_use;

    #[test]
    fn only_grants_used_by_others_count() {
        let lines = [
            "(XEN) [   24.9] gnttab_usage_print_all [ key 'g' pressed",
            "(XEN) [   24.9] grant-table for remote d1 (v1)",
            "(XEN) [   24.9] [0x001]      0 0x03f7fe 0x1          0 0x0feffe 0x19",
            "(XEN) [   24.9] [0x01f]      1 0x03f7fe 0x1          1 0x0feffe 0x19",
            "(XEN) [   24.9] [0x020]      0 0x03f7fe 0x1          0 0x0feffe 0x19",
            "[0x021]      0 0x03f7fe 0x1",
        ]
        .map(String::from);
        assert_eq!(
            in_use(&lines),
            [lines[4].clone()],
            "not the toolstack's, not the domain's own, not text of others"
        );
    }
}
