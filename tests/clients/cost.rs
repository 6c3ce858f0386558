//! What entering by the functions costs, against the same transaction with `set local` written by hand: scripts/enter-cost.sh.

use crate::{
    programs::say,
    stage::{Route, Stage},
};
use std::{collections::BTreeMap, fs, process::Command};

const WORK: &str = "select id, status from orders limit 1;";

/// The transactions, each as a script of pgbench.
fn scripts(role: &str) -> Vec<(&'static str, String)> {
    let path = "set local search_path = tenant_acme, public, pg_temp;";
    let same = format!(
        "{path}\nset local statement_timeout = '30s';\nset local lock_timeout = '3s';\n\
         set local idle_in_transaction_session_timeout = '60s';\nset local role {role};"
    );
    let (enter, check) = ("select public.cgk_enter('acme');", "select public.cgk_check('acme');");
    [
        ("search path by hand", format!("{path}\n{WORK}")),
        ("search path, timeouts and role by hand", format!("{same}\n{WORK}")),
        ("cgk_enter", format!("{enter}\n{WORK}")),
        ("cgk_enter and cgk_check", format!("{enter}\n{WORK}\n{check}")),
    ]
    .map(|(name, body)| (name, format!("begin;\n{body}\ncommit;\n")))
    .into()
}

/// The least latency of many short turns: what else the machine does makes turns longer, never shorter.
#[tokio::test]
#[ignore = "a measurement: scripts/enter-cost.sh"]
async fn cost() {
    let stage = Stage::set(Route::Direct).await;
    let role = format!("cgk_acme_{}", stage.login.trim_start_matches("app_"));
    // By hand, a login needs rights of its own where there is no role.
    stage
        .admin(&format!(
            "grant usage on schema tenant_acme to {0}; grant select on tenant_acme.orders to {0}",
            stage.login
        ))
        .await;
    let directory = std::env::temp_dir().join(format!("cgk-cost-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (host, port) = stage.address();
    let turns: usize = std::env::var("CGK_COST_TURNS").map_or(12, |text| text.parse().unwrap());
    for protocol in ["simple", "extended"] {
        let mut least: BTreeMap<&str, f64> = BTreeMap::new();
        for _ in 0..turns {
            for (number, (name, script)) in scripts(&role).iter().enumerate() {
                let file = directory.join(format!("{number}.sql"));
                fs::write(&file, script).unwrap();
                let output = Command::new("pgbench")
                    .args([
                        "-n",
                        "-M",
                        protocol,
                        "-T",
                        "1",
                        "-h",
                        &host,
                        "-p",
                        &port.to_string(),
                        "-U",
                        &stage.login,
                        "-f",
                    ])
                    .arg(&file)
                    .arg(stage.database())
                    .env("PGPASSWORD", &stage.password)
                    .output()
                    .expect("pgbench is needed: install postgresql-contrib");
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
                let latency = text.split("latency average = ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
                let latency = latency.parse::<f64>().unwrap() * 1000.0;
                let known = least.entry(name).or_insert(latency);
                *known = known.min(latency);
            }
        }
        for base in [0, 1] {
            let by_hand = least[scripts(&role)[base].0];
            for (name, _) in &scripts(&role)[base..] {
                say(&format!("{protocol:8} {name:40} {:6.0} us {:5.2}", least[name], least[name] / by_hand));
            }
        }
    }
    let _ = fs::remove_dir_all(directory);
}
