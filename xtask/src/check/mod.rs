pub fn check()->crate::error::Result<u8>{Ok(0)}
