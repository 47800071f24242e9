//! The live table as readable text, like the output of `dump_table`, a call forbidden to PVH guests.

use core::fmt;

use super::entry::Snapshot;
use super::table::GrantTable;
use crate::abi::grant::{EntryFlags, GrantRef};
use crate::hypercall::Hypercall;

/// The table as text: a summary line, and one line for each valid entry.
pub struct Dump<'t, X: Hypercall>(&'t GrantTable<X>);

impl<X: Hypercall> GrantTable<X> {
    /// Returns the table as text, with the domain, mode and state of each entry. The parts of an entry are read one
    /// after the other: if it changes meanwhile, old and new parts may be mixed.
    pub fn dump(&self) -> Dump<'_, X> {
        Dump(self)
    }
}

impl<X: Hypercall> fmt::Display for Dump<'_, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "grant table, version {}: {}", self.0.version().number(), self.0.stats())?;
        self.0.entries().try_for_each(|(gref, entry)| line(f, gref, entry))
    }
}

fn line(
    f: &mut fmt::Formatter<'_>,
    gref: GrantRef,
    Snapshot { flags, domain, frame }: Snapshot,
) -> fmt::Result {
    let has = |bits| flags.contains(bits);
    let (mode, state) = match flags.entry_type() {
        EntryFlags::PERMIT_ACCESS => {
            let mode = match (has(EntryFlags::READONLY), has(EntryFlags::SUB_PAGE)) {
                (true, false) => "read-only",
                (false, false) => "read-write",
                (true, true) => "part, read-only",
                (false, true) => "part, read-write",
            };
            let state = match (has(EntryFlags::WRITING), has(EntryFlags::READING)) {
                (true, _) => "in use for writing",
                (false, true) => "in use for reading",
                (false, false) => "not in use",
            };
            (mode, state)
        }
        EntryFlags::ACCEPT_TRANSFER => {
            let state = match (has(EntryFlags::TRANSFER_COMPLETED), has(EntryFlags::TRANSFER_COMMITTED)) {
                (true, _) => "completed",
                (false, true) => "committed",
                (false, false) => "offered",
            };
            ("slot", state)
        }
        EntryFlags::INVALID => return Ok(()), // ended this moment
        _ => ("passed on", "not known"),
    };
    let reserved = if gref.is_reserved() { ", the toolstack's" } else { "" };
    writeln!(f, "  {:5}  domain {domain}  {frame}  {mode}, {state}{reserved}", gref.0)
}

impl<X: Hypercall> fmt::Debug for Dump<'_, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
