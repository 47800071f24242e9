//! The saved state of a booted control domain, without guests. Restoring it takes a fraction of a second.

use std::fs;

use super::dom0::{Dom0, From};
use super::files::{Files, key};
use super::machine;
use crate::error::{Context, Result};
use crate::guest;
use crate::setup::provision::lock;
use crate::setup::{Qemu, verify};

/// Starts a control domain from its saved state. Boots it first and saves its state, if there is none, or if it was
/// made from other files or by another QEMU.
///
/// # Errors
///
/// As [`Dom0::start`], and if the state can't be saved.
pub fn start(qemu: &Qemu, files: &Files) -> Result<Dom0> {
    let (state, note) = (files.folder.join("state"), files.folder.join("state.key"));
    let key = key(&[&machine::key(qemu, files)?]);
    {
        let _lock = lock(&files.folder)?;
        if verify::read_if_there(&note)?.as_deref() != Some(&key) || !state.exists() {
            complain!("booting the control domain, and saving its state");
            verify::remove_if_there(&note)?;
            let half = files.folder.join("state.half");
            Dom0::start(qemu, files, From::Boot)?.save(&half)?;
            fs::rename(&half, &state).context("putting in place", &state)?;
            guest::write_whole(&note, key.as_bytes())?;
        }
    }
    Dom0::start(qemu, files, From::State(&state))
}
