//! The header's seven operations, and those that came after it.

use alloc::vec::Vec;

use granite::abi::grant::op::{MapFlags, Op, UnmapGrantRef};
use granite::abi::grant::{GrantRef, Status};
use granite::abi::{DomId, PAGE_SIZE, XenErrno};
use granite::grant::{CopyOp, Dest, GrantError, ReadOnly, ReadWrite, Source, Version};
use granite::hypercall::grant::{self as op, OpError};
use granite::ring::{GrantedPages, RingMemory};

use super::bed::{Bed, Hypervisor, fail, raw_map};
use super::{BOTH_AT_HAND, WITH_XEN};
use crate::grant_cases;
use crate::harness::NotPassed;
use granite::testing::{check, check_same};

grant_cases! {
    op_map_grant_ref on WITH_XEN;
    op_map_grant_ref_of_512_is_one_call on WITH_XEN;
    op_unmap_grant_ref on WITH_XEN;
    unmap_without_an_address on BOTH_AT_HAND;
    op_setup_table on WITH_XEN;
    op_dump_table on WITH_XEN;
    op_transfer on WITH_XEN;
    op_copy on BOTH_AT_HAND;
    a_slot_across_two_pages on BOTH_AT_HAND;
    op_query_size on WITH_XEN;
    op_swap_grant_ref on WITH_XEN;
    op_set_version on WITH_XEN;
    ops_of_pv_and_arm_alone on WITH_XEN;
    part_of_a_page on BOTH_AT_HAND;
    batch_of_maps_has_a_result_each on WITH_XEN;
    batch_that_fails_is_rolled_back on WITH_XEN;
    batch_of_unmaps on WITH_XEN;
}

/// Both views are of one page: what one side writes, the other reads.
fn op_map_grant_ref(bed: &Bed) -> Result<(), NotPassed> {
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let mapping = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
    grant.bytes().write(10, b"from us").map_err(fail)?;
    let mut text = [0; 7];
    mapping.reader().read(10, &mut text).map_err(fail)?;
    check_same!(&text, b"from us");
    mapping.bytes().write(4089, b"to them").map_err(fail)?;
    grant.bytes().read(4089, &mut text).map_err(fail)?;
    check_same!(&text, b"to them");
    check!(mapping.bytes().write(4090, b"too far").is_err());

    let second = bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).map_err(fail)?;
    second.reader().read(10, &mut text).map_err(fail)?;
    check_same!(&text, b"from us");
    mapping.unmap().map_err(fail)?;
    second.reader().read(10, &mut text).map_err(fail)?;
    check_same!(&text, b"from us");
    second.unmap().map_err(fail)?;
    grant.end_access().map_err(fail)?;
    bed.us
        .with_grant::<ReadOnly, _>(bed.page()?, bed.their_id, |grant| {
            bed.them.with_mapping::<ReadOnly, _>(bed.our_id, grant.gref(), |mapping| mapping.pages())
        })
        .map_err(fail)?
        .0
        .map_err(fail)?;
    Ok(())
}

/// As many references of one page as make 512 mappings.
fn op_map_grant_ref_of_512_is_one_call(bed: &Bed) -> Result<(), NotPassed> {
    const PAGES: usize = 512;
    let page = bed.page()?;
    let gfn = page.gfn();
    let mut grants = Vec::new();
    for _ in 0..PAGES {
        // SAFETY: many owners of one page, and none of them is dropped: they are taken apart below.
        let alias = unsafe { granite::mm::Page::from_gfn(gfn) };
        grants.push(bed.us.grant::<ReadWrite>(alias, bed.their_id).map_err(fail)?);
    }
    let grefs: Vec<GrantRef> = grants.iter().map(|grant| grant.gref()).collect();
    #[cfg(not(granite_guest))]
    let calls = bed.fake.them.grant_calls();
    let mapping = bed.them.map_all::<ReadWrite>(bed.our_id, &grefs).map_err(fail)?;
    #[cfg(not(granite_guest))]
    check_same!(bed.fake.them.grant_calls(), calls + 1);
    check_same!(mapping.bytes().len(), PAGES * PAGE_SIZE as usize);
    mapping.bytes().write(511 * 4096, b"last").map_err(fail)?;
    let mut text = [0; 4];
    mapping.reader().read(0, &mut text).map_err(fail)?;
    check_same!(&text, b"last"); // they are all one page
    mapping.unmap().map_err(fail)?;
    for grant in grants {
        let _ = grant.end_access().map_err(fail)?.into_gfn();
    }
    check_same!(&page.bytes()[..4], b"last");
    drop(page);
    Ok(())
}

fn op_unmap_grant_ref(bed: &Bed) -> Result<(), NotPassed> {
    let free = bed.their_free_windows();
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    for _ in 0..3 {
        // By hand, and by dropping it.
        let mapping = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
        check_same!(bed.their_free_windows(), free - 1);
        mapping.unmap().map_err(fail)?;
        drop(bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).map_err(fail)?);
        check_same!(bed.their_free_windows(), free);
        check!(grant.in_use().is_empty());
    }
    grant.end_access().map_err(fail)?;
    Ok(())
}

/// A field that is zero is ignored: the mapping stays, and its handle.
fn unmap_without_an_address(bed: &Bed) -> Result<(), NotPassed> {
    let them = bed.their_table()?;
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let window = them.windows().take(1).map_err(fail)?;
    let (status, handle) = raw_map(them, bed.our_id, grant.gref(), MapFlags::HOST_MAP, window.first());
    check_same!(status, Status::OKAY);
    let unmap = |host_addr| {
        let mut unmap = [UnmapGrantRef { host_addr, dev_bus_addr: 0, handle, status: Status::UNANSWERED }];
        // SAFETY: nobody uses the mapping.
        unsafe { op::unmap(them.xen(), &mut unmap) }.map(|()| unmap[0].status).map_err(fail)
    };
    check_same!(unmap(0)?, Status::OKAY);
    check!(!grant.in_use().is_empty());
    check_same!(unmap(window.first().address())?, Status::OKAY);
    check!(grant.in_use().is_empty());
    check_same!(unmap(window.first().address())?, Status::BAD_HANDLE);
    // SAFETY: nothing is there any more.
    unsafe { them.windows().give_back(window) };
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

/// A domain that there is not.
const NOBODY: DomId = DomId(0x7abc);

/// It grows, and a PVH guest learns no frame of use; too many are refused.
fn op_setup_table(bed: &Bed) -> Result<(), NotPassed> {
    let (now, max) = bed.us.query_size().map_err(fail)?;
    // As many numbers are written as there is room for, and no more.
    let mut frames = [7; 2];
    op::setup_table(bed.us.xen(), DomId::SELF, &mut frames[..1]).map_err(fail)?;
    check!(frames[0] != 7 && frames[1] == 7, "{frames:?}");
    check_same!(bed.us.query_size().map_err(fail)?, (now, max));
    // It grows; by its own number, a domain names itself.
    let grown = (now + 1).min(max);
    let mut frames = alloc::vec![7; grown as usize];
    op::setup_table(bed.us.xen(), bed.our_id, &mut frames).map_err(fail)?;
    check!(!frames.contains(&7), "{frames:?}");
    check_same!(bed.us.query_size().map_err(fail)?, (grown, max));
    let nobody = op::setup_table(bed.us.xen(), NOBODY, &mut frames);
    check_same!(nobody, Err(OpError::Status(Op::SETUP_TABLE, Status::BAD_DOMAIN)));
    let mut too_many = alloc::vec![0; max as usize + 1];
    let refused = op::setup_table(bed.us.xen(), DomId::SELF, &mut too_many);
    check_same!(refused, Err(OpError::Status(Op::SETUP_TABLE, Status::GENERAL_ERROR)));
    Ok(())
}

/// Xen's is refused to PVH guests, with a word on who may; ours prints the live table.
fn op_dump_table(bed: &Bed) -> Result<(), NotPassed> {
    use alloc::string::ToString;
    let refused = bed.us.dump_to_xen();
    check_same!(refused, Err(OpError::Call(Op::DUMP_TABLE, XenErrno::NOSYS)));
    let text = refused.map_err(|error| error.to_string()).err().unwrap_or_default();
    check!(text.contains("only PV domains may"), "{text}");
    for domain in [bed.their_id, NOBODY] {
        let refused = op::dump_table(bed.us.xen(), domain);
        check_same!(refused, Err(OpError::Call(Op::DUMP_TABLE, XenErrno::NOSYS)));
    }

    let grant = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
    let line = |state: &str| {
        let text = bed.us.dump().to_string();
        let number = alloc::format!("  {:5}  domain {}  ", grant.gref().0, bed.their_id);
        text.lines().any(|line| line.starts_with(&number) && line.ends_with(state))
    };
    check!(line("read-only, not in use"), "{}", bed.us.dump());
    let mapping = bed.them.map::<ReadOnly>(bed.our_id, grant.gref()).map_err(fail)?;
    check!(line("read-only, in use for reading"), "{}", bed.us.dump());
    mapping.unmap().map_err(fail)?;
    let slot = bed.us.accept_transfer(bed.their_id).map_err(fail)?;
    check!(bed.us.dump().to_string().contains("slot, offered"), "{}", bed.us.dump());
    slot.withdraw().map_err(fail)?;
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

/// A PVH guest is told who may, and keeps its page.
fn op_transfer(bed: &Bed) -> Result<(), NotPassed> {
    use alloc::string::ToString;
    let slot = bed.us.accept_transfer(bed.their_id).map_err(fail)?;
    let mut page = bed.page()?;
    page.bytes_mut()[..4].copy_from_slice(b"kept");
    let Err(failed) = bed.us.transfer(page, bed.our_id, slot.gref()) else {
        return Err(fail("a PVH guest transferred a page"));
    };
    check_same!(failed.error, GrantError::Op(OpError::Call(Op::TRANSFER, XenErrno::NOSYS)));
    check!(failed.to_string().contains("only PV domains may call it"), "{failed}");
    check!(failed.value.is_some_and(|page| page.bytes()[..4] == *b"kept"));
    slot.withdraw().map_err(fail)?;
    bed.nothing_lost()
}

/// All four forms: each end a frame of ours, or a reference.
fn op_copy(bed: &Bed) -> Result<(), NotPassed> {
    let mut source = bed.page()?;
    source.bytes_mut()[100..105].copy_from_slice(b"bytes");
    let granted = bed.us.grant::<ReadWrite>(source, bed.their_id).map_err(fail)?;
    let target = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let ours = |grant: &granite::grant::Grant<'_, ReadWrite, Hypervisor>, at: usize| {
        let mut text = [0; 5];
        grant.bytes().read(at, &mut text).map(|()| text).map_err(fail)
    };
    // Ours to ours.
    let mut page = bed.page()?;
    bed.us.copy_one(Source::ours(&granted, 100), Dest::page(&mut page, 4091), 5).map_err(fail)?;
    check_same!(&page.bytes()[4091..], b"bytes");
    bed.us.copy_one(Source::page(&page, 4091), Dest::ours(&target, 0), 5).map_err(fail)?;
    check_same!(&ours(&target, 0)?, b"bytes");
    // By the peer: reference to reference, in a batch with an empty one.
    let reference = |at| Source::granted(bed.our_id, granted.gref(), at);
    let into = |at| Dest::granted(bed.our_id, target.gref(), at);
    let mut batch = [
        CopyOp::new(reference(100), into(50), 5).map_err(fail)?,
        CopyOp::new(reference(4096), into(4096), 0).map_err(fail)?,
    ];
    check_same!(batch[0].result(), Err(GrantError::NotMade));
    bed.their_table()?.copy(&mut batch).map_err(fail)?;
    check!(batch.iter().all(|copy| copy.result().is_ok()));
    check_same!(&ours(&target, 50)?, b"bytes");
    // One that fails keeps no other from being made, and the first error is told.
    let nobody = || Source::granted(bed.our_id, GrantRef(granted.gref().0 + 3000), 0);
    let outside = || Source::granted(NOBODY, granted.gref(), 0);
    let mut batch = [
        CopyOp::new(reference(100), into(60), 5).map_err(fail)?,
        CopyOp::new(nobody(), into(70), 5).map_err(fail)?,
        CopyOp::new(outside(), into(70), 5).map_err(fail)?,
        CopyOp::new(reference(100), into(70), 5).map_err(fail)?,
    ];
    let first = bed.their_table()?.copy(&mut batch).err().and_then(GrantError::status);
    check_same!(first, Some(Status::BAD_GNTREF));
    let results = batch.map(|copy| copy.result().err().and_then(GrantError::status));
    check_same!(results, [None, Some(Status::BAD_GNTREF), Some(Status::BAD_DOMAIN), None]);
    check_same!((&ours(&target, 60)?, &ours(&target, 70)?), (b"bytes", b"bytes"));
    check!(granted.in_use().is_empty() && target.in_use().is_empty());
    target.end_access().map_err(fail)?;
    granted.end_access().map_err(fail)?;
    copy_with_their_pages(bed)?;
    #[cfg(not(granite_guest))]
    copy_between_two_others(bed)?;
    bed.nothing_lost()
}

/// A third domain copies from a page that one domain grants it to a page that another does.
#[cfg(not(granite_guest))]
fn copy_between_two_others(bed: &Bed) -> Result<(), NotPassed> {
    let mut source = bed.page()?;
    source.bytes_mut()[..5].copy_from_slice(b"third");
    let third = bed.fake.pv_id;
    let source = bed.us.grant::<ReadOnly>(source, third).map_err(fail)?;
    let target = bed.them.grant::<ReadWrite>(bed.their_page()?, third).map_err(fail)?;
    let from = || Source::granted(bed.our_id, source.gref(), 0);
    let into = || Dest::granted(bed.their_id, target.gref(), 9);
    bed.fake.pv.copy_one(from(), into(), 5).map_err(fail)?;
    let mut text = [0; 5];
    target.bytes().read(9, &mut text).map_err(fail)?;
    check_same!(&text, b"third");
    // Granted to the third alone: no other may.
    let refused = bed.them.copy_one(from(), into(), 5).err().and_then(GrantError::status);
    check_same!(refused, Some(Status::GENERAL_ERROR));
    source.end_access().map_err(fail)?;
    target.end_access().map_err(fail)?;
    Ok(())
}

/// Reference to a page of the caller's, and back.
fn copy_with_their_pages(bed: &Bed) -> Result<(), NotPassed> {
    let mut source = bed.page()?;
    source.bytes_mut()[..5].copy_from_slice(b"words");
    let granted = bed.us.grant::<ReadWrite>(source, bed.their_id).map_err(fail)?;
    // A page of theirs is one that they have granted: that is how this side can look at it.
    let theirs = bed.their_page()?;
    let theirs = bed.their_table()?.grant::<ReadWrite>(theirs, bed.our_id).map_err(fail)?;
    bed.their_table()?
        .copy_one(Source::granted(bed.our_id, granted.gref(), 0), Dest::ours(&theirs, 7), 5)
        .map_err(fail)?;
    let mut text = [0; 5];
    theirs.bytes().read(7, &mut text).map_err(fail)?;
    check_same!(&text, b"words");
    bed.their_table()?
        .copy_one(Source::ours(&theirs, 7), Dest::granted(bed.our_id, granted.gref(), 1000), 5)
        .map_err(fail)?;
    granted.bytes().read(1000, &mut text).map_err(fail)?;
    check_same!(&text, b"words");
    theirs.end_access().map_err(fail)?;
    granted.end_access().map_err(fail)?;
    Ok(())
}

fn op_query_size(bed: &Bed) -> Result<(), NotPassed> {
    let (now, max) = bed.us.query_size().map_err(fail)?;
    let stats = bed.us.stats();
    check!(now >= stats.frames && max == stats.max_frames, "{now} of {max}: {stats}");
    check_same!(stats.references, stats.frames * bed.us.version().entries_per_frame() - 8);
    check_same!(op::query_size(bed.us.xen(), bed.our_id), Ok((now, max)));
    let nobody = op::query_size(bed.us.xen(), NOBODY);
    check_same!(nobody, Err(OpError::Status(Op::QUERY_SIZE, Status::BAD_DOMAIN)));
    // The control domain may ask for another's.
    let theirs = op::query_size(bed.us.xen(), bed.their_id);
    let refused = Err(OpError::Status(Op::QUERY_SIZE, Status::PERMISSION_DENIED));
    check!(if cfg!(granite_guest) { theirs.is_ok() } else { theirs == refused }, "{theirs:?}");
    Ok(())
}

fn op_swap_grant_ref(bed: &Bed) -> Result<(), NotPassed> {
    let page = |text: &[u8; 4]| {
        let mut page = bed.page()?;
        page.bytes_mut()[..4].copy_from_slice(text);
        Ok::<_, NotPassed>(page)
    };
    let mut first = bed.us.grant::<ReadWrite>(page(b"1st.")?, bed.their_id).map_err(fail)?;
    let mut second = bed.us.grant::<ReadWrite>(page(b"2nd.")?, bed.their_id).map_err(fail)?;
    first.swap_references(&mut second).map_err(fail)?;
    let seen = |gref| {
        let mut text = [0; 4];
        let mapping = bed.them.map::<ReadOnly>(bed.our_id, gref).map_err(fail)?;
        mapping.reader().read(0, &mut text).map_err(fail)?;
        mapping.unmap().map_err(fail)?;
        Ok::<_, NotPassed>(text)
    };
    check_same!(&seen(first.gref())?, b"2nd.");
    check_same!(&seen(second.gref())?, b"1st.");
    let mapping = bed.them.map::<ReadOnly>(bed.our_id, first.gref()).map_err(fail)?;
    check!(first.swap_references(&mut second).is_err(), "exchanged while in use");
    mapping.unmap().map_err(fail)?;
    let pages = [first.end_access().map_err(fail)?, second.end_access().map_err(fail)?];
    check_same!((&pages[0].bytes()[..4], &pages[1].bytes()[..4]), (&b"2nd."[..], &b"1st."[..]));
    drop(pages);
    bed.nothing_lost()
}

/// What is refused leaves the version as it is.
fn op_set_version(bed: &Bed) -> Result<(), NotPassed> {
    let version = bed.us.version();
    check_same!(op::get_version(bed.us.xen(), DomId::SELF), Ok(version.number()));
    // SAFETY: it is refused.
    let refused = unsafe { op::set_version(bed.us.xen(), 3) };
    check_same!(refused, Err(OpError::Call(Op::SET_VERSION, XenErrno::INVAL)));
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let mapping = bed.them.map::<ReadWrite>(bed.our_id, grant.gref()).map_err(fail)?;
    let other = if version == Version::V1 { 2 } else { 1 };
    // SAFETY: it is refused, since a grant is in use.
    let refused = unsafe { op::set_version(bed.us.xen(), other) };
    check_same!(refused, Err(OpError::Call(Op::SET_VERSION, XenErrno::BUSY)));
    mapping.unmap().map_err(fail)?;
    grant.end_access().map_err(fail)?;
    check_same!(op::get_version(bed.us.xen(), DomId::SELF), Ok(version.number()));
    check_same!(Version::from_number(3), Err(GrantError::NoVersion(3)));
    Ok(())
}

fn ops_of_pv_and_arm_alone(bed: &Bed) -> Result<(), NotPassed> {
    use alloc::string::ToString;
    use granite::abi::grant::GrantHandle;
    use granite::abi::grant::op::{CacheFlush, CacheOps, UnmapAndReplace};
    let xen = bed.us.xen();
    let status_frames = op::status_frames(xen, DomId::SELF, &mut [0; 1]);
    check_same!(status_frames, Err(OpError::Call(Op::GET_STATUS_FRAMES, XenErrno::NOSYS)));
    let replace =
        UnmapAndReplace { host_addr: 0, new_addr: 0, handle: GrantHandle(u32::MAX), status: Status::OKAY };
    let flush = CacheFlush { page: 0, offset: 0, length: 0, op: CacheOps::CLEAN };
    // SAFETY: both are refused, and name nothing.
    let (replaced, flushed) = unsafe { (op::unmap_and_replace(xen, replace), op::cache_flush(xen, flush)) };
    check_same!(replaced, Err(OpError::Call(Op::UNMAP_AND_REPLACE, XenErrno::NOSYS)));
    check_same!(flushed, Err(OpError::Call(Op::CACHE_FLUSH, XenErrno::NOSYS)));
    let text = flushed.map_err(|error| error.to_string()).err().unwrap_or_default();
    check!(text.contains("only domains on Arm"), "{text}");
    Ok(())
}

/// Version 2 grants a part to copy, not to map; version 1 says that it can't.
fn part_of_a_page(bed: &Bed) -> Result<(), NotPassed> {
    let granted = bed.us.grant_part::<ReadOnly>(bed.page()?, 256, 128, bed.their_id);
    if bed.us.version() == Version::V1 {
        check!(matches!(granted, Err(failed) if matches!(failed.error, GrantError::Unfit(_))));
        return bed.nothing_lost();
    }
    let part = granted.map_err(fail)?;
    // Up to the end of the page, and no further.
    let last = bed.us.grant_part::<ReadOnly>(bed.page()?, 4000, 96, bed.their_id).map_err(fail)?;
    last.end_access().map_err(fail)?;
    let Err(failed) = bed.us.grant_part::<ReadOnly>(bed.page()?, 4000, 97, bed.their_id) else {
        return Err(fail("a part beyond the end of its page"));
    };
    check!(matches!(failed.error, GrantError::OutOfBounds(_)), "{}", failed.error);
    drop(failed.value);
    let mapped = bed.them.map::<ReadOnly>(bed.our_id, part.gref());
    check_same!(mapped.err().and_then(GrantError::status), Some(Status::GENERAL_ERROR));
    let them = bed.their_table()?;
    let target = them.grant::<ReadWrite>(bed.their_page()?, bed.our_id).map_err(fail)?;
    let copy = |from, len| {
        them.copy_one(Source::granted(bed.our_id, part.gref(), from), Dest::ours(&target, 0), len)
    };
    check_same!(copy(256, 128), Ok(()));
    check_same!(copy(300, 84), Ok(()));
    for (from, len) in [(255, 2), (383, 2), (0, 1)] {
        check_same!(copy(from, len).err().and_then(GrantError::status), Some(Status::GENERAL_ERROR));
    }
    target.end_access().map_err(fail)?;
    part.end_access().map_err(fail)?;
    bed.nothing_lost()
}

fn status_of<T>(result: &Result<T, GrantError>) -> Option<Status> {
    result.as_ref().map_or_else(|error| error.status(), |_| Some(Status::OKAY))
}

fn batch_of_maps_has_a_result_each(bed: &Bed) -> Result<(), NotPassed> {
    let free = bed.their_free_windows();
    let first = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let last = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let wrong = (DomId(0x7000), first.gref());
    let beyond = (bed.our_id, GrantRef(1 << 20));
    let grants = [(bed.our_id, first.gref()), wrong, beyond, (bed.our_id, last.gref())];
    let results = bed.them.map_batch::<ReadWrite>(&grants).map_err(fail)?;
    let statuses: Vec<_> = results.iter().map(status_of).collect();
    let expected = [Status::OKAY, Status::BAD_DOMAIN, Status::BAD_GNTREF, Status::OKAY];
    check_same!(statuses, expected.map(Some));
    drop(results);
    check_same!(bed.their_free_windows(), free);
    check!(bed.them.map_batch::<ReadWrite>(&[]).map_err(fail)?.is_empty());
    first.end_access().map_err(fail)?;
    last.end_access().map_err(fail)?;
    bed.nothing_lost()
}

fn batch_that_fails_is_rolled_back(bed: &Bed) -> Result<(), NotPassed> {
    let free = bed.their_free_windows();
    let good = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let readonly = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
    let grefs = [good.gref(), good.gref(), readonly.gref(), good.gref()];
    let Err(failed) = bed.them.map_all::<ReadWrite>(bed.our_id, &grefs) else {
        return Err(fail("a read-only grant was mapped to write"));
    };
    check_same!((failed.index, failed.gref), (2, readonly.gref()));
    check_same!(failed.error.status(), Some(Status::GENERAL_ERROR));
    check_same!(bed.their_free_windows(), free);
    check!(good.in_use().is_empty());
    good.end_access().map_err(fail)?;
    readonly.end_access().map_err(fail)?;
    check!(bed.them.map_all::<ReadWrite>(bed.our_id, &[]).is_err());
    bed.nothing_lost()
}

fn batch_of_unmaps(bed: &Bed) -> Result<(), NotPassed> {
    let free = bed.their_free_windows();
    let grant = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
    let grants = [(bed.our_id, grant.gref()); 40];
    let mappings = bed.them.map_batch::<ReadOnly>(&grants).map_err(fail)?;
    check_same!(bed.them.unmap_all(mappings.into_iter().filter_map(Result::ok)), Ok(()));
    check!(grant.in_use().is_empty());
    // One of many pages that is dropped needs more than one call.
    drop(bed.them.map_all::<ReadOnly>(bed.our_id, &[grant.gref(); 100]).map_err(fail)?);
    check!(grant.in_use().is_empty());
    check_same!(bed.their_free_windows(), free);
    grant.end_access().map_err(fail)?;
    bed.nothing_lost()
}

/// What a slot has on the second page is there, and nothing else of that page changes.
fn a_slot_across_two_pages(bed: &Bed) -> Result<(), NotPassed> {
    let grant = || bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail);
    let pages = GrantedPages(alloc::vec![grant()?, grant()?, grant()?]);
    check_same!(pages.len(), 3 * 4096);
    for (at, size) in [(4096 - 40, 112), (4095, 2), (4096, 10), (2 * 4096 - 1, 112), (100, 8000)] {
        let bytes: Vec<u8> = (0..size).map(|n| (n % 250) as u8 + 1).collect();
        RingMemory::write(&pages, at, &bytes);
        let mut read = alloc::vec![0; size];
        RingMemory::read(&pages, at, &mut read);
        check!(read == bytes, "{size} bytes at {at} are not what was written");
        let mut all = alloc::vec![0; 3 * 4096];
        for (page, part) in pages.0.iter().zip(all.chunks_mut(4096)) {
            page.bytes().read(0, part).map_err(fail)?;
        }
        check!(all[at..at + size] == bytes, "{size} bytes at {at} lie elsewhere");
        check!(all[..at].iter().chain(&all[at + size..]).all(|&byte| byte == 0), "{size} bytes at {at}");
        RingMemory::write(&pages, at, &alloc::vec![0; size]);
    }
    for page in pages.0 {
        page.end_access().map_err(fail)?;
    }
    bed.nothing_lost()
}
