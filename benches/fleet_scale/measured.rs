//! What is measured: runs with and without work, comparisons, and the making of tenants.

use super::{
    Bench, MADE, WORKERS, median,
    memory::Memory,
    run,
    sandbox::{Proxy, round_trips},
};
use cgk::{
    Operator, drift,
    migrate::{self, Scope},
};
use std::time::Instant;

impl Bench {
    pub(super) async fn nothing_to_do(&self, size: usize) {
        let migrations = self.files.load();
        let proxy = Proxy::to(&self.database).await;
        let far = Operator::connect(proxy.config()).await.expect("connect");
        let _ = proxy.take();
        run(&far, &migrations, 1).await;
        let trips = round_trips(&proxy.take());
        let operator = self.operator().await;
        let memory = Memory::start();
        let mut times = Vec::new();
        for _ in 0..7 {
            let began = Instant::now();
            assert_eq!(run(&operator, &migrations, 1).await, 0);
            times.push(began.elapsed().as_secs_f64());
        }
        let ours = median(times);
        let each = self.refinery(None).await;
        println!("nothing to do: {:.1} ms, {trips} round trips, {} of memory", ours * 1e3, memory.grown());
        println!(
            "  refinery's runner for each schema: {:.0} ms ({:.0} ×), {} round trips",
            each * size as f64 * 1e3,
            each * size as f64 / ours,
            7 * size
        );
        if let Some(each) = self.dbmate(None) {
            println!(
                "  one dbmate process for each schema: {:.0} s ({:.0} ×)",
                each * size as f64,
                each * size as f64 / ours
            );
        }
    }

    /// What a comparison costs: of one tenant, of all for the first time, and of all where nothing has changed since.
    pub(super) async fn drift(&self, size: usize) {
        let (migrations, operator) = (self.files.load(), self.operator().await);
        // What the migrations make is on record before anything is compared.
        migrate::rehearse(&operator, &migrations).await.expect("a rehearsal");
        let one = Scope::Only(vec![self.slugs[size / 2].parse().expect("a slug")]);
        let timed = async |scope: &Scope, schemas: usize| {
            let began = Instant::now();
            let report = drift::verify(&operator, &migrations, scope).await.expect("a report");
            let time = began.elapsed().as_secs_f64();
            assert_eq!(report.schemas().filter(|schema| schema.is_clean()).count(), schemas, "{:?}", report.rights);
            time
        };
        let (mut ones, mut again) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            ones.push(timed(&one, 1).await);
        }
        self.raw.run("truncate public.cgk_stamps").await;
        let first = timed(&Scope::Everything, size + 1).await;
        for _ in 0..3 {
            again.push(timed(&Scope::Everything, size + 1).await);
        }
        println!(
            "drift: {:.0} ms for one tenant; {first:.1} s for all the first time, {:.1} s where nothing has changed",
            median(ones) * 1e3,
            median(again)
        );
    }

    /// A migration over the whole fleet, again and again, by every variant in turn.
    pub(super) async fn migration(&mut self, title: &str, size: usize, rounds: usize, sql: impl Fn(usize) -> String) {
        let mut floor: [Vec<f64>; 2] = Default::default();
        let mut ours: [Vec<f64>; 2] = Default::default();
        let mut ratios: [Vec<f64>; 2] = Default::default();
        let mut memory = String::new();
        for round in 0..=rounds {
            for (index, workers) in WORKERS.into_iter().enumerate() {
                let text = sql(self.next());
                let low = self
                    .floor(workers, |slug| format!("set local search_path to \"tenant_{slug}\", public; {text};"))
                    .await;
                let (number, operator) = (self.next(), self.operator().await);
                self.files.tenant(&format!("{number:03}_bench.sql"), &format!("{};\n", sql(number)));
                let migrations = self.files.load();
                let watch = Memory::start();
                let began = Instant::now();
                assert_eq!(run(&operator, &migrations, workers).await, size);
                let time = began.elapsed().as_secs_f64();
                memory = watch.grown();
                // The first round warms caches.
                if round > 0 {
                    floor[index].push(low);
                    ours[index].push(time);
                    ratios[index].push(time / low);
                }
            }
        }
        let per = |samples: &[f64]| median(samples.to_vec()) / size as f64 * 1e3;
        println!("\n{title}, ms a tenant (memory of the last run: {memory})\n");
        println!("| | 1 connection | 4 connections | gain |\n|---|---|---|---|");
        println!(
            "| the floor | {:.2} | {:.2} | {:.2} × |",
            per(&floor[0]),
            per(&floor[1]),
            per(&floor[0]) / per(&floor[1])
        );
        println!(
            "| cgk | {:.2} ({:.2} ×) | {:.2} ({:.2} ×) | {:.2} × |",
            per(&ours[0]),
            median(ratios[0].clone()),
            per(&ours[1]),
            median(ratios[1].clone()),
            per(&ours[0]) / per(&ours[1])
        );
        let number = self.next();
        let each = self.refinery(Some(sql(number))).await;
        println!("| refinery for each schema | {:.2} ({:.1} ×) | | |", each * 1e3, each * 1e3 / per(&floor[0]));
        let number = self.next();
        if let Some(each) = self.dbmate(Some(sql(number))) {
            println!(
                "| one dbmate process for each schema | {:.2} ({:.1} ×) | | |",
                each * 1e3,
                each * 1e3 / per(&floor[0])
            );
        }
        self.raw.run("vacuum (analyze) pg_attribute").await;
    }

    pub(super) async fn provisioning(&mut self, size: usize) {
        let mut floor: [Vec<f64>; 2] = Default::default();
        let mut ours: [Vec<f64>; 2] = Default::default();
        for round in 0..4 {
            for (index, workers) in WORKERS.into_iter().enumerate() {
                let slugs = self.fresh();
                let recipe = &self.recipe;
                let low = self.over(workers, &slugs, |slug| recipe.message_for(slug)).await;
                let slugs = self.fresh();
                let time = self.create(&slugs, workers).await;
                if round > 0 {
                    floor[index].push(low);
                    ours[index].push(time);
                }
            }
        }
        let per = |samples: &[f64]| median(samples.to_vec()) / MADE as f64 * 1e3;
        println!(
            "\nmaking a tenant beside {size} others, ms\n\n| | 1 connection | 4 connections | gain |\n|---|---|---|---|"
        );
        println!(
            "| the floor | {:.1} | {:.1} | {:.2} × |",
            per(&floor[0]),
            per(&floor[1]),
            per(&floor[0]) / per(&floor[1])
        );
        println!(
            "| cgk | {:.1} ({:.2} ×) | {:.1} ({:.2} ×) | {:.2} × |",
            per(&ours[0]),
            per(&ours[0]) / per(&floor[0]),
            per(&ours[1]),
            per(&ours[1]) / per(&floor[1]),
            per(&ours[0]) / per(&ours[1])
        );
        for number in 0..self.made {
            let slug = format!("made{number}");
            let remove =
                format!("drop schema tenant_{slug} cascade; delete from public.organizations where slug = '{slug}'");
            self.raw.run(&remove).await;
        }
        self.vacuum().await;
    }
}
