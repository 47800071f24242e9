//! The forecast of the tests' duration: the duration of the last run in this target folder.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::arguments::Test;
use crate::paths;

/// The recorded duration of a set of tests.
pub struct Timing {
    quick: bool,
    file: PathBuf,
}

impl Timing {
    /// Returns the timing of the full set or the quick one. `None` for a selection: its duration says little about
    /// another's.
    pub fn of(arguments: &Test) -> Option<Self> {
        let whole = arguments.filter.is_empty() && arguments.repeat.is_none() && arguments.is_of_all_rigs();
        let name = if arguments.quick { "test-quick.seconds" } else { "test.seconds" };
        (whole && paths::is_granite())
            .then(|| Self { quick: arguments.quick, file: paths::target().join(name) })
    }

    /// Returns a description of the set, with its last duration or an estimate.
    pub fn forecast(&self) -> String {
        let what = if self.quick {
            "the quick set: unit tests, and the table of cases in every rig"
        } else {
            "all tests: the host's, the loom models and their mutants, the checks, and guests in every rig"
        };
        let last = fs::read_to_string(&self.file).ok().and_then(|text| text.trim().parse().ok());
        let time = match last.map(Duration::from_secs) {
            Some(last) => format!("the last run took {}", minutes(last)),
            None if self.quick => {
                "about 2 minutes on 2 processors, after a first build of about 4".to_owned()
            }
            None => "about 25 minutes on 2 processors the first time, less when all is built".to_owned(),
        };
        format!("{what}; {time}")
    }

    /// Records the duration of a run for the next forecast.
    pub fn remember(&self, took: Duration) {
        // The forecast is a convenience, so ignore an error: an unwritable folder fails elsewhere.
        let _ = fs::write(&self.file, took.as_secs().to_string());
    }
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}
