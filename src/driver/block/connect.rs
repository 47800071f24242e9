//! The handshake of the two ends: it publishes keys in the same states as Linux's blkfront and blkback.

use core::time::Duration;

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::{Back, BackStats, BlockError, DataPath, Disk, Front, Geometry, Limits};
use crate::abi::blkif;
use crate::abi::event::Port;
use crate::abi::grant::GrantRef;
use crate::abi::xenbus::State;
use crate::driver::connector::{ConnectError, Connector};
use crate::event::{Interdomain, Unbound};
use crate::grant::{ForeignMapping, GrantTable, ReadWrite};
use crate::hypercall::Xen;
use crate::mm::Guest;
use crate::ring::{GrantedPages, Ring};
use crate::time::Deadline;

/// A front end connected to another domain.
pub type BlockFront<X = Xen> = Front<'static, X, GrantedPages<'static, X>>;

/// A back end connected to another domain.
pub type BlockBack<D, X = Xen> = Back<'static, X, ForeignMapping<'static, ReadWrite, X>, D>;

/// The maximum order of a ring's pages: 16 pages.
pub const MAX_RING_ORDER: u32 = 4;

/// Timeout of each step when a back end closes.
const CLOSING: Duration = Duration::from_secs(5);

/// The disk of a back end, and its data path.
#[derive(Clone, Copy, Debug)]
pub struct Offer<D> {
    /// The disk.
    pub disk: D,
    /// How the back end accesses the front end's pages.
    pub path: DataPath,
}

/// Connects to a back end: makes a ring of `1 << order` pages, or fewer if the back end supports fewer, and waits for
/// it.
///
/// # Errors
///
/// [`BlockError::Connect`] if the back end closes, is gone, isn't ready before the deadline, or has a bad key;
/// [`BlockError::OutOfMemory`], [`BlockError::Grant`] or [`BlockError::Ring`] if no ring can be made;
/// [`BlockError::Event`] if there is no channel. The back end is notified, if it listens. Ring pages still in use by
/// it wait in the table's quarantine.
pub fn connect_front<X: Guest>(
    connector: &mut impl Connector,
    grants: &'static GrantTable<X>,
    order: u32,
    limits: Limits,
    deadline: Deadline,
) -> Result<BlockFront<X>, BlockError> {
    let met = meet_back(connector, grants, order, limits, deadline);
    if met.is_err() {
        let _ = connector.publish(&[], State::CLOSED, deadline); // it may be that which failed
    }
    met
}

fn meet_back<X: Guest>(
    connector: &mut impl Connector,
    grants: &'static GrantTable<X>,
    order: u32,
    limits: Limits,
    deadline: Deadline,
) -> Result<BlockFront<X>, BlockError> {
    let peer = connector.peer();
    connector.publish(&[], State::INITIALISING, deadline)?;
    connector.wait_for_any(&[State::INIT_WAIT, State::INITIALISED], deadline)?;
    let max = connector.parse("max-ring-page-order").unwrap_or(0).min(MAX_RING_ORDER);
    let order = order.min(max);
    let pages: Option<Vec<_>> = (0..1 << order).map(|_| grants.xen().page()).collect();
    let mut memory = Vec::new();
    for page in pages.ok_or(BlockError::OutOfMemory)? {
        memory.push(grants.grant::<ReadWrite>(page, peer).map_err(|failed| failed.error)?);
    }
    let grefs: Vec<_> = memory.iter().map(|grant| grant.gref().0.to_string()).collect();
    let ring = Ring::new(GrantedPages(memory))?;
    let port = Unbound::new(*grants.xen(), peer)?;

    let (order_text, port_text) = (order.to_string(), port.port().0.to_string());
    let names: Vec<_> = (0..grefs.len()).map(|page| ring_ref(order, page)).collect();
    let mut keys: Vec<(&str, &str)> =
        names.iter().map(|name| &**name).zip(grefs.iter().map(|gref| &**gref)).collect();
    if order > 0 {
        keys.push(("ring-page-order", &order_text));
    }
    keys.extend([
        ("event-channel", &*port_text),
        ("protocol", "x86_64-abi"),
        ("feature-persistent", if limits.persistent { "1" } else { "0" }),
        ("feature-granite-reasons", "1"),
    ]);
    connector.publish(&keys, State::INITIALISED, deadline)?;
    connector.expect(State::CONNECTED, deadline)?;

    let geometry = Geometry {
        sectors: connector.parse("sectors")?,
        read_only: connector.parse::<u32>("info")? & blkif::READ_ONLY != 0,
        persistent: limits.persistent && connector.has("feature-persistent"),
        flush: connector.has("feature-flush-cache"),
        discard: connector.has("feature-discard"),
        checksum: connector.has("feature-granite-checksum"),
    };
    // The protocol counts sectors of 512 bytes, whatever the disk has. Another size would require larger ones.
    if connector.parse::<usize>("sector-size")? != blkif::SECTOR {
        return Err(ConnectError::BadKey("sector-size").into());
    }
    let channel = port.accept().map_err(|(error, _)| error)?;
    connector.publish(&[], State::CONNECTED, deadline)?;
    Ok(Front::new(ring, channel, grants, peer, geometry, limits))
}

/// Returns the key of one page of the ring.
fn ring_ref(order: u32, page: usize) -> alloc::string::String {
    if order == 0 { "ring-ref".into() } else { format!("ring-ref{page}") }
}

/// Connects to a front end: publishes the features of the disk, waits for the front end's ring, and maps it.
///
/// # Errors
///
/// [`BlockError::Connect`] if the front end is gone, isn't ready before the deadline, or has a bad key;
/// [`BlockError::Grant`] or [`BlockError::Ring`] if its ring can't be used; [`BlockError::OutOfMemory`] if there are
/// no pages for copies; [`BlockError::Event`] if there is no channel. The front end is notified, if it listens, and
/// none of its pages stays mapped.
pub fn connect_back<D: Disk, X: Guest>(
    connector: &mut impl Connector,
    grants: &'static GrantTable<X>,
    offer: Offer<D>,
    deadline: Deadline,
) -> Result<BlockBack<D, X>, BlockError> {
    let met = meet_front(connector, grants, offer, deadline);
    if met.is_err() {
        let _ = connector.publish(&[], State::CLOSED, deadline); // it may be that which failed
    }
    met
}

fn meet_front<D: Disk, X: Guest>(
    connector: &mut impl Connector,
    grants: &'static GrantTable<X>,
    offer: Offer<D>,
    deadline: Deadline,
) -> Result<BlockBack<D, X>, BlockError> {
    let (peer, Offer { disk, path }) = (connector.peer(), offer);
    let yes = |is_so| if is_so { "1" } else { "0" };
    let is_writable = !disk.is_read_only();
    let mut features = Vec::from([
        ("feature-flush-cache", yes(is_writable)),
        ("feature-discard", yes(is_writable)),
        ("feature-granite-checksum", "1"),
        ("feature-persistent", yes(matches!(path, DataPath::Persistent { .. }))),
        ("max-ring-page-order", "4"),
    ]);
    if is_writable {
        features.extend([("discard-granularity", "512"), ("discard-alignment", "0")]);
    }
    connector.publish(&features, State::INIT_WAIT, deadline)?;
    connector.wait_for_any(&[State::INITIALISED, State::CONNECTED], deadline)?;
    if connector.key("protocol").is_some_and(|protocol| protocol != "x86_64-abi") {
        return Err(ConnectError::BadKey("protocol").into());
    }
    let order = match connector.key("ring-page-order") {
        None => 0,
        Some(_) => connector.parse("ring-page-order")?,
    };
    if order > MAX_RING_ORDER {
        return Err(ConnectError::BadKey("ring-page-order").into());
    }
    let number = |name: &str| connector.key(name)?.parse().ok().map(GrantRef);
    let grefs: Option<Vec<_>> = match order {
        // Other back ends accept either name.
        0 => number("ring-ref").or_else(|| number("ring-ref0")).map(|gref| Vec::from([gref])),
        _ => (0..1 << order).map(|page| number(&ring_ref(order, page))).collect(),
    };
    let grefs = grefs.ok_or(ConnectError::BadKey("ring-ref"))?;
    let port = Port(connector.parse("event-channel")?);
    let path = match path {
        DataPath::Persistent { .. } if !connector.has("feature-persistent") => DataPath::Map,
        path => path,
    };
    let memory = grants.map_all::<ReadWrite>(peer, &grefs).map_err(|batch| batch.error)?;
    let channel = Interdomain::connect(*grants.xen(), peer, port)?;
    let sectors = disk.sectors().to_string();
    let info = if is_writable { 0 } else { blkif::READ_ONLY }.to_string();
    let reasons = connector.has("feature-granite-reasons");
    let back = Back::new(memory, channel, grants, peer, disk, path, reasons)?;
    let keys = [("sectors", &*sectors), ("sector-size", "512"), ("info", &*info)];
    connector.publish(&keys, State::CONNECTED, deadline)?;
    Ok(back)
}

impl<X: Guest> BlockFront<X> {
    /// Ends the connection after the back end has released all pages: then every page belongs to this domain again.
    ///
    /// # Errors
    ///
    /// [`BlockError::Connect`] if the back end doesn't close before the deadline. Pages still in use by it wait in
    /// the table's quarantine.
    pub fn close(self, connector: &mut impl Connector, deadline: Deadline) -> Result<(), BlockError> {
        // As in Linux: the back end may wait for the front end to close before it releases the pages.
        connector.publish(&[], State::CLOSING, deadline)?;
        let state = connector.wait_for_any(&[State::CLOSING, State::CLOSED], deadline)?;
        connector.publish(&[], State::CLOSED, deadline)?;
        // If the back end has already closed, its next state belongs to the next connection.
        if state != State::CLOSED {
            connector.wait_for_any(&[State::CLOSED], deadline)?;
        }
        drop(self);
        Ok(())
    }
}

impl<D: Disk, X: Guest> BlockBack<D, X> {
    /// Serves until the front end closes; then releases all of its pages, and publishes CLOSED. `progress` is called
    /// from time to time with the counters so far. `look` is the interval for checking an idle front end.
    ///
    /// # Errors
    ///
    /// [`BlockError::Ring`] if the front end broke the ring; [`BlockError::Event`] if it can't be notified;
    /// [`BlockError::Connect`] if it is gone, or doesn't close in time.
    pub fn serve_until_closed(
        mut self,
        connector: &mut impl Connector,
        look: Duration,
        mut progress: impl FnMut(BackStats),
    ) -> Result<BackStats, BlockError> {
        let mut ends = None;
        let served = self.serve_while(look, |served, is_idle| {
            progress(served);
            // Checking whether the other domain is still there takes a hypercall, so do it only when idle.
            if !is_idle && !connector.has_news() {
                return true;
            }
            ends = match connector.state() {
                Ok(State::INITIALISED | State::CONNECTED) => None,
                other => Some(other),
            };
            ends.is_none()
        });
        let counts = self.served();
        drop(self);
        // Even after an error, the front end can have its pages back.
        let told = connector.publish(&[], State::CLOSED, Deadline::after(CLOSING));
        served?;
        match ends {
            Some(Err(error)) => Err(error.into()),
            // Anything after CLOSED belongs to the next connection.
            Some(Ok(State::CLOSED)) => Ok(told.map(|()| counts)?),
            _ => {
                told?;
                // A front end that already begins again has closed, too.
                let closed = [State::CLOSED, State::INITIALISING];
                connector.wait_for_any(&closed, Deadline::after(CLOSING))?;
                Ok(counts)
            }
        }
    }
}
