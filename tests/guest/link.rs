//! The link between two domains, and children that go wrong: each is an error of the control domain's, in bounded time, and
//! leaves nothing behind.

use core::sync::atomic::Ordering;
use core::time::Duration;

use granite::abi::DomId;
use granite::abi::grant::{EntryFlags, GrantRef};
use granite::grant::ReadWrite;
use granite::mm::Page;
use granite::pair::{self, LinkError, PairError, Parent, TO_CHILD};
use granite::time::{Deadline, sleep};
use granite::toolstack::Config;

use crate::harness::{Case, Context, NotPassed, Rig};
use granite::testing::{check, check_same};

const PAIR: &[Rig] = &[Rig::Pair];

/// The cases.
pub const CASES: &[Case] = &[
    Case::with_peer("link::a_peer_that_counts_wrong", PAIR, counts_wrong, counts_wrong_peer),
    Case::with_peer("link::a_peer_that_claims_too_long_a_message", PAIR, claims_length, claims_length_peer),
    Case::with_peer("link::a_message_that_is_too_long", PAIR, too_long, too_long_peer),
    Case::with_peer("link::a_child_that_never_connects", PAIR, never_connects, nothing),
    Case::with_peer("link::a_live_child_is_destroyed_while_it_maps", PAIR, destroyed_alive, maps_and_waits),
];

fn fail(error: impl alloc::string::ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn nothing(_: &Context) -> Result<(), NotPassed> {
    Ok(())
}

/// Where the mailbox to the control domain begins, and its words.
const MAILBOX: usize = 16 + TO_CHILD;
const WRITTEN: usize = MAILBOX;
const LENGTH: usize = MAILBOX + 8;

/// Writes words of the link's page behind the link's back: by a second mapping of it.
fn scribble(context: &Context, words: impl Fn(u32) -> [(usize, u32); 2]) -> Result<(), NotPassed> {
    let platform = context.platform()?;
    let option = platform.options().get(pair::OPTION).unwrap_or_default();
    let gref = option
        .split(',')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| fail("no reference"))?;
    let page =
        platform.grants().map_err(fail)?.map::<ReadWrite>(DomId::CONTROL, GrantRef(gref)).map_err(fail)?;
    let written = page.bytes().atomic(WRITTEN).map_err(fail)?.load(Ordering::Acquire);
    for (offset, value) in words(written) {
        page.bytes().atomic(offset).map_err(fail)?.store(value, Ordering::Release);
    }
    loop {
        sleep(Duration::from_secs(1)); // until it is destroyed
    }
}

fn broke(context: &Context) -> Result<LinkError, NotPassed> {
    let parent = context.side.pair()?.lose()?;
    let Err(error) = parent.receive(soon()) else { return Err(fail("nonsense was a message")) };
    check!(parent.destroy(soon()).map_err(fail)?);
    Ok(error)
}

fn counts_wrong(context: &Context) -> Result<(), NotPassed> {
    let error = broke(context)?;
    check!(
        matches!(error, LinkError::PeerBroke { claimed, expected, .. } if claimed == expected + 76),
        "{error}"
    );
    Ok(())
}

fn counts_wrong_peer(context: &Context) -> Result<(), NotPassed> {
    scribble(context, |written| [(LENGTH, 1), (WRITTEN, written + 77)])
}

const ONE_TOO_MANY: u32 = pair::TO_PARENT as u32 + 1;

fn claims_length(context: &Context) -> Result<(), NotPassed> {
    let error = broke(context)?;
    check!(matches!(error, LinkError::PeerBroke { what: "a length", claimed: ONE_TOO_MANY, .. }), "{error}");
    Ok(())
}

fn claims_length_peer(context: &Context) -> Result<(), NotPassed> {
    scribble(context, |written| [(LENGTH, ONE_TOO_MANY), (WRITTEN, written + 1)])
}

/// It is refused where it is sent, and the link goes on.
fn too_long(context: &Context) -> Result<(), NotPassed> {
    check!(context.tell(&[7; TO_CHILD]).is_err()); // the harness adds a byte
    context.tell(&[7; TO_CHILD - 1])?;
    check_same!(context.hear()?, b"whole");
    Ok(())
}

fn too_long_peer(context: &Context) -> Result<(), NotPassed> {
    let message = context.hear()?;
    check!(message.len() == TO_CHILD - 1 && message.iter().all(|&byte| byte == 7), "{}", message.len());
    check!(context.tell(&[7; pair::TO_PARENT]).is_err());
    context.tell(b"whole")
}

/// It runs, does something else, and ends.
fn never_connects(context: &Context) -> Result<(), NotPassed> {
    let platform = context.platform()?;
    let kernel = platform.modules().first().copied().ok_or_else(|| fail("no image"))?;
    let grants = platform.grants().map_err(fail)?;
    let before = grants.stats();
    let toolstack = context.side.pair()?.toolstack();
    // Not told that it is a pair's: it runs no case at all.
    let command_line = "rig=solo filter=none log=off";
    let config = Config { kernel, command_line, memory: 16, processor: Some(0), ..Config::default() };
    let started = Parent::start(platform, toolstack, &config, Duration::from_secs(30)).map(drop);
    check_same!(started.err(), Some(PairError::Link(LinkError::Gone)));
    let after = grants.stats();
    check_same!((after.in_use, after.quarantined), (before.in_use, before.quarantined));
    Ok(())
}

/// It is at work, with the link's page and another of ours mapped: both are free at once.
fn destroyed_alive(context: &Context) -> Result<(), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let quarantined = grants.stats().quarantined;
    let page = Page::zeroed().ok_or_else(|| fail("no memory"))?;
    let grant = grants.grant::<ReadWrite>(page, context.side_child()?).map_err(fail)?;
    context.tell(&grant.gref().0.to_le_bytes())?;
    check_same!(context.hear()?, b"mapped");
    check_same!(grant.in_use(), EntryFlags::READING | EntryFlags::WRITING);
    drop(context.side.pair()?.lose()?);
    check!(grant.in_use().is_empty());
    grant.end_access().map_err(fail)?;
    check_same!(grants.stats().quarantined, quarantined);
    Ok(())
}

fn maps_and_waits(context: &Context) -> Result<(), NotPassed> {
    let gref = GrantRef(context.hear()?.first_chunk().copied().map_or(0, u32::from_le_bytes));
    let grants = context.platform()?.grants().map_err(fail)?;
    let mapping = grants.map::<ReadWrite>(DomId::CONTROL, gref).map_err(fail)?;
    context.tell(b"mapped")?;
    loop {
        sleep(Duration::from_secs(1));
        mapping.bytes().write(0, b"on").map_err(fail)?;
    }
}
