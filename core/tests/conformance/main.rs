//! Rings against Xen's own macros. A C program, compiled with `io/ring.h` and `io/blkif.h`, reads and writes a page
//! as one end, and our code plays the other end. `GRANITE_XEN_HEADERS` is the folder of the headers
//! (`cargo xtask test` sets it).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::ffi::OsStr;
use std::io::Write;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use granite_core::abi::blkif::{Discard, MAX_SEGMENTS, Operation, Request, Response, Segment, Status};
use granite_core::abi::grant::GrantRef;
use granite_core::block::Blkif;
use granite_core::ring::stream::{Stream, references};
use granite_core::ring::{Back, Front, Ring, RingMemory, Words, slots_in};
use granite_core::sync::atomic::Ordering;

/// A name, and a test with the C program.
type Case = (&'static str, fn(&C));

/// The cases.
const CASES: &[Case] = &[
    ("a_ring_has_as_many_slots", as_many_slots),
    ("what_c_asks_is_read_and_what_is_answered_is_read_in_c", c_asks),
    ("what_is_asked_is_read_in_c_and_what_c_answers_is_read", c_answers),
    ("the_same_notifications_are_sent", notifications),
    ("a_stream_of_bytes_is_the_same_in_c", stream),
];

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let headers = std::env::var_os("GRANITE_XEN_HEADERS");
    let mut failed = false;
    let mut c = None;
    let selected = CASES.iter().filter(|(name, _)| name.contains(&filter) || "conformance".contains(&filter));
    for (index, (name, run)) in selected.enumerate() {
        println!("##test run {index} {name}");
        let Some(headers) = &headers else {
            println!("##test skip {index} GRANITE_XEN_HEADERS names no headers");
            continue;
        };
        let passed = catch_unwind(|| C::compile(headers)).map(|compiled| c.get_or_insert(compiled).clone());
        match passed.and_then(|c| catch_unwind(move || run(&c))) {
            Ok(()) => println!("##test pass {index}"),
            Err(_) => {
                failed = true;
                println!("##test fail {index} see above");
            }
        }
    }
    if let Some(C(program)) = &c {
        let _ = (std::fs::remove_file(program), std::fs::remove_file(program.with_extension("c")));
    }
    std::process::exit(failed.into());
}

/// The C program: `program WHAT ARGUMENT`, pages on standard input and output, findings on standard error.
#[derive(Clone)]
struct C(PathBuf);

impl C {
    fn compile(headers: &OsStr) -> Self {
        // The name is unique to this process: another may run the same tests.
        let name = format!("ring-conformance-{}", std::process::id());
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let source = program.with_extension("c");
        std::fs::write(&source, include_str!("ring.c")).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-std=gnu11", "-O2", "-Wall", "-Wno-unused", "-isystem"]).arg(headers);
        let built = compiler.arg(&source).arg("-o").arg(&program).status().unwrap();
        assert!(built.success(), "the C program does not compile");
        Self(program)
    }

    /// Runs the program on memory. Returns its findings.
    fn run(&self, what: &str, arguments: &[u32], memory: &[&Words]) -> Vec<u64> {
        let mut command = Command::new(&self.0);
        command.arg(what).args(arguments.iter().map(u32::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut bytes = Vec::new();
        for words in memory {
            let mut part = vec![0; words.len()];
            words.read(0, &mut part);
            bytes.extend(part);
        }
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{what}: {text}");
        let mut rest = &output.stdout[..];
        for words in memory {
            let (part, others) = rest.split_at(words.len());
            words.write(0, part);
            rest = others;
        }
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }
}

fn segment(n: u32) -> Segment {
    Segment { gref: GrantRef(1000 + n), first_sect: n as u8 % 4, last_sect: 4 + n as u8 % 4, padding: [0; 2] }
}

/// Returns the n-th request, identical to the C program's.
fn request(n: u64) -> Request {
    let none = Segment { gref: GrantRef(0), first_sect: 0, last_sect: 0, padding: [0; 2] };
    let (id, sector_number) = (n, 77 + (n << 33));
    if n % 3 == 2 {
        let (operation, flag, handle) = (Operation::DISCARD, 1, 51712);
        let discard = Discard {
            operation,
            flag,
            handle,
            padding: 0,
            id,
            sector_number,
            nr_sectors: 5 << 32,
            rest: [0; 10],
        };
        return discard.into();
    }
    let nr_segments = (n % 12) as u8;
    let mut segments = [none; MAX_SEGMENTS];
    for (index, place) in segments.iter_mut().take(nr_segments.into()).enumerate() {
        *place = segment(index as u32);
    }
    let operation = if n.is_multiple_of(3) { Operation::READ } else { Operation::WRITE };
    Request { operation, nr_segments, handle: 51712, padding: 0, id, sector_number, segments }
}

fn response(n: u64) -> Response {
    let operation = Operation((n % 7) as u8);
    Response { id: n, operation, padding: 0, status: Status(-(n as i16 % 3)), rest: [0; 4] }
}

fn as_many_slots(c: &C) {
    for pages in 1..=16 {
        let memory = Words::new(pages * 4096);
        assert_eq!(c.run("slots", &[], &[&memory]), [slots_in::<Blkif>(pages * 4096).into()]);
    }
}

fn c_asks(c: &C) {
    for pages in [1, 2, 4] {
        let memory = Words::new(pages * 4096);
        let slots = slots_in::<Blkif>(pages * 4096);
        // The C program initialises the ring and fills it.
        assert_eq!(c.run("ask", &[slots], &[&memory]), [1], "the first is told of");
        let mut back = Ring::<Back, Blkif, _>::attach(memory.clone()).unwrap();
        for n in 0..u64::from(slots) {
            assert_eq!(back.pop().unwrap(), Some(request(n)), "{n}");
            back.push(&response(n)).unwrap();
        }
        assert_eq!(back.pop().unwrap(), None);
        assert!(back.publish().is_needed());
        let expected = (0..u64::from(slots)).flat_map(|n| [n, n % 7, n % 3]);
        assert_eq!(c.run("hear", &[], &[&memory]), expected.collect::<Vec<_>>());
    }
}

fn c_answers(c: &C) {
    let memory = Words::new(8192);
    let mut front = Ring::<Front, Blkif, _>::new(memory.clone()).unwrap();
    for n in 0..64 {
        // A new ring gives out its numbers in order, so each request has its own index as its number.
        let id = front.push(|id| request(id.number())).unwrap();
        assert_eq!(id.number(), n);
    }
    assert!(front.publish().is_needed());
    // The C program compares each field with its own value, and answers.
    assert_eq!(c.run("answer", &[64], &[&memory]), [0, 1]);
    for n in 0..64 {
        assert_eq!(
            front.pop().unwrap().map(|(id, response)| (id.number(), response)),
            Some((n, response(n)))
        );
    }
    assert_eq!(front.pop().unwrap(), None);
    assert!(!front.arm().unwrap());
}

/// Compares both sides' arithmetic for the old index, the number of new entries and the peer's event index.
fn notifications(c: &C) {
    let memory = Words::new(4096);
    for old in [0, 1, 31, u32::MAX - 3, u32::MAX] {
        for new in [0, 1, 2, 32] {
            for event in [-2i32, -1, 0, 1, 2, 3, 31, 32, 33, i32::MAX, i32::MIN] {
                let event = old.wrapping_add_signed(event);
                for (at, value) in [(0, old.wrapping_add(32)), (4, 0), (8, old), (12, event)] {
                    memory.store(at, value, Ordering::Relaxed);
                }
                let theirs = c.run("notify", &[old, new, event], &[&memory]);
                memory.store(8, old, Ordering::Relaxed);
                let mut back = Ring::<Back, Blkif, _>::attach(memory.clone()).unwrap();
                for n in 0..new {
                    back.pop().unwrap().unwrap();
                    back.push(&response(n.into())).unwrap();
                }
                let ours = u64::from(back.publish().is_needed());
                assert_eq!(theirs, [ours], "from {old:#x}, {new} more, event {event:#x}");
            }
        }
    }
}

fn stream(c: &C) {
    for order in [0, 2] {
        let (indices, data) = (Words::new(4096), Words::new(4096 << order));
        let refs: Vec<_> = (0..1 << order).map(|page| GrantRef(70 + page)).collect();
        let mut front = Stream::<Front, _, _>::new(indices.clone(), data.clone(), &refs).unwrap();
        let text: Vec<u8> = (0..1500u32).map(|i| i as u8).collect();
        for round in 0..12 {
            let (written, _) = front.write(&text).unwrap();
            assert_eq!(written, 1500, "{round}");
            // The C program echoes everything, and prints its length, the order, and the last reference.
            let found = c.run("echo", &[], &[&indices, &data]);
            assert_eq!(found, [1500, order.into(), 70 + (1 << order) - 1]);
            let mut echo = vec![0; 1600];
            assert_eq!(front.read(&mut echo).unwrap().0, 1500);
            assert_eq!(echo[..1500], text);
        }
        assert_eq!(references(&indices).unwrap().0, order);
    }
}
