//! A custom ring with the smallest possible protocol. A second domain sends requests, the control domain answers
//! with the same word, and both print how many notifications they sent.
//!
//! The protocol is defined at the top; `ask` and `answer` are its two ends. src/driver/block has a protocol with
//! data, refusals and reconnection.

#![no_std]
#![no_main]

extern crate alloc;

use core::time::Duration;

use granite::abi::event::Port;
use granite::abi::grant::GrantRef;
use granite::event::{Event, Interdomain, Unbound};
use granite::pair::{Child, PairError, Parent};
use granite::prelude::*;
use granite::ring::{Back, Front, Protocol, Ring, RingError};
use granite::time::{Deadline, TimedOut};
use granite::toolstack::{Config, Toolstack};
use zerocopy::{FromBytes, Immutable, IntoBytes};

granite::entry!(main);

/// A request or a response. Both have the same form here: the number of the request, and a word.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Word {
    id: u64,
    word: u64,
}

enum Echo {}

impl Protocol for Echo {
    type Request = Word;
    type Response = Word;

    fn answers(response: &Word) -> u64 {
        response.id
    }
}

const WORDS: u64 = 10_000;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

/// The asking domain: it owns the page of the ring, and allocates the port.
fn ask(platform: &'static Platform, parent: &Child) -> Result<(), EchoError> {
    let page = Page::zeroed().ok_or(PairError::OutOfMemory)?;
    let page = platform.grants()?.grant::<ReadWrite>(page, parent.parent()).map_err(|failed| failed.error)?;
    let port = Unbound::new(platform.xen().ok_or(PairError::NoParent)?, parent.parent())?;
    // Initialise the ring before the peer gets its page.
    let mut ring = Ring::<Front, Echo, _>::new(page)?;
    parent.link().send([ring.memory().gref().0, port.port().0].as_bytes(), soon())?;
    parent.link().receive(soon())?; // it is connected
    let channel = port.accept().map_err(|(error, _)| error)?;

    let (mut asked, mut answered, mut told, mut heard) = (0, 0, 0, None::<Event<'_>>);
    while answered < WORDS {
        while let Some((_, Word { word, .. })) = ring.pop()? {
            // Responses come in order, because the other end answers in order.
            if word != answered {
                return Err(EchoError::Wrong(word));
            }
            answered += 1;
        }
        while asked < WORDS && ring.free() > 0 {
            ring.push(|id| Word { id: id.number(), word: asked })?;
            asked += 1;
        }
        if ring.publish().is_needed() {
            told += 1;
            channel.send()?;
        }
        if answered < WORDS && !ring.arm()? {
            // A request is in flight, so a response will come. The port is unmasked only now, with the work done.
            drop(heard.take());
            heard = Some(channel.wait(soon())?);
        }
    }
    println!("sent {WORDS} words and received them back; notified the other side {told} times");
    Ok(())
}

/// The answering domain: it maps the ring and checks all its contents.
fn answer(platform: &'static Platform, child: &Parent<'_>) -> Result<(), EchoError> {
    let message = child.receive(soon())?;
    let [gref, port] = <[u32; 2]>::read_from_bytes(&message).map_err(|_| EchoError::Message)?;
    let page = platform.grants()?.map::<ReadWrite>(child.child(), GrantRef(gref))?;
    let channel =
        Interdomain::connect(platform.xen().ok_or(PairError::NoParent)?, child.child(), Port(port))?;
    let mut ring = Ring::<Back, Echo, _>::attach(page)?;
    child.send(b"connected", soon())?;

    let (mut answered, mut told, mut heard) = (0, 0, None::<Event<'_>>);
    while answered < WORDS {
        while let Some(request) = ring.pop()? {
            ring.push(&request)?;
            answered += 1;
        }
        if ring.publish().is_needed() {
            told += 1;
            channel.send()?;
        }
        if answered < WORDS && !ring.arm()? {
            drop(heard.take());
            heard = Some(channel.wait(soon())?);
        }
    }
    println!("returned {answered} words; notified the other side {told} times");
    Ok(())
}

fn main(platform: &'static Platform) -> ExitCode {
    let result = match Child::connect(platform) {
        Ok(Some(parent)) => ask(platform, &parent).map(|()| ExitCode::SUCCESS),
        Ok(None) => be_parent(platform),
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| {
        error!("{error:?}");
        ExitCode::FAILURE
    })
}

fn be_parent(platform: &'static Platform) -> Result<ExitCode, EchoError> {
    let Some(xen) = platform.xen() else { return Ok(ExitCode::FAILURE) };
    let toolstack = Toolstack::new(xen).map_err(PairError::Toolstack)?;
    let Some(&kernel) = platform.modules().first() else {
        error!("the image for the second domain is missing: cargo xtask run --example ring_echo gives it");
        return Ok(ExitCode::FAILURE);
    };
    let config = Config { kernel, processor: Some(0), ..Config::default() };
    let mut child = Parent::start(platform, &toolstack, &config, Duration::from_secs(5))?;
    answer(platform, &child)?;
    let end = child.wait(soon()).map_err(PairError::Toolstack)?;
    println!("{end}");
    Ok(end.exit_code())
}

/// The errors of both ends.
#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
enum EchoError {
    Pair(PairError),
    Ring(RingError),
    TimedOut(TimedOut),
    Message,
    Wrong(u64),
}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for EchoError {
            fn from(error: $error) -> Self {
                Self::$variant(error.into())
            }
        }
    )*};
}

from! {
    PairError => Pair, GrantError => Pair, granite::event::EventError => Pair, granite::pair::LinkError => Pair,
    RingError => Ring, granite::ring::PeerBroke => Ring, TimedOut => TimedOut,
}
