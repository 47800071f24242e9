//! A script of bytes plays both ends of a ring and of a stream, and a peer writing arbitrary values anywhere.
//! Whatever the script does, there is no panic, no endless loop, and no answer without a request. As long as the
//! peer doesn't interfere, data comes out as it went in. Used by the tests here, and by fuzz/.

use std::collections::{BTreeSet, VecDeque};

use granite_core::abi::grant::GrantRef;
use granite_core::ring::stream::{Stream, references};
use granite_core::ring::{Back, Front, PeerBroke, Protocol, Ring, RingMemory, Words};
use granite_core::sync::atomic::Ordering;

enum Pairs {}

impl Protocol for Pairs {
    type Request = [u32; 4];
    type Response = [u32; 2];

    fn answers(response: &[u32; 2]) -> u64 {
        u64::from(response[0]) | u64::from(response[1] >> 16) << 32
    }
}

/// Four slots, so the ring is often full.
const BYTES: usize = 64 + 4 * 16;

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u32 {
        match self.byte() {
            small @ 0..0xf0 => u32::from(small),
            0xf0..0xf8 => u32::MAX - u32::from(self.byte()),
            _ => u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
        }
    }
}

struct Asked {
    memory: Words,
    front: Ring<Front, Pairs, Words>,
    back: Ring<Back, Pairs, Words>,
    /// Whether the peer has not interfered yet.
    is_honest: bool,
    in_flight: BTreeSet<u64>,
    requests: VecDeque<u32>,
    popped: VecDeque<u32>,
    answers: VecDeque<u32>,
    pushed: u32,
}

fn closed<T>(closed: Option<PeerBroke>, result: Result<T, PeerBroke>) -> Option<T> {
    match (closed, result) {
        (None, Ok(value)) => Some(value),
        (None, Err(_)) => None,
        (Some(_), Ok(_)) => panic!("a closed ring gave something"),
        (Some(why), Err(broke)) => {
            assert_eq!(why, broke);
            None
        }
    }
}

impl Asked {
    fn new() -> Self {
        let memory = Words::new(BYTES);
        Self {
            front: Ring::new(memory.clone()).unwrap(),
            back: Ring::attach(memory.clone()).unwrap(),
            memory,
            is_honest: true,
            in_flight: BTreeSet::new(),
            requests: VecDeque::new(),
            popped: VecDeque::new(),
            answers: VecDeque::new(),
            pushed: 0,
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let (front_was, back_was) = (self.front.closed(), self.back.closed());
        match step {
            0 => {
                let value = self.pushed;
                if let Ok(id) = self.front.push(|id| [id.index() as u32, value, !value, 0]) {
                    assert!(front_was.is_none() && self.in_flight.insert(id.number()), "{id:?} is in flight");
                    self.requests.push_back(value);
                    self.pushed += 1;
                }
            }
            1 => drop(self.front.publish().is_needed()),
            2 => match closed(front_was, self.front.pop()) {
                Some(Some((id, response))) => {
                    assert!(self.in_flight.remove(&id.number()), "{id:?} isn't in flight");
                    let expected = self.answers.pop_front();
                    assert!(!self.is_honest || Some(response[0]) == expected);
                }
                Some(None) => {}
                None => assert!(!self.is_honest || front_was.is_some()),
            },
            3 => drop(closed(front_was, self.front.arm_for(u32::from(script.byte())))),
            4 => {
                if let Some(Some([id, value, inverse, _])) = closed(back_was, self.back.pop()) {
                    let expected = self.requests.pop_front();
                    assert!(!self.is_honest || (Some(value) == expected && inverse == !value));
                    self.popped.push_back(id);
                }
            }
            5 => {
                let id = self.popped.front().copied().unwrap_or(0);
                if self.back.push(&[id, 0]).is_ok() {
                    self.popped.pop_front();
                    self.answers.push_back(id);
                }
            }
            6 => {
                self.is_honest = false;
                let _ = self.back.push(&[script.word(), script.word()]);
            }
            7 => drop(self.back.publish().is_needed()),
            8 => drop(closed(back_was, self.back.arm())),
            9 => {
                self.is_honest = false;
                let at = usize::from(script.byte()) * 4 % BYTES;
                self.memory.store(at, script.word(), Ordering::Relaxed);
            }
            _ => {
                self.is_honest = false;
                self.back = Ring::attach(self.memory.clone()).unwrap();
            }
        }
        assert!(self.back.unanswered() <= 4 && self.front.free() <= 4);
        assert_eq!(self.front.in_flight(), self.in_flight.len());
    }
}

struct Streamed {
    indices: Words,
    front: Stream<Front, Words, Words>,
    back: Stream<Back, Words, Words>,
    is_honest: bool,
    sent: [u8; 2],
    got: [u8; 2],
}

impl Streamed {
    fn new() -> Self {
        let (indices, data) = (Words::new(4096), Words::new(4096));
        let front = Stream::new(indices.clone(), data.clone(), &[GrantRef(8)]).unwrap();
        let back = Stream::attach(indices.clone(), data).unwrap();
        Self { indices, front, back, is_honest: true, sent: [0; 2], got: [0; 2] }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let len = usize::from(script.byte()) * 16;
        let mut bytes = vec![0; len];
        let way = usize::from(step & 1);
        match step {
            0 | 1 => {
                let mut next = self.sent[way];
                bytes.fill_with(|| {
                    next = next.wrapping_add(1);
                    next
                });
                let written = if way == 0 { self.front.write(&bytes) } else { self.back.write(&bytes) };
                assert!(!self.is_honest || written.is_ok());
                let written = written.map_or(0, |(written, _)| written);
                self.sent[way] = self.sent[way].wrapping_add(written as u8);
                assert!(written <= 2048);
            }
            2 | 3 => {
                let read = if way == 0 { self.back.read(&mut bytes) } else { self.front.read(&mut bytes) };
                assert!(!self.is_honest || read.is_ok());
                for &byte in &bytes[..read.map_or(0, |(read, _)| read)] {
                    self.got[way] = self.got[way].wrapping_add(1);
                    assert!(!self.is_honest || byte == self.got[way]);
                }
            }
            _ => {
                self.is_honest = false;
                let at = [0, 4, 64, 68, 128, 132][usize::from(script.byte()) % 6];
                self.indices.store(at, script.word(), Ordering::Relaxed);
                if let Ok((order, all)) = references(&self.indices) {
                    assert_eq!(all.count(), 1 << order);
                }
            }
        }
        assert!(self.front.room().is_ok_and(|room| room <= 2048) || !self.is_honest);
        assert!(self.front.waiting().is_ok_and(|waiting| waiting <= 2048) || !self.is_honest);
    }
}

/// Plays a script to its end.
pub fn play(script: &[u8]) {
    let mut script = Script(script);
    let (mut asked, mut streamed) = (Asked::new(), Streamed::new());
    while !script.0.is_empty() {
        match script.byte() % 16 {
            step @ 0..11 => asked.step(step, &mut script),
            step => streamed.step(step - 11, &mut script),
        }
    }
}
