//! Counts what was tried and what went wrong, and writes it down for whoever wants to show it.

use std::{collections::BTreeMap, fs::OpenOptions, io::Write as _};

/// The variable that names a file to which each result is added as a line of JSON.
const SCOREBOARD: &str = "CGK_SCOREBOARD";

/// Results of one kind of trouble.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// How often it struck a run that was under way.
    pub(crate) tried: usize,
    /// How often something was wrong afterwards.
    pub(crate) bad: usize,
    /// How often the run was cut in the middle: some tenants were done, or part of a file was.
    pub(crate) cut: usize,
}

/// What is counted in one test.
pub(crate) struct Score {
    pub(crate) seed: u64,
    pub(crate) server: String,
    pub(crate) tallies: BTreeMap<&'static str, Tally>,
    /// What was wrong, in words.
    pub(crate) faults: Vec<String>,
}

impl Score {
    pub(crate) fn new(seed: u64, server: String) -> Self {
        Self { seed, server, tallies: BTreeMap::new(), faults: Vec::new() }
    }

    pub(crate) fn tried(&self) -> usize {
        self.tallies.values().map(|tally| tally.tried).sum()
    }

    /// How many runs were cut in the middle.
    pub(crate) fn cut(&self) -> usize {
        self.tallies.values().map(|tally| tally.cut).sum()
    }

    /// After how many something was wrong.
    pub(crate) fn bad(&self) -> usize {
        self.tallies.values().map(|tally| tally.bad).sum()
    }

    pub(crate) fn add(&mut self, what: &'static str, faults: Vec<String>, cut: bool) {
        let tally = self.tallies.entry(what).or_default();
        tally.tried += 1;
        tally.cut += usize::from(cut);
        tally.bad += usize::from(!faults.is_empty());
        self.faults.extend(faults.into_iter().map(|fault| format!("{what}: {fault}")));
    }

    /// Says the results and writes them to the file that `CGK_SCOREBOARD` names.
    pub(crate) fn record(&self, row: u32, control: bool) {
        for (what, tally) in &self.tallies {
            let note = format!("{} of {} cut the fleet in the middle", tally.cut, tally.tried);
            say(&format!("{what}: {} tried, {} bad; {note}", tally.tried, tally.bad));
            let line = serde_json::json!({
                "row": row, "what": what, "tried": tally.tried, "bad": tally.bad, "note": note, "seed": self.seed,
                "server": self.server, "control": control,
            });
            if let Some(path) = std::env::var_os(SCOREBOARD).filter(|path| !path.is_empty()) {
                let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
                file.write_all(format!("{line}\n").as_bytes()).unwrap();
            }
        }
    }
}

/// `CGK_TEST_SEED`, or a new one; said, so that the run can be had again.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = std::env::var("CGK_TEST_SEED").ok().map_or_else(rand::random, |text| text.parse().unwrap());
    say(&format!("{test}: CGK_TEST_SEED={seed}"));
    seed
}

#[expect(clippy::print_stderr, reason = "the runs are long, and say how far they are")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
