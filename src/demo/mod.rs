//! A disk between two domains. The control domain serves it; a second domain from the same image writes it, reads it
//! back and compares, once for each data path. At the end both check that they have leaked no resource.

mod check;
mod child;
mod parent;
mod solo;
mod table;

use core::fmt;
use core::time::Duration;

use alloc::string::ToString;
use alloc::vec::Vec;

use granite::driver::block::{BlockError, DataPath};
use granite::pair::{Child, LinkError, PairError};
use granite::prelude::*;
use granite::toolstack::{Toolstack, ToolstackError};

/// The timeout of each side when it waits for the other.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The data paths shown.
const PATHS: [DataPath; 3] = [DataPath::Map, DataPath::Copy, DataPath::Persistent { max: 352 }];

/// The size of the disk in sectors, unless the option `sectors` sets it.
const SECTORS: u32 = 2048;

/// The errors of the demo.
#[derive(Debug)]
enum DemoError {
    Pair(PairError),
    Block(BlockError),
    /// The option `path` names no data path.
    NoPath,
    /// The control domain has no image for the child.
    NoImage,
    /// The data or the checksum of a sector is wrong.
    Wrong {
        sector: u64,
        what: &'static str,
    },
    /// A reference, a window, a page or a destroyed domain is left over.
    Leak(&'static str),
    /// The child's report is malformed.
    NoReport,
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(error) => error.fmt(f),
            Self::Block(error) => error.fmt(f),
            Self::NoPath => f.write_str("option path: it is map, copy or persistent"),
            Self::NoImage => f.write_str(
                "the image for the second domain is missing: cargo xtask run gives it as a module",
            ),
            Self::Wrong { sector, what } => write!(f, "sector {sector}: {what}"),
            Self::Leak(what) => write!(f, "leaked: {what}"),
            Self::NoReport => f.write_str("the second domain's report is malformed"),
        }
    }
}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for DemoError {
            fn from(error: $error) -> Self {
                Self::$variant(error.into())
            }
        }
    )*};
}

from! {
    PairError => Pair, ToolstackError => Pair, LinkError => Pair, BlockError => Block, GrantError => Block,
    granite::driver::connector::ConnectError => Block,
}

/// Runs this domain's side of the demo.
pub fn run(platform: &'static Platform) -> ExitCode {
    let result = match Child::connect(platform) {
        Ok(Some(child)) => child::run(platform, &child),
        Ok(None) => be_parent(platform),
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| {
        error!("{error}");
        if let DemoError::Pair(error) = error { error.exit_code() } else { ExitCode::FAILURE }
    })
}

fn be_parent(platform: &'static Platform) -> Result<ExitCode, DemoError> {
    let Some(xen) = platform.xen() else { return Err(DemoError::NoImage) };
    let is_image = |module: &&[u8]| module.starts_with(b"\x7fELF");
    let Some(_) = platform.modules().first().filter(|module| is_image(module)) else {
        println!("no image for a second domain: both ends of the demo run in this one (solo)");
        // A module other than an image is a disk.
        return solo::run(platform, platform.modules().first().copied());
    };
    match Toolstack::new(xen) {
        Ok(toolstack) => parent::run(platform, &toolstack),
        Err(error @ (ToolstackError::NotControlDomain | ToolstackError::UnknownInterface(_))) => {
            println!("{error}: both ends of the demo run in this domain (solo)");
            solo::run(platform, platform.modules().get(1).copied())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the size of the disk in sectors.
fn sectors(platform: &Platform) -> u32 {
    platform.options().parse("sectors").ok().flatten().unwrap_or(SECTORS).clamp(16, 1 << 16)
}

/// Returns the data paths selected by the option `path`: one, or all.
fn paths(platform: &Platform) -> Result<Vec<DataPath>, DemoError> {
    let Some(wanted) = platform.options().get("path") else { return Ok(PATHS.into()) };
    let path = PATHS.into_iter().find(|path| path.to_string() == wanted);
    path.map(|path| Vec::from([path])).ok_or(DemoError::NoPath)
}
