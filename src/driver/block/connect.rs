//! Meeting the other end: what is told in which state, as Linux's blkfront and blkback do.

use core::time::Duration;

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::{Back, BlockError, DataPath, Disk, Front, Geometry, Limits, Served};
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

/// A front end between domains.
pub type BlockFront<X = Xen> = Front<'static, X, GrantedPages<'static, X>>;

/// A back end between domains.
pub type BlockBack<D, X = Xen> = Back<'static, X, ForeignMapping<'static, ReadWrite, X>, D>;

/// The largest order of a ring's pages: 16 of them.
pub const MAX_RING_ORDER: u32 = 4;

/// How long a front end may take for its last step.
const CLOSING: Duration = Duration::from_secs(5);

/// What a back end has, and how it gets at data.
#[derive(Clone, Copy, Debug)]
pub struct Offer<D> {
    /// The disk.
    pub disk: D,
    /// How it gets at the front's pages.
    pub path: DataPath,
}

/// Meets a back end: makes a ring of `1 << order` pages, as far as the back can have so many, and waits for it.
///
/// # Errors
///
/// [`BlockError`]; the other end is told, if it listens, and what it has still of the ring waits in the table's quarantine.
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
    connector.wait_for(&[State::INIT_WAIT, State::INITIALISED], deadline)?;
    let most = connector.parse("max-ring-page-order").unwrap_or(0).min(MAX_RING_ORDER);
    let order = order.min(most);
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
    connector.wait_on(State::CONNECTED, deadline)?;

    let geometry = Geometry {
        sectors: connector.parse("sectors")?,
        read_only: connector.parse::<u32>("info")? & blkif::READ_ONLY != 0,
        persistent: limits.persistent && connector.has("feature-persistent"),
        flush: connector.has("feature-flush-cache"),
        discard: connector.has("feature-discard"),
        checksum: connector.has("feature-granite-checksum"),
    };
    // Sectors are of 512 bytes in the protocol, whatever the disk has; another size asks for larger ones.
    if connector.parse::<usize>("sector-size")? != blkif::SECTOR {
        return Err(ConnectError::BadKey("sector-size").into());
    }
    let channel = port.accept().map_err(|(error, _)| error)?;
    connector.publish(&[], State::CONNECTED, deadline)?;
    Ok(Front::new(ring, channel, grants, peer, geometry, limits))
}

/// The key of a ring's page.
fn ring_ref(order: u32, page: usize) -> alloc::string::String {
    if order == 0 { "ring-ref".into() } else { format!("ring-ref{page}") }
}

/// Meets a front end: tells what there is, waits for its ring, and maps it.
///
/// # Errors
///
/// [`BlockError`]; the other end is told, if it listens, and nothing of its stays mapped.
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
    connector.wait_for(&[State::INITIALISED, State::CONNECTED], deadline)?;
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
        // Other back ends take either name.
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
    /// Ends the connection, once the back end has let go of all: then every page is ours again.
    ///
    /// # Errors
    ///
    /// [`BlockError`]: the back didn't close in time. What it has still waits in the table's quarantine.
    pub fn close(self, connector: &mut impl Connector, deadline: Deadline) -> Result<(), BlockError> {
        // As Linux's ends do: the back may wait for us to have closed before it lets go.
        connector.publish(&[], State::CLOSING, deadline)?;
        let state = connector.wait_for(&[State::CLOSING, State::CLOSED], deadline)?;
        connector.publish(&[], State::CLOSED, deadline)?;
        // One that has closed may say something new by now, which is of the next connection.
        if state != State::CLOSED {
            connector.wait_for(&[State::CLOSED], deadline)?;
        }
        drop(self);
        Ok(())
    }
}

impl<D: Disk, X: Guest> BlockBack<D, X> {
    /// Serves until the front closes; then lets go of all that is the front's, and says so. `progress` is told now and then
    /// what was done so far.
    ///
    /// # Errors
    ///
    /// [`BlockError`]: the front broke the ring, or is gone.
    pub fn serve_to_the_end(
        mut self,
        connector: &mut impl Connector,
        look: Duration,
        mut progress: impl FnMut(Served),
    ) -> Result<Served, BlockError> {
        let mut ends = None;
        let served = self.serve_while(look, |served, is_idle| {
            progress(served);
            // To ask whether the other domain is there is a hypercall: it can wait until there is nothing to do.
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
        // Whatever went wrong: the front can have its pages back.
        let told = connector.publish(&[], State::CLOSED, Deadline::after(CLOSING));
        served?;
        match ends {
            Some(Err(error)) => Err(error.into()),
            // What it says behind that is of the next connection.
            Some(Ok(State::CLOSED)) => Ok(told.map(|()| counts)?),
            _ => {
                told?;
                // A front end that begins anew already has closed, too.
                let closed = [State::CLOSED, State::INITIALISING];
                connector.wait_for(&closed, Deadline::after(CLOSING))?;
                Ok(counts)
            }
        }
    }
}
