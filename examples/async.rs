//! Two tasks on one vCPU: one waits for a timer and sends an event; the other waits for an event or a timeout. While
//! neither is ready, the vCPU halts.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use embassy_time::{Duration, Instant, Timer, with_timeout};
use granite::embassy::{Executor, task};
use granite::event::{EventError, Interdomain, Unbound};
use granite::prelude::*;

granite::entry!(main);

const ROUNDS: u32 = 5;
static RECEIVED: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicBool = AtomicBool::new(false);

fn main(platform: &'static Platform) -> ExitCode {
    let (listens, sends) = match channel(platform) {
        Ok(ends) => ends,
        Err(error) => {
            error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut started = false;
    let start = |spawner: granite::embassy::Spawner| {
        let tasks = (listener(listens), sender(sends));
        if let (Ok(listener), Ok(sender)) = tasks {
            spawner.spawn(listener);
            spawner.spawn(sender);
            started = true;
        }
    };
    Executor::new().run_until(start, || DONE.load(Ordering::Relaxed));
    let received = RECEIVED.load(Ordering::Relaxed);
    println!("{received} events in {ROUNDS} rounds");
    if started && received == ROUNDS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns both ends of a channel inside this domain.
fn channel(platform: &Platform) -> Result<(Interdomain, Interdomain), EventError> {
    let xen = platform.xen().ok_or(EventError::NoEvents)?;
    let listens = Unbound::new(xen, platform.dom_id())?;
    let sends = Interdomain::connect(xen, platform.dom_id(), listens.port())?;
    let listens = listens.accept().map_err(|(error, _)| error)?;
    Ok((listens, sends))
}

#[task]
async fn sender(channel: Interdomain) {
    for round in 1..=ROUNDS {
        Timer::after(Duration::from_millis(2)).await;
        println!("round {round}: sent");
        if let Err(error) = channel.send() {
            error!("{error}");
        }
    }
}

#[task]
async fn listener(channel: Interdomain) {
    let start = Instant::now();
    // Far longer than the test takes. If no event arrives any more, the loop ends here.
    while let Ok(event) = with_timeout(Duration::from_secs(30), channel.ready()).await {
        let count = RECEIVED.fetch_add(1, Ordering::Relaxed) + 1;
        println!("event {count} by {} after {} us", event.port(), start.elapsed().as_micros());
        if count == ROUNDS {
            break;
        }
    }
    DONE.store(true, Ordering::Relaxed);
}
