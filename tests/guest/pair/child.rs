//! The side of the domain that was started.

use alloc::vec::Vec;

use granite::pair::{Child, TO_PARENT};
use granite::rt::ExitCode;
use granite::time::Deadline;

use super::{DATA, END, FAILED, OVER, PASSED, RUN, SKIPPED, TIMEOUT};
use crate::harness::{Case, Context, NotPassed};

fn fail(error: impl alloc::string::ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

/// The control domain is done with the case.
const IS_OVER: &str = "the control domain is done with the case";

fn over() -> NotPassed {
    fail(IS_OVER)
}

/// Whether a case ended because the control domain is done with it.
pub fn is_over(not: &NotPassed) -> bool {
    matches!(not, NotPassed::Fail(why) if why == IS_OVER)
}

/// Tells the control domain something of the case's own.
pub fn tell(child: &Child, message: &[u8]) -> Result<(), NotPassed> {
    let message = [&[DATA], message].concat();
    child.link().send(&message, Deadline::after(TIMEOUT)).map_err(fail)
}

/// What the control domain tells.
pub fn hear(child: &Child) -> Result<Vec<u8>, NotPassed> {
    let message = child.link().receive(Deadline::after(TIMEOUT)).map_err(fail)?;
    match message.split_first() {
        Some((&DATA, data)) => Ok(data.into()),
        Some((&OVER, _)) => Err(over()),
        other => Err(fail(alloc::format!("the control domain says {other:?}"))),
    }
}

/// Runs what the control domain says, to the end.
pub fn serve<C: Iterator<Item = &'static Case>>(
    child: &Child,
    cases: impl Fn() -> C,
    context: &Context,
) -> ExitCode {
    // The control domain may be busy with cases of its own for a while.
    let patience = 6 * TIMEOUT;
    loop {
        let message = match child.link().receive(Deadline::after(patience)) {
            Ok(message) => message,
            Err(error) => {
                log::error!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let place = match message.split_first() {
            Some((&RUN, place)) => place.first_chunk().copied().map_or(0, u32::from_le_bytes),
            Some((&END, _)) => return ExitCode::SUCCESS,
            _ => continue, // of a case that this side was done with first
        };
        let verdict = match cases().nth(place as usize) {
            Some(case) => (case.peer.unwrap_or(case.run))(context),
            None => Err(fail("there is no such case")),
        };
        let (kind, why) = match &verdict {
            Ok(()) => (PASSED, ""),
            Err(NotPassed::Fail(why)) => (FAILED, why.as_str()),
            Err(NotPassed::Skip(why)) => (SKIPPED, why.as_str()),
        };
        let mut answer: Vec<u8> = [&[kind], why.as_bytes()].concat();
        answer.truncate(TO_PARENT);
        if let Err(error) = child.link().send(&answer, Deadline::after(patience)) {
            log::error!("{error}");
            return ExitCode::FAILURE;
        }
    }
}
