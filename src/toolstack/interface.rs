//! The versions of the control interface that are known. Each has been run, but for the one of Xen 4.18.

use super::ToolstackError;
use crate::abi::control::{
    CREATE_HAP, CREATE_HVM, CreateDomain15, CreateDomain17, EMULATE_LAPIC, InterfaceVersion,
};
use crate::abi::{DomId, XenErrno};
use crate::hypercall::Hypercall;
use crate::hypercall::control::Interface;

/// What a domain may have at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// vCPUs.
    pub vcpus: u32,
    /// Its highest event channel.
    pub event_ports: u32,
    /// Frames of its grant table; nothing: Xen's default.
    pub grant_frames: Option<u32>,
    /// Frames in which Xen counts its mappings; nothing: Xen's default.
    pub maptrack_frames: Option<u32>,
    /// The highest version of grants.
    pub grant_version: u32,
}

/// How domains are made.
#[derive(Clone, Copy, Debug)]
enum Create {
    With15,
    With17,
}

/// One version.
#[derive(Debug)]
pub struct Known {
    /// Its number.
    pub version: InterfaceVersion,
    /// Of which Xen it is.
    pub of: &'static str,
    create: Create,
}

/// Those that are known. No distribution at hand has a Xen 4.18 to run: 0x16 is here by its header, in which what is
/// used of the control interface is the same as in 0x15.
pub const KNOWN: &[Known] = &[
    Known { version: InterfaceVersion::XEN_4_17, of: "Xen 4.17", create: Create::With15 },
    Known { version: InterfaceVersion::XEN_4_18, of: "Xen 4.18", create: Create::With15 },
    Known { version: InterfaceVersion::XEN_4_19, of: "Xen 4.19 and 4.20", create: Create::With17 },
];

/// Versions to look for, to tell the user of one that isn't known.
const CONCEIVABLE: core::ops::Range<u32> = 1..0x60;

impl Known {
    /// Makes an empty domain.
    ///
    /// # Errors
    ///
    /// What Xen says.
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
        // SAFETY: each is the payload of its version, which `find` saw Xen take.
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

/// Finds the version that Xen has.
///
/// # Errors
///
/// [`ToolstackError::UnknownInterface`], with the version that it is; [`ToolstackError::NotControlDomain`].
pub fn find<X: Hypercall + Clone>(xen: X) -> Result<(&'static Known, Interface<X>), ToolstackError> {
    // A Xen refuses another version before it looks at anything else.
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
