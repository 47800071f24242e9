//! What only two domains can show: each case says what either side does.

use core::time::Duration;

use granite::abi::DomId;
use granite::abi::grant::{EntryFlags, GrantRef, Status};
use granite::grant::{CopyOp, Dest, GrantError, ReadOnly, ReadWrite, Source};
use granite::mm::Page;
use granite::pair::ChildEnd;
use granite::time::{Deadline, sleep};

use super::bed::fail;
use super::wire::{Words, words};
use crate::harness::{Case, Context, NotPassed, Rig};
use granite::testing::{check, check_same};

const PAIR: &[Rig] = &[Rig::Pair];

/// The cases; they are the same for both versions of the table.
macro_rules! cases {
    ($($name:ident, $ours:ident, $theirs:ident;)*) => {
        /// The cases.
        pub const CASES: &[Case] = &[$(
            Case::with_peer(concat!("grant::v1::two::", stringify!($name)), PAIR, $ours, $theirs),
            Case::with_peer(concat!("grant::v2::two::", stringify!($name)), PAIR, $ours, $theirs),
        )*];
    };
}

cases! {
    both_views_are_live, both_views, both_views_peer;
    copies_in_all_four_forms, copies, copies_peer;
    a_reference_for_another_domain, wrong_domain, wrong_domain_peer;
    a_revoked_reference, revoked, revoked_peer;
    the_child_dies_while_it_maps, dies_mapping, dies_mapping_peer;
    the_child_dies_while_it_grants, dies_granting, dies_granting_peer;
    a_busy_grant_comes_back_from_a_dead_child, quarantined, dies_mapping_peer;
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn tell_gref(context: &Context, gref: GrantRef) -> Result<(), NotPassed> {
    context.tell(&words([gref.0]))
}

fn hear_gref(context: &Context) -> Result<GrantRef, NotPassed> {
    Ok(GrantRef(Words(&context.hear()?).next()))
}

fn page() -> Result<Page, NotPassed> {
    Page::zeroed().ok_or_else(|| fail("no memory"))
}

/// A word goes to and fro in the page, without any call between.
fn both_views(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let grant = grants.grant::<ReadWrite>(page()?, context.side_child()?).map_err(fail)?;
    tell_gref(context, grant.gref())?;
    turns(grant.bytes(), 0)?;
    check_same!(context.hear()?, b"unmapped");
    grant.end_access().map_err(fail)?;
    Ok(())
}

fn both_views_peer(context: &Context) -> Result<(), NotPassed> {
    let gref = hear_gref(context)?;
    let grants = context.platform()?.grants().map_err(fail)?;
    let mapping = grants.map::<ReadWrite>(DomId::CONTROL, gref).map_err(fail)?;
    turns(mapping.bytes(), 1)?;
    mapping.unmap().map_err(fail)?;
    context.tell(b"unmapped")
}

/// Adds one to a word when it is this side's turn: when it is even, or when it is odd.
fn turns(view: granite::mm::SharedBytes<'_>, whose: u32) -> Result<(), NotPassed> {
    use core::sync::atomic::Ordering;
    const ROUNDS: u32 = 40;
    let word = view.atomic(64).map_err(fail)?;
    let deadline = soon();
    loop {
        // Acquire and Release: each pairs with the other side's.
        let seen = word.load(Ordering::Acquire);
        if seen >= ROUNDS {
            return Ok(());
        }
        if seen % 2 == whose {
            word.store(seen + 1, Ordering::Release);
        } else if deadline.has_passed() {
            return Err(fail(alloc::format!("the other side stopped at {seen}")));
        } else {
            granite::time::pause();
        }
    }
}

/// Each end is a frame of the caller's or a reference of the other's: three across, and one within.
fn copies(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let child = context.side_child()?;
    let mut source = page()?;
    source.bytes_mut()[100..105].copy_from_slice(b"bytes");
    let source = grants.grant::<ReadOnly>(source, child).map_err(fail)?;
    let target = grants.grant::<ReadWrite>(page()?, child).map_err(fail)?;
    context.tell(&words([source.gref().0, target.gref().0]))?;
    check_same!(context.hear()?, b"copied");
    let mut text = [0; 5];
    for at in [0, 4091, 2000] {
        target.bytes().read(at, &mut text).map_err(fail)?;
        check_same!((at, &text), (at, b"bytes"));
    }
    check!(source.in_use().is_empty() && target.in_use().is_empty());
    source.end_access().map_err(fail)?;
    target.end_access().map_err(fail)?;
    Ok(())
}

fn copies_peer(context: &Context) -> Result<(), NotPassed> {
    let message = context.hear()?;
    let mut rest = Words(&message);
    let (source, target) = (GrantRef(rest.next()), GrantRef(rest.next()));
    let grants = context.platform()?.grants().map_err(fail)?;
    let parent = DomId::CONTROL;
    let granted = |at| Source::granted(parent, source, at);
    let into = |at| Dest::granted(parent, target, at);
    // Reference to reference.
    grants.copy_one(granted(100), into(0), 5).map_err(fail)?;
    // Reference to frame, frame to reference, and within.
    let (mut own, mut other) = (page()?, page()?);
    grants.copy_one(granted(100), Dest::page(&mut own, 7), 5).map_err(fail)?;
    check_same!(&own.bytes()[7..12], b"bytes");
    grants.copy_one(Source::page(&own, 7), into(4091), 5).map_err(fail)?;
    grants.copy_one(Source::page(&own, 7), Dest::page(&mut other, 9), 5).map_err(fail)?;
    check_same!(&other.bytes()[9..14], b"bytes");
    // In a batch: what fails keeps no other from being made.
    let mut batch = [
        CopyOp::new(granted(100), into(2000), 5).map_err(fail)?,
        CopyOp::new(granted(100), Dest::granted(parent, source, 0), 5).map_err(fail)?,
        CopyOp::new(Source::granted(parent, GrantRef(1 << 24), 0), into(0), 5).map_err(fail)?,
    ];
    check!(grants.copy(&mut batch).is_err());
    let status = |copy: &CopyOp<'_>| copy.result().err().and_then(GrantError::status);
    let expected = [None, Some(Status::GENERAL_ERROR), Some(Status::BAD_GNTREF)];
    check_same!(batch.each_ref().map(status), expected);
    context.tell(b"copied")
}

/// An entry names the domain that may use it; another one may not.
fn wrong_domain(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let grant = grants.grant::<ReadWrite>(page()?, DomId(0x123)).map_err(fail)?;
    tell_gref(context, grant.gref())?;
    check_same!(context.hear()?, b"refused");
    check!(grant.in_use().is_empty());
    grant.end_access().map_err(fail)?;
    Ok(())
}

fn wrong_domain_peer(context: &Context) -> Result<(), NotPassed> {
    must_be_refused(context, Status::GENERAL_ERROR)
}

fn must_be_refused(context: &Context, status: Status) -> Result<(), NotPassed> {
    let gref = hear_gref(context)?;
    let grants = context.platform()?.grants().map_err(fail)?;
    let mapped = grants.map::<ReadOnly>(DomId::CONTROL, gref);
    check_same!(mapped.err().and_then(GrantError::status), Some(status));
    let mut own = page()?;
    let copied = grants.copy_one(Source::granted(DomId::CONTROL, gref, 0), Dest::page(&mut own, 0), 4);
    check_same!(copied.err().and_then(GrantError::status), Some(status));
    context.tell(b"refused")
}

/// It works, and once it is ended it doesn't.
fn revoked(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let grant = grants.grant::<ReadOnly>(page()?, context.side_child()?).map_err(fail)?;
    let gref = grant.gref();
    tell_gref(context, gref)?;
    check_same!(context.hear()?, b"mapped");
    let Err(failed) = grant.end_access() else { return Err(fail("it ended while it was mapped")) };
    check!(matches!(failed.error, GrantError::Busy(_)), "{failed}");
    context.tell(b"unmap")?;
    check_same!(context.hear()?, b"unmapped");
    failed.value.end_access().map_err(fail)?;
    tell_gref(context, gref)?;
    check_same!(context.hear()?, b"refused");
    Ok(())
}

fn revoked_peer(context: &Context) -> Result<(), NotPassed> {
    let gref = hear_gref(context)?;
    let grants = context.platform()?.grants().map_err(fail)?;
    let mapping = grants.map::<ReadOnly>(DomId::CONTROL, gref).map_err(fail)?;
    context.tell(b"mapped")?;
    check_same!(context.hear()?, b"unmap");
    mapping.unmap().map_err(fail)?;
    context.tell(b"unmapped")?;
    must_be_refused(context, Status::GENERAL_ERROR)
}

/// A domain that has ended and was not destroyed has its mappings still; destroyed, it has none.
fn dies_mapping(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let grant = grants.grant::<ReadWrite>(page()?, context.side_child()?).map_err(fail)?;
    tell_gref(context, grant.gref())?;
    let mut parent = context.side.pair()?.lose()?;
    check!(matches!(parent.wait(soon()).map_err(fail)?, ChildEnd::Crashed(_)));
    check_same!(grant.in_use(), EntryFlags::READING | EntryFlags::WRITING);
    let Err(failed) = grant.end_access() else { return Err(fail("it ended while it was mapped")) };
    check!(parent.destroy(soon()).map_err(fail)?, "it is gone");
    let grant = failed.value;
    check!(grant.in_use().is_empty());
    let page = grant.end_access().map_err(fail)?;
    check_same!(&page.bytes()[..4], b"last");
    Ok(())
}

fn dies_mapping_peer(context: &Context) -> Result<(), NotPassed> {
    let gref = hear_gref(context)?;
    let grants = context.platform()?.grants().map_err(fail)?;
    let mapping = grants.map::<ReadWrite>(DomId::CONTROL, gref).map_err(fail)?;
    mapping.bytes().write(0, b"last").map_err(fail)?;
    die(context)
}

/// The same, but the grant was dropped: its page is free again once the domain is gone, and not before.
fn quarantined(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let before = grants.stats();
    let grant = grants.grant::<ReadWrite>(page()?, context.side_child()?).map_err(fail)?;
    tell_gref(context, grant.gref())?;
    let mut parent = context.side.pair()?.lose()?;
    check!(matches!(parent.wait(soon()).map_err(fail)?, ChildEnd::Crashed(_)));
    drop(grant);
    check_same!(grants.stats().quarantined, before.quarantined + 1);
    check_same!(grants.reap(u32::MAX), 0);
    check!(parent.destroy(soon()).map_err(fail)?);
    grants.reap(u32::MAX); // unless a vCPU that waited has looked already
    check_same!(grants.stats().quarantined, before.quarantined);
    Ok(())
}

/// Our mapping of its page stays good until we unmap it; only then is the domain gone.
fn dies_granting(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let child = context.side_child()?;
    let gref = hear_gref(context)?;
    let mapping = grants.map::<ReadWrite>(child, gref).map_err(fail)?;
    context.tell(b"mapped")?;
    let mut parent = context.side.pair()?.lose()?;
    check!(matches!(parent.wait(soon()).map_err(fail)?, ChildEnd::Crashed(_)));
    let gone = parent.destroy(Deadline::after(Duration::from_millis(20))).map_err(fail)?;
    check!(!gone, "a domain is not gone while a page of it is mapped");
    let mut text = [0; 4];
    mapping.reader().read(8, &mut text).map_err(fail)?;
    check_same!(&text, b"mine");
    mapping.bytes().write(8, b"ours").map_err(fail)?;
    mapping.reader().read(8, &mut text).map_err(fail)?;
    check_same!(&text, b"ours");
    mapping.unmap().map_err(fail)?;
    // Its reference is nothing any more.
    sleep(Duration::from_millis(1));
    let mapped = grants.map::<ReadOnly>(child, gref);
    check_same!(mapped.err().and_then(GrantError::status), Some(Status::BAD_DOMAIN));
    Ok(())
}

fn dies_granting_peer(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let mut page = page()?;
    page.bytes_mut()[8..12].copy_from_slice(b"mine");
    let grant = grants.grant::<ReadWrite>(page, DomId::CONTROL).map_err(fail)?;
    tell_gref(context, grant.gref())?;
    check_same!(context.hear()?, b"mapped");
    die(context)
}

/// Ends this domain, with all that it has.
fn die(context: &Context) -> Result<(), NotPassed> {
    use granite::abi::sched::ShutdownReason;
    let error = granite::hypercall::sched::shutdown(&context.xen()?, ShutdownReason::CRASH);
    Err(fail(error))
}
