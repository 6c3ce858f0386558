//! What runs without a transaction in a living fleet and in one for a new tenant leaves the same shape.

use crate::support::fleet::{Fleet, said};

/// Partitions of each kind, and those whose own constraints imply their bounds, or nearly.
const DETACHED: &str = "\
create table p (id int) partition by range (id);
create table p1 partition of p for values from (0) to (10);
alter table p detach partition p1 concurrently;
create table l (s varchar(10), i int not null) partition by list (s);
create table l1 partition of l for values in ('a', 'b', null);
alter table if exists l detach partition l1 concurrently;
create table lone (s varchar(20)) partition by list (s);
create table lone1 partition of lone for values in ('it''s %s
next');
alter table only lone detach partition lone1 concurrently;
create table h (a int) partition by hash (a);
create table h1 partition of h for values with (modulus 2, remainder 0);
alter table h detach partition h1 concurrently;
create table m (a int not null, b date) partition by range (a, b);
create table m1 partition of m for values from (1, '2020-01-01') to (5, '2020-01-02');
alter table m detach partition m1 concurrently;
create table \"Q'q\" (a int not null) partition by range (a);
create table \"Q'q1\" partition of \"Q'q\" (check (a >= 0 and a < 10)) for values from (0) to (10);
alter table \"Q'q\" detach partition \"Q'q1\" concurrently;
create table r (a int not null) partition by range (a);
create table r1 partition of r (check (a >= 0 and a < 7)) for values from (0) to (10);
alter table r detach partition r1 concurrently;
create table w (a int not null) partition by range (a);
create table w1 partition of w (check (a >= 0 and a < 70)) for values from (0) to (10);
alter table w detach partition w1 concurrently;
create table t (a timestamptz, e text) partition by list (lower(e));
create table t1 partition of t for values in ('x', 'y');
alter table t detach partition t1 concurrently;
create table u (a int not null, b int) partition by range (a);
create table u1 partition of u for values from (0) to (10) partition by range (b);
create table u11 partition of u1 for values from (0) to (10);
alter table u1 detach partition u11 concurrently;
create table u12 partition of u1 for values from (20) to (30);
alter table u detach partition u1 concurrently;
alter table p1 rename constraint p1_id_check to renamed;
";

#[tokio::test]
async fn a_partition_that_was_detached_concurrently_is_the_same_in_old_and_new_tenants() {
    // The second cannot be made in one transaction, and so the new tenant gets it statement by statement.
    let alone = "create procedure ends() language plpgsql as $$ begin commit; end $$;\ncall ends();\n";
    for more in ["", alone] {
        let fleet = Fleet::with(&["acme"], &format!("-- cgk:no-transaction\n{DETACHED}{more}")).await;
        fleet.ok(&["tenant:create", "-q", "younger"]);
        let added = "select string_agg(conname, ' ' order by conname collate \"C\") from pg_constraint where contype = 'c' \
                     and conrelid::regclass::text ~ '[.](p1|l1|lone1|h1|m1|r1|w1|t1|u1|u11)$' and connamespace = 'tenant_acme'::regnamespace";
        let added: String = fleet.raw.one(added).await;
        let expected = "l1_s_check lone1_s_check m1_check r1_a_check renamed t1_e_check u11_check u1_a_check w1_a_check w1_a_check1";
        assert_eq!(added, expected, "the precondition: what the server adds");
        let answer = fleet.drift();
        assert_eq!(answer.code, 0, "{}", said(&answer));
        // The control.
        fleet.raw.run("alter table tenant_younger.m1 drop constraint m1_check").await;
        let answer = fleet.drift();
        assert!(answer.code == 7 && answer.stdout.contains("constraint m1.m1_check: missing"), "{}", said(&answer));
    }
}

/// In a file that becomes longer where it is run in one transaction, an error is still found at its place.
#[tokio::test]
async fn an_error_behind_a_detached_partition_has_its_place() {
    let fleet = Fleet::of(&["other"]).await;
    let detached: String = DETACHED.lines().take(3).map(|line| format!("{line}\n")).collect();
    for wrong in ["select nothing;", "selec 1;"] {
        fleet.file("003_next.sql", &format!("-- cgk:no-transaction\n{detached}\n   {wrong}\n"));
        let answer = fleet.shell.run(&["tenant:create", "acme"]);
        let column = if wrong.starts_with("selec ") { 4 } else { 11 };
        assert!(
            answer.code != 0 && said(&answer).contains(&format!("003_next.sql:6:{column}")),
            "{wrong}: {}",
            said(&answer)
        );
    }
}

/// The other statements that have a form with CONCURRENTLY, over everything that an index can have; and CLUSTER, which is carried
/// out in both.
#[tokio::test]
async fn indexes_that_were_made_concurrently_are_the_same_in_old_and_new_tenants() {
    let fleet = Fleet::with(
        &["acme"],
        "-- cgk:no-transaction\n\
         create table k (id int primary key, a text, b int not null);\n\
         insert into k values (1, 'x', 2);\n\
         create unique index concurrently k_b on k using btree (b desc nulls last, lower(a) collate \"C\" text_pattern_ops) \
         include (id) with (fillfactor = 70) where b > 0;\n\
         create index concurrently if not exists k_a on k ((lower(a)));\n\
         alter index k_a alter column 1 set statistics 77;\n\
         comment on index k_a is 'remark';\n\
         create unique index concurrently k_r on k (b);\n\
         alter table k replica identity using index k_r;\n\
         alter table k cluster on k_a;\n\
         reindex table concurrently k;\n\
         reindex (concurrently, verbose) index k_a;\n\
         cluster k using k_r;\n\
         vacuum (full, analyze) k;\n\
         create index concurrently gone on k (a);\n\
         drop index concurrently gone;\n\
         create unique index concurrently k_u on k (id, b);\n\
         alter table k add constraint k_u unique using index k_u;\n\
         create materialized view v as select id from k;\n\
         create unique index concurrently v_id on v (id);\n\
         refresh materialized view concurrently v;\n\
         cluster v using v_id;\n",
    )
    .await;
    fleet.ok(&["tenant:create", "-q", "younger"]);
    let answer = fleet.drift();
    assert_eq!(answer.code, 0, "{}", said(&answer));
    fleet.raw.run("set search_path = tenant_acme; alter index k_a alter column 1 set statistics 78").await;
    assert_eq!(fleet.drift().code, 7, "the control");
}
