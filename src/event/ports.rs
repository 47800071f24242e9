//! The slot of each port: its [`LocalPort`]. Slots are allocated when ports are opened.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use spin::Once;

use super::port::LocalPort;
use crate::abi::event::Port;
use crate::abi::shared_info::{EVENT_WORDS, MAX_PORTS};

/// Returns the ports whose events come to a vCPU.
pub fn of_vcpu(vcpu: usize) -> impl Iterator<Item = (Port, &'static LocalPort)> {
    let ports = (0..MAX_PORTS).map(Port).filter_map(|port| Some((port, get(port)?)));
    ports.filter(move |(_, slot)| slot.vcpu.load(Ordering::Relaxed) == vcpu)
}

/// As many slots as a word has bits.
type Chunk = [LocalPort; MAX_PORTS as usize / EVENT_WORDS];

/// The chunks needed so far: most domains have a few ports, with the lowest numbers.
static CHUNKS: [Once<Box<Chunk>>; EVENT_WORDS] = [const { Once::new() }; EVENT_WORDS];

fn at(port: Port) -> (usize, usize) {
    let size = MAX_PORTS as usize / EVENT_WORDS;
    (port.0 as usize / size, port.0 as usize % size)
}

/// Returns a port's slot, and allocates it if needed: don't call this in a handler. Returns `None` if the port is out
/// of range.
pub fn make(port: Port) -> Option<&'static LocalPort> {
    let (chunk, index) = at(port);
    CHUNKS.get(chunk)?.call_once(|| Box::new([const { LocalPort::new() }; _])).get(index)
}

/// Returns a port's slot, if it has been allocated.
pub fn get(port: Port) -> Option<&'static LocalPort> {
    let (chunk, index) = at(port);
    CHUNKS.get(chunk)?.get()?.get(index)
}

#[cfg(test)]
mod tests {
    use super::{MAX_PORTS, Port, get, make};

    #[test]
    fn slots_are_made_where_there_can_be_ports() {
        assert!(make(Port(MAX_PORTS)).is_none() && get(Port(u32::MAX)).is_none());
        let made = make(Port(MAX_PORTS - 1)).map(core::ptr::from_ref);
        assert!(made.is_some() && get(Port(MAX_PORTS - 1)).map(core::ptr::from_ref) == made);
    }
}
