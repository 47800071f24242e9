//! Writes to another domain's memory. Its pages are mapped for a moment, in windows.

use super::{Step, ToolstackError};
use crate::abi::{DomId, Gfn, PAGE_SIZE, XenErrno};
use crate::hypercall::{Hypercall, memory};
use crate::mm::SharedBytes;
use crate::mm::windows::{Window, Windows};

/// Maximum number of pages mapped at once.
const BATCH: usize = 64;

/// An error number not used by any Xen.
const UNANSWERED: i32 = i32::MIN;

/// Another domain's memory.
#[derive(Debug)]
pub struct Foreign<'x, X: Hypercall> {
    xen: &'x X,
    windows: &'static Windows,
    domain: DomId,
}

impl<'x, X: Hypercall> Foreign<'x, X> {
    /// The memory of a domain under our control.
    pub fn new(xen: &'x X, windows: &'static Windows, domain: DomId) -> Self {
        Self { xen, windows, domain }
    }

    /// Copies bytes to the domain's guest-physical addresses from `address` on.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::NoWindow`] if no addresses are free, or [`ToolstackError::Xen`] with Xen's errno. Bytes
    /// written before the error stay.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), ToolstackError> {
        let mut rest = bytes;
        let mut at = address;
        while !rest.is_empty() {
            let offset = (at % PAGE_SIZE) as usize;
            let max = BATCH * PAGE_SIZE as usize - offset;
            let (now, later) = rest.split_at(rest.len().min(max));
            let pages = (offset + now.len()).div_ceil(PAGE_SIZE as usize);
            self.with_pages(Gfn::containing(at), pages, |view| {
                // It fits: `pages` covers offset and length.
                let written = view.write(offset, now);
                debug_assert!(written.is_ok(), "{written:?}");
            })?;
            (rest, at) = (later, at + now.len() as u64);
        }
        Ok(())
    }

    fn with_pages(
        &self,
        first: Gfn,
        pages: usize,
        access: impl FnOnce(SharedBytes<'_>),
    ) -> Result<(), ToolstackError> {
        let window = self.windows.take(pages).map_err(|_| ToolstackError::NoWindow)?;
        let theirs: heapless::Vec<u64, BATCH> = (first.0..).take(pages).collect();
        let ours: heapless::Vec<Gfn, BATCH> = (0..pages).map(|page| window.gfn(page)).collect();
        // A page without an answer from Xen counts as failed.
        let mut errors = [UNANSWERED; BATCH];
        // SAFETY: the window was just taken, and is empty.
        let called =
            unsafe { memory::map_foreign(self.xen, self.domain, &theirs, &ours, &mut errors[..pages]) };
        let failed =
            errors[..pages].iter().find(|&&error| error != 0).map(|&error| XenErrno(error.wrapping_neg()));
        let mapped = called
            .and(failed.map_or(Ok(()), Err))
            .map_err(|errno| ToolstackError::Xen(Step::MapMemory, errno));
        if mapped.is_ok() {
            // SAFETY: the pages stay mapped in the window until it is emptied below. The domain may write them too.
            access(unsafe {
                SharedBytes::new(window.first().address() as *mut u8, pages * PAGE_SIZE as usize)
            });
        }
        let emptied = self.empty(window, &errors[..pages]);
        mapped.and(emptied)
    }

    /// Unmaps the mapped pages, also after a call that stopped halfway. A window is never reused if that fails.
    fn empty(&self, window: Window, errors: &[i32]) -> Result<(), ToolstackError> {
        let mut result = Ok(());
        for (page, &error) in window.into_pages().zip(errors) {
            // SAFETY: the page is no longer in use.
            let removed = if error == 0 { unsafe { memory::remove(self.xen, page.first()) } } else { Ok(()) };
            match removed {
                // SAFETY: the window was taken above, and is empty.
                Ok(()) => unsafe { self.windows.give_back(page) },
                Err(errno) => result = Err(ToolstackError::Xen(Step::UnmapMemory, errno)),
            }
        }
        result
    }
}
