//! A front end that is awaited, and the trait of other crates for that.
//!
//! There is no deadline: put one around an operation (`embassy_time::with_timeout`), for a back end that dies tells nobody. It
//! may be dropped at any time: what is in flight uses pages of the front's own, and is taken back when its answer comes.

use aligned::{A1, Aligned};
use block_device_driver::{BlockDevice, blocks_to_slice, blocks_to_slice_mut};

use super::client::Job;
use super::limits::whole_sectors;
use super::{BlockError, Front, SECTOR};
use crate::mm::Guest;
use crate::ring::RingMemory;

impl<X: Guest, M: RingMemory> Front<'_, X, M> {
    /// As [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// [`BlockError`].
    pub async fn read_async(&mut self, sector: u64, into: &mut [u8]) -> Result<(), BlockError> {
        whole_sectors(into)?;
        self.run_async(sector, Job::Read(into)).await
    }

    /// As [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// [`BlockError`].
    pub async fn write_async(&mut self, sector: u64, from: &[u8]) -> Result<(), BlockError> {
        whole_sectors(from)?;
        self.run_async(sector, Job::Write(from)).await
    }

    /// As [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`BlockError`].
    pub async fn flush_async(&mut self) -> Result<(), BlockError> {
        self.run_async(0, Job::Flush).await
    }

    async fn run_async(&mut self, sector: u64, job: Job<'_>) -> Result<(), BlockError> {
        let Self { channel, client } = self;
        let mut progress = client.begin(sector, job)?;
        let mut heard = None;
        loop {
            let answered = client.answered();
            if client.advance(&mut progress, channel)? {
                return progress.result();
            }
            if heard.is_some() {
                client.check_peer(answered, channel)?;
            }
            if client.must_go_on(&progress)? {
                continue;
            }
            // Only now are further events let through.
            drop(heard.take());
            heard = Some(channel.ready().await);
        }
    }
}

/// Blocks of 512 bytes; their numbers have 32 bits in this trait.
impl<X: Guest, M: RingMemory> BlockDevice<SECTOR> for Front<'_, X, M> {
    type Error = BlockError;
    type Align = A1;

    async fn read(
        &mut self,
        block_address: u32,
        data: &mut [Aligned<A1, [u8; SECTOR]>],
    ) -> Result<(), BlockError> {
        self.read_async(block_address.into(), blocks_to_slice_mut(data)).await
    }

    async fn write(
        &mut self,
        block_address: u32,
        data: &[Aligned<A1, [u8; SECTOR]>],
    ) -> Result<(), BlockError> {
        self.write_async(block_address.into(), blocks_to_slice(data)).await
    }

    async fn size(&mut self) -> Result<u64, BlockError> {
        Ok(self.geometry().sectors.saturating_mul(SECTOR as u64))
    }
}
