//! Compares what a schema holds with what its ledger says, statement by statement where a file is half done.

use crate::files::Files;
use std::collections::BTreeSet;
use tokio_postgres::{Client, NoTls};

/// What is asked of the fleet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Each schema is at a version, or between two statements of a file without a transaction, and holds what that means.
    Whole,
    /// And that version is the newest.
    AtHead,
}

/// What a schema was found to be.
struct Found {
    things: BTreeSet<String>,
    ledger: Vec<i64>,
    comment: String,
    /// Version, statements done, whether the next one is begun.
    steps: Option<(i64, usize, bool)>,
}

/// A session outside of the library.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| panic!("{error:?}"));
    tokio::spawn(connection);
    client
}

/// What is wrong with the fleet of a database; nothing, if all is well. `None` leaves open how many tenants there are.
pub(crate) async fn faults(url: &str, files: &Files, demand: Demand, tenants: Option<usize>) -> Vec<String> {
    let client = connect(url).await;
    let mut faults = registry(&client, demand, tenants).await;
    faults.extend(rehearsals(&client, demand).await);
    faults.extend(public(&client, files, demand).await);
    for schema in schemas(&client).await {
        let found = inspect(&client, &schema).await;
        faults.extend(judge(&found, files, demand).into_iter().map(|fault| format!("{schema}: {fault}")));
    }
    faults
}

/// Where each tenant stands: its version, and how far the file behind it has got.
pub(crate) async fn stands(url: &str) -> Vec<(i64, usize)> {
    let client = connect(url).await;
    let mut stands = Vec::new();
    for schema in schemas(&client).await {
        let found = inspect(&client, &schema).await;
        let done = found.steps.map_or(0, |(_, done, begun)| 1 + 2 * done + usize::from(begun));
        stands.push((found.ledger.last().copied().unwrap_or(0), done));
    }
    stands
}

/// Whether a run was cut somewhere in the middle: tenants stand at different places, or within a file.
pub(crate) fn is_cut(stands: &[(i64, usize)]) -> bool {
    stands.iter().any(|stand| *stand != stands[0] || stand.1 > 0)
}

/// The versions in a schema's ledger.
pub(crate) async fn ledger(url: &str, schema: &str) -> Vec<i64> {
    let client = connect(url).await;
    let sql = format!("select version from {schema}.schema_migrations order by version");
    client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn schemas(client: &Client) -> Vec<String> {
    let sql = "select nspname::text from pg_namespace where nspname like 'tenant\\_%' order by 1";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Whether the schema of a rehearsal file by file is there.
pub(crate) async fn has_rehearsal(client: &Client) -> bool {
    client.query_one("select to_regnamespace('cgk_rehearsal') is not null", &[]).await.unwrap().get(0)
}

/// A rehearsal that was cut short leaves one schema at most, which says that it may be dropped; the next run drops it.
async fn rehearsals(client: &Client, demand: Demand) -> Vec<String> {
    let sql = "select concat_ws(': ', nspname, obj_description(oid, 'pg_namespace')) from pg_namespace
               where nspname like 'cgk\\_rehearsal%' order by 1";
    let found: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let allowed = "cgk_rehearsal: A rehearsal of cgk. It may be dropped at any time.";
    let is_allowed = |line: &String| demand == Demand::Whole && line == allowed;
    found.into_iter().filter(|line| !is_allowed(line)).map(|line| format!("left of a rehearsal: {line}")).collect()
}

/// A tenant has its row, its schema and its role, or none of them. While it is made file by file it is `onboarding`, and cannot
/// be entered.
async fn registry(client: &Client, demand: Demand, tenants: Option<usize>) -> Vec<String> {
    let sql = "with o as (select slug::text, status::text from public.organizations),
               n as (select substr(nspname::text, 8) as slug, nspacl::text as rights from pg_namespace where nspname like 'tenant\\_%')
               select coalesce(o.slug, n.slug) || ': ' || concat_ws(', ',
                      case when o.slug is null then 'no row' end, case when n.slug is null then 'no schema' end,
                      case when o.status <> 'active' then o.status end,
                      case when n.rights not like '%cgk\\_' || n.slug || '\\_%' then 'no right of its role' end)
               from o full join n using (slug)
               where (o.slug is null or n.slug is null or o.status <> 'active'
                     or coalesce(n.rights, '') not like '%cgk\\_' || n.slug || '\\_%')
                     and (o.status is distinct from 'onboarding' or not $1)";
    let may_be_onboarding = demand == Demand::Whole;
    let mut faults: Vec<String> =
        client.query(sql, &[&may_be_onboarding]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let found: i64 = client.query_one("select count(*) from public.organizations", &[]).await.unwrap().get(0);
    if tenants.is_some_and(|tenants| i64::try_from(tenants).unwrap() != found) {
        faults.push(format!("{found} tenants instead of {tenants:?}"));
    }
    faults
}

async fn public(client: &Client, files: &Files, demand: Demand) -> Vec<String> {
    let sql = "select array(select substr(relname::text, 2)::bigint from pg_class
                            where relnamespace = 'public'::regnamespace and relkind = 'r' and relname ~ '^p[0-9]+$' order by 1),
                      array(select version from public.schema_migrations where version > $1 order by 1)";
    let row = client.query_one(sql, &[&files.public_bundled]).await.unwrap();
    let (tables, ledger): (Vec<i64>, Vec<i64>) = (row.get(0), row.get(1));
    let all: Vec<i64> = (files.public_bundled + 1..=files.public_head).collect();
    if tables != ledger || !all.starts_with(&ledger) || (demand == Demand::AtHead && ledger != all) {
        return vec![format!("public: tables {tables:?}, ledger {ledger:?}, files {all:?}")];
    }
    Vec::new()
}

/// Reads everything in one statement, and so as of one moment.
async fn inspect(client: &Client, schema: &str) -> Found {
    let has = async |table: &str| -> bool {
        let sql = format!("select to_regclass('{schema}.{table}') is not null");
        client.query_one(&sql, &[]).await.unwrap().get(0)
    };
    let steps = match has("schema_migration_steps").await {
        true => format!(
            "union all select 'steps', concat_ws(' ', version, done, begun) from {schema}.schema_migration_steps"
        ),
        false => String::new(),
    };
    let marks = match has("marks").await {
        true => format!(
            "union all select 'thing', 'mark ' || version || '.' || part || case count(*) when 1 then ' once' else ' ' || count(*) || ' times' end
             from {schema}.marks group by version, part"
        ),
        false => String::new(),
    };
    let sql = format!(
        "with c as (select * from pg_class where relnamespace = '{schema}'::regnamespace and relname not like 'schema\\_migration%')
         select 'thing', 'table ' || relname from c where relkind = 'r'
         union all
         select 'thing', 'column ' || c.relname || '.' || a.attname from c join pg_attribute a on a.attrelid = c.oid
          where c.relkind = 'r' and a.attnum > 0 and not a.attisdropped and a.attname ~ '^c[0-9]+$'
         union all
         select 'thing', 'index ' || c.relname || case when i.indisvalid and i.indisready and i.indislive then '' else ' INVALID' end
           from c join pg_index i on i.indexrelid = c.oid
         union all
         select 'row', version::text from {schema}.schema_migrations
         union all
         select 'comment', d.description from pg_description d join pg_class l on l.oid = d.objoid
          where d.classoid = 'pg_class'::regclass and d.objsubid = 0 and l.relname = 'schema_migrations' and l.relnamespace = '{schema}'::regnamespace
         {marks} {steps}"
    );
    let mut found = Found { things: BTreeSet::new(), ledger: Vec::new(), comment: String::new(), steps: None };
    for row in client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{schema}: {error:?}")) {
        let (kind, text): (&str, String) = (row.get(0), row.get(1));
        match kind {
            "thing" => _ = found.things.insert(text),
            "row" => found.ledger.push(text.parse().unwrap()),
            "comment" => found.comment = text,
            _ => {
                let words: Vec<&str> = text.split(' ').collect();
                found.steps = Some((words[0].parse().unwrap(), words[1].parse().unwrap(), words[2] == "t"));
            }
        }
    }
    found.ledger.sort_unstable();
    found
}

fn judge(found: &Found, files: &Files, demand: Demand) -> Vec<String> {
    let mut faults = Vec::new();
    let length = found.ledger.len();
    let versions: Vec<i64> = files.tenant.iter().map(|file| file.version).collect();
    if !versions.starts_with(&found.ledger) {
        faults.push(format!("the ledger is no beginning of the files: {:?}", found.ledger));
        return faults;
    }
    let comment = format!("cgk:1 head={} applied={length} ", found.ledger.last().unwrap_or(&0));
    if !found.comment.starts_with(&comment) {
        faults.push(format!("ledger {:?}, comment {:?}", found.ledger, found.comment));
    }
    if demand == Demand::AtHead && (length < versions.len() || found.steps.is_some()) {
        faults.push(format!("not at head: ledger {:?}, steps {:?}", found.ledger, found.steps));
    }
    let mut expected = BTreeSet::new();
    files.tenant[..length].iter().flat_map(|file| &file.effects).for_each(|effect| effect.apply(&mut expected));
    let mut allowed = vec![expected.clone()];
    if let Some((version, done, begun)) = found.steps {
        let Some(file) = files.tenant.get(length).filter(|file| file.in_steps && file.version == version) else {
            faults.push(format!("steps of {version}, which is not what comes next after {:?}", found.ledger));
            return faults;
        };
        file.effects[..done].iter().for_each(|effect| effect.apply(&mut expected));
        allowed = vec![expected.clone()];
        if begun {
            allowed.extend(between(&expected, &file.effects[done]));
        }
    }
    if !allowed.contains(&found.things) {
        let missing: Vec<_> = expected.difference(&found.things).collect();
        let more: Vec<_> = found.things.difference(&expected).collect();
        let (ledger, steps) = (found.ledger.last(), found.steps);
        faults.push(format!("at {ledger:?} {steps:?}: missing {missing:?}, not recorded {more:?}"));
    }
    faults
}

/// What may be there while a statement that was announced is not recorded: its end, or an index that is not valid.
fn between(before: &BTreeSet<String>, effect: &crate::files::Effect) -> Vec<BTreeSet<String>> {
    let mut after = before.clone();
    effect.apply(&mut after);
    let mut states = vec![after];
    for index in effect.added.iter().chain(&effect.taken) {
        let mut halfway = before.clone();
        halfway.remove(index);
        halfway.insert(format!("{index} INVALID"));
        states.push(halfway);
    }
    states
}
