//! No space left: in the tablespace of the fleet, and in the log of the server.

use crate::{
    checker::{self, Demand},
    faults_wanted,
    files::Birth,
    fleet::{self, Ended, Fleet},
    score::{Score, say, seed},
    server::Server,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

/// The directory that has two small file systems of its own, `data` and `wal`.
const SMALL_DISKS: &str = "CGK_FAULTS_SMALL_DISKS";

/// Far less than any disk has, and more than a fleet here takes.
const SMALL_MAX: u64 = 256 << 20;

fn small_disk(name: &str) -> PathBuf {
    let Some(directory) = std::env::var_os(SMALL_DISKS) else {
        panic!("the full disk needs small file systems: run scripts/fault-runs.sh, which makes them");
    };
    PathBuf::from(directory).join(name)
}

/// What fills a disk but for so many bytes.
struct Filler {
    path: PathBuf,
}

impl Filler {
    fn all_but(disk: &Path, room: u64) -> Self {
        let path = disk.join("filler");
        let mut file = File::create(&path).unwrap();
        let block = vec![1; 4096];
        let mut written = 0;
        while file.write_all(&block).is_ok() {
            written += block.len() as u64;
            assert!(written < SMALL_MAX, "{} is no small file system", disk.display());
        }
        file.set_len(written.saturating_sub(room)).unwrap();
        Self { path }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

const CREATE: [&str; 5] = ["tenant:create", "--from", "tenants.txt", "--json", "-j2"];

/// What is under way when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Migration,
    /// A migration of a fleet whose set is rehearsed file by file, which comes first and takes the most.
    Rehearsal,
    /// Tenants made file by file.
    Creation,
}

impl Work {
    fn what(self) -> &'static str {
        match self {
            Self::Migration => "tablespace full (53100)",
            Self::Rehearsal => "tablespace full (53100) where the rehearsal is file by file",
            Self::Creation => "tablespace full (53100) under cgk tenant:create --from, file by file",
        }
    }

    fn birth(self) -> Birth {
        if self == Self::Migration { Birth::Together } else { Birth::FileByFile }
    }

    /// Begins it with so much room, and waits for its end.
    async fn begin(self, fleet: &mut Fleet, disk: &Path, room: u64, random: &mut StdRng) -> (Filler, Ended) {
        if self == Self::Creation {
            let slugs = fleet.new_slugs(3);
            fs::write(fleet.files.path().join("tenants.txt"), slugs.join("\n")).unwrap();
            let filler = Filler::all_but(disk, room);
            return (filler, fleet.run_program(&CREATE).await);
        }
        fleet.files.add(random);
        fleet.files.add_table();
        let filler = Filler::all_but(disk, room);
        (filler, fleet.start_program(random.random_range(1..=4)).end().await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_tears_no_schema_and_the_next_run_goes_on() {
    let disk = small_disk("data");
    let seed = seed("full disk");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start();
    let mut score = Score::new(seed, server.version());
    let space = disk.join("tablespace");
    fs::create_dir(&space).unwrap();
    server.give(&space);
    let create = format!("create tablespace small location '{}'", space.display());
    fleet::run(&checker::connect(&server.url("postgres")).await, &create).await.unwrap();
    let wanted = (faults_wanted() / 8).max(4);
    let mut missed = 0;
    // What is to be struck takes turns, so that each is.
    let mut deck = Vec::new();
    while score.tried() < wanted && score.faults.is_empty() {
        if deck.is_empty() {
            deck.extend([Work::Creation, Work::Rehearsal, Work::Migration]);
        }
        let work = *deck.last().expect("it was filled");
        let mut fleet = Fleet::begin(&server, 12, Some("small"), work.birth()).await;
        for _ in 0..6 {
            if score.tried() == wanted || !score.faults.is_empty() || deck.last() != Some(&work) {
                break;
            }
            let room = random.random_range(0..600 << 10);
            let (filler, ended) = work.begin(&mut fleet, &disk, room, &mut random).await;
            let struck = ended.said.contains("53100");
            assert_eq!(struck, !ended.good, "a run failed, and not for want of space: {}", ended.said);
            let mut faults = fleet.faults(Demand::Whole, None).await;
            faults.extend(fleet.broken_promises(&ended).await);
            // Who only reads is served.
            let status = fleet.run_program(&["migrate:status", "--json"]).await;
            if !status.good {
                faults.push(format!("migrate:status: {}", status.said));
            }
            let is_left = checker::has_rehearsal(&checker::connect(fleet.url()).await).await;
            let cut = checker::is_cut(&checker::stands(fleet.url()).await) || is_left;
            drop(filler);
            if work == Work::Creation {
                let again = fleet.run_program(&CREATE).await;
                let said = format!("the creation does not go on: {}", again.said);
                faults.extend((!again.good).then_some(said));
            }
            faults.extend(fleet.recover(random.random_range(1..=4)).await);
            missed += usize::from(!struck);
            if struck || !faults.is_empty() {
                deck.pop();
                score.add(work.what(), faults, cut);
            }
        }
        fleet.end(&server).await;
        assert!(missed < 20 + wanted, "there was room enough: {missed} times");
    }
    say(&format!("{missed} more runs had room enough"));
    score.record(5, false);
    assert_eq!(score.faults, Vec::<String>::new(), "seed {seed}");
}

/// The server cannot write its log: it panics, and goes down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_takes_the_server_down_and_the_next_run_goes_on() {
    let disk = small_disk("wal");
    let seed = seed("full log");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start();
    let mut score = Score::new(seed, server.version());
    server.stop_at_once();
    let (wal, moved) = (server.data().join("pg_wal"), disk.join("pg_wal"));
    copy(&wal, &moved, &server);
    fs::remove_dir_all(&wal).unwrap();
    std::os::unix::fs::symlink(&moved, &wal).unwrap();
    server.start_again();
    let wanted = (faults_wanted() / 30).max(1);
    let mut missed = 0;
    while score.tried() < wanted && score.faults.is_empty() {
        let mut fleet = Fleet::begin(&server, 12, None, Birth::Together).await;
        fleet.files.add(&mut random);
        fleet.files.add_table();
        // A new segment takes a megabyte; those that are there already are used up first.
        let filler = Filler::all_but(&disk, random.random_range(0..900 << 10));
        let ended = loop {
            let ended = fleet.start_program(random.random_range(1..=4)).end().await;
            if !ended.good {
                break ended;
            }
            missed += 1;
            assert!(missed < 200, "the log never fills");
            (0..4).for_each(|_| fleet.files.add_table());
        };
        server.wait_until_down();
        drop(filler);
        server.start_again();
        let mut faults = fleet.faults(Demand::Whole, Some(12)).await;
        faults.extend(fleet.broken_promises(&ended).await);
        let cut = checker::is_cut(&checker::stands(fleet.url()).await);
        faults.extend(fleet.recover(2).await);
        score.add("log full: the server panics", faults, cut);
        fleet.end(&server).await;
    }
    score.record(5, false);
    assert_eq!(score.faults, Vec::<String>::new(), "seed {seed}");
}

/// A directory with all that is in it, for the server's account.
fn copy(from: &Path, to: &Path, server: &Server) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target, server),
            false => _ = fs::copy(entry.path(), &target).unwrap(),
        }
        server.give(&target);
    }
    server.give(to);
}
