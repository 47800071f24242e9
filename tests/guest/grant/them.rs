//! The other domain, as the cases see it: ourselves on `solo`; on `pair` a domain that is told what to do
//! ([`serve`](super::serve)). What is mapped there looks like what is mapped here.

use core::marker::PhantomData;

use alloc::vec::Vec;

use granite::abi::DomId;
use granite::abi::grant::GrantRef;
use granite::grant::{Access, BatchError, Failed, ForeignMapping, GrantError, ReadWrite};
use granite::hypercall::Xen;
use granite::mm::shared::OutOfBounds;

use super::bed::Table;
use super::wire::{self, DONE, Words, words};
use crate::pair::Side;

/// The other domain.
#[derive(Clone, Copy)]
pub enum Them {
    /// It is this one.
    Us(&'static Table),
    /// It is told.
    Told(Side),
}

/// Pages of ours, mapped by them.
pub enum TheirMapping<A: Access> {
    /// Here.
    Ours(ForeignMapping<'static, A, Xen>),
    /// There.
    Told(Told<A>),
}

/// A mapping over there, by its number. Dropping it has it unmapped.
pub struct Told<A> {
    side: Side,
    number: u32,
    pages: usize,
    _access: PhantomData<A>,
}

/// Whatever is wrong with the link: it is told as what no rig has, and the case fails.
const BROKEN: GrantError = GrantError::OutOfMemory;

fn ask(side: Side, message: &[u8]) -> Result<Vec<u8>, GrantError> {
    side.tell(message).and_then(|()| side.hear()).map_err(|_| BROKEN)
}

impl Them {
    /// As [`Table::map`].
    pub fn map<A: Access>(&self, peer: DomId, gref: GrantRef) -> Result<TheirMapping<A>, GrantError> {
        match self {
            Self::Us(table) => table.map(peer, gref).map(TheirMapping::Ours),
            Self::Told(_) => self.map_all(peer, &[gref]).map_err(|failed| failed.error),
        }
    }

    /// As [`Table::map_all`].
    pub fn map_all<A: Access>(&self, peer: DomId, grefs: &[GrantRef]) -> Result<TheirMapping<A>, BatchError> {
        let side = match *self {
            Self::Us(table) => return table.map_all(peer, grefs).map(TheirMapping::Ours),
            Self::Told(side) => side,
        };
        let failed = |index: usize, error| {
            let gref = grefs.get(index).copied().unwrap_or(GrantRef(0));
            BatchError { index, gref, error }
        };
        let head = [wire::MAP_ALL, A::READ_ONLY.into(), peer.0.into()];
        let message = words(head.into_iter().chain(grefs.iter().map(|gref| gref.0)));
        let answer = ask(side, &message).map_err(|error| failed(0, error))?;
        let mut rest = Words(&answer);
        match rest.next() {
            DONE => Ok(told(side, rest.next(), grefs.len())),
            kind => {
                let error = wire::read_error(kind, &mut rest);
                Err(failed(rest.next() as usize, error))
            }
        }
    }

    /// As [`Table::map_batch`].
    pub fn map_batch<A: Access>(
        &self,
        grants: &[(DomId, GrantRef)],
    ) -> Result<Vec<Result<TheirMapping<A>, GrantError>>, GrantError> {
        let side = match *self {
            Self::Us(table) => {
                let results = table.map_batch(grants)?;
                return Ok(results.into_iter().map(|result| result.map(TheirMapping::Ours)).collect());
            }
            Self::Told(side) => side,
        };
        let pairs = grants.iter().flat_map(|(domain, gref)| [u32::from(domain.0), gref.0]);
        let answer = ask(side, &words([wire::MAP_EACH, A::READ_ONLY.into()].into_iter().chain(pairs)))?;
        let mut rest = Words(&answer);
        match rest.next() {
            DONE => {}
            kind => return Err(wire::read_error(kind, &mut rest)),
        }
        let one = |_| match rest.next() {
            DONE => Ok(told(side, rest.next(), 1)),
            kind => Err(wire::read_error(kind, &mut rest)),
        };
        Ok(grants.iter().map(one).collect())
    }

    /// As [`Table::unmap_all`].
    pub fn unmap_all<A: Access>(
        &self,
        mappings: impl IntoIterator<Item = TheirMapping<A>>,
    ) -> Result<(), usize> {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for mapping in mappings {
            match mapping {
                TheirMapping::Ours(mapping) => here.push(mapping),
                TheirMapping::Told(told) => there.push(core::mem::ManuallyDrop::new(told).number),
            }
        }
        match *self {
            Self::Us(table) => table.unmap_all(here),
            Self::Told(side) => unmap(side, &there).map_err(|_| usize::MAX),
        }
    }

    /// As [`Table::with_mapping`].
    pub fn with_mapping<A: Access, R>(
        &self,
        peer: DomId,
        gref: GrantRef,
        scope: impl FnOnce(&TheirMapping<A>) -> R,
    ) -> Result<R, GrantError> {
        self.map::<A>(peer, gref).map(|mapping| scope(&mapping))
    }

    /// Their windows that are free.
    pub fn free_windows(&self) -> usize {
        match *self {
            Self::Us(table) => table.windows().free(),
            Self::Told(side) => {
                ask(side, &words([wire::WINDOWS])).map_or(usize::MAX, |answer| Words(&answer).next() as usize)
            }
        }
    }
}

fn told<A: Access>(side: Side, number: u32, pages: usize) -> TheirMapping<A> {
    TheirMapping::Told(Told { side, number, pages, _access: PhantomData })
}

fn unmap(side: Side, numbers: &[u32]) -> Result<(), GrantError> {
    let message = words([wire::UNMAP].into_iter().chain(numbers.iter().copied()));
    match Words(&ask(side, &message)?).next() {
        0 => Ok(()),
        _ => Err(BROKEN),
    }
}

impl<A> Drop for Told<A> {
    fn drop(&mut self) {
        let _ = unmap(self.side, &[self.number]); // the other side's verdict will tell
    }
}

impl<A: Access> TheirMapping<A> {
    /// As [`ForeignMapping::pages`].
    pub fn pages(&self) -> usize {
        match self {
            Self::Ours(mapping) => mapping.pages(),
            Self::Told(told) => told.pages,
        }
    }

    /// As [`ForeignMapping::reader`].
    pub fn reader(&self) -> Reader<'_, A> {
        Reader(self)
    }

    /// As [`ForeignMapping::unmap`].
    pub fn unmap(self) -> Result<(), Failed<Self>> {
        match self {
            Self::Ours(mapping) => mapping.unmap().map_err(|failed| failed.map(Self::Ours)),
            Self::Told(told) => {
                let told = core::mem::ManuallyDrop::new(told);
                let (side, number, pages) = (told.side, told.number, told.pages);
                unmap(side, &[number]).map_err(|error| {
                    // It is there no more than its number is.
                    let value = Self::Told(Told { side, number, pages, _access: PhantomData });
                    Failed { error, value }
                })
            }
        }
    }
}

impl TheirMapping<ReadWrite> {
    /// As [`ForeignMapping::bytes`].
    pub fn bytes(&self) -> Writer<'_> {
        Writer(self)
    }
}

/// The pages, to read.
pub struct Reader<'m, A: Access>(&'m TheirMapping<A>);

impl<A: Access> Reader<'_, A> {
    /// Copies bytes out.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        match self.0 {
            TheirMapping::Ours(mapping) => mapping.reader().read(offset, into),
            TheirMapping::Told(told) => {
                let answer =
                    ask(told.side, &words([wire::READ, told.number, offset as u32, into.len() as u32]));
                match answer {
                    Ok(bytes) if bytes.len() == into.len() => {
                        into.copy_from_slice(&bytes);
                        Ok(())
                    }
                    _ => Err(OutOfBounds { offset, bytes: into.len(), len: told.pages * 4096 }),
                }
            }
        }
    }
}

/// The pages, to write.
pub struct Writer<'m>(&'m TheirMapping<ReadWrite>);

impl Writer<'_> {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.pages() * 4096
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        match self.0 {
            TheirMapping::Ours(mapping) => mapping.bytes().write(offset, bytes),
            TheirMapping::Told(told) => {
                let mut message = words([wire::WRITE, told.number, offset as u32]);
                message.extend(bytes);
                match ask(told.side, &message).map(|answer| Words(&answer).next()) {
                    Ok(1) => Ok(()),
                    _ => Err(OutOfBounds { offset, bytes: bytes.len(), len: told.pages * 4096 }),
                }
            }
        }
    }
}
