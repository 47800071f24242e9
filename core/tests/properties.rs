//! Random sequences of operations on a freelist against a simple oracle: no reference has two owners, and none is
//! lost.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::Cell;

use granite_core::abi::grant::GrantRef;
use granite_core::freelist::{Freelist, OwnedRef};
use granite_core::sync::{NO_VCPU, Vcpu};
use proptest::prelude::*;

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

struct Thread;

// SAFETY: each test is one thread, playing one vCPU at a time.
unsafe impl Vcpu for Thread {
    fn index(&self) -> usize {
        INDEX.with(Cell::get)
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        run()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc,
    Free(usize),
    AllocBatch(u32),
    FreeBatch(usize),
    Run(u32),
    Grow(u32),
    Flush,
    Vcpu(usize),
    ParkAndUnpark(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Alloc),
        6 => any::<usize>().prop_map(Step::Free),
        2 => (0..400u32).prop_map(Step::AllocBatch),
        2 => (0..400usize).prop_map(Step::FreeBatch),
        1 => (1..200u32).prop_map(Step::Run),
        1 => (0..1500u32).prop_map(Step::Grow),
        1 => Just(Step::Flush),
        2 => prop_oneof![Just(0), Just(1), Just(NO_VCPU)].prop_map(Step::Vcpu),
        1 => any::<usize>().prop_map(Step::ParkAndUnpark),
    ]
}

/// The references out, and the number of references.
struct Oracle {
    out: Vec<OwnedRef>,
    owned: Vec<bool>,
    limit: u32,
}

impl Oracle {
    fn took(&mut self, reference: OwnedRef) {
        let number = reference.get().0;
        assert!((8..self.limit).contains(&number), "{number} of {}", self.limit);
        assert!(!std::mem::replace(&mut self.owned[number as usize], true), "{number} is out twice");
        self.out.push(reference);
    }

    fn gives(&mut self, index: usize) -> Option<OwnedRef> {
        let index = index.checked_rem(self.out.len())?;
        let reference = self.out.swap_remove(index);
        self.owned[reference.get().0 as usize] = false;
        Some(reference)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_freelist_gives_each_reference_to_one(steps in prop::collection::vec(step(), 1..300)) {
        const MAX: u32 = 1200;
        let list = Freelist::new(Thread, GrantRef::FIRST_FREE, 2).unwrap();
        let mut oracle = Oracle { out: Vec::new(), owned: vec![false; MAX as usize], limit: 8 };
        INDEX.with(|index| index.set(0));
        for step in steps {
            match step {
                Step::Alloc => list.alloc().into_iter().for_each(|own| oracle.took(own)),
                Step::Free(index) => {
                    if let Some(own) = oracle.gives(index) {
                        list.free(own).unwrap();
                    }
                }
                Step::AllocBatch(count) => {
                    let mut taken = Vec::new();
                    let done = list.alloc_many(count, &mut taken);
                    prop_assert_eq!(taken.len() as u32, if done.is_ok() { count } else { 0 });
                    taken.into_iter().for_each(|own| oracle.took(own));
                }
                Step::FreeBatch(count) => {
                    let mut batch: Vec<_> = (0..count).map_while(|i| oracle.gives(i)).collect();
                    list.free_many(&mut batch);
                    prop_assert!(batch.is_empty());
                }
                Step::Run(count) => {
                    let run = list.alloc_run(count);
                    if let Ok(run) = run {
                        let first = run.first().0;
                        let numbers: Vec<_> = run.map(|own| { let n = own.get().0; oracle.took(own); n }).collect();
                        prop_assert_eq!(numbers, (first..first + count).collect::<Vec<_>>());
                    }
                }
                Step::Grow(limit) => {
                    let limit = limit.min(MAX);
                    list.grow(limit).unwrap();
                    oracle.limit = oracle.limit.max(limit);
                }
                Step::Flush => list.flush(),
                Step::Vcpu(vcpu) => INDEX.with(|index| index.set(vcpu)),
                Step::ParkAndUnpark(index) => {
                    if let Some(own) = oracle.gives(index) {
                        let number = own.get();
                        list.park(own).unwrap();
                        prop_assert!(list.parked().eq([number]));
                        oracle.took(list.unpark().unwrap());
                        prop_assert!(list.unpark().is_none());
                    }
                }
            }
            let stats = list.stats();
            prop_assert_eq!((stats.in_use as usize, stats.total), (oracle.out.len(), oracle.limit - 8));
            prop_assert_eq!(stats.free, stats.total - stats.in_use);
        }
        // All references can be allocated, wherever they were cached.
        for vcpu in [0, 1, NO_VCPU] {
            INDEX.with(|index| index.set(vcpu));
            while let Ok(own) = list.alloc() {
                oracle.took(own);
            }
        }
        prop_assert_eq!(oracle.out.len() as u32, oracle.limit - 8);
    }
}
