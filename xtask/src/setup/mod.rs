//! Finds Xen and QEMU, or provides them.

pub mod apt;
pub mod provision;
mod qemu;
pub mod verify;
mod xen;

use std::path::{Path, PathBuf};

pub use qemu::Qemu;
pub use xen::Xen;

use crate::error::Result;
use crate::paths;
use provision::{Effort, Set};

/// The user's choice of Xen and QEMU, if any.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// `--qemu`, or `GRANITE_QEMU`.
    pub qemu: Option<PathBuf>,
    /// `--xen`, or `GRANITE_XEN`.
    pub xen: Option<PathBuf>,
}

impl Choice {
    /// Fills in missing choices from the environment.
    pub fn or_environment(mut self) -> Self {
        self.qemu = self.qemu.or_else(|| paths::from_environment("GRANITE_QEMU"));
        self.xen = self.xen.or_else(|| paths::from_environment("GRANITE_XEN"));
        self
    }

    /// Returns the choice as environment variables for another xtask.
    pub fn to_environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let pairs = [("GRANITE_QEMU", &self.qemu), ("GRANITE_XEN", &self.xen)];
        pairs.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)))
    }
}

/// The tools for a boot.
#[derive(Clone, Debug)]
pub struct Tools {
    /// QEMU, the machine.
    pub qemu: Qemu,
    /// Xen, the hypervisor. `None` if the rig doesn't need it.
    pub xen: Option<Xen>,
}

/// Finds the tools for a boot: the user's choice, else installed ones, else ones unpacked from the distribution's
/// packages into the user's cache. [`Effort::Thorough`] checks every byte of the packages and their contents.
///
/// # Errors
///
/// If a tool is missing and can't be provided (the text says what to do), or if the user's choice is unfit.
pub fn tools(choice: &Choice, needs_xen: bool, effort: Effort) -> Result<Tools> {
    let named_qemu = choice.qemu.as_deref().map(Qemu::named).transpose()?;
    let installed_qemu = if named_qemu.is_none() { Qemu::installed() } else { None };
    let named_xen = choice.xen.as_deref().filter(|_| needs_xen).map(Xen::named).transpose()?;
    let installed_xen = if needs_xen && named_xen.is_none() { Xen::installed() } else { None };

    let qemu = named_qemu.or(installed_qemu);
    let xen = named_xen.or(installed_xen);
    match (qemu, xen) {
        (Some(qemu), xen) if xen.is_some() || !needs_xen => Ok(Tools { qemu, xen }),
        (Some(qemu), _) => {
            let provided = provision::provide(Set::Xen, effort)?;
            Ok(Tools { qemu, xen: Some(Xen::unpacked(&provided.root)?) })
        }
        (None, xen) => {
            let provided = provision::provide(Set::QemuAndXen, effort)?;
            let qemu = Qemu::known(&provided.root, &provided.version);
            let xen = match xen {
                None if needs_xen => Some(Xen::unpacked(&provided.root)?),
                found => found,
            };
            Ok(Tools { qemu, xen })
        }
    }
}

/// Returns the folder of Xen's public headers: the system's, or one unpacked from its package.
///
/// # Errors
///
/// If there are none and they can't be provided.
pub fn headers() -> Result<PathBuf> {
    let installed = Path::new("/usr/include");
    if installed.join("xen/grant_table.h").is_file() {
        return Ok(installed.to_owned());
    }
    Ok(provision::provide(Set::Headers, Effort::Quick)?.root.join("usr/include"))
}
