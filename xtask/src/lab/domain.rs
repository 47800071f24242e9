//! Guests in the lab, created, watched and destroyed by `xl`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::dom0::{Dom0, Output, SHARED};
use super::seen::Seen;
use crate::boot::{Boot, Line};
use crate::error::{Context, Result};
use crate::image::Image;

/// The time for a guest's last lines to arrive, after `xl` has reported its end.
const LAST_LINES: Duration = Duration::from_secs(1);
/// The time for `xl` itself, beyond the guests' own timeout.
const GRACE: Duration = Duration::from_secs(30);
/// The folder with the logs of the console's daemon.
const CONSOLES: &str = "/var/log/xen/console";
/// Passes input from the console of Linux on to the first guest, as soon as it has a terminal.
const TYPE: &str = "(until t=$(xenstore-read /local/domain/$(xl domid guest1)/console/tty) && [ -n \"$t\" ]; \
                    do usleep 50000; done; exec cat /dev/hvc0 > $t) > /dev/null 2>&1";

/// The shape of a guest: what its configuration says.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Further lines of the configuration.
    pub more: String,
}

impl Default for Shape {
    fn default() -> Self {
        Self { vcpus: 1, memory: 64, more: String::new() }
    }
}

/// Guests to run.
#[derive(Clone, Debug)]
pub struct Domains<'a> {
    /// Their image.
    pub image: &'a Image,
    /// Their command line.
    pub line: &'a str,
    /// A file for them, if any.
    pub module: Option<&'a Path>,
    /// Their shape.
    pub shape: &'a Shape,
    /// Their number.
    pub count: u32,
    /// Whether xtask's own input is typed at the first guest's console.
    pub takes_input: bool,
}

impl Domains<'_> {
    /// Creates the guests, passes on each line until all have ended, and destroys them.
    ///
    /// # Errors
    ///
    /// If the control domain is gone. A refusal of `xl` is an outcome.
    pub fn run(
        &self,
        dom0: &mut Dom0,
        deadline: Option<Duration>,
        show: &mut dyn FnMut(Line<'_>),
    ) -> Result<Boot> {
        let boot = self.run_and_keep(dom0, deadline, show)?;
        self.destroy(dom0)?;
        Ok(boot)
    }

    /// As [`run`](Self::run), but leaves the ended domains to be looked at.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_and_keep(
        &self,
        dom0: &mut Dom0,
        deadline: Option<Duration>,
        show: &mut dyn FnMut(Line<'_>),
    ) -> Result<Boot> {
        let shared = dom0.shared();
        let kernel = shared.join("guest");
        fs::copy(&self.image.stripped, &kernel).context("copying to", &kernel)?;
        if let Some(module) = self.module {
            let file = shared.join("module");
            fs::copy(module, &file).context("copying to", &file)?;
        }
        for name in self.names() {
            let file = shared.join(format!("{name}.cfg"));
            fs::write(&file, self.configuration(&name)).context("writing", &file)?;
        }
        // The daemon appends to the log of an earlier guest of the same name.
        dom0.expect(&format!("rm -f {CONSOLES}/guest-*.log"))?;
        let mut seen = Seen::new(self);
        let started = Instant::now();
        let mut take = |output: Output<'_>| match output {
            Output::Console(line) => seen.console(line, show),
            Output::Command(line) => seen.command(line, show),
        };
        let (create, limit) = (self.create(deadline), deadline.map(|deadline| deadline + GRACE));
        if self.takes_input {
            dom0.run_with_input(&format!("{TYPE} & {create}; kill %1"), limit, &mut take)?;
        } else {
            dom0.run(&create, limit, &mut take)?;
        }
        let duration = started.elapsed();
        if !seen.is_complete() {
            dom0.drain(LAST_LINES, |line| {
                seen.console(line, show);
                seen.is_complete()
            })?;
        }
        let is_late = deadline.is_some_and(|deadline| duration >= deadline);
        Ok(Boot { outcome: seen.outcome(is_late), duration, log: seen.into_log() })
    }

    /// Returns the text that each guest wrote to its console, from the daemon's logs.
    ///
    /// # Errors
    ///
    /// If a guest has no log, or the control domain is gone.
    pub fn consoles(&self, dom0: &mut Dom0) -> Result<Vec<String>> {
        self.names().map(|name| dom0.output(&format!("cat {CONSOLES}/guest-{name}.log"))).collect()
    }

    /// Destroys the guests.
    ///
    /// # Errors
    ///
    /// If the control domain is gone. A guest that was never created is no error.
    pub fn destroy(&self, dom0: &mut Dom0) -> Result<()> {
        let commands: Vec<_> = self.names().map(|name| format!("xl destroy {name}")).collect();
        dom0.run(&commands.join("; "), Some(GRACE), &mut |_| {}).map(drop)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.count).map(|number| format!("guest{number}"))
    }

    /// Returns a guest's configuration. Its domain stays when it ends, until it is destroyed.
    fn configuration(&self, name: &str) -> String {
        let Shape { vcpus, memory, more } = self.shape;
        let ramdisk = self.module.map_or(String::new(), |_| format!("ramdisk = \"{SHARED}/module\"\n"));
        // Without `vcpus`, libxl fails for a guest of 16 MiB.
        format!(
            "name = \"{name}\"\ntype = \"pvh\"\nkernel = \"{SHARED}/guest\"\ncmdline = {}\nmemory = {memory}\n\
             vcpus = {vcpus}\non_poweroff = \"preserve\"\non_reboot = \"preserve\"\non_crash = \"preserve\"\n{ramdisk}{more}\n",
            string(self.line)
        )
    }

    /// Returns the command that creates the guests. In the foreground, `xl` runs until its guest ends, and says how.
    fn create(&self, deadline: Option<Duration>) -> String {
        let limit =
            deadline.map_or(String::new(), |deadline| format!("timeout {} ", deadline.as_secs().max(1)));
        let create = |name| format!("{limit}xl create -F {SHARED}/{name}.cfg");
        match self.count {
            1 => create("guest1".to_owned()),
            // Not for all jobs of the shell: another one may pass input on.
            _ => {
                let started: String =
                    self.names().map(|name| create(name) + " & jobs=\"$jobs $!\"; ").collect();
                started + "wait $jobs"
            }
        }
    }
}

/// Returns a string in the syntax of `xl`: in quotes, with a backslash before its own quotes.
fn string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn strings_are_quoted() {
        assert_eq!(string(r#"a="b c" \"#), r#""a=\"b c\" \\""#);
    }
}
