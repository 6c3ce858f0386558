//! A fleet is migrated while clients are killed, sessions are terminated, the server goes down and the disk is full. After
//! each fault every schema holds what its ledger says, and the next run brings everything to head.
//!
//! `scripts/fault-runs.sh` runs this; plain `cargo test` leaves it out, because it takes minutes and wants a small file
//! system of its own. The controls show that the checker sees what it is there for.

mod checker;
mod files;
mod fleet;
mod full_disk;
mod score;
mod server;

use checker::Demand;
use files::Birth;
use fleet::{Ended, Fleet, Runner};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use score::{Score, say, seed};
use server::Server;
use std::{
    fs,
    time::{Duration, Instant},
};

/// How many faults the test is to make; `scripts/fault-runs.sh` sets it.
const FAULTS: &str = "CGK_FAULTS";

pub(crate) fn faults_wanted() -> usize {
    std::env::var(FAULTS).map_or(25, |text| text.parse().unwrap())
}

/// After so many faults a fleet is thrown away: its files and tenants become more with each.
const FAULTS_PER_FLEET: usize = 15;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The program gets SIGKILL, or the library's future is dropped.
    Kill,
    TerminateOne,
    TerminateAll,
    Restart,
    /// One of two runs at once gets SIGKILL or is dropped; the other must come to its end.
    KillOneOfTwo,
    /// Sessions of both are terminated.
    TerminateTwo,
    /// `tenant:create --from` is killed, or its sessions are terminated.
    KillCreation,
    TerminateCreation,
    RestartCreation,
    /// The rehearsal file by file, before any tenant.
    KillRehearsal,
    TerminateRehearsal,
    RestartRehearsal,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::Kill,
        Self::TerminateOne,
        Self::TerminateAll,
        Self::Restart,
        Self::KillOneOfTwo,
        Self::TerminateTwo,
        Self::KillCreation,
        Self::TerminateCreation,
        Self::RestartCreation,
        Self::KillRehearsal,
        Self::TerminateRehearsal,
        Self::RestartRehearsal,
    ];

    fn what(self, program: bool, birth: Birth) -> &'static str {
        match (self, program) {
            (Self::KillCreation, _) if birth == Birth::FileByFile => {
                "kill -9 of cgk tenant:create --from, file by file"
            }
            (Self::TerminateCreation, _) if birth == Birth::FileByFile => {
                "sessions of cgk tenant:create --from terminated, file by file"
            }
            (Self::RestartCreation, _) if birth == Birth::FileByFile => {
                "server shut down under cgk tenant:create --from, file by file"
            }
            (Self::KillRehearsal, true) => "kill -9 of cgk migrate in the rehearsal",
            (Self::KillRehearsal, false) => "the library's run dropped in the rehearsal",
            (Self::TerminateRehearsal, _) => "sessions terminated in the rehearsal",
            (Self::RestartRehearsal, _) => "server shut down in the rehearsal",
            (Self::Kill, true) => "kill -9 of cgk migrate",
            (Self::Kill, false) => "the library's run dropped",
            (Self::TerminateOne, _) => "one session terminated",
            (Self::TerminateAll, _) => "all sessions terminated",
            (Self::Restart, _) => "server shut down at once and started again",
            (Self::KillOneOfTwo, _) => "one of two runs killed",
            (Self::TerminateTwo, _) => "a session of two runs at once terminated",
            (Self::KillCreation, _) => "kill -9 of cgk tenant:create --from",
            (Self::TerminateCreation, _) => "sessions of cgk tenant:create --from terminated",
            (Self::RestartCreation, _) => "server shut down under cgk tenant:create --from",
        }
    }

    fn creates(self) -> bool {
        matches!(self, Self::KillCreation | Self::TerminateCreation | Self::RestartCreation)
    }

    fn rehearses(self) -> bool {
        matches!(self, Self::KillRehearsal | Self::TerminateRehearsal | Self::RestartRehearsal)
    }

    /// Whether a fleet with such a set can be struck so.
    fn fits(self, birth: Birth) -> bool {
        !self.rehearses() || birth == Birth::FileByFile
    }

    /// Which moments of a run it strikes at are learnt together.
    fn moment(self) -> usize {
        match self {
            _ if self.creates() => 1,
            _ if self.has_two() => 2,
            _ if self.rehearses() => 3,
            _ => 0,
        }
    }

    fn has_two(self) -> bool {
        matches!(self, Self::KillOneOfTwo | Self::TerminateTwo)
    }
}

/// When in a run a fault strikes: anywhere in the time that runs take, which is learnt as they go.
struct Moment {
    span: Duration,
}

impl Moment {
    fn pick(&self, random: &mut StdRng) -> Duration {
        self.span.mul_f64(random.random_range(0.0..1.0))
    }

    fn learn(&mut self, struck: bool) {
        self.span = self.span.mul_f64(if struck { 1.05 } else { 0.8 });
    }

    /// It struck before anything was done: of a fleet, a run rehearses first.
    fn was_early(&mut self) {
        self.span = self.span.mul_f64(1.3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_tears_a_schema_and_the_next_run_goes_on() {
    let seed = seed("faults");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start();
    let mut score = Score::new(seed, server.version());
    let (wanted, began) = (faults_wanted(), Instant::now());
    let mut moments = [150, 150, 150, 40].map(|span| Moment { span: Duration::from_millis(span) });
    let mut missed = 0;
    // Each kind once before any comes again.
    let mut deck = Vec::new();
    let mut births = [Birth::FileByFile, Birth::Together].into_iter().cycle();
    // Faults that struck in the middle of a fleet; those in a rehearsal do not count.
    let mut in_fleet = 0;
    // Which moments are hit depends on the machine: it goes on until enough faults struck in the middle of a fleet.
    while score.tried() < wanted || (in_fleet * 5 < wanted && score.tried() < wanted * 10) {
        let tenants = random.random_range(12..=20);
        let birth = births.next().expect("they go round");
        let mut fleet = Fleet::begin(&server, tenants, None, birth).await;
        let goal = score.tried() + FAULTS_PER_FLEET;
        let goal = if score.tried() < wanted { goal.min(wanted) } else { goal };
        while score.tried() < goal && score.faults.is_empty() {
            if deck.is_empty() {
                deck.extend(Fault::ALL);
                deck.shuffle(&mut random);
            }
            let Some(at) = deck.iter().rposition(|fault: &Fault| fault.fits(birth)) else { break };
            let fault = deck[at];
            let moment = &mut moments[fault.moment()];
            let cut = score.cut();
            let struck = round(&mut server, &mut fleet, &mut random, fault, moment, &mut score).await;
            if struck && score.cut() == cut {
                moment.was_early();
            }
            in_fleet += if fault.rehearses() { 0 } else { score.cut() - cut };
            if struck {
                deck.remove(at);
            }
            missed += usize::from(!struck);
            moment.learn(struck);
        }
        say(&format!("{} faults, {:.0} s", score.tried(), began.elapsed().as_secs_f64()));
        if !score.faults.is_empty() {
            break;
        }
        assert!(missed < 100 + 10 * wanted, "the faults come too late: {missed} missed");
        fleet.end(&server).await;
    }
    say(&format!("{missed} more came when the run had ended"));
    score.record(4, false);
    assert_eq!(score.faults, Vec::<String>::new(), "seed {seed}");
    assert!(in_fleet * 5 >= wanted, "only {in_fleet} faults struck in the middle of a fleet: this proved little");
}

/// One fault, and what is left of the fleet; says whether it struck a run that was under way.
async fn round(
    server: &mut Server,
    fleet: &mut Fleet,
    random: &mut StdRng,
    fault: Fault,
    moment: &Moment,
    score: &mut Score,
) -> bool {
    let before = fleet.files.head();
    fleet.files.add(random);
    let (jobs, known) = (random.random_range(1..=4), fleet.tenants);
    let is_program = random.random_bool(0.6) || fault.creates();
    let list = fleet.files.path().join("tenants.txt");
    let mut runner = if fault.creates() {
        // Tenants are created only where nothing of the shared schema is pending.
        let migrated = fleet.run_program(&["migrate", "--public", "--json"]).await;
        assert!(migrated.good, "{}", migrated.said);
        let slugs = fleet.new_slugs(random.random_range(3..=5));
        fs::write(&list, slugs.join("\n")).unwrap();
        let from = ["tenant:create", "--from", "tenants.txt", "--json", "-j", &jobs.to_string()];
        Runner::program(fleet.program(&from))
    } else if is_program {
        fleet.start_program(jobs)
    } else {
        fleet.start_library(jobs)
    };
    let mut other = fault.has_two().then(|| match random.random_bool(0.5) {
        true => fleet.start_program(random.random_range(1..=4)),
        false => fleet.start_library(random.random_range(1..=4)),
    });
    // Somebody's open transaction: CREATE INDEX CONCURRENTLY waits for it, and is struck in the middle.
    let holder = match fleet.files.has_steps_above(before) && random.random_bool(0.4) {
        true => Some(hold(fleet).await),
        false => None,
    };
    // At any moment of a run, or of a rehearsal; or when the first tenant is done and others are not.
    // Behind the open transaction no tenant gets done.
    let is_midway = !fault.rehearses() && holder.is_none() && random.random_bool(0.6);
    let mut struck = match (fault.rehearses(), is_midway) {
        (true, _) => fleet.until_rehearsing(&mut runner).await,
        (_, true) => fleet.until_midway(&mut runner, before, known).await,
        _ => fleet.until_begun(&mut runner).await,
    };
    if struck && !is_midway {
        tokio::time::sleep(moment.pick(random)).await;
    }
    if struck {
        struck = strike(server, fleet, fault, &mut runner, other.as_mut()).await;
    }
    drop(holder);
    let ended = runner.end().await;
    let other = match other {
        Some(other) => Some(other.end().await),
        None => None,
    };
    fleet.until_quiet().await;

    let mut faults = fleet.faults(Demand::Whole, None).await;
    for ended in [Some(&ended), other.as_ref()].into_iter().flatten() {
        faults.extend(fleet.broken_promises(ended).await);
    }
    if let (Fault::KillOneOfTwo, Some(Ended { good: false, said, .. })) = (fault, &other) {
        faults.push(format!("the other run failed too: {said}"));
    }
    let stands = checker::stands(fleet.url()).await;
    let some_made = fault.creates() && (known + 1..fleet.tenants).contains(&stands.len());
    let is_left = checker::has_rehearsal(&checker::connect(fleet.url()).await).await;
    let cut = if fault.rehearses() { is_left } else { checker::is_cut(&stands) || some_made };
    if faults.is_empty() {
        faults = finish(fleet, fault, random).await;
    }
    if struck || !faults.is_empty() {
        score.add(fault.what(is_program, fleet.files.birth), faults, cut);
    }
    struck
}

/// The same command again, and a migration: then everything is at head.
async fn finish(fleet: &Fleet, fault: Fault, random: &mut StdRng) -> Vec<String> {
    let jobs = random.random_range(1..=4);
    if fault.creates() {
        let ended = fleet.run_program(&["tenant:create", "--from", "tenants.txt", "--json", "-j", "2"]).await;
        if !ended.good {
            return vec![format!("the creation does not go on: {}", ended.said)];
        }
    }
    fleet.recover(jobs).await
}

async fn hold(fleet: &Fleet) -> tokio_postgres::Client {
    let client = checker::connect(fleet.url()).await;
    fleet::run(&client, "begin isolation level repeatable read; select count(*) from pg_class").await.unwrap();
    client
}

/// Says whether there was still something to strike.
async fn strike(
    server: &mut Server,
    fleet: &Fleet,
    fault: Fault,
    runner: &mut Runner,
    other: Option<&mut Runner>,
) -> bool {
    let mut running = !runner.has_ended();
    match fault {
        Fault::Kill | Fault::KillCreation | Fault::KillRehearsal => runner.kill(),
        Fault::KillOneOfTwo => {
            running &= other.is_some_and(|other| !other.has_ended());
            runner.kill();
        }
        Fault::TerminateOne | Fault::TerminateTwo => running &= fleet.terminate(false).await > 0,
        Fault::TerminateAll | Fault::TerminateCreation | Fault::TerminateRehearsal => {
            running &= fleet.terminate(true).await > 0;
        }
        Fault::Restart | Fault::RestartCreation | Fault::RestartRehearsal => {
            server.stop_at_once();
            server.start_again();
        }
    }
    running
}

/// The controls: the same faults and the same checker, and a runner as many are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_a_runner_that_records_in_a_second_transaction_is_caught() {
    let seed = seed("control");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start();
    let mut score = Score::new(seed, server.version());
    let mut moment = Moment { span: Duration::from_millis(30) };
    let wanted = (faults_wanted() / 5).clamp(10, 60);
    // Which moments are hit depends on the machine: it goes on until the checker saw enough.
    while score.tried() < wanted || (score.bad() * 20 < wanted && score.tried() < wanted * 10) {
        let mut fleet = Fleet::begin(&server, 4, None, Birth::Together).await;
        fleet.files.add_table();
        // Left alone, even such a runner does well, and the checker is content.
        assert!(records_apart(&fleet).await.is_ok());
        assert_eq!(fleet.faults(Demand::AtHead, Some(4)).await, Vec::<String>::new());
        let mut torn = false;
        let goal = wanted.max(score.tried() + 1);
        while !torn && score.tried() < goal {
            fleet.files.add_table();
            let run = records_apart(&fleet);
            let strike = async {
                tokio::time::sleep(moment.pick(&mut random)).await;
                fleet.terminate(true).await > 0
            };
            let (outcome, struck) = tokio::join!(run, strike);
            moment.learn(struck && outcome.is_err());
            fleet.until_quiet().await;
            let faults = fleet.faults(Demand::Whole, Some(4)).await;
            if outcome.is_err() {
                torn = !faults.is_empty();
                score.add("control: one session of a runner that records in a second transaction", faults, false);
            }
            // Another go would fail at what is there already, or begin at the wrong place.
            torn |= fleet.faults(Demand::AtHead, Some(4)).await != Vec::<String>::new();
        }
        fleet.end(&server).await;
    }
    score.record(4, true);
    let bad = score.bad();
    assert!(bad * 20 >= wanted, "the checker saw {bad} of {wanted}: it would miss others");
}

/// Brings every tenant to head as a simple runner does: a file, and then its row.
async fn records_apart(fleet: &Fleet) -> Result<(), tokio_postgres::Error> {
    let url = format!("{}&application_name=cgk", fleet.url());
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let file = fleet.files.tenant.last().expect("a file was added");
    let head = file.version;
    for number in 0..fleet.tenants {
        let schema = format!("tenant_t{number:03}");
        fleet::run(&client, &format!("set search_path = {schema}; {}", file.sql)).await?;
        fleet::run(
            &client,
            &format!(
                "insert into {schema}.schema_migrations (version, name, checksum, duration_ms, cgk_version) values ({head}, 'step', 'x', 0, '0');
                 comment on table {schema}.schema_migrations is 'cgk:1 head={head} applied={head} sha256=x'"
            ),
        )
        .await?;
    }
    Ok(())
}
