//! An async disk: in the second domain, one task writes and reads the control domain's disk while another counts
//! milliseconds, on the same vCPU.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aligned::{A1, Aligned};
use block_device_driver::BlockDevice;
use embassy_time::{Duration, Timer, with_timeout};
use granite::driver::block::{
    BlockError, BlockFront, DataPath, Limits, Offer, RamDisk, connect_back, connect_front,
};
use granite::embassy::{Executor, Spawner, task};
use granite::pair::{Child, LinkConnector, PairError, Parent};
use granite::prelude::*;
use granite::time::Deadline;
use granite::toolstack::{Config, Toolstack};

granite::entry!(main);

const TIMEOUT: core::time::Duration = core::time::Duration::from_secs(5);

static TICKS: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicBool = AtomicBool::new(false);
static RIGHT: AtomicBool = AtomicBool::new(false);

/// Works with any `BlockDevice`. A file system would be used here.
async fn write_and_read(
    disk: &mut impl BlockDevice<512, Align = A1, Error = BlockError>,
) -> Result<bool, BlockError> {
    let blocks = disk.size().await? / 512;
    for block in 0..blocks as u32 {
        disk.write(block, &[Aligned([block as u8; 512])]).await?;
    }
    let mut read = [Aligned::<A1, _>([0; 512])];
    for block in 0..blocks as u32 {
        disk.read(block, &mut read).await?;
        if *read[0] != [block as u8; 512] {
            return Ok(false);
        }
    }
    println!("wrote and read {blocks} blocks");
    Ok(true)
}

#[task]
async fn user(mut disk: BlockFront) {
    // Far longer than the task takes.
    match with_timeout(Duration::from_secs(30), write_and_read(&mut disk)).await {
        Ok(Ok(right)) => RIGHT.store(right, Ordering::Relaxed),
        Ok(Err(error)) => error!("{error}"),
        Err(_) => error!("the disk is too slow"),
    }
    DONE.store(true, Ordering::Relaxed);
}

#[task]
async fn clock() {
    loop {
        Timer::after(Duration::from_millis(1)).await;
        TICKS.fetch_add(1, Ordering::Relaxed);
    }
}

fn use_disk(platform: &'static Platform, parent: &Child) -> Result<ExitCode, BlockError> {
    let mut connector = LinkConnector::new(parent);
    let deadline = || Deadline::after(TIMEOUT);
    let front = connect_front(&mut connector, platform.grants()?, 0, Limits::default(), deadline())?;
    let mut front = Some(front);
    let start = |spawner: Spawner| {
        if let Some((Ok(user), Ok(clock))) = front.take().map(|front| (user(front), clock())) {
            spawner.spawn(user);
            spawner.spawn(clock);
        }
    };
    Executor::new().run_until(start, || DONE.load(Ordering::Relaxed));
    println!("meanwhile {} ms passed", TICKS.load(Ordering::Relaxed));
    Ok(if RIGHT.load(Ordering::Relaxed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn serve_disk(platform: &'static Platform) -> Result<ExitCode, PairError> {
    let Some(xen) = platform.xen() else { return Ok(ExitCode::FAILURE) };
    let toolstack = Toolstack::new(xen)?;
    let Some(&kernel) = platform.modules().first() else {
        error!("the image for the second domain is missing: cargo xtask run --example async_disk gives it");
        return Ok(ExitCode::FAILURE);
    };
    let config = Config { kernel, processor: Some(0), ..Config::default() };
    let mut child = Parent::start(platform, &toolstack, &config, TIMEOUT)?;
    let mut connector = LinkConnector::new(&child);
    let disk = RamDisk::new(200).ok_or(PairError::OutOfMemory)?;
    let offer = Offer { disk, path: DataPath::Persistent { max: 32 } };
    let served =
        connect_back(&mut connector, platform.grants()?, offer, Deadline::after(TIMEOUT)).and_then(|back| {
            back.serve_until_closed(&mut connector, core::time::Duration::from_millis(20), |_| {})
        });
    // The other domain just ends, without closing: the result shows this.
    println!("served: {served:?}");
    let end = child.wait(Deadline::after(TIMEOUT))?;
    println!("{end}");
    Ok(end.exit_code())
}

fn main(platform: &'static Platform) -> ExitCode {
    let result = match Child::connect(platform) {
        Ok(Some(parent)) => use_disk(platform, &parent).map_err(|error| error!("{error}")),
        Ok(None) => serve_disk(platform).map_err(|error| error!("{error}")),
        Err(error) => {
            error!("{error}");
            Err(())
        }
    };
    result.unwrap_or(ExitCode::FAILURE)
}
