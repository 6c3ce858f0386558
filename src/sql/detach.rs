//! Converts DETACH PARTITION … CONCURRENTLY to one statement of a transaction with the same result.
//!
//! The form with CONCURRENTLY adds to the partition a CHECK of its former bounds, unless these are hash bounds or an
//! existing constraint implies it (`DetachAddConstraintIfNeeded` of the server). The plain form does not. With the
//! plain form, a new tenant's table would differ from those of migrated tenants.

use super::{
    Statement,
    cursor::TokenCursor,
    shape::{Action, Name},
};
use crate::ident::{literal, quoted};

/// `held` is the condition of the bounds, simplified as the server does it there: EXPLAIN writes expressions in that
/// form. The planner decides whether the table's other constraints imply it. It does not use the constraints of a
/// partitioned table, but it uses those of a copy of the table.
const BODY: &str = "
declare
    child pg_catalog.regclass := pg_catalog.to_regclass({child_name});
    held constant pg_catalog.text := pg_catalog.pg_get_partition_constraintdef(child);
    setting constant pg_catalog.text := pg_catalog.current_setting('constraint_exclusion');
    is_partitioned pg_catalog.bool;
    asked pg_catalog.text;
    plan pg_catalog.json;
begin
    {detach};
    if held is null or pg_catalog.strpos(held, 'satisfies_hash_partition(') > 0 then
        return;
    end if;
    asked := child;
    is_partitioned := exists (select from pg_catalog.pg_class c where c.oid = child and c.relkind = 'p');
    if is_partitioned then
        execute pg_catalog.format('create temporary table cgk_detached (like %s including constraints)', child);
        asked := 'pg_temp.cgk_detached';
    end if;
    perform pg_catalog.set_config('constraint_exclusion', 'on', true);
    execute pg_catalog.format('explain (format json, costs off) select from only %s where not (%s)', asked, held) into plan;
    if coalesce(plan #>> '{0,Plan,One-Time Filter}', '') <> 'false' then
        execute pg_catalog.format('explain (format json, costs off) select from only %s order by (%s)', asked, held) into plan;
        execute pg_catalog.format('alter table %s add check (%s)', child, coalesce(plan #>> '{0,Plan,Sort Key,0}', held));
    end if;
    perform pg_catalog.set_config('constraint_exclusion', setting, true);
    if is_partitioned then
        drop table pg_temp.cgk_detached;
    end if;
end";

/// Returns the statement for an ALTER TABLE of this table with this action; `None` for any other action.
pub(super) fn within_a_transaction(statement: &Statement, table: &Name, action: &Action) -> Option<String> {
    let child = action.name_after(&["detach", "partition"])?;
    let mut cursor = TokenCursor { tokens: &statement.tokens, at: 0 };
    cursor.take(&["alter", "table"]).then_some(())?;
    let if_exists = if cursor.take(&["if", "exists"]) { "if exists " } else { "" };
    let child = written(&child);
    let detach = format!("alter table {if_exists}{} detach partition {child}", written(table));
    let body = BODY.replace("{child_name}", &literal(&child)).replace("{detach}", &detach);
    Some(format!("do {}", literal(&body)))
}

pub(super) fn written(name: &Name) -> String {
    match &name.schema {
        Some(schema) => format!("{}.{}", quoted(schema), quoted(&name.name)),
        None => quoted(&name.name),
    }
}
