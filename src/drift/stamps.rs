//! The stamps of an earlier comparison. A schema with the same stamp still has the same fingerprint, and is not read
//! again.
//!
//! They are in `public.cgk_stamps`, which a rehearsal creates. A login that may not read the table works without it. A
//! login that may not write it does not change it, and neither does a standby. It contains only schemas without
//! differences, in their roles and rights too when they were compared.

use crate::{
    catalogue::{
        Fingerprint, Schemas, ServiceAccess, settings_sql,
        stamp::{self, StampedRows, shared_sql, stamps_sql},
    },
    db::{
        Operator, message,
        message_head::{MessageHead, demand},
        milliseconds,
    },
    error::{Result, while_doing},
    ident::{SchemaName, literal},
    lock,
    migrate::rehearsal,
};
use futures_util::future::try_join;
use std::collections::HashMap;

/// The stamp of a schema and the stamp of the shared part, from one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SchemaStamps {
    own: stamp::Stamp,
    shared: String,
}

/// The stamps and fingerprints of an earlier comparison, by schema.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    kept: HashMap<String, (SchemaStamps, Fingerprint)>,
    may_write: bool,
    /// The number of the next transaction, read before everything else.
    next_transaction: i64,
    context: String,
}

/// A transaction number is used again after 2^32 others. Stored stamps are valid for half of that.
const TRANSACTIONS_MAX: i64 = 1 << 31;

impl Stamps {
    /// Reads the stamps. The result is empty if the table does not exist or may not be read.
    pub(super) async fn read(operator: &Operator) -> Result<Self> {
        let doing = || while_doing("read the stamps of the last comparison");
        let tag = operator.facts().database_tag();
        let context = format!(
            "pg_catalog.concat_ws(' ', {}, 'stamp', {}, 'tag', {}, 'access', {})",
            rehearsal::texts_sql(),
            literal(&stamp::query_digest()),
            literal(tag.as_str()),
            literal(ServiceAccess::of(operator).as_str())
        );
        let isolation = literal(rehearsal::isolation_name(operator));
        // A referenced object in another tenant's schema can change without a trace in the schemas that refer to it.
        let sql = format!(
            "set transaction isolation level repeatable read, read only;
select 'context', {context}, pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()),
       not pg_catalog.pg_is_in_recovery() and pg_catalog.has_table_privilege('public.cgk_stamps', 'insert')
           and pg_catalog.has_table_privilege('public.cgk_stamps', 'update') and pg_catalog.has_table_privilege('public.cgk_stamps', 'delete'),
       exists (select from public.cgk_references r cross join pg_catalog.unnest(r.objects) o (text)
               cross join pg_catalog.regexp_matches(o.text, '\\m(tenant_[a-z][a-z0-9_]*)\"?\\.', 'g') m (names)
               where r.set_name = 'tenant' and r.isolation = {isolation} and o.text like '%tenant\\_%'
                 and exists (select from pg_catalog.pg_namespace n where n.nspname = m.names[1]));
select 'kept', k.schema_name, k.stamp, k.shared, k.fingerprint from public.cgk_stamps k
where k.isolation = {isolation} and k.context = {context}
  and pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8 - k.next_transaction between 0 and {TRANSACTIONS_MAX};
"
        );
        let answer = message::run(operator.client(), &sql).await.map_err(doing())?;
        match &answer.error {
            None => {}
            Some(error) if rehearsal::is_missing_table(error) || rehearsal::is_denied(error) => {
                return Ok(Self::default());
            }
            Some(_) => return Err(doing()(answer.error.expect("it was there above"))),
        }
        let mut stamps = Self::default();
        for (_, row) in &answer.rows {
            let text = |index| row.get(index).unwrap_or_default().to_owned();
            match row.get(0) {
                Some("context") if row.get(4) == Some("t") => return Ok(Self::default()),
                Some("context") => {
                    stamps.context = text(1);
                    stamps.next_transaction = text(2).parse().unwrap_or_default();
                    stamps.may_write = row.get(3) == Some("t") && !operator.facts().read_only;
                }
                Some("kept") => {
                    let Some(own) = stamp::Stamp::parse(&text(2)) else { continue };
                    stamps.kept.insert(text(1), (SchemaStamps { own, shared: text(3) }, Fingerprint(text(4))));
                }
                _ => {}
            }
        }
        Ok(stamps)
    }

    /// Whether new stamps can be stored.
    pub(super) fn may_write(&self) -> bool {
        self.may_write
    }

    /// Returns the fingerprints of the schemas that have not changed since. Two connections share the work. Their
    /// snapshots can differ. A row that exists in both existed between them too, so a schema that is unchanged in both
    /// was unchanged at the earlier snapshot.
    pub(super) async fn unchanged(
        &self,
        operators: &[&Operator],
        schemas: &[SchemaName],
    ) -> Result<HashMap<String, Fingerprint>> {
        let is_kept = |schema: &&SchemaName| self.kept.contains_key(schema.as_str());
        let known: Vec<SchemaName> = schemas.iter().filter(is_kept).cloned().collect();
        if known.is_empty() {
            return Ok(HashMap::new());
        }
        let (first, second) = (operators[0], operators[operators.len().min(2) - 1]);
        let (columns, others) = try_join(
            now(first, &known, StampedRows::Columns, ""),
            now(second, &known, StampedRows::Others, &shared(second)),
        )
        .await?;
        let (mut columns, mut now) = (of_answer(&columns), of_answer(&others));
        for (schema, stamp) in &mut now {
            match columns.remove(schema) {
                Some(part) => stamp.own.add(&part.own),
                None => stamp.shared.clear(),
            }
        }
        let unchanged = now.into_iter().filter_map(|(schema, now)| {
            let (then, fingerprint) = self.kept.get(&schema)?;
            (*then == now).then(|| (schema, fingerprint.clone()))
        });
        Ok(unchanged.collect())
    }

    /// Stores the stamps of schemas without differences, and deletes those of the different ones. With `whole_fleet`, the
    /// stamps of schemas outside of it are deleted too. It does not wait: if another comparison is writing, or the table
    /// cannot be written, nothing is stored.
    pub(super) async fn keep(
        &self,
        operator: &Operator,
        clean: &[(SchemaName, SchemaStamps, Fingerprint)],
        different: &[SchemaName],
        whole_fleet: Option<&[SchemaName]>,
    ) {
        let isolation = rehearsal::isolation_name(operator);
        if !self.may_write {
            return;
        }
        let array = |texts: &mut dyn Iterator<Item = &str>| {
            format!("array[{}]::pg_catalog.text[]", texts.map(literal).collect::<Vec<_>>().join(","))
        };
        let head = MessageHead::read_write(operator).lock_timeout(operator.session().lock_timeout).sql();
        let alone = demand(&format!("pg_catalog.pg_try_advisory_xact_lock({})", lock::stamps_key()));
        let mut sql = format!("{head}select {alone};\n");
        if !different.is_empty() {
            sql.push_str(&format!(
                "delete from public.cgk_stamps k using pg_catalog.unnest({}) d (name) where k.isolation = {} and k.schema_name = d.name;\n",
                array(&mut different.iter().map(SchemaName::as_str)),
                literal(isolation),
            ));
        }
        if let Some(fleet) = whole_fleet {
            sql.push_str(&format!(
                "delete from public.cgk_stamps k where k.isolation = {} and not exists (
                     select from pg_catalog.unnest({}) f (name) where f.name = k.schema_name);\n",
                literal(isolation),
                array(&mut fleet.iter().map(SchemaName::as_str))
            ));
        }
        let own: Vec<String> = clean.iter().map(|(_, stamp, _)| stamp.own.to_string()).collect();
        sql.push_str(&format!(
            "insert into public.cgk_stamps (isolation, schema_name, context, stamp, shared, fingerprint, next_transaction)
select {}, n.schema_name, {}, n.stamp, n.shared, n.fingerprint, {}
from rows from (pg_catalog.unnest({}), pg_catalog.unnest({}), pg_catalog.unnest({}), pg_catalog.unnest({})) n (schema_name, stamp, shared, fingerprint)
on conflict (isolation, schema_name) do update set context = excluded.context, stamp = excluded.stamp, shared = excluded.shared,
    fingerprint = excluded.fingerprint, next_transaction = excluded.next_transaction;\n",
            literal(isolation),
            literal(&self.context),
            self.next_transaction,
            array(&mut clean.iter().map(|(schema, ..)| schema.as_str())),
            array(&mut own.iter().map(String::as_str)),
            array(&mut clean.iter().map(|(_, stamp, _)| stamp.shared.as_str())),
            array(&mut clean.iter().map(|(.., fingerprint)| fingerprint.0.as_str())),
        ));
        if let Err(error) = message::run(operator.client(), &sql).await.and_then(message::Answer::complete) {
            tracing::warn!(%error, "the stamps of this comparison are not kept");
        }
    }
}

/// Returns the start of the transaction, before [`now_sql`]: one snapshot for the stamps and for the statements after
/// them.
pub(super) fn opening_sql(operator: &Operator) -> String {
    format!(
        "set transaction isolation level repeatable read, read only;
{};
select pg_catalog.set_config('statement_timeout', {}, true), pg_catalog.set_config('work_mem', '64MB', true);\n",
        settings_sql(""),
        // For ten thousand tenants this takes longer than the statement timeout of a service.
        literal(&milliseconds(operator.session().migration_statement_timeout)),
    )
}

/// Returns statements that read the current stamps of schemas.
pub(super) fn now_sql(operator: &Operator, schemas: &[SchemaName]) -> String {
    format!("{};\n{}", shared(operator), own(operator, schemas, StampedRows::All))
}

fn shared(operator: &Operator) -> String {
    shared_sql(operator.facts().database_tag().as_str(), operator.facts().major())
}

fn own(operator: &Operator, schemas: &[SchemaName], rows: StampedRows) -> String {
    let tag = operator.facts().database_tag();
    stamps_sql(&Schemas::These { tag: tag.as_str(), names: schemas }, rows, operator.facts().major())
}

async fn now(operator: &Operator, schemas: &[SchemaName], rows: StampedRows, shared: &str) -> Result<message::Answer> {
    let sql = format!("{}{shared};\n{};\n", opening_sql(operator), own(operator, schemas, rows));
    let doing = || while_doing("compare the stamps of the last comparison");
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map_err(doing())
}

/// Returns the results of [`now_sql`].
pub(super) fn of_answer(answer: &message::Answer) -> HashMap<String, SchemaStamps> {
    let rows = || answer.rows.iter().map(|(_, row)| row);
    let shared = rows().find_map(stamp::shared).unwrap_or_default();
    rows()
        .filter_map(stamp::stamp)
        .map(|(schema, own)| (schema.to_owned(), SchemaStamps { own, shared: shared.to_owned() }))
        .collect()
}
