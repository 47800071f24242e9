//! Pages of a peer, mapped here.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use super::error::{BatchError, Failed};
use super::table::GrantTable;
use super::{Access, GrantError, ReadWrite, retry};
use crate::abi::grant::op::{MapFlags, MapGrantRef, Op, UnmapGrantRef};
use crate::abi::grant::{GrantHandle, GrantRef, Status};
use crate::abi::{DomId, PAGE_SIZE, XenErrno};
use crate::hypercall::{Hypercall, grant as op};
use crate::mm::windows::Window;
use crate::mm::{SharedBytes, SharedReader};

/// Pages unmapped per hypercall. The number is fixed because unmapping must not need memory.
const CHUNK: usize = 128;

/// Pages of a peer, mapped at consecutive addresses. Dropping it unmaps them.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// # fn read(grants: &granite::rt::Grants, peer: DomId, gref: GrantRef) -> Result<(), Error> {
/// let mapping = grants.map::<ReadOnly>(peer, gref)?;
/// let mut text = [0; 16];
/// mapping.reader().read(0, &mut text)?;
/// mapping.unmap()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a mapping unmaps it"]
pub struct ForeignMapping<'t, A: Access, X: Hypercall> {
    table: &'t GrantTable<X>,
    window: ManuallyDrop<Window>,
    handles: Handles,
    /// All pages are mapped.
    is_whole: bool,
    _access: PhantomData<A>,
}

/// The handle for unmapping each page; `None` if the page is unmapped.
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

/// The result of [`GrantTable::map`], and of each element of [`GrantTable::map_batch`].
pub type Mapped<'t, A, X> = Result<ForeignMapping<'t, A, X>, GrantError>;

impl<X: Hypercall> GrantTable<X> {
    /// Maps the page granted by a reference of `peer`. If Xen must first page it in, this tries again for up to a
    /// second.
    ///
    /// # Errors
    ///
    /// [`GrantError::Op`] with Xen's status, [`GrantError::NoWindow`] if no addresses are free, and
    /// [`GrantError::OwnPage`] if the peer is this domain itself.
    pub fn map<A: Access>(&self, peer: DomId, gref: GrantRef) -> Mapped<'_, A, X> {
        let window = self.window_for(1, [peer])?;
        let mut operations = [operation::<A>(&window, 0, peer, gref)];
        let called = self.call_map(&mut operations);
        self.mapped(window, called, operations)
    }

    /// As [`map`](Self::map), but lets other tasks run while Xen pages in the page.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub async fn map_async<A: Access>(&self, peer: DomId, gref: GrantRef) -> Mapped<'_, A, X> {
        let window = self.window_for(1, [peer])?;
        let mut operations = [operation::<A>(&window, 0, peer, gref)];
        let mut called = None;
        retry::retry_async(|| self.try_map(&mut operations, &mut called)).await;
        self.mapped(window, called.unwrap_or(Ok(())), operations)
    }

    fn mapped<A: Access>(
        &self,
        window: Window,
        called: Result<(), XenErrno>,
        [MapGrantRef { status, handle, .. }]: [MapGrantRef; 1],
    ) -> Mapped<'_, A, X> {
        match GrantError::check(Op::MAP, called, status) {
            Ok(()) => Ok(self.mapping(window, Handles::One([Some(handle)]))),
            Err(error) => {
                // SAFETY: the map failed, so the window is empty.
                unsafe { self.windows.give_back(window) };
                Err(error)
            }
        }
    }

    /// Maps the pages granted by several references of `peer` at consecutive addresses, with one hypercall. It maps
    /// all or none: if one fails, the others are unmapped.
    ///
    /// # Errors
    ///
    /// [`BatchError`] names the first reference that can't be mapped, and why: an error of [`map`](Self::map), or
    /// [`GrantError::OutOfMemory`].
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
        let window = self.window_for(grefs.len(), [peer]).map_err(fail)?;
        operations
            .extend(grefs.iter().enumerate().map(|(page, &gref)| operation::<A>(&window, page, peer, gref)));
        let called = self.call_map(&mut operations);
        let check = |each: &MapGrantRef| GrantError::check(Op::MAP, called, each.status);
        handles.extend(operations.iter().map(|each| check(each).is_ok().then_some(each.handle)));
        let failed = operations.iter().zip(grefs).enumerate().find_map(|(index, (each, &gref))| {
            check(each).err().map(|error| BatchError { index, gref, error })
        });
        // A mapping knows which of its pages are mapped: dropping it unmaps those.
        let mapping = self.mapping(window, Handles::Many(handles));
        failed.map_or(Ok(mapping), Err)
    }

    /// Maps pages of several peers, each as its own mapping, with one hypercall. Each has its own result.
    ///
    /// # Errors
    ///
    /// [`GrantError::OutOfMemory`], [`GrantError::NoWindow`] and [`GrantError::OwnPage`]; then none is mapped.
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
        let window = self.window_for(grants.len(), grants.iter().map(|&(peer, _)| peer))?;
        operations.extend(
            grants.iter().enumerate().map(|(page, &(peer, gref))| operation::<A>(&window, page, peer, gref)),
        );
        let called = self.call_map(&mut operations);
        for (each, page) in operations.iter().zip(window.into_pages()) {
            results.push(match GrantError::check(Op::MAP, called, each.status) {
                Ok(()) => Ok(self.mapping(page, Handles::One([Some(each.handle)]))),
                Err(error) => {
                    // SAFETY: the map failed, so this page of the window is empty.
                    unsafe { self.windows.give_back(page) };
                    Err(error)
                }
            });
        }
        Ok(results)
    }

    /// Maps a page while `scope` runs.
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

    /// Unmaps several mappings, with one hypercall for up to 128 pages.
    ///
    /// # Errors
    ///
    /// The number of pages not unmapped, if Xen refuses some. Their windows are lost, and counted.
    pub fn unmap_all<'t, A: Access>(
        &'t self,
        mappings: impl IntoIterator<Item = ForeignMapping<'t, A, X>>,
    ) -> Result<(), usize> {
        let (mut mappings, mut lost) = (mappings.into_iter(), 0);
        let mut some: heapless::Vec<ForeignMapping<'t, A, X>, CHUNK> = heapless::Vec::new();
        loop {
            some.extend(mappings.by_ref().take(CHUNK));
            if some.is_empty() {
                return if lost == 0 { Ok(()) } else { Err(lost) };
            }
            let _ = self.unmap_pages(some.iter_mut().flat_map(ForeignMapping::mapped_pages));
            // Failed pages are tried once more, one mapping at a time.
            lost += core::mem::take(&mut some).into_iter().map(ForeignMapping::close).sum::<usize>();
        }
    }

    fn mapping<A: Access>(&self, window: Window, handles: Handles) -> ForeignMapping<'_, A, X> {
        let window = ManuallyDrop::new(window);
        ForeignMapping { table: self, window, handles, is_whole: true, _access: PhantomData }
    }

    /// Takes a window for pages of these peers.
    fn window_for(&self, pages: usize, peers: impl IntoIterator<Item = DomId>) -> Result<Window, GrantError> {
        let own = self.xen.domain();
        if !self.maps_own.load(Ordering::Relaxed) && peers.into_iter().any(|peer| peer == own) {
            return Err(GrantError::OwnPage);
        }
        Ok(self.windows.take(pages)?)
    }

    /// Maps, and repeats the operations that Xen asks to retry.
    fn call_map(&self, operations: &mut [MapGrantRef]) -> Result<(), XenErrno> {
        let mut called = None;
        retry::retry(|| self.try_map(operations, &mut called));
        called.unwrap_or(Ok(()))
    }

    fn try_map(&self, operations: &mut [MapGrantRef], called: &mut Option<Result<(), XenErrno>>) -> bool {
        // SAFETY: each address is in a window that was just taken, and no page is mapped there yet: an operation is
        // repeated only if it was not done.
        let call = |some: &mut [MapGrantRef]| unsafe { op::map(&self.xen, some) };
        retry::call(operations, called, |each| each.status, call)
    }

    /// Unmaps pages, each by its address and its handle, and clears the handles of the unmapped ones.
    ///
    /// # Errors
    ///
    /// [`GrantError::Op`] of the first page that Xen refuses to unmap.
    fn unmap_pages<'m>(
        &self,
        pages: impl Iterator<Item = (u64, &'m mut Option<GrantHandle>)>,
    ) -> Result<(), GrantError> {
        let (mut pages, mut result) = (pages, Ok(()));
        loop {
            let mut operations: heapless::Vec<UnmapGrantRef, CHUNK> = heapless::Vec::new();
            let mut handles: heapless::Vec<&'m mut Option<GrantHandle>, CHUNK> = heapless::Vec::new();
            for (host_addr, place) in pages.by_ref().take(CHUNK) {
                let Some(handle) = *place else { continue };
                let unmap = UnmapGrantRef { host_addr, dev_bus_addr: 0, handle, status: Status::UNANSWERED };
                // There is room for as many as are taken.
                let _ = (operations.push(unmap), handles.push(place).is_ok());
            }
            if operations.is_empty() {
                return result;
            }
            // SAFETY: the owner of the mappings is done with them, and each address belongs to its handle.
            let called = unsafe { op::unmap(&self.xen, &mut operations) };
            for (handle, each) in handles.into_iter().zip(&operations) {
                match GrantError::check(Op::UNMAP, called, each.status) {
                    Ok(()) => *handle = None,
                    Err(error) => result = result.and(Err(error)),
                }
            }
        }
    }

    /// Gives up a window for good: its contents can't be removed. Counts its pages as lost.
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

impl<A: Access, X: Hypercall> ForeignMapping<'_, A, X> {
    /// Returns the number of pages.
    pub fn pages(&self) -> usize {
        self.window.pages()
    }

    /// Returns the pages, for reading. The peer may write them at any time. After an
    /// [`unmap`](Self::unmap) that removed only some of the pages, the view is empty.
    pub fn reader(&self) -> SharedReader<'_> {
        // SAFETY: `len` bytes of the window are mapped while `self` is borrowed.
        unsafe { SharedReader::new(self.window.first().address() as *const u8, self.len()) }
    }

    /// Returns the number of visible bytes. It is zero if a page is missing: a view can't show which pages are left.
    fn len(&self) -> usize {
        if self.is_whole { self.pages() * PAGE_SIZE as usize } else { 0 }
    }

    /// Returns the address and handle of each mapped page.
    fn mapped_pages(&mut self) -> impl Iterator<Item = (u64, &mut Option<GrantHandle>)> {
        let first = self.window.first().0;
        let all = self.handles.all().iter_mut().zip(first..);
        all.filter(|(handle, _)| handle.is_some())
            .map(|(handle, frame)| (crate::abi::Gfn(frame).address(), handle))
    }

    /// Unmaps the pages, with one hypercall for up to 128.
    ///
    /// # Errors
    ///
    /// The first error from Xen, and the mapping with the pages still mapped. Its views are empty if other pages were
    /// unmapped. The caller may try again.
    pub fn unmap(mut self) -> Result<(), Failed<Self>> {
        let table = self.table;
        let result = table.unmap_pages(self.mapped_pages());
        self.is_whole = self.mapped_pages().count() == self.pages();
        result.map_err(|error| Failed { error, value: self })
    }

    /// Unmaps the pages and gives the window back. Returns how many pages of the window are lost.
    fn close(self) -> usize {
        // SAFETY: the value is forgotten here, and taken apart once.
        unsafe { ManuallyDrop::new(self).take_apart() }
    }

    /// # Safety
    ///
    /// The caller calls it once, and doesn't use the value afterwards.
    unsafe fn take_apart(&mut self) -> usize {
        let table = self.table;
        let _ = table.unmap_pages(self.mapped_pages()); // what is left is lost, and counted
        // SAFETY: the caller guarantees that the window is taken once.
        let window = unsafe { ManuallyDrop::take(&mut self.window) };
        let mut handles = core::mem::replace(&mut self.handles, Handles::One([None]));
        let mut lost = 0;
        for (page, handle) in window.into_pages().zip(handles.all()) {
            match handle {
                // SAFETY: this page of the window is unmapped.
                None => unsafe { table.windows.give_back(page) },
                Some(_) => {
                    table.lose(page);
                    lost += 1;
                }
            }
        }
        lost
    }
}

impl<X: Hypercall> ForeignMapping<'_, ReadWrite, X> {
    /// Returns the pages, for reading and writing. The view is empty in the same case as [`reader`](Self::reader).
    pub fn bytes(&self) -> SharedBytes<'_> {
        // SAFETY: `len` bytes of the window are mapped, for writing, while `self` is borrowed.
        unsafe { SharedBytes::new(self.window.first().address() as *mut u8, self.len()) }
    }
}

impl<A: Access, X: Hypercall> Drop for ForeignMapping<'_, A, X> {
    fn drop(&mut self) {
        // SAFETY: `self` is being dropped.
        unsafe { self.take_apart() };
    }
}

impl<A: Access, X: Hypercall> fmt::Debug for ForeignMapping<'_, A, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignMapping({} pages at {})", self.pages(), self.window.first())
    }
}
