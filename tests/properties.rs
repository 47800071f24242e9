//! Random sequences of grants, mappings and their ends, checked against a simple oracle: no page has two owners, and no
//! page, reference or window is lost.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use granite::abi::grant::op::Op;
use granite::abi::grant::{GrantRef, Status};
use granite::grant::{Config, ForeignMapping, Grant, GrantError, GrantTable, ReadOnly, ReadWrite, Version};
use granite::hypercall::fake::{FakeXen, Fault, Machine};
use granite::mm::page::Pool;
use granite::mm::windows::Windows;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Deed {
    Grant { readonly: bool },
    Map { grant: usize, write: bool },
    MapAll { grant: usize, pages: usize },
    Unmap(usize),
    DropMapping(usize),
    End(usize),
    DropGrant(usize),
    Toggle(usize),
    Reap,
    Fault(i16),
}

fn deed() -> impl Strategy<Value = Deed> {
    let which = any::<usize>;
    prop_oneof![
        4 => any::<bool>().prop_map(|readonly| Deed::Grant { readonly }),
        4 => (which(), any::<bool>()).prop_map(|(grant, write)| Deed::Map { grant, write }),
        1 => (which(), 1..40usize).prop_map(|(grant, pages)| Deed::MapAll { grant, pages }),
        3 => which().prop_map(Deed::Unmap),
        2 => which().prop_map(Deed::DropMapping),
        3 => which().prop_map(Deed::End),
        2 => which().prop_map(Deed::DropGrant),
        2 => which().prop_map(Deed::Toggle),
        1 => Just(Deed::Reap),
        1 => (-14..2i16).prop_map(Deed::Fault),
    ]
}

type Table = GrantTable<&'static FakeXen>;

enum Granted {
    Reading(Grant<'static, ReadOnly, &'static FakeXen>),
    Writing(Grant<'static, ReadWrite, &'static FakeXen>),
}

enum Mapped {
    Reading(ForeignMapping<'static, ReadOnly, &'static FakeXen>),
    Writing(ForeignMapping<'static, ReadWrite, &'static FakeXen>),
}

impl Granted {
    fn gref(&self) -> GrantRef {
        match self {
            Self::Reading(grant) => grant.gref(),
            Self::Writing(grant) => grant.gref(),
        }
    }
}

/// Two domains on a leaked machine: it is small, and each case has its own.
struct World {
    us: &'static Table,
    them: &'static Table,
    pool: &'static Pool,
    our: &'static FakeXen,
    their: &'static FakeXen,
}

fn world(version: Version) -> World {
    let machine = Machine::new();
    let domain = || {
        let xen: &'static FakeXen = Box::leak(Box::new(machine.domain()));
        let [ram, windows] = machine.layout(xen.dom_id());
        // SAFETY: both ranges belong to the domain, and the machine is never freed.
        let (pool, windows) = unsafe { (Pool::new(ram), Box::leak(Box::new(Windows::new(windows)))) };
        let config = Config { version, vcpus: 4, ..Config::default() };
        // SAFETY: this is the domain's only table.
        let table = unsafe { GrantTable::new(xen, windows, config) }.unwrap();
        (xen, &*Box::leak(Box::new(pool)), &*Box::leak(Box::new(table)))
    };
    let ((our, pool, us), (their, _, them)) = (domain(), domain());
    World { us, them, pool, our, their }
}

fn pick<T>(all: &mut Vec<T>, index: usize) -> Option<T> {
    let index = index.checked_rem(all.len())?;
    Some(all.swap_remove(index))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn grants_lose_no_page_and_give_none_to_two(
        second in any::<bool>(),
        deeds in prop::collection::vec(deed(), 1..250),
    ) {
        let World { us, them, pool, our, their } = world(if second { Version::V2 } else { Version::V1 });
        let (pages, windows) = (pool.free(), them.windows().free());
        let mut grants: Vec<Granted> = Vec::new();
        let mut mappings: Vec<Mapped> = Vec::new();
        // Each granted page holds its own frame number. No other user of the page may change it.
        let mut marks: BTreeMap<GrantRef, u64> = BTreeMap::new();
        for deed in deeds {
            match deed {
                Deed::Grant { readonly } => {
                    let Some(mut page) = pool.zeroed() else { continue };
                    let mark = page.gfn().0;
                    page.bytes_mut()[..8].copy_from_slice(&mark.to_le_bytes());
                    let granted = if readonly {
                        us.grant(page, their.dom_id()).map(Granted::Reading)
                    } else {
                        us.grant(page, their.dom_id()).map(Granted::Writing)
                    };
                    let granted = granted.unwrap();
                    marks.insert(granted.gref(), mark);
                    grants.push(granted);
                }
                Deed::Map { grant, write } => {
                    let Some(index) = grant.checked_rem(grants.len()) else { continue };
                    let gref = grants[index].gref();
                    let mapped = if write {
                        them.map(our.dom_id(), gref).map(Mapped::Writing)
                    } else {
                        them.map(our.dom_id(), gref).map(Mapped::Reading)
                    };
                    let readonly = matches!(grants[index], Granted::Reading(_));
                    let faulty = !their.faults.lock().unwrap().is_empty();
                    match mapped {
                        Ok(mapping) => {
                            prop_assert!(!(write && readonly));
                            let mut mark = [0; 8];
                            match &mapping {
                                Mapped::Reading(mapping) => mapping.reader().read(0, &mut mark).unwrap(),
                                Mapped::Writing(mapping) => mapping.bytes().read(0, &mut mark).unwrap(),
                            }
                            prop_assert_eq!(u64::from_le_bytes(mark), marks[&gref]);
                            mappings.push(mapping);
                        }
                        Err(error) => {
                            let refused = error.status() == Some(Status::GENERAL_ERROR) && write && readonly;
                            prop_assert!(refused || faulty || error.status().is_some(), "{}", error);
                        }
                    }
                }
                Deed::MapAll { grant, pages } => {
                    let Some(index) = grant.checked_rem(grants.len()) else { continue };
                    // As below: after a partial failure, a drop unmaps the mapped pages.
                    their.faults.lock().unwrap().retain(|fault| !matches!(fault, Fault::Status(Op::UNMAP, _)));
                    let grefs = vec![grants[index].gref(); pages];
                    mappings.extend(them.map_all(our.dom_id(), &grefs).map(Mapped::Reading));
                }
                Deed::Unmap(index) => match pick(&mut mappings, index) {
                    Some(Mapped::Reading(mapping)) => {
                        mappings.extend(mapping.unmap().err().map(|failed| Mapped::Reading(failed.value)));
                    }
                    Some(Mapped::Writing(mapping)) => {
                        mappings.extend(mapping.unmap().err().map(|failed| Mapped::Writing(failed.value)));
                    }
                    None => {}
                },
                Deed::DropMapping(index) => {
                    // A mapping kept for ever by a fault would also keep its page for ever.
                    their.faults.lock().unwrap().clear();
                    drop(pick(&mut mappings, index));
                }
                Deed::End(index) => match pick(&mut grants, index) {
                    Some(Granted::Reading(grant)) => {
                        grants.extend(grant.end_access().err().map(|failed| Granted::Reading(failed.value)));
                    }
                    Some(Granted::Writing(grant)) => {
                        grants.extend(grant.end_access().err().map(|failed| Granted::Writing(failed.value)));
                    }
                    None => {}
                },
                Deed::DropGrant(index) => drop(pick(&mut grants, index)),
                Deed::Toggle(index) => {
                    let toggled = pick(&mut grants, index).map(|grant| match grant {
                        Granted::Reading(grant) => Granted::Writing(grant.make_writable()),
                        Granted::Writing(grant) => match grant.make_readonly() {
                            Ok(grant) => Granted::Reading(grant),
                            Err(failed) => Granted::Writing(failed.value),
                        },
                    });
                    grants.extend(toggled);
                }
                Deed::Reap => drop(us.reap(3)),
                Deed::Fault(status) => {
                    let op = if status % 2 == 0 { Op::MAP } else { Op::UNMAP };
                    if status != 0 && status != -12 {
                        their.fail(Fault::Status(op, Status(status)));
                    }
                }
            }
            let stats = us.stats();
            prop_assert_eq!(stats.in_use, grants.len() as u32 + stats.quarantined);
            prop_assert_eq!(pool.free(), pages - stats.in_use as usize, "a page for each reference");
            prop_assert!(!their.is_dead() && !our.is_dead());
        }
        their.faults.lock().unwrap().clear();
        drop(mappings);
        for grant in grants {
            let ended = match grant {
                Granted::Reading(grant) => grant.end_access().map(drop).map_err(|failed| failed.error),
                Granted::Writing(grant) => grant.end_access().map(drop).map_err(|failed| failed.error),
            };
            prop_assert_eq!(ended, Ok::<(), GrantError>(()));
        }
        us.reap(u32::MAX);
        prop_assert_eq!((us.stats().in_use, pool.free(), them.windows().free()), (0, pages, windows));
        prop_assert_eq!(our.machine().mappings(their.dom_id()), 0);
    }
}
