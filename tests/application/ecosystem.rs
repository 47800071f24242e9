//! Crates of others: a channel between tasks on two vCPUs, random numbers, JSON, and TCP over the loopback.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::channel::Channel;
use granite::embassy::{Executor, Spawner, task};
use granite::prelude::*;
use granite::vcpu;
use rand::TryRng;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Loopback, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

granite::entry!(main);

/// Numbers from one vCPU to another.
static NUMBERS: Channel<CriticalSectionRawMutex, u32, 4> = Channel::new();
static SENT: AtomicBool = AtomicBool::new(false);
static RECEIVED: AtomicBool = AtomicBool::new(false);
const COUNT: u32 = 1000;

fn main(platform: &'static Platform) -> Result<(), Error> {
    channel(platform)?;
    random()?;
    json()?;
    tcp()
}

fn channel(platform: &'static Platform) -> Result<(), Error> {
    if platform.start_vcpus()? < 2 {
        return Err("this needs two vCPUs: --smp 2".into());
    }
    let sender = vcpu::spawn(1, || {
        Executor::new()
            .run_until(|spawner: Spawner| spawner.spawn(send().unwrap()), || SENT.load(Ordering::Acquire));
    })?;
    Executor::new()
        .run_until(|spawner: Spawner| spawner.spawn(receive().unwrap()), || RECEIVED.load(Ordering::Acquire));
    sender.wait(Deadline::after(Duration::from_secs(5)))?;
    println!("channel: {COUNT} numbers from vCPU 1 to vCPU 0");
    Ok(())
}

#[task]
async fn send() {
    for number in 0..COUNT {
        NUMBERS.send(number).await;
    }
    SENT.store(true, Ordering::Release);
}

#[task]
async fn receive() {
    for number in 0..COUNT {
        assert_eq!(NUMBERS.receive().await, number);
    }
    RECEIVED.store(true, Ordering::Release);
}

fn random() -> Result<(), Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| "getrandom failed")?;
    let mut others = [0; 16];
    getrandom_03::fill(&mut others).map_err(|_| "getrandom 0.3 failed")?;
    let number = rand::rngs::SysRng.try_next_u64().map_err(|_| "rand failed")?;
    let other = granite::random::Rng.try_next_u64().map_err(|_| "granite::random failed")?;
    println!("random: {bytes:02x?} {number:x} {}", number != other && bytes != others);
    Ok(())
}

fn json() -> Result<(), Error> {
    let value: serde_json::Value = serde_json::from_str("{\"a\": [1, 2, 3]}").map_err(|_| "no JSON")?;
    println!("json: {}", value["a"][2]);
    Ok(())
}

fn tcp() -> Result<(), Error> {
    let now = || Instant::from_micros((granite::time::Instant::now().nanoseconds() / 1000) as i64);
    let mut device = Loopback::new(Medium::Ip);
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, now());
    interface.update_ip_addrs(|addresses| {
        let _ = addresses.push(IpCidr::new(IpAddress::v4(127, 0, 0, 1), 8));
    });
    let socket =
        || tcp::Socket::new(tcp::SocketBuffer::new(vec![0; 4096]), tcp::SocketBuffer::new(vec![0; 4096]));
    let mut sockets = SocketSet::new(vec![]);
    let (server, client) = (sockets.add(socket()), sockets.add(socket()));
    sockets.get_mut::<tcp::Socket>(server).listen(80).map_err(|_| "no listener")?;
    let context = interface.context();
    let target = (IpAddress::v4(127, 0, 0, 1), 80);
    sockets.get_mut::<tcp::Socket>(client).connect(context, target, 49152).map_err(|_| "no connection")?;
    let mut asked = false;
    let deadline = Deadline::after(Duration::from_secs(5));
    while !deadline.has_passed() {
        interface.poll(now(), &mut device, &mut sockets);
        let client = sockets.get_mut::<tcp::Socket>(client);
        if !asked && client.can_send() {
            asked = client.send_slice(b"hello").is_ok();
        }
        let server = sockets.get_mut::<tcp::Socket>(server);
        if server.can_recv() {
            let mut text = [0; 16];
            let length = server.recv_slice(&mut text).map_err(|_| "nothing came")?;
            println!("tcp: {}", String::from_utf8_lossy(&text[..length]));
            return Ok(());
        }
    }
    Err("no answer over the loopback".into())
}
