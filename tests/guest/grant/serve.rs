//! The other domain of `pair`, in cases about grants: it maps, reads, writes and unmaps as it is told.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use granite::abi::DomId;
use granite::abi::grant::GrantRef;
use granite::grant::{ForeignMapping, GrantError, ReadOnly, ReadWrite};
use granite::hypercall::Xen;
use granite::mm::shared::OutOfBounds;
use granite::rt::Grants;

use super::bed::fail;
use super::wire::{self, DONE, Words, words};
use crate::harness::{Context, NotPassed};
use granite::testing::{check, check_same};

/// A mapping of either kind.
enum Mapping {
    ReadOnly(ForeignMapping<'static, ReadOnly, Xen>),
    ReadWrite(ForeignMapping<'static, ReadWrite, Xen>),
}

impl Mapping {
    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        match self {
            Self::ReadOnly(mapping) => mapping.reader().read(offset, into),
            Self::ReadWrite(mapping) => mapping.reader().read(offset, into),
        }
    }
}

/// All that this side has mapped.
struct BackStats {
    table: &'static Grants,
    mappings: BTreeMap<u32, Mapping>,
    last: u32,
}

/// Does what it is told until the other side is done with the case. It must have unmapped everything then.
pub fn serve(context: &Context) -> Result<(), NotPassed> {
    let table = context.platform()?.grants().map_err(fail)?;
    let (free, lost) = (table.windows().free(), table.stats().lost);
    let mut served = BackStats { table, mappings: BTreeMap::new(), last: 0 };
    loop {
        match context.hear() {
            Ok(message) => context.tell(&served.answer(&message))?,
            Err(not) if crate::pair::is_over(&not) => break,
            Err(not) => return Err(not),
        }
    }
    check!(served.mappings.is_empty(), "{} mappings are left", served.mappings.len());
    check_same!((table.windows().free(), table.stats().lost), (free, lost));
    Ok(())
}

impl BackStats {
    fn keep(&mut self, mapping: Mapping) -> u32 {
        self.last += 1;
        self.mappings.insert(self.last, mapping);
        self.last
    }

    fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        let mut rest = Words(message);
        match rest.next() {
            wire::MAP_ALL => self.map_all(&mut rest),
            wire::MAP_EACH => self.map_each(&mut rest),
            wire::UNMAP => self.unmap(&mut rest),
            wire::READ => {
                let (number, offset, length) = (rest.next(), rest.next() as usize, rest.next() as usize);
                let mut bytes = alloc::vec![0; length];
                let mapping = self.mappings.get(&number);
                let read = mapping.is_some_and(|mapping| mapping.read(offset, &mut bytes).is_ok());
                if read { bytes } else { Vec::new() }
            }
            wire::WRITE => {
                let (number, offset) = (rest.next(), rest.next() as usize);
                let written = match self.mappings.get(&number) {
                    Some(Mapping::ReadWrite(mapping)) => mapping.bytes().write(offset, rest.0).is_ok(),
                    _ => false,
                };
                words([u32::from(written)])
            }
            wire::WINDOWS => words([self.table.windows().free() as u32]),
            _ => Vec::new(),
        }
    }

    fn map_all(&mut self, rest: &mut Words<'_>) -> Vec<u8> {
        let (readonly, domain) = (rest.next() != 0, DomId(rest.next() as u16));
        let grefs: Vec<GrantRef> =
            core::iter::from_fn(|| (!rest.is_empty()).then(|| GrantRef(rest.next()))).collect();
        let mapped = match (readonly, &grefs[..]) {
            // One alone by the call for one.
            (true, &[gref]) => {
                self.table.map(domain, gref).map(Mapping::ReadOnly).map_err(|error| (0, error))
            }
            (false, &[gref]) => {
                self.table.map(domain, gref).map(Mapping::ReadWrite).map_err(|error| (0, error))
            }
            (true, grefs) => {
                self.table.map_all(domain, grefs).map(Mapping::ReadOnly).map_err(|e| (e.index, e.error))
            }
            (false, grefs) => {
                self.table.map_all(domain, grefs).map(Mapping::ReadWrite).map_err(|e| (e.index, e.error))
            }
        };
        match mapped {
            Ok(mapping) => words([DONE, self.keep(mapping)]),
            Err((index, error)) => words(wire::error(error).into_iter().chain([index as u32])),
        }
    }

    fn map_each(&mut self, rest: &mut Words<'_>) -> Vec<u8> {
        let readonly = rest.next() != 0;
        let pair = || (!rest.is_empty()).then(|| (DomId(rest.next() as u16), GrantRef(rest.next())));
        let grants: Vec<_> = core::iter::from_fn(pair).collect();
        let results: Result<Vec<Result<Mapping, GrantError>>, GrantError> = if readonly {
            let each = self.table.map_batch(&grants);
            each.map(|each| each.into_iter().map(|mapped| mapped.map(Mapping::ReadOnly)).collect())
        } else {
            let each = self.table.map_batch(&grants);
            each.map(|each| each.into_iter().map(|mapped| mapped.map(Mapping::ReadWrite)).collect())
        };
        match results {
            Err(error) => words(wire::error(error)),
            Ok(results) => {
                let mut answer = words([DONE]);
                for result in results {
                    answer.extend(match result {
                        Ok(mapping) => words([DONE, self.keep(mapping)]),
                        Err(error) => words(wire::error(error)),
                    });
                }
                answer
            }
        }
    }

    fn unmap(&mut self, rest: &mut Words<'_>) -> Vec<u8> {
        let numbers: Vec<u32> = core::iter::from_fn(|| (!rest.is_empty()).then(|| rest.next())).collect();
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for number in numbers {
            match self.mappings.remove(&number) {
                Some(Mapping::ReadOnly(mapping)) => readers.push(mapping),
                Some(Mapping::ReadWrite(mapping)) => writers.push(mapping),
                None => return words([u32::MAX]),
            }
        }
        let lost = |result: Result<(), usize>| result.err().unwrap_or(0);
        let lost = lost(self.table.unmap_all(readers)) + lost(self.table.unmap_all(writers));
        words([lost as u32])
    }
}
