//! The child's end of a pair of domains: the domain started by the other.

use super::link::{Link, Memory};
use super::{OPTION, PairError};
use crate::abi::DomId;
use crate::abi::event::Port;
use crate::abi::grant::GrantRef;
use crate::event::{EventError, Interdomain};
use crate::grant::ReadWrite;
use crate::rt::Platform;

/// The child's end of the link.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// # fn greet(platform: &'static Platform) -> Result<(), Error> {
/// match granite::pair::Child::connect(platform)? {
///     Some(child) => child.link().send(b"hello", Deadline::after(Duration::from_secs(1)))?,
///     None => info!("this is the parent, or alone"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Child {
    parent: DomId,
    link: Link,
}

impl Child {
    /// Connects to the parent named on the command line. Returns `None` if no parent is named.
    ///
    /// # Errors
    ///
    /// [`PairError::NoParent`] if the option is malformed, [`PairError::Grant`] if the parent's page can't be mapped,
    /// and [`PairError::Event`] if the event channel can't be connected or the notification fails.
    pub fn connect(platform: &'static Platform) -> Result<Option<Self>, PairError> {
        let options = platform.options();
        let Some(text) = options.get(OPTION) else { return Ok(None) };
        let (parent, gref, port) = parse(text).ok_or(PairError::NoParent)?;
        let mapping = platform.grants()?.map::<ReadWrite>(parent, gref)?;
        let xen = platform.xen().ok_or(EventError::NoEvents)?;
        let channel = Interdomain::connect(xen, parent, port)?;
        // Wake the parent, which waits for the connection.
        channel.send()?;
        Ok(Some(Self { parent, link: Link::new(Memory::Theirs(mapping), channel) }))
    }

    /// Returns the parent's number.
    pub fn parent(&self) -> DomId {
        self.parent
    }

    /// Returns the link to the parent.
    pub fn link(&self) -> &Link {
        &self.link
    }
}

/// Parses `DOMAIN,REFERENCE,PORT`.
fn parse(text: &str) -> Option<(DomId, GrantRef, Port)> {
    let mut numbers = text.split(',');
    let parent = DomId(numbers.next()?.parse().ok()?);
    let gref = GrantRef(numbers.next()?.parse().ok()?);
    let port = Port(numbers.next()?.parse().ok()?);
    numbers.next().is_none().then_some((parent, gref, port))
}

#[cfg(test)]
mod tests {
    use super::{DomId, GrantRef, Port, parse};

    #[test]
    fn three_numbers_and_nothing_else() {
        assert_eq!(parse("0,8,3"), Some((DomId(0), GrantRef(8), Port(3))));
        for bad in ["", "0", "0,8", "0,8,3,1", "x,8,3", "70000,8,3", "0,-1,3", "0,8,"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
