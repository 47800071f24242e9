//! Pages of a peer's, mapped here.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use super::error::{BatchError, Failed};
use super::table::GrantTable;
use super::{Access, GrantError, ReadWrite};
use crate::abi::grant::op::{MapFlags, MapGrantRef, Op, UnmapGrantRef};
use crate::abi::grant::{GrantHandle, GrantRef, Status};
use crate::abi::{DomId, PAGE_SIZE, XenErrno};
use crate::hypercall::grant::OpError;
use crate::hypercall::{Hypercall, grant as op, sched};
use crate::mm::windows::Window;
use crate::mm::{SharedBytes, SharedReader};

/// How often a page that Xen can't map just now (it is paged out) is tried again, with twice as many yields
/// before each try.
const TRIES: u32 = 8;

/// Pages that a drop unmaps with one hypercall: it may not allocate.
const CHUNK: usize = 32;

/// Pages of a peer's, mapped one behind the other. Dropping it unmaps them.
#[must_use = "dropping a mapping unmaps it"]
pub struct ForeignMapping<'t, A: Access, X: Hypercall> {
    table: &'t GrantTable<X>,
    window: ManuallyDrop<Window>,
    handles: Handles,
    _access: PhantomData<A>,
}

/// What each page is unmapped by; nothing where it is unmapped.
enum Handles {
    One([Option<GrantHandle>; 1]),
    Many(Vec<Option<GrantHandle>>),
}

impl Handles {
    fn all(&mut self) -> &mut [Option<GrantHandle>] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

/// What [`GrantTable::map_batch`] gives for each element.
pub type Mapped<'t, A, X> = Result<ForeignMapping<'t, A, X>, GrantError>;

impl<X: Hypercall> GrantTable<X> {
    /// Maps the page behind a reference of `peer`'s.
    ///
    /// # Errors
    ///
    /// [`GrantError::Op`] with Xen's status, [`GrantError::NoWindow`].
    pub fn map<A: Access>(&self, peer: DomId, gref: GrantRef) -> Mapped<'_, A, X> {
        let window = self.windows.take(1)?;
        let mut operations = [operation::<A>(&window, 0, peer, gref)];
        let called = self.map_patiently(&mut operations);
        let [MapGrantRef { status, handle, .. }] = operations;
        match GrantError::check(Op::MAP, called, status) {
            Ok(()) => Ok(self.mapping(window, Handles::One([Some(handle)]))),
            Err(error) => {
                // SAFETY: nothing was mapped there.
                unsafe { self.windows.give_back(window) };
                Err(error)
            }
        }
    }

    /// Maps the pages behind several references of `peer`'s, one behind the other, with one hypercall. All or
    /// none: where one fails, the others are unmapped.
    ///
    /// # Errors
    ///
    /// Which failed first, and why.
    pub fn map_all<A: Access>(
        &self,
        peer: DomId,
        grefs: &[GrantRef],
    ) -> Result<ForeignMapping<'_, A, X>, BatchError> {
        let fail = |error| {
            let gref = grefs.first().copied().unwrap_or(GrantRef(0));
            BatchError { index: 0, gref, error }
        };
        let mut operations = Vec::new();
        let mut handles = Vec::new();
        let reserved =
            operations.try_reserve_exact(grefs.len()).and_then(|()| handles.try_reserve_exact(grefs.len()));
        reserved.map_err(|_| fail(GrantError::OutOfMemory))?;
        let window = self.windows.take(grefs.len()).map_err(|error| fail(error.into()))?;
        operations
            .extend(grefs.iter().enumerate().map(|(page, &gref)| operation::<A>(&window, page, peer, gref)));
        let called = self.map_patiently(&mut operations);
        let check = |each: &MapGrantRef| GrantError::check(Op::MAP, called, each.status);
        handles.extend(operations.iter().map(|each| check(each).is_ok().then_some(each.handle)));
        let failed = operations.iter().zip(grefs).enumerate().find_map(|(index, (each, &gref))| {
            check(each).err().map(|error| BatchError { index, gref, error })
        });
        // A mapping knows which of its pages are there: dropped, it unmaps those.
        let mapping = self.mapping(window, Handles::Many(handles));
        failed.map_or(Ok(mapping), Err)
    }

    /// Maps pages of any peers', each by itself, with one hypercall; each has its own result.
    ///
    /// # Errors
    ///
    /// [`GrantError::OutOfMemory`] and [`GrantError::NoWindow`], and none is mapped.
    pub fn map_batch<A: Access>(
        &self,
        grants: &[(DomId, GrantRef)],
    ) -> Result<Vec<Mapped<'_, A, X>>, GrantError> {
        let mut operations = Vec::new();
        let mut results = Vec::new();
        let reserved =
            operations.try_reserve_exact(grants.len()).and_then(|()| results.try_reserve_exact(grants.len()));
        reserved.map_err(|_| GrantError::OutOfMemory)?;
        if grants.is_empty() {
            return Ok(results);
        }
        let window = self.windows.take(grants.len())?;
        operations.extend(
            grants.iter().enumerate().map(|(page, &(peer, gref))| operation::<A>(&window, page, peer, gref)),
        );
        let called = self.map_patiently(&mut operations);
        for (each, page) in operations.iter().zip(window.into_pages()) {
            results.push(match GrantError::check(Op::MAP, called, each.status) {
                Ok(()) => Ok(self.mapping(page, Handles::One([Some(each.handle)]))),
                Err(error) => {
                    // SAFETY: nothing was mapped there.
                    unsafe { self.windows.give_back(page) };
                    Err(error)
                }
            });
        }
        Ok(results)
    }

    /// Maps a page for as long as `scope` runs.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn with_mapping<A: Access, R>(
        &self,
        peer: DomId,
        gref: GrantRef,
        scope: impl FnOnce(&ForeignMapping<'_, A, X>) -> R,
    ) -> Result<R, GrantError> {
        self.map::<A>(peer, gref).map(|mapping| scope(&mapping))
    }

    /// Unmaps several mappings with one hypercall.
    ///
    /// # Errors
    ///
    /// How many couldn't be unmapped; their windows are lost, and counted.
    pub fn unmap_all<'t, A: Access>(
        &'t self,
        mappings: impl IntoIterator<Item = ForeignMapping<'t, A, X>>,
    ) -> Result<(), usize> {
        let lost = self.lost.load(Ordering::Relaxed);
        let mut mappings: Vec<_> = mappings.into_iter().collect();
        let mut operations: Vec<_> =
            mappings.iter_mut().flat_map(|mapping| pending(&mapping.window, mapping.handles.all())).collect();
        let called = self.call_unmap(&mut operations);
        let mut done = operations.iter().map(|each| is_unmapped(called, each));
        for mapping in &mut mappings {
            let handles = mapping.handles.all().iter_mut().filter(|handle| handle.is_some());
            for (handle, done) in handles.zip(&mut done) {
                if done {
                    *handle = None;
                }
            }
        }
        drop(mappings);
        match self.lost.load(Ordering::Relaxed).wrapping_sub(lost) {
            0 => Ok(()),
            lost => Err(lost as usize),
        }
    }

    fn mapping<A: Access>(&self, window: Window, handles: Handles) -> ForeignMapping<'_, A, X> {
        ForeignMapping { table: self, window: ManuallyDrop::new(window), handles, _access: PhantomData }
    }

    /// Makes the call, and tries those again that Xen asks to be tried again.
    fn map_patiently(&self, operations: &mut [MapGrantRef]) -> Result<(), XenErrno> {
        // SAFETY: each address is in a window that was just taken.
        let mut called = unsafe { op::map(&self.xen, operations) };
        for operation in operations {
            for attempt in 0..TRIES {
                if operation.status != Status::EAGAIN {
                    break;
                }
                (0..1 << attempt).for_each(|_| sched::yield_now(&self.xen));
                // SAFETY: as above; it isn't mapped yet.
                called = called.and(unsafe { op::map(&self.xen, core::slice::from_mut(operation)) });
            }
        }
        called
    }

    fn call_unmap(&self, operations: &mut [UnmapGrantRef]) -> Result<(), XenErrno> {
        if operations.is_empty() {
            return Ok(());
        }
        // SAFETY: whoever owns the mappings is done with them, and each address is that of its handle.
        unsafe { op::unmap(&self.xen, operations) }
    }

    /// Gives a window up for good: something is there that can't be taken away.
    pub(super) fn lose(&self, window: Window) {
        self.lost.fetch_add(window.pages() as u32, Ordering::Relaxed);
    }
}

fn operation<A: Access>(window: &Window, page: usize, dom: DomId, gref: GrantRef) -> MapGrantRef {
    let readonly = if A::READ_ONLY { MapFlags::READONLY } else { MapFlags::empty() };
    MapGrantRef {
        host_addr: window.gfn(page).address(),
        flags: MapFlags::HOST_MAP | readonly,
        gref,
        dom,
        status: Status::UNANSWERED,
        handle: GrantHandle(u32::MAX),
        dev_bus_addr: 0,
    }
}

/// The operations that unmap what is mapped.
fn pending<'m>(
    window: &'m Window,
    handles: &'m [Option<GrantHandle>],
) -> impl Iterator<Item = UnmapGrantRef> + 'm {
    handles.iter().enumerate().filter_map(|(page, handle)| {
        Some(UnmapGrantRef {
            host_addr: window.gfn(page).address(),
            dev_bus_addr: 0,
            handle: (*handle)?,
            status: Status::UNANSWERED,
        })
    })
}

fn is_unmapped(called: Result<(), XenErrno>, each: &UnmapGrantRef) -> bool {
    OpError::check(Op::UNMAP, called, each.status).is_ok()
}

impl<A: Access, X: Hypercall> ForeignMapping<'_, A, X> {
    /// How many pages it has.
    pub fn pages(&self) -> usize {
        self.window.pages()
    }

    /// The pages, to read. The peer may write them at any time.
    pub fn reader(&self) -> SharedReader<'_> {
        // SAFETY: all pages of the window are mapped while `self` is borrowed.
        unsafe { SharedReader::new(self.window.first().address() as *const u8, self.len()) }
    }

    fn len(&self) -> usize {
        self.pages() * PAGE_SIZE as usize
    }

    /// Unmaps the pages, with one hypercall.
    ///
    /// # Errors
    ///
    /// Xen's first, and the mapping, with those pages that are mapped still; its views show only those.
    pub fn unmap(mut self) -> Result<(), Failed<Self>> {
        let mut operations: Vec<_> = pending(&self.window, self.handles.all()).collect();
        let called = self.table.call_unmap(&mut operations);
        let mut failed = None;
        let handles = self.handles.all().iter_mut().filter(|handle| handle.is_some());
        for (handle, each) in handles.zip(&operations) {
            match GrantError::check(Op::UNMAP, called, each.status) {
                Ok(()) => *handle = None,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            None => Ok(()),
            Some(error) => Err(Failed { error, value: self }),
        }
    }
}

impl<X: Hypercall> ForeignMapping<'_, ReadWrite, X> {
    /// The pages, to read and write.
    pub fn bytes(&self) -> SharedBytes<'_> {
        // SAFETY: all pages of the window are mapped, to write, while `self` is borrowed.
        unsafe { SharedBytes::new(self.window.first().address() as *mut u8, self.len()) }
    }
}

impl<A: Access, X: Hypercall> Drop for ForeignMapping<'_, A, X> {
    fn drop(&mut self) {
        // SAFETY: `self` is being dropped, so the window is taken once.
        let window = unsafe { ManuallyDrop::take(&mut self.window) };
        let handles = self.handles.all();
        for first in (0..handles.len()).step_by(CHUNK) {
            let chunk = first..handles.len().min(first + CHUNK);
            let mut operations: heapless::Vec<UnmapGrantRef, CHUNK> = pending(&window, &handles[..chunk.end])
                .filter(|each| each.host_addr >= window.gfn(first).address())
                .collect();
            let called = self.table.call_unmap(&mut operations);
            let mapped = handles[chunk].iter_mut().filter(|handle| handle.is_some());
            for (handle, each) in mapped.zip(&operations) {
                if is_unmapped(called, each) {
                    *handle = None;
                }
            }
        }
        for (page, handle) in window.into_pages().zip(handles) {
            match handle {
                // SAFETY: nothing is mapped there any more.
                None => unsafe { self.table.windows.give_back(page) },
                Some(_) => self.table.lose(page),
            }
        }
    }
}

impl<A: Access, X: Hypercall> fmt::Debug for ForeignMapping<'_, A, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignMapping({} pages at {})", self.pages(), self.window.first())
    }
}
