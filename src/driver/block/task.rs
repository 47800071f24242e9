//! An awaited front end, and its `block-device-driver` trait.
//!
//! There is no deadline, so put one around an operation (`embassy_time::with_timeout`): a back end sends no event
//! when it dies. The operation may be dropped at any time: requests in flight use pages of the front end, which takes
//! them back with their responses.

use aligned::{A1, Aligned};
use block_device_driver::{BlockDevice, blocks_to_slice, blocks_to_slice_mut};

use super::limits::whole_sectors;
use super::queue::Job;
use super::{BlockError, Front, SECTOR};
use crate::mm::Guest;
use crate::ring::RingMemory;

impl<X: Guest, M: RingMemory> Front<'_, X, M> {
    /// Like [`read`](Self::read), but awaited.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), but never [`BlockError::TimedOut`].
    pub async fn read_async(&mut self, sector: u64, into: &mut [u8]) -> Result<(), BlockError> {
        whole_sectors(into)?;
        self.run_async(sector, Job::Read(into)).await
    }

    /// Like [`write`](Self::write), but awaited.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), but never [`BlockError::TimedOut`].
    pub async fn write_async(&mut self, sector: u64, from: &[u8]) -> Result<(), BlockError> {
        whole_sectors(from)?;
        self.run_async(sector, Job::Write(from)).await
    }

    /// Like [`flush`](Self::flush), but awaited.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush), but never [`BlockError::TimedOut`].
    pub async fn flush_async(&mut self) -> Result<(), BlockError> {
        self.run_async(0, Job::Flush).await
    }

    async fn run_async(&mut self, sector: u64, job: Job<'_>) -> Result<(), BlockError> {
        let Self { channel, queue } = self;
        let mut progress = queue.begin(sector, job)?;
        let mut heard = None;
        loop {
            let answered = queue.answered();
            if queue.poll(&mut progress, channel)? {
                return progress.result();
            }
            if heard.is_some() {
                queue.check_peer(answered, channel)?;
            }
            if queue.must_go_on(&progress)? {
                continue;
            }
            // Dropping the event lets further events through, so it is held until here.
            drop(heard.take());
            heard = Some(channel.ready().await);
        }
    }
}

/// Blocks of 512 bytes; the trait's block numbers have 32 bits.
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
