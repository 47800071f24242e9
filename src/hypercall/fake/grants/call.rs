//! The hypercall: the structures of each operation, and injected faults.

use super::super::machine::{Machine, State};
use super::super::{FakeXen, Fault};
use crate::abi::XenErrno;
use crate::abi::grant::op::{
    GetVersion, GrantCopy, MapGrantRef, Op, QuerySize, SetVersion, SetupTable, SwapGrantRef, Transfer,
    UnmapGrantRef,
};
use crate::abi::grant::{GrantHandle, Status};

impl FakeXen {
    /// # Safety
    ///
    /// `argument` must point to `count` structures of the operation.
    pub(in super::super) unsafe fn grant_op(
        &self,
        op: Op,
        argument: u64,
        count: usize,
    ) -> Result<u64, XenErrno> {
        if op.only_for().is_some() && !(self.pv && op == Op::TRANSFER) {
            return Err(XenErrno::NOSYS);
        }
        enum Sudden {
            Fails(XenErrno),
            Silent,
        }
        let sudden = |fault: &Fault| match *fault {
            Fault::Op(faulty, errno) if faulty == op => Some(Sudden::Fails(errno)),
            Fault::Silence(faulty) if faulty == op => Some(Sudden::Silent),
            _ => None,
        };
        match self.fault(sudden) {
            Some(Sudden::Fails(errno)) => return Err(errno),
            Some(Sudden::Silent) => return Ok(0),
            None => {}
        }
        let (machine, own) = (self.machine(), self.dom_id().0);
        // SAFETY: guaranteed by the caller, for each operation's structure.
        unsafe {
            match op {
                Op::MAP => self.each::<MapGrantRef>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        let status = machine.map(state, own, each);
                        if status != Status::OKAY {
                            each.handle = GrantHandle(i32::from(status.0).cast_unsigned());
                        }
                        each.status = status;
                    },
                    |each, status| each.status = status,
                ),
                Op::UNMAP => self.each::<UnmapGrantRef>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.unmap(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::COPY => self.each::<GrantCopy>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.copy(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::TRANSFER => self.each::<Transfer>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.transfer(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::QUERY_SIZE => self.each::<QuerySize>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = Machine::query_size(state, own, each);
                    },
                    |each, status| each.status = status,
                ),
                Op::SETUP_TABLE => self.each::<SetupTable>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.setup_table(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::SWAP_GRANT_REF => self.each::<SwapGrantRef>(
                    op,
                    argument,
                    count,
                    |state, each| {
                        each.status = machine.swap(state, own, *each);
                    },
                    |each, status| each.status = status,
                ),
                Op::SET_VERSION => {
                    let version = (*(argument as *const SetVersion)).version;
                    machine.with(|state| machine.set_version(state, own, version))?;
                    Ok(0)
                }
                Op::GET_VERSION => {
                    (*(argument as *mut GetVersion)).version =
                        machine.with(|state| state.domains[&own].table.version);
                    Ok(0)
                }
                _ => Err(XenErrno::NOSYS),
            }
        }
    }

    /// Performs an operation for each element, unless an injected fault sets the element's status.
    ///
    /// # Safety
    ///
    /// `argument` must point to `count` elements.
    unsafe fn each<T>(
        &self,
        op: Op,
        argument: u64,
        count: usize,
        mut run: impl FnMut(&mut State, &mut T),
        set: impl Fn(&mut T, Status),
    ) -> Result<u64, XenErrno> {
        // SAFETY: guaranteed by the caller.
        let elements = unsafe { core::slice::from_raw_parts_mut(argument as *mut T, count) };
        for element in elements {
            let wanted = |fault: &Fault| match *fault {
                Fault::Status(faulty, status) if faulty == op => Some(status),
                _ => None,
            };
            match self.fault(wanted) {
                Some(status) => set(element, status),
                None => self.machine().with(|state| run(state, element)),
            }
        }
        let lies = |fault: &Fault| match *fault {
            Fault::Lie(faulty, errno) if faulty == op => Some(errno),
            _ => None,
        };
        self.fault(lies).map_or(Ok(0), Err)
    }
}
