//! The side of the control domain.

use core::cell::{Cell, RefCell};

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use granite::abi::DomId;
use granite::pair::{ChildEnd, LinkError, PairError, Parent, Post};
use granite::rt::Platform;
use granite::time::Deadline;
use granite::toolstack::{Config, Toolstack};

use super::{DATA, END, FAILED, OVER, PASSED, RUN, SKIPPED, TIMEOUT};
use crate::harness::{Case, Context, NotPassed};

/// MiB of the other domain.
const MEMORY: u32 = 32;
/// Its vCPUs, which share a processor.
const VCPUS: u32 = 2;
/// What it has as a module.
const MODULE: &str = "contents-of-the-module";

/// The other domain, or the means to start one.
#[derive(Debug)]
pub struct Pair {
    platform: &'static Platform,
    toolstack: &'static Toolstack,
    parent: RefCell<Option<Parent<'static>>>,
    /// The other side's verdict, if it came while a case waited for something else.
    verdict: RefCell<Option<Vec<u8>>>,
    /// The case is about the other domain's end: there is no verdict of it.
    is_lost: Cell<bool>,
}

fn fail(error: impl ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

impl Pair {
    /// Ready to start the other domain.
    pub fn new(platform: &'static Platform) -> Result<Self, PairError> {
        let xen = platform.xen().ok_or(granite::event::EventError::NoEvents)?;
        let toolstack = alloc::boxed::Box::leak(alloc::boxed::Box::new(Toolstack::new(xen)?));
        Ok(Self {
            platform,
            toolstack,
            parent: RefCell::new(None),
            verdict: RefCell::new(None),
            is_lost: Cell::new(false),
        })
    }

    /// The toolstack.
    pub fn toolstack(&self) -> &'static Toolstack {
        self.toolstack
    }

    fn with<R>(&self, access: impl FnOnce(&mut Parent<'static>) -> R) -> Result<R, NotPassed> {
        self.parent.borrow_mut().as_mut().map(access).ok_or_else(|| fail("there is no other domain"))
    }

    /// The other domain's number.
    pub fn child(&self) -> Result<DomId, NotPassed> {
        self.with(|parent| parent.child())
    }

    /// Gives the other domain to a case that is about its end. The next case gets another.
    pub fn lose(&self) -> Result<Parent<'static>, NotPassed> {
        self.is_lost.set(true);
        self.parent.borrow_mut().take().ok_or_else(|| fail("there is no other domain"))
    }

    fn start(&self) -> Result<(), NotPassed> {
        if self.parent.borrow().is_some() {
            return Ok(());
        }
        let Some(kernel) = self.platform.modules().first() else {
            return Err(fail("there is no image to start"));
        };
        let options = self.platform.options();
        let number = |name| options.parse::<u32>(name).ok().flatten().unwrap_or(1);
        let command_line = format!(
            "rig=pair probe=\"a,b two words\" mem={MEMORY} smp={VCPUS} module={MODULE} grants={}",
            number("grants")
        );
        let config = Config {
            kernel,
            command_line: &command_line,
            modules: &[MODULE.as_bytes()],
            memory: MEMORY,
            vcpus: VCPUS,
            processor: Some(number("smp") - 1),
            ..Config::default()
        };
        let parent = Parent::start(self.platform, self.toolstack, &config, TIMEOUT);
        *self.parent.borrow_mut() = Some(parent.map_err(fail)?);
        Ok(())
    }

    /// Tells the other side something of the case's own.
    pub fn tell(&self, message: &[u8]) -> Result<(), NotPassed> {
        self.send(DATA, message)
    }

    fn send(&self, kind: u8, message: &[u8]) -> Result<(), NotPassed> {
        let message = [&[kind], message].concat();
        self.with(|parent| parent.send(&message, Deadline::after(TIMEOUT)))?.map_err(|error| self.why(error))
    }

    fn receive(&self) -> Result<Vec<u8>, NotPassed> {
        self.with(|parent| parent.receive(Deadline::after(TIMEOUT)))?.map_err(|error| self.why(error))
    }

    /// Whether the other side has told something.
    pub fn has_message(&self) -> bool {
        self.with(|parent| parent.has_message()).unwrap_or(false)
    }

    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        self.with(|parent| Post::is_gone(&&*parent)).unwrap_or(true)
    }

    /// A message of the case's own, by then.
    pub fn receive_by(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError> {
        let received = self.with(|parent| parent.receive(deadline)).unwrap_or(Err(LinkError::Gone));
        let mut message = received?;
        if message.first() == Some(&DATA) {
            message.remove(0);
            return Ok(message);
        }
        *self.verdict.borrow_mut() = Some(message);
        Err(LinkError::Gone)
    }

    /// What the other side tells.
    pub fn hear(&self) -> Result<Vec<u8>, NotPassed> {
        let mut message = self.receive()?;
        if message.first() == Some(&DATA) {
            message.remove(0);
            return Ok(message);
        }
        *self.verdict.borrow_mut() = Some(message);
        Err(fail("the other side is done with the case"))
    }

    /// What is wrong with the other domain: how it ended, and what it printed.
    fn why(&self, error: impl ToString) -> NotPassed {
        let mut text = error.to_string();
        let _ = self.with(|parent| {
            match parent.wait(Deadline::after(core::time::Duration::ZERO)) {
                Ok(ChildEnd::TimedOut) => text.push_str("; it runs"),
                Ok(end) => text.push_str(&format!("; it ended: {end:?}")),
                Err(error) => text.push_str(&format!("; {error}")),
            }
            let lines = parent.console().unwrap_or_default();
            let last = &lines[lines.len().saturating_sub(12)..];
            last.iter().for_each(|line| text.push_str(&format!("\n(d) {line}")));
        });
        fail(text)
    }

    /// Runs a case on both sides; both must pass.
    pub fn run(&self, place: usize, case: &Case, context: &Context) -> Result<(), NotPassed> {
        self.start()?;
        *self.verdict.borrow_mut() = None;
        self.is_lost.set(false);
        if let Err(error) = self.send(RUN, &(place as u32).to_le_bytes()) {
            self.parent.borrow_mut().take(); // the next case gets another
            return Err(error);
        }
        let own = (case.run)(context);
        if self.is_lost.get() {
            return own;
        }
        let theirs = self.their_verdict();
        if let Err(NotPassed::Fail(_)) = &theirs {
            // Whatever became of it: the next case gets another.
            self.parent.borrow_mut().take();
        }
        match (own, theirs) {
            (Ok(()), theirs) => theirs.map_err(|not| told_by("the other side", not)),
            (Err(NotPassed::Fail(own)), Err(NotPassed::Fail(theirs))) => {
                Err(fail(format!("{own}; the other side: {theirs}")))
            }
            (Err(NotPassed::Skip(_)), Err(not @ NotPassed::Fail(_))) => Err(told_by("the other side", not)),
            (own, _) => own,
        }
    }

    fn their_verdict(&self) -> Result<(), NotPassed> {
        // Who waits for something there learns that nothing comes any more.
        let told = self.send(OVER, &[]);
        let mut message = self.verdict.borrow_mut().take();
        while message.as_ref().is_none_or(|message| message.first() == Some(&DATA)) {
            message = Some(told.as_ref().map_err(|_| fail("it is gone")).and_then(|()| self.receive())?);
        }
        let message = message.unwrap_or_default();
        let why = String::from_utf8_lossy(message.get(1..).unwrap_or_default()).into_owned();
        match message.first() {
            Some(&PASSED) => Ok(()),
            Some(&FAILED) => Err(NotPassed::Fail(why)),
            Some(&SKIPPED) => Err(NotPassed::Skip(why)),
            other => Err(fail(format!("it says {other:?}"))),
        }
    }

    /// Ends the other domain.
    pub fn end(&self) -> Result<(), NotPassed> {
        if self.parent.borrow().is_none() {
            return Ok(());
        }
        self.send(END, &[])?;
        match self.with(|parent| parent.wait(Deadline::after(TIMEOUT)))?.map_err(fail)? {
            ChildEnd::Success => {}
            end => return Err(self.why(format!("{end:?}"))),
        }
        let Some(parent) = self.parent.borrow_mut().take() else { return Ok(()) };
        let gone = parent.destroy(Deadline::after(TIMEOUT)).map_err(fail)?;
        if gone { Ok(()) } else { Err(fail("it does not go")) }
    }
}

fn told_by(who: &str, not: NotPassed) -> NotPassed {
    match not {
        NotPassed::Fail(why) => NotPassed::Fail(format!("{who}: {why}")),
        NotPassed::Skip(why) => NotPassed::Skip(format!("{who}: {why}")),
    }
}
