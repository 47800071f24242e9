//! Event channels, as in Xen. All domains of the process have their bits in one page, so no two domains have a port
//! with the same number. There are no interrupts: waiters poll the bits.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

use super::{FakeXen, lock};
use crate::abi::event::{AllocUnbound, BindInterdomain, EventOp, OfPort, Port, PortState, PortStatus};
use crate::abi::shared_info::{MAX_PORTS, SharedInfo};
use crate::abi::{DomId, XenErrno};

/// Returns the page with the bits of all ports.
pub fn shared_info() -> &'static SharedInfo {
    static PAGE: OnceLock<&'static SharedInfo> = OnceLock::new();
    PAGE.get_or_init(|| {
        let page = Box::<SharedInfo>::default();
        page.evtchn_mask.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        Box::leak(page)
    })
}

/// An open port.
#[derive(Clone, Copy, Debug)]
struct Open {
    machine: usize,
    owner: DomId,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// This domain may connect.
    Unbound(DomId),
    /// Connected.
    Interdomain(DomId, Port),
}

static PORTS: Mutex<BTreeMap<u32, Open>> = Mutex::new(BTreeMap::new());

/// Returns the lowest unused port number.
fn free(ports: &BTreeMap<u32, Open>) -> Result<Port, XenErrno> {
    (1..MAX_PORTS).find(|number| !ports.contains_key(number)).map(Port).ok_or(XenErrno::NOSPC)
}

fn set_pending(port: Port) {
    // SeqCst: as in Xen, whose store pairs with the guest's operations on its bits.
    shared_info().evtchn_pending[(port.0 / 64) as usize].fetch_or(1 << (port.0 % 64), Ordering::SeqCst);
}

fn clear_bits(port: Port) {
    let (word, bit) = ((port.0 / 64) as usize, 1 << (port.0 % 64));
    shared_info().evtchn_pending[word].fetch_and(!bit, Ordering::SeqCst);
    shared_info().evtchn_mask[word].fetch_or(bit, Ordering::SeqCst);
}

impl FakeXen {
    fn machine_number(&self) -> usize {
        Arc::as_ptr(&self.machine).addr()
    }

    fn resolve(&self, domain: DomId) -> DomId {
        if domain == DomId::SELF { self.domain } else { domain }
    }

    /// # Safety
    ///
    /// `argument` must point to the operation's structure.
    pub(super) unsafe fn event_op(&self, op: EventOp, argument: u64) -> Result<u64, XenErrno> {
        let machine = self.machine_number();
        let mut ports = lock(&PORTS);
        let own = |ports: &BTreeMap<u32, Open>, port: Port| {
            let open = ports.get(&port.0).copied();
            open.filter(|open| open.machine == machine && open.owner == self.domain).ok_or(XenErrno::INVAL)
        };
        match op {
            EventOp::ALLOC_UNBOUND => {
                // SAFETY: guaranteed by the caller.
                let request = unsafe { &mut *(argument as *mut AllocUnbound) };
                request.port = free(&ports)?;
                clear_bits(request.port);
                let end = End::Unbound(self.resolve(request.remote_dom));
                ports.insert(request.port.0, Open { machine, owner: self.domain, end });
            }
            EventOp::BIND_INTERDOMAIN => {
                // SAFETY: guaranteed by the caller.
                let request = unsafe { &mut *(argument as *mut BindInterdomain) };
                let peer = self.resolve(request.remote_dom);
                let theirs = ports.get_mut(&request.remote_port.0).ok_or(XenErrno::INVAL)?;
                let is_open = matches!(theirs.end, End::Unbound(wanted) if wanted == self.domain);
                if theirs.machine != machine || theirs.owner != peer || !is_open {
                    return Err(XenErrno::INVAL);
                }
                let port = free(&ports)?;
                if let Some(theirs) = ports.get_mut(&request.remote_port.0) {
                    theirs.end = End::Interdomain(self.domain, port);
                }
                clear_bits(port);
                let end = End::Interdomain(peer, request.remote_port);
                ports.insert(port.0, Open { machine, owner: self.domain, end });
                request.local_port = port;
                // As in Xen: the peer may have sent an event before the connection.
                set_pending(port);
            }
            EventOp::SEND => {
                // SAFETY: guaranteed by the caller.
                let port = unsafe { (*(argument as *const OfPort)).port };
                if let End::Interdomain(_, theirs) = own(&ports, port)?.end {
                    set_pending(theirs);
                }
            }
            EventOp::STATUS => {
                // SAFETY: guaranteed by the caller.
                let request = unsafe { &mut *(argument as *mut PortStatus) };
                (request.status, request.vcpu) = (PortState::CLOSED, 0);
                match own(&ports, request.port).map(|open| open.end) {
                    Ok(End::Unbound(peer)) => (request.status, request.peer) = (PortState::UNBOUND, peer),
                    Ok(End::Interdomain(peer, port)) => {
                        request.status = PortState::INTERDOMAIN;
                        (request.peer, request.peer_port) = (peer, port);
                    }
                    Err(_) => {}
                }
            }
            EventOp::CLOSE => {
                // SAFETY: guaranteed by the caller.
                let port = unsafe { (*(argument as *const OfPort)).port };
                own(&ports, port)?;
                close(&mut ports, port);
            }
            EventOp::UNMASK => {
                // SAFETY: guaranteed by the caller.
                let port = unsafe { (*(argument as *const OfPort)).port };
                own(&ports, port)?;
                let (word, bit) = ((port.0 / 64) as usize, 1 << (port.0 % 64));
                shared_info().evtchn_mask[word].fetch_and(!bit, Ordering::SeqCst);
            }
            _ => return Err(XenErrno::NOSYS),
        }
        Ok(0)
    }

    /// Returns the number of ports open in the domain.
    pub fn open_ports(&self) -> usize {
        let (machine, owner) = (self.machine_number(), self.domain);
        lock(&PORTS).values().filter(|open| open.machine == machine && open.owner == owner).count()
    }

    /// Closes all ports of a destroyed domain.
    pub(super) fn close_ports(&self) {
        let mut ports = lock(&PORTS);
        let is_ours = |open: &Open| open.machine == self.machine_number() && open.owner == self.domain;
        let ours: std::vec::Vec<_> =
            ports.iter().filter(|(_, open)| is_ours(open)).map(|(number, _)| Port(*number)).collect();
        ours.into_iter().for_each(|port| close(&mut ports, port));
    }
}

/// Closes a port. The peer's end then waits for another connection.
fn close(ports: &mut BTreeMap<u32, Open>, port: Port) {
    clear_bits(port);
    let Some(Open { owner, end: End::Interdomain(_, theirs), .. }) = ports.remove(&port.0) else { return };
    if let Some(theirs) = ports.get_mut(&theirs.0) {
        theirs.end = End::Unbound(owner);
    }
}
