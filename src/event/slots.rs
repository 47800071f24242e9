//! The slots of all ports, made as ports are opened.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use spin::Once;

use super::slot::Slot;
use crate::abi::event::Port;
use crate::abi::shared_info::{EVENT_WORDS, MAX_PORTS};

/// The ports whose events come to a vCPU.
pub fn of_vcpu(vcpu: usize) -> impl Iterator<Item = (Port, &'static Slot)> {
    let ports = (0..MAX_PORTS).map(Port).filter_map(|port| Some((port, get(port)?)));
    ports.filter(move |(_, slot)| slot.vcpu.load(Ordering::Relaxed) == vcpu)
}

/// As many slots as a word has bits.
type Chunk = [Slot; MAX_PORTS as usize / EVENT_WORDS];

/// Those that were ever needed: most domains have a few ports, and they are the lowest.
static CHUNKS: [Once<Box<Chunk>>; EVENT_WORDS] = [const { Once::new() }; EVENT_WORDS];

fn at(port: Port) -> (usize, usize) {
    let size = MAX_PORTS as usize / EVENT_WORDS;
    (port.0 as usize / size, port.0 as usize % size)
}

/// A port's slot, made if it must be: not in a handler. Nothing for a port that there can't be.
pub fn make(port: Port) -> Option<&'static Slot> {
    let (chunk, index) = at(port);
    CHUNKS.get(chunk)?.call_once(|| Box::new([const { Slot::new() }; _])).get(index)
}

/// A port's slot, if there is one.
pub fn get(port: Port) -> Option<&'static Slot> {
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
