//! Finds errors that the server raises only with CONCURRENTLY, for statements in which that word is omitted.
//!
//! A new schema is created in a transaction, and so without CONCURRENTLY and VACUUM. Without this check, the server's
//! error for the original statement would not occur in the rehearsal or for a new tenant, but only for every existing
//! tenant. These statements raise the server's error. Forms that the server refuses with and without the word need no
//! check.

use super::{
    Statement, Token,
    detach::written,
    shape::{self, Name, Shape},
};
use crate::ident::literal;

/// Returns a statement that fails as the server would for the original text; `None` if nothing is omitted from it.
pub(crate) fn check(statement: &Statement, text: &str) -> Option<String> {
    let body = match shape::of(statement) {
        Shape::CreateIndex { name, table, concurrently: true, if_not_exists } => {
            let name = name.filter(|_| if_not_exists).map_or_else(|| "null".to_owned(), |name| literal(&name.name));
            CREATE_INDEX.replace("{table}", &relation(&table)).replace("{index}", &name)
        }
        Shape::DropIndex { names, concurrently: true } => match names.as_slice() {
            [_] if statement.tokens.last().and_then(Token::word) == Some("cascade") => {
                raise("DROP INDEX CONCURRENTLY does not support CASCADE")
            }
            [name] => DROP_INDEX.replace("{index}", &relation(name)),
            _ => raise("DROP INDEX CONCURRENTLY does not support dropping multiple objects"),
        },
        Shape::Reindex { kind, name: Some(name), concurrently: true } if kind == "index" || kind == "table" => {
            REINDEX.replace("{name}", &relation(&name))
        }
        Shape::AlterTable { table, actions, .. } => {
            let [action] = actions.as_slice() else { return None };
            (action.has(&["concurrently"]) && action.has(&["detach", "partition"])).then_some(())?;
            DETACH.replace("{table}", &relation(&table))
        }
        Shape::Vacuum { tables, .. } => {
            let there =
                tables.iter().map(|table| format!("    perform {}::pg_catalog.regclass;\n", literal(&written(table))));
            let refused =
                vacuum_refused(statement, !tables.is_empty()).map_or_else(|| "null".to_owned(), |why| raise_sql(&why));
            VACUUM
                .replace("{there}", &there.collect::<String>())
                .replace("{statement}", &literal(text))
                .replace("{refused}", &refused)
        }
        _ => return None,
    };
    Some(format!("do {}", literal(&body)))
}

fn relation(name: &Name) -> String {
    format!("pg_catalog.to_regclass({})", literal(&written(name)))
}

fn raise(message: &str) -> String {
    format!("begin {}; end", raise_sql(message))
}

fn raise_sql(message: &str) -> String {
    format!("raise exception using errcode = '0A000', message = {}", literal(message))
}

/// Returns the server's error for the options of a VACUUM that it checks only outside of a transaction.
fn vacuum_refused(statement: &Statement, names_tables: bool) -> Option<String> {
    let options: Vec<_> = shape::options(&statement.tokens).collect();
    let says = |name: &str, on: bool| options.iter().any(|(option, value)| *option == name && *value == Some(on));
    if says("full", true) && says("disable_page_skipping", true) {
        Some("VACUUM option DISABLE_PAGE_SKIPPING cannot be used with FULL".into())
    } else if says("full", true) && says("process_toast", false) {
        Some("PROCESS_TOAST required with VACUUM FULL".into())
    } else if says("only_database_stats", true) && names_tables {
        Some("ONLY_DATABASE_STATS cannot be specified with a list of tables".into())
    } else if says("only_database_stats", true)
        && options
            .iter()
            .any(|(option, value)| !["only_database_stats", "verbose"].contains(option) && *value != Some(false))
    {
        Some("ONLY_DATABASE_STATS cannot be specified with other VACUUM options".into())
    } else {
        None
    }
}

const CREATE_INDEX: &str = "
declare
    found record;
begin
    select c.relname, c.relkind, n.nspname, c.relnamespace into found from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = {table};
    if found.relkind = 'p' then
        raise exception using errcode = '0A000',
            message = pg_catalog.format('cannot create index on partitioned table \"%s\" concurrently', found.relname),
            hint = 'Create an index of each partition concurrently, then the one of the table in a file with a transaction.';
    elsif found.nspname = 'public' and pg_catalog.current_schema() <> 'public' then
        raise exception using errcode = '0A000',
            message = pg_catalog.format('table \"%s\" is one of the shared schema''s', found.relname);
    elsif exists (select from pg_catalog.pg_class c where c.relnamespace = found.relnamespace
                  and c.relname = {index}::pg_catalog.name and c.relkind not in ('i', 'I')) then
        raise exception using errcode = '42809', message = 'a relation with this name exists and is not an index';
    end if;
end";

const DROP_INDEX: &str = "
declare
    found record;
begin
    select c.relname into found from pg_catalog.pg_class c where c.oid = {index} and c.relkind = 'I';
    if found.relname is not null then
        raise exception using errcode = '0A000',
            message = pg_catalog.format('cannot drop partitioned index \"%s\" concurrently', found.relname),
            hint = 'Drop it in a file with a transaction.';
    end if;
end";

const REINDEX: &str = "
begin
    if exists (select from pg_catalog.pg_index i where i.indexrelid = {name} and i.indisexclusion) then
        raise exception using errcode = '0A000',
            message = 'concurrent index creation for exclusion constraints is not supported';
    elsif exists (select from pg_catalog.pg_class c where c.oid = {name} and c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace) then
        raise exception using errcode = '0A000', message = 'cannot reindex system catalogs concurrently';
    end if;
end";

const DETACH: &str = "
begin
    if exists (select from pg_catalog.pg_partitioned_table t where t.partrelid = {table} and t.partdefid <> 0) then
        raise exception using errcode = '55000',
            message = 'cannot detach partitions concurrently when a default partition exists',
            hint = 'Detach it without CONCURRENTLY, in a file with a transaction.';
    end if;
end";

/// The server checks the options before it checks whether it is in a transaction, except those of [`vacuum_refused`].
const VACUUM: &str = "
begin
{there}    execute {statement};
exception when active_sql_transaction then
    {refused};
end";
