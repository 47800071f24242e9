//! The ring between two threads: a slot becomes visible with its index, and a sleeping end is notified.

use granite_core::ring::{Back, Front, Protocol, Ring, Words};
use loom::thread;

enum Number {}

impl Protocol for Number {
    type Request = u32;
    type Response = u32;

    fn answers(response: &u32) -> u64 {
        u64::from(response >> 16)
    }
}

/// The bytes of the header and one slot.
fn words() -> Words {
    Words::new(68)
}

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

#[test]
fn a_request_is_seen_with_its_index_and_so_is_the_response() {
    model(|| {
        let words = words();
        let mut front = Ring::<Front, Number, _>::new(words.clone()).unwrap();
        let theirs = thread::spawn(move || {
            let mut back = Ring::<Back, Number, _>::attach(words).unwrap();
            let Some(request) = back.pop().unwrap() else { return };
            assert_eq!(request, 7);
            back.push(&9).unwrap();
            let _ = back.publish();
        });
        front.push(|_| 7).unwrap();
        let _ = front.publish();
        if let Some((_, response)) = front.pop().unwrap() {
            assert_eq!(response, 9);
        }
        theirs.join().unwrap();
    });
}

#[test]
fn a_back_end_that_sleeps_is_told() {
    model(|| {
        let words = words();
        let mut front = Ring::<Front, Number, _>::new(words.clone()).unwrap();
        // The back was notified of the first request, and is at work.
        front.push(|_| 1).unwrap();
        assert!(front.publish().is_needed());
        let mut back = Ring::<Back, Number, _>::attach(words).unwrap();
        back.pop().unwrap().unwrap();
        back.push(&0).unwrap();
        let _ = back.publish();
        front.pop().unwrap().unwrap();

        let theirs = thread::spawn(move || {
            let awake = back.pop().unwrap().is_some() || back.arm().unwrap();
            !awake
        });
        front.push(|_| 2).unwrap();
        let told = front.publish().is_needed();
        let sleeps = theirs.join().unwrap();
        assert!(told || !sleeps, "it sleeps for ever");
    });
}

#[test]
fn a_front_end_that_sleeps_is_told() {
    model(|| {
        let words = words();
        let mut front = Ring::<Front, Number, _>::new(words.clone()).unwrap();
        let mut back = Ring::<Back, Number, _>::attach(words).unwrap();
        {
            front.push(|_| 1).unwrap();
            let _ = front.publish();
            back.pop().unwrap().unwrap();
            back.push(&0).unwrap();
            assert!(back.publish().is_needed());
            front.pop().unwrap().unwrap();
        }
        front.push(|_| 2).unwrap();
        let _ = front.publish();
        let theirs = thread::spawn(move || {
            back.pop().unwrap().unwrap();
            back.push(&0).unwrap();
            back.publish().is_needed()
        });
        let awake = front.arm_for(1).unwrap();
        assert!(theirs.join().unwrap() || awake, "it sleeps for ever");
    });
}
