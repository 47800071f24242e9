//! xtask itself, as a person uses it: each case is a command line, the status that it must end with, and what it
//! must say.
pub fn run(_: &mut super::Session<'_>, _: crate::machine::Rig) -> crate::error::Result<()> { Ok(()) }
