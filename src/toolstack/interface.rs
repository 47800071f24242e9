//! The supported versions of the control interface. Each has been run, except the one of Xen 4.18.

use super::ToolstackError;
use crate::abi::domctl::{
    CREATE_HAP, CREATE_HVM, CreateDomain15, CreateDomain17, EMULATE_LAPIC, InterfaceVersion,
};
use crate::abi::{DomId, XenErrno};
use crate::hypercall::Hypercall;
use crate::hypercall::domctl::Interface;

/// A domain's limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of vCPUs.
    pub vcpus: u32,
    /// The highest event channel port.
    pub event_ports: u32,
    /// Maximum number of frames of the grant table. `None`: Xen's default.
    pub grant_frames: Option<u32>,
    /// Maximum number of frames in which Xen tracks the domain's mappings. `None`: Xen's default.
    pub maptrack_frames: Option<u32>,
    /// The highest version of grants.
    pub grant_version: u32,
}

/// The layout of the request to create a domain.
#[derive(Clone, Copy, Debug)]
enum Create {
    With15,
    With17,
}

/// A supported version.
#[derive(Debug)]
pub struct Known {
    /// The version number.
    pub version: InterfaceVersion,
    /// The versions of Xen that have it.
    pub of: &'static str,
    create: Create,
}

/// All supported versions. No distribution at hand has a Xen 4.18 to run. 0x16 is here because of its header: the
/// operations used here are the same as in 0x15.
pub const KNOWN: &[Known] = &[
    Known { version: InterfaceVersion::XEN_4_17, of: "Xen 4.17", create: Create::With15 },
    Known { version: InterfaceVersion::XEN_4_18, of: "Xen 4.18", create: Create::With15 },
    Known { version: InterfaceVersion::XEN_4_19, of: "Xen 4.19 and 4.20", create: Create::With17 },
];

/// Versions to probe, to report the number of an unsupported one.
const CONCEIVABLE: core::ops::Range<u32> = 1..0x60;

impl Known {
    /// Creates an empty domain.
    ///
    /// # Errors
    ///
    /// As [`Interface::create`], if Xen refuses.
    pub fn create(&self, interface: &Interface<impl Hypercall>, limits: &Limits) -> Result<DomId, XenErrno> {
        let frames =
            |limit: Option<u32>| limit.map_or(-1, |frames| i32::try_from(frames).unwrap_or(i32::MAX));
        let base = CreateDomain15 {
            flags: CREATE_HVM | CREATE_HAP,
            max_vcpus: limits.vcpus,
            max_evtchn_port: limits.event_ports,
            max_grant_frames: frames(limits.grant_frames),
            max_maptrack_frames: frames(limits.maptrack_frames),
            grant_opts: limits.grant_version,
            emulation_flags: EMULATE_LAPIC,
            ..CreateDomain15::default()
        };
        // SAFETY: each is the payload of its version, and `find` saw Xen accept that version.
        unsafe {
            match self.create {
                Create::With15 => interface.create(base),
                Create::With17 => interface.create(CreateDomain17 {
                    flags: base.flags,
                    max_vcpus: base.max_vcpus,
                    max_evtchn_port: base.max_evtchn_port,
                    max_grant_frames: base.max_grant_frames,
                    max_maptrack_frames: base.max_maptrack_frames,
                    grant_opts: base.grant_opts,
                    emulation_flags: base.emulation_flags,
                    ..CreateDomain17::default()
                }),
            }
        }
    }
}

/// Finds Xen's version.
///
/// # Errors
///
/// [`ToolstackError::UnknownInterface`] if it isn't supported, with its number if that can be found;
/// [`ToolstackError::NotControlDomain`] if Xen denies the call (`EPERM`) or lacks it (`ENOSYS`).
pub fn find<X: Hypercall + Clone>(xen: X) -> Result<(&'static Known, Interface<X>), ToolstackError> {
    // Xen refuses a wrong version before any other check.
    let is_spoken = |version| {
        let answer = Interface::new(xen.clone(), version).info(DomId::CONTROL);
        match answer {
            Err(XenErrno::ACCES) => Ok(false),
            Err(XenErrno::PERM | XenErrno::NOSYS) => Err(ToolstackError::NotControlDomain),
            _ => Ok(true),
        }
    };
    for known in KNOWN {
        if is_spoken(known.version)? {
            return Ok((known, Interface::new(xen, known.version)));
        }
    }
    for version in CONCEIVABLE.map(InterfaceVersion) {
        if is_spoken(version)? {
            return Err(ToolstackError::UnknownInterface(Some(version)));
        }
    }
    Err(ToolstackError::UnknownInterface(None))
}
