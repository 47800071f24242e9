#![allow(clippy::unwrap_used, reason = "a test")]

use core::sync::atomic::Ordering;

use super::stream::{MAX_ORDER, Stream, references};
use super::{
    Back, Front, HEADER, Notify, PeerBroke, Protocol, Ring, RingError, RingMemory, Words, slot_size, slots_in,
};
use crate::abi::grant::GrantRef;
use std::vec;
use std::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Ask {
    id: u64,
    value: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Answer {
    id: u64,
}

/// A page has room for 252 slots; 128 are used.
#[derive(Debug)]
enum Sum {}

impl Protocol for Sum {
    type Request = Ask;
    type Response = Answer;

    fn answers(response: &Answer) -> u64 {
        response.id
    }
}

/// As large as a block request, so slots cross page boundaries.
#[derive(Debug)]
enum Long {}

impl Protocol for Long {
    type Request = [u8; 112];
    type Response = Answer;

    fn answers(response: &Answer) -> u64 {
        response.id
    }
}

/// Memory filled with nonzero bytes.
fn memory(bytes: usize) -> Words {
    let memory = Words::new(bytes);
    memory.write(0, &vec![0xa5; bytes]);
    memory
}

type Ends = (Ring<Front, Sum, Words>, Ring<Back, Sum, Words>);

fn ends(bytes: usize) -> (Words, Ends) {
    let memory = memory(bytes);
    let front = Ring::new(memory.clone()).unwrap();
    let back = Ring::attach(memory.clone()).unwrap();
    (memory, (front, back))
}

fn ask(front: &mut Ring<Front, Sum, Words>, value: u64) -> Result<u64, RingError> {
    front.push(|id| Ask { id: id.number(), value }).map(|id| id.number())
}

#[test]
fn slots_are_counted_as_ring_h_does() {
    assert_eq!((slot_size::<Sum>(), slots_in::<Sum>(4096)), (16, 128));
    assert_eq!((slot_size::<Long>(), slots_in::<Long>(4096), slots_in::<Long>(8192)), (112, 32, 64));
    assert_eq!(slots_in::<Long>(16 * 4096), 512);
    // Never more than 2^16, however large the memory.
    assert_eq!((slots_in::<Sum>(HEADER + (16 << 16)), slots_in::<Sum>(64 << 20)), (1 << 16, 1 << 16));
    assert_eq!((slots_in::<Sum>(HEADER + 15), slots_in::<Sum>(HEADER + 16), slots_in::<Sum>(0)), (0, 1, 0));
    let small = memory(72);
    let error = Ring::<Front, Sum, _>::new(small).map(|_| ()).unwrap_err();
    assert_eq!(error, RingError::TooSmall { bytes: 72, needed: 80 });
}

#[test]
fn what_is_pushed_comes_out_in_order_for_ever() {
    for pages in [1, 2, 16] {
        let (memory, (mut front, _)) = ends(pages * 4096);
        // Start shortly before the indices wrap.
        for at in [0, 8] {
            memory.store(at, u32::MAX - 100, Ordering::Relaxed);
            memory.store(at + 4, u32::MAX - 99, Ordering::Relaxed);
        }
        let mut back: Ring<Back, Sum, _> = Ring::attach(memory.clone()).unwrap();
        (front.produced, front.published, front.consumed, front.seen) =
            (u32::MAX - 100, u32::MAX - 100, u32::MAX - 100, u32::MAX - 100);
        let (mut next, mut expected) = (0, 0);
        for round in 0..40 {
            while ask(&mut front, next).is_ok() {
                next += 1;
            }
            assert_eq!(front.free(), 0);
            let _ = front.publish();
            for _ in 0..=round {
                let Some(Ask { id, value }) = back.pop().unwrap() else { break };
                assert_eq!(value, expected);
                expected += 1;
                back.push(&Answer { id }).unwrap();
            }
            let _ = back.publish();
            while let Some((id, answer)) = front.pop().unwrap() {
                assert_eq!(id.number(), answer.id);
            }
        }
        assert!(next > 128 && expected > 128);
    }
}

#[test]
fn a_slot_across_two_pages_is_whole() {
    let memory = memory(8192);
    let mut front: Ring<Front, Long, _> = Ring::new(memory.clone()).unwrap();
    let mut back: Ring<Back, Long, _> = Ring::attach(memory.clone()).unwrap();
    for number in 0..64u8 {
        front.push(|_| [number; 112]).unwrap();
    }
    assert_eq!(front.push(|_| [0; 112]).unwrap_err(), RingError::Full);
    let _ = front.publish();
    for number in 0..64u8 {
        assert_eq!(back.pop().unwrap(), Some([number; 112]));
    }
    assert_eq!(back.pop().unwrap(), None);
}

#[test]
fn who_looks_by_itself_is_not_told() {
    let (_, (mut front, mut back)) = ends(4096);
    ask(&mut front, 1).unwrap();
    assert_eq!(front.publish(), Notify::Send, "the first is told of");
    assert_eq!(front.publish(), Notify::Unneeded, "there is nothing new");
    ask(&mut front, 2).unwrap();
    assert_eq!(front.publish(), Notify::Unneeded, "it is at work");
    let first = back.pop().unwrap().unwrap();
    assert!(back.arm().unwrap(), "there is another one");
    back.pop().unwrap().unwrap();
    assert!(!back.arm().unwrap());
    back.push(&Answer { id: first.id }).unwrap();
    assert_eq!(back.publish(), Notify::Send);
    ask(&mut front, 3).unwrap();
    assert_eq!(front.publish(), Notify::Send, "it sleeps");
    // The front asks for two responses at once.
    front.pop().unwrap().unwrap();
    back.pop().unwrap().unwrap();
    assert!(!front.arm_for(2).unwrap());
    back.push(&Answer { id: 1 }).unwrap();
    assert_eq!(back.publish(), Notify::Unneeded);
    back.push(&Answer { id: first.id }).unwrap();
    assert_eq!(back.publish(), Notify::Send);
    assert!(front.arm_for(9).unwrap(), "all that can come are two");
}

#[test]
fn every_index_that_cannot_be_closes_the_ring() {
    let requests = 0;
    for claimed in [129, 200, 1 << 31, u32::MAX] {
        let (memory, (_, mut back)) = ends(4096);
        memory.store(requests, claimed, Ordering::Relaxed);
        let broke = PeerBroke::Index { claimed, min: 0, max: 128 };
        assert_eq!(back.pop().unwrap_err(), broke);
        memory.store(requests, 1, Ordering::Relaxed);
        assert_eq!(back.pop().unwrap_err(), broke, "it stays closed");
        assert_eq!(back.arm().unwrap_err(), broke);
        assert_eq!(back.push(&Answer { id: 0 }).unwrap_err(), RingError::Closed(broke));
        assert_eq!((back.publish(), back.closed()), (Notify::Unneeded, Some(broke)));
    }
    // A request can't be taken back once it has been seen.
    let (memory, (mut front, mut back)) = ends(4096);
    (0..3).for_each(|value| assert!(ask(&mut front, value).is_ok()));
    let _ = front.publish();
    back.pop().unwrap().unwrap();
    memory.store(requests, 1, Ordering::Relaxed);
    assert!(back.pop().unwrap().is_some(), "it was seen");
    assert!(back.pop().unwrap().is_some());
    assert_eq!(back.pop().unwrap_err(), PeerBroke::Index { claimed: 1, min: 3, max: 128 });
}

#[test]
fn nothing_is_answered_that_was_not_asked() {
    let responses = 8;
    for claimed in [2, 3, 129, u32::MAX] {
        let (memory, (mut front, _)) = ends(4096);
        ask(&mut front, 1).unwrap();
        let _ = front.publish();
        ask(&mut front, 1).unwrap(); // not published
        memory.store(responses, claimed, Ordering::Relaxed);
        let broke = PeerBroke::Index { claimed, min: 0, max: 1 };
        assert_eq!(front.pop().unwrap_err(), broke);
        assert_eq!(ask(&mut front, 2).unwrap_err(), RingError::Closed(broke));
        assert_eq!(front.arm_for(1).unwrap_err(), broke);
    }
    for wrong in [1, 127, 128, 1 << 16, 1 << 32, u64::MAX] {
        let (_, (mut front, mut back)) = ends(4096);
        assert_eq!(ask(&mut front, 1), Ok(0));
        let _ = front.publish();
        back.pop().unwrap().unwrap();
        back.push(&Answer { id: wrong }).unwrap();
        let _ = back.publish();
        assert_eq!(front.pop().unwrap_err(), PeerBroke::Id { claimed: wrong });
    }
    // Answer the same request twice.
    let (_, (mut front, mut back)) = ends(4096);
    (0..2).for_each(|value| assert!(ask(&mut front, value).is_ok()));
    let _ = front.publish();
    for _ in 0..2 {
        back.pop().unwrap().unwrap();
        back.push(&Answer { id: 1 }).unwrap();
    }
    assert_eq!(back.push(&Answer { id: 0 }).unwrap_err(), RingError::NothingAsked);
    let _ = back.publish();
    assert_eq!(front.pop().unwrap().map(|(id, _)| id.index()), Some(1));
    assert_eq!(front.pop().unwrap_err(), PeerBroke::Id { claimed: 1 });
    assert_eq!(front.in_flight(), 1);
}

#[test]
fn another_back_end_goes_on_where_the_first_has_answered() {
    let (memory, (mut front, mut back)) = ends(4096);
    (0..3).for_each(|value| assert!(ask(&mut front, value).is_ok()));
    let _ = front.publish();
    let first = back.pop().unwrap().unwrap();
    back.push(&Answer { id: first.id }).unwrap();
    let _ = back.publish();
    assert_eq!(back.pop().unwrap().map(|ask| ask.value), Some(1));
    drop(back);
    let mut back: Ring<Back, Sum, _> = Ring::attach(memory.clone()).unwrap();
    assert_eq!(back.pop().unwrap().map(|ask| ask.value), Some(1), "it was not answered");
}

#[test]
fn bytes_stream_across_the_end() {
    for order in [0, 3] {
        let pages = 1 << order;
        let (indices, data) = (memory(4096), memory(pages * 4096));
        let refs: Vec<_> = (0..pages as u32).map(|page| GrantRef(8 + page)).collect();
        assert!(Stream::<Front, _, _>::new(indices.clone(), data.clone(), &refs[1..]).is_none());
        let mut front = Stream::<Front, _, _>::new(indices.clone(), data.clone(), &refs).unwrap();
        let (claimed, told) = references(&indices).unwrap();
        assert_eq!((claimed, told.collect::<Vec<_>>()), (order, refs));
        let mut back = Stream::<Back, _, _>::attach(indices.clone(), data.clone()).unwrap();
        assert_eq!(front.size(), 2048 * pages as u32);
        let (mut sent, mut got) = (0u32, 0u32);
        for round in 0..100 {
            let bytes: Vec<u8> = (0..977).map(|i| (sent + i) as u8).collect();
            let (written, notify) = front.write(&bytes).unwrap();
            assert_eq!(notify.is_needed(), written > 0);
            sent += written as u32;
            let mut into = vec![0; 500 + 10 * round];
            let (read, _) = back.read(&mut into).unwrap();
            assert!(into[..read].iter().enumerate().all(|(i, &byte)| byte == (got + i as u32) as u8));
            got += read as u32;
            let (echoed, _) = back.write(&into[..read]).unwrap();
            let mut echo = vec![0; 4096];
            assert_eq!(front.read(&mut echo).unwrap().0, echoed);
            assert_eq!(echo[..echoed], into[..echoed]);
        }
        assert!(got > 10_000 && sent - got <= front.size());
    }
}

#[test]
fn a_stream_whose_peer_lies_is_closed() {
    const IN_PROD: usize = 4;
    const OUT_CONS: usize = 64;
    let make = || {
        let (indices, data) = (memory(4096), memory(4096));
        let front = Stream::<Front, _, _>::new(indices.clone(), data.clone(), &[GrantRef(8)]).unwrap();
        (indices, front)
    };
    for claimed in [2049, 1 << 31, u32::MAX] {
        let (indices, mut front) = make();
        indices.store(IN_PROD, claimed, Ordering::Relaxed);
        let broke = PeerBroke::Index { claimed, min: 0, max: 2048 };
        assert_eq!(front.read(&mut [0; 9]).unwrap_err(), broke);
        assert_eq!(front.write(b"x").unwrap_err(), broke);
        let (indices, mut front) = make();
        assert_eq!(front.write(b"one").unwrap(), (3, Notify::Send));
        indices.store(OUT_CONS, claimed, Ordering::Relaxed);
        assert_eq!(front.room().unwrap_err(), PeerBroke::Index { claimed, min: 0, max: 3 });
    }
    // An index must not go back, not even to a value within the bounds.
    let (indices, mut front) = make();
    indices.store(IN_PROD, 10, Ordering::Relaxed);
    assert_eq!(front.read(&mut [0; 5]).unwrap().0, 5);
    indices.store(IN_PROD, 7, Ordering::Relaxed);
    assert_eq!(front.waiting().unwrap_err(), PeerBroke::Index { claimed: 7, min: 10, max: 2053 });
    let (indices, mut front) = make();
    assert_eq!(front.write(b"twelve bytes").unwrap().0, 12);
    indices.store(OUT_CONS, 9, Ordering::Relaxed);
    assert_eq!(front.room().unwrap(), 2048 - 3);
    indices.store(OUT_CONS, 8, Ordering::Relaxed);
    assert_eq!(front.room().unwrap_err(), PeerBroke::Index { claimed: 8, min: 9, max: 12 });
    let (indices, _) = make();
    indices.store(128, MAX_ORDER + 1, Ordering::Relaxed);
    let error = references(&indices).map(|_| ()).unwrap_err();
    assert_eq!(error, PeerBroke::Order { claimed: MAX_ORDER + 1, max: MAX_ORDER });
}

#[test]
fn a_console_goes_on_where_its_indices_are() {
    const IN_CONS: usize = 3072;
    const IN_PROD: usize = 3076;
    const OUT_CONS: usize = 3080;
    const OUT_PROD: usize = 3084;
    for start in [0, 7, u32::MAX - 100] {
        let page = memory(4096);
        for at in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] {
            page.store(at, start, Ordering::Relaxed);
        }
        let mut console = Stream::console(page.clone()).unwrap();
        assert_eq!(console.size(), 2048);
        // More than the buffer holds: the rest waits for the daemon.
        let text: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
        assert_eq!(console.write(&text).unwrap(), (2048, Notify::Send));
        assert_eq!(console.write(&text[2048..]).unwrap(), (0, Notify::Unneeded));
        assert_eq!(page.load(OUT_PROD, Ordering::Relaxed), start.wrapping_add(2048));
        let mut out = vec![0; 2048];
        page.read(1024, &mut out);
        out.rotate_left(start as usize % 2048);
        assert_eq!(out, text[..2048]);
        page.store(OUT_CONS, start.wrapping_add(1000), Ordering::Relaxed);
        assert_eq!(console.write(&text[2048..]).unwrap().0, 952);
        // The daemon types.
        let at = start as usize % 1024;
        page.write(at, &b"ls\n"[..(1024 - at).min(3)]);
        page.write(0, &b"ls\n"[(1024 - at).min(3)..]);
        page.store(IN_PROD, start.wrapping_add(3), Ordering::Relaxed);
        let mut typed = [0; 8];
        assert_eq!(console.read(&mut typed).unwrap(), (3, Notify::Send));
        assert_eq!(&typed[..3], b"ls\n");
        assert_eq!(page.load(IN_CONS, Ordering::Relaxed), start.wrapping_add(3));
    }
}

#[test]
fn a_console_with_impossible_indices_is_refused() {
    let with = |at: usize, value| {
        let page = memory(4096);
        page.write(3072, &[0; 16]);
        page.store(at, value, Ordering::Relaxed);
        Stream::console(page).is_some()
    };
    // Between the two indices of a direction lies at most its size.
    assert!(with(3076, 1024) && with(3084, 2048));
    assert!(!with(3076, 1025) && !with(3084, 2049));
    assert!(!with(3072, 1) && !with(3080, 1), "read, but never written");
    assert!(Stream::console(memory(2048)).is_none());
}
