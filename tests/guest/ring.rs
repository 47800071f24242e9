//! Rings between two domains: what flows, and a peer that writes each of their words.

use core::sync::atomic::Ordering;
use core::time::Duration;

use alloc::vec;
use alloc::vec::Vec;

use granite::abi::DomId;
use granite::abi::event::Port;
use granite::abi::grant::GrantRef;
use granite::event::{Interdomain, Unbound};
use granite::grant::{ForeignMapping, ReadWrite};
use granite::hypercall::Xen;
use granite::mm::Page;
use granite::ring::stream::{self, Stream};
use granite::ring::{Back, Front, GrantedPages, Notify, PeerBroke, Protocol, Ring, RingMemory};
use granite::time::{Deadline, TimedOut};

use crate::harness::{Case, Context, NotPassed, Rig};
use granite::testing::{check, check_same};

const PAIR: &[Rig] = &[Rig::Pair];

/// The cases.
pub const CASES: &[Case] = &[
    Case::with_peer("ring::words_of_one_page", PAIR, |c| answer(c, 1), |c| ask(c, 1)),
    Case::with_peer("ring::words_of_two_pages", PAIR, |c| answer(c, 2), |c| ask(c, 2)),
    Case::with_peer("ring::words_of_sixteen_pages", PAIR, |c| answer(c, 16), |c| ask(c, 16)),
    Case::with_peer("ring::a_front_that_writes_any_index", PAIR, any_index_of_a_front, scribble),
    Case::with_peer("ring::a_back_that_writes_any_index", PAIR, any_index_of_a_back, scribble),
    Case::with_peer("ring::a_back_that_answers_anything", PAIR, any_answer, scribble),
    Case::with_peer("ring::bytes_both_ways", PAIR, echo_bytes, send_bytes),
    Case::with_peer("ring::a_peer_that_writes_any_index_of_a_stream", PAIR, any_index_of_a_stream, scribble),
];

fn fail(error: impl alloc::string::ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn page() -> Result<Page, NotPassed> {
    Page::zeroed().ok_or_else(|| fail("no memory"))
}

fn tell_numbers(context: &Context, numbers: &[u32]) -> Result<(), NotPassed> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    context.tell(&bytes)
}

fn hear_numbers(context: &Context) -> Result<Vec<u32>, NotPassed> {
    Ok(context.hear()?.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
}

/// Pages of ours that the other side may write.
type Pages = GrantedPages<'static, Xen>;

/// Pages for the other side, and their references.
fn share(context: &Context, peer: DomId, pages: usize) -> Result<(Pages, Vec<u32>), NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let mut shared = Vec::new();
    for _ in 0..pages {
        shared.push(grants.grant::<ReadWrite>(page()?, peer).map_err(fail)?);
    }
    let grefs = shared.iter().map(|grant| grant.gref().0).collect();
    Ok((GrantedPages(shared), grefs))
}

fn map(
    context: &Context,
    peer: DomId,
    grefs: &[u32],
) -> Result<ForeignMapping<'static, ReadWrite, Xen>, NotPassed> {
    let grants = context.platform()?.grants().map_err(fail)?;
    let grefs: Vec<_> = grefs.iter().map(|&gref| GrantRef(gref)).collect();
    grants.map_all::<ReadWrite>(peer, &grefs).map_err(fail)
}

/// A number, and a word.
enum Numbered {}

impl Protocol for Numbered {
    type Request = [u32; 2];
    type Response = [u32; 2];

    fn answers(response: &[u32; 2]) -> u64 {
        response[0].into()
    }
}

const WORDS: u32 = 5000;

/// Waits, unless there is something.
fn rest(channel: &Interdomain) -> Result<(), NotPassed> {
    channel.wait(soon()).map(drop).map_err(|TimedOut| fail("nobody told"))
}

fn ask(context: &Context, pages: usize) -> Result<(), NotPassed> {
    let (memory, mut numbers) = share(context, DomId::CONTROL, pages)?;
    let port = Unbound::new(context.xen()?, DomId::CONTROL).map_err(fail)?;
    let mut ring = Ring::<Front, Numbered, _>::new(memory).map_err(fail)?;
    numbers.push(port.port().0);
    tell_numbers(context, &numbers)?;
    check_same!(context.hear()?, b"connected");
    let channel = port.accept().map_err(|(error, _)| fail(error))?;
    let (mut asked, mut answered) = (0, 0);
    while answered < WORDS {
        while let Some((_, [_, word])) = ring.pop().map_err(fail)? {
            check_same!(word, !answered);
            answered += 1;
        }
        while asked < WORDS && ring.push(|id| [id.index() as u32, asked]).is_ok() {
            asked += 1;
        }
        if ring.publish().is_needed() {
            channel.send().map_err(fail)?;
        }
        // Half of them at once, so that the other half is out meanwhile.
        let half = ring.in_flight() as u32 / 2;
        if answered < WORDS && !ring.arm_for(half).map_err(fail)? {
            rest(&channel)?;
        }
    }
    check!(asked == WORDS && ring.in_flight() == 0);
    check_same!(context.hear()?, b"unmapped");
    for grant in ring.into_memory().0 {
        grant.end_access().map_err(fail)?;
    }
    Ok(())
}

fn answer(context: &Context, pages: usize) -> Result<(), NotPassed> {
    let child = context.side_child()?;
    let mut numbers = hear_numbers(context)?;
    let port = numbers.pop().ok_or_else(|| fail("no port"))?;
    check_same!(numbers.len(), pages);
    let channel = Interdomain::connect(context.xen()?, child, Port(port)).map_err(fail)?;
    let mut ring = Ring::<Back, Numbered, _>::attach(map(context, child, &numbers)?).map_err(fail)?;
    check_same!(ring.slots(), granite::ring::slots_in::<Numbered>(4096 * pages));
    context.tell(b"connected")?;
    let mut answered = 0;
    while answered < WORDS {
        while let Some([id, word]) = ring.pop().map_err(fail)? {
            check_same!(word, answered);
            ring.push(&[id, !word]).map_err(fail)?;
            answered += 1;
        }
        if ring.publish().is_needed() {
            channel.send().map_err(fail)?;
        }
        if answered < WORDS && !ring.arm().map_err(fail)? {
            rest(&channel)?;
        }
    }
    ring.into_memory().unmap().map_err(|failed| fail(failed.error))?;
    context.tell(b"unmapped")
}

/// The other side writes words of a page of ours, as it is told: offset and value, again and again.
fn scribble(context: &Context) -> Result<(), NotPassed> {
    let gref = hear_numbers(context)?;
    let page = map(context, DomId::CONTROL, &gref)?;
    context.tell(b"mapped")?;
    loop {
        match &hear_numbers(context)?[..] {
            [] => break,
            pairs => {
                for pair in pairs.as_chunks::<2>().0 {
                    page.store(pair[0] as usize, pair[1], Ordering::Release);
                }
            }
        }
        context.tell(b"written")?;
    }
    page.unmap().map_err(|failed| fail(failed.error))?;
    context.tell(b"unmapped")
}

/// A page that the other side writes.
struct Target<'c> {
    context: &'c Context,
    page: Pages,
}

impl<'c> Target<'c> {
    fn new(context: &'c Context) -> Result<Self, NotPassed> {
        let (page, gref) = share(context, context.side_child()?, 1)?;
        tell_numbers(context, &gref)?;
        check_same!(context.hear()?, b"mapped");
        Ok(Self { context, page })
    }

    fn write(&self, words: &[(u32, u32)]) -> Result<(), NotPassed> {
        let numbers: Vec<_> = words.iter().flat_map(|&(at, value)| [at, value]).collect();
        tell_numbers(self.context, &numbers)?;
        check_same!(self.context.hear()?, b"written");
        Ok(())
    }

    fn end(self) -> Result<(), NotPassed> {
        tell_numbers(self.context, &[])?;
        check_same!(self.context.hear()?, b"unmapped");
        for grant in self.page.0 {
            grant.end_access().map_err(fail)?;
        }
        Ok(())
    }
}

/// Values that an index may be given by who means no good.
const ODD: &[u32] = &[1 << 31, u32::MAX, u32::MAX - 1, 1 << 16, 1025, 513, 300];

const REQ_PROD: u32 = 0;
const REQ_EVENT: u32 = 4;
const RSP_PROD: u32 = 8;
const RSP_EVENT: u32 = 12;
/// Slots of a page.
const SLOTS: u32 = 256;

fn any_index_of_a_front(context: &Context) -> Result<(), NotPassed> {
    let target = Target::new(context)?;
    for &odd in ODD {
        drop(Ring::<Front, Numbered, _>::new(&target.page).map_err(fail)?);
        let mut ring = Ring::<Back, Numbered, _>::attach(&target.page).map_err(fail)?;
        // Where it wants to be told, or says that we are, changes nothing here.
        target.write(&[(REQ_PROD, 2), (RSP_EVENT, odd), (REQ_EVENT, odd), (RSP_PROD, odd)])?;
        for _ in 0..2 {
            check!(ring.pop().map_err(fail)?.is_some());
            ring.push(&[0, 0]).map_err(fail)?;
            let _ = ring.publish();
        }
        check!(!ring.arm().map_err(fail)?);
        // More than there can be, or fewer than there were.
        target.write(&[(REQ_PROD, odd)])?;
        let broke = PeerBroke::Index { claimed: odd, min: 2, max: SLOTS + 2 };
        check_same!(ring.pop().err(), Some(broke));
        check_same!((ring.arm().err(), ring.publish()), (Some(broke), Notify::Unneeded));
        target.write(&[(REQ_PROD, 3)])?;
        check_same!(ring.pop().err(), Some(broke));
    }
    target.end()
}

fn any_index_of_a_back(context: &Context) -> Result<(), NotPassed> {
    let target = Target::new(context)?;
    for &odd in ODD {
        let mut ring = Ring::<Front, Numbered, _>::new(&target.page).map_err(fail)?;
        target.write(&[(REQ_PROD, odd), (REQ_EVENT, odd), (RSP_EVENT, odd)])?;
        for _ in 0..3 {
            ring.push(|id| [id.index() as u32, 0]).map_err(fail)?;
        }
        let _ = ring.publish();
        check!(ring.pop().map_err(fail)?.is_none());
        target.write(&[(RSP_PROD, odd)])?;
        let broke = PeerBroke::Index { claimed: odd, min: 0, max: 3 };
        check_same!(ring.pop().err(), Some(broke));
        check_same!(ring.push(|_| [0, 0]).err(), Some(broke.into()));
    }
    target.end()
}

fn any_answer(context: &Context) -> Result<(), NotPassed> {
    let target = Target::new(context)?;
    let slot = |n: u32| 64 + 8 * n;
    for odd in [2, 255, 256, 1 << 16, u32::MAX] {
        let mut ring = Ring::<Front, Numbered, _>::new(&target.page).map_err(fail)?;
        for _ in 0..2 {
            ring.push(|id| [id.index() as u32, 0]).map_err(fail)?;
        }
        let _ = ring.publish();
        // The first is right, the second isn't; or it is the first again.
        let second = if odd == 2 { 1 } else { odd };
        target.write(&[(slot(0), 1), (slot(1), second), (RSP_PROD, 2)])?;
        check_same!(ring.pop().map_err(fail)?.map(|(id, _)| id.index()), Some(1));
        check_same!(ring.pop().err(), Some(PeerBroke::Id { claimed: second.into() }));
        check_same!(ring.in_flight(), 1);
    }
    target.end()
}

/// Pages of a stream's data.
const ORDER: u32 = 2;

fn send_bytes(context: &Context) -> Result<(), NotPassed> {
    let (mut indices, mut numbers) = share(context, DomId::CONTROL, 1)?;
    let (data, grefs) = share(context, DomId::CONTROL, 1 << ORDER)?;
    let port = Unbound::new(context.xen()?, DomId::CONTROL).map_err(fail)?;
    let indices = indices.0.pop().ok_or_else(|| fail("no page"))?;
    let grefs: Vec<_> = grefs.into_iter().map(GrantRef).collect();
    let stream = Stream::<Front, _, _>::new(indices, data, &grefs);
    let mut stream = stream.ok_or_else(|| fail("no stream"))?;
    numbers.push(port.port().0);
    tell_numbers(context, &numbers)?;
    check_same!(context.hear()?, b"connected");
    let channel = port.accept().map_err(|(error, _)| fail(error))?;
    let (mut sent, mut got) = (0usize, 0usize);
    const ALL: usize = 200_000;
    let mut into = vec![0; 3000];
    while got < ALL {
        let bytes: Vec<u8> = (sent..ALL.min(sent + 5000)).map(|n| (n % 251) as u8).collect();
        let (written, notify) = stream.write(&bytes).map_err(fail)?;
        sent += written;
        let (read, also) = stream.read(&mut into).map_err(fail)?;
        for &byte in &into[..read] {
            check_same!(byte, (got % 251) as u8);
            got += 1;
        }
        if notify.is_needed() || also.is_needed() {
            channel.send().map_err(fail)?;
        } else if got < ALL {
            rest(&channel)?;
        }
    }
    context.tell(b"all")
}

fn echo_bytes(context: &Context) -> Result<(), NotPassed> {
    let child = context.side_child()?;
    let numbers = hear_numbers(context)?;
    let indices = map(context, child, &numbers[..1])?;
    let (order, grefs) = stream::references(&indices).map_err(fail)?;
    let grefs: Vec<_> = grefs.map(|gref| gref.0).collect();
    check_same!(order, ORDER);
    let data = map(context, child, &grefs)?;
    let channel = Interdomain::connect(context.xen()?, child, Port(numbers[1])).map_err(fail)?;
    let mut stream = Stream::<Back, _, _>::attach(indices, data).ok_or_else(|| fail("no stream"))?;
    context.tell(b"connected")?;
    let mut into = vec![0; 4096];
    let mut echoed = 0;
    while echoed < 200_000 {
        let room = stream.room().map_err(fail)? as usize;
        let (read, freed) = stream.read(&mut into[..room.min(4096)]).map_err(fail)?;
        let (written, brought) = stream.write(&into[..read]).map_err(fail)?;
        check_same!(written, read);
        echoed += written;
        if freed.is_needed() || brought.is_needed() {
            channel.send().map_err(fail)?;
        } else {
            rest(&channel)?;
        }
    }
    check_same!(context.hear()?, b"all");
    Ok(())
}

fn any_index_of_a_stream(context: &Context) -> Result<(), NotPassed> {
    let target = Target::new(context)?;
    let data = granite::ring::stream::references(&target.page).map(|(order, _)| order);
    check_same!(data, Ok(0));
    let (data, _) = share(context, context.side_child()?, 1)?;
    for &odd in ODD.iter().filter(|&&odd| odd > 2048) {
        for (at, max) in [(4, 2048), (64, 3)] {
            let indices = &target.page.0[0];
            let stream = Stream::<Front, _, _>::new(indices, &data, &[GrantRef(9)]);
            let mut stream = stream.ok_or_else(|| fail("no stream"))?;
            let _ = stream.write(b"one").map_err(fail)?;
            target.write(&[(0, odd), (68, odd), (at, odd)])?;
            let broke = PeerBroke::Index { claimed: odd, min: 0, max };
            let error = if at == 4 { stream.waiting().err() } else { stream.room().err() };
            check_same!(error, Some(broke));
            check_same!(stream.read(&mut [0; 4]).err(), Some(broke));
            check_same!(stream.write(b"more").err(), Some(broke));
        }
    }
    for (order, fits) in [(9, true), (10, false), (u32::MAX, false)] {
        target.write(&[(128, order)])?;
        check_same!(stream::references(&target.page).is_ok(), fits);
    }
    target.end()
}
