//! Checks whether the database sends notifications for all changes. It reads the triggers of the migrations 010, 012
//! and 016 in the catalogue.

use std::fmt::Write as _;

/// Bits of `pg_trigger.tgtype`. These triggers run after a statement, so they have no other bit.
const INSERT: u8 = 4;
const DELETE: u8 = 8;
const UPDATE: u8 = 16;
const TRUNCATE: u8 = 32;

struct NotifiedTable {
    name: &'static str,
    /// The function of all triggers of the table, except the trigger for TRUNCATE.
    function: &'static str,
    events: &'static [(&'static str, u8)],
}

const ALL: &[(&str, u8)] = &[("insert", INSERT), ("update", UPDATE), ("delete", DELETE), ("truncate", TRUNCATE)];
/// These tables need no notice for an INSERT: the token of an inserted row cannot have been cached.
const CHANGES: &[(&str, u8)] = &[("update", UPDATE), ("delete", DELETE), ("truncate", TRUNCATE)];

const TABLES: &[NotifiedTable] = &[
    NotifiedTable { name: "organizations", function: "cgk_organizations_changed", events: ALL },
    NotifiedTable { name: "users", function: "cgk_users_changed", events: CHANGES },
    NotifiedTable { name: "sessions", function: "cgk_sessions_changed", events: CHANGES },
    NotifiedTable { name: "api_keys", function: "cgk_api_keys_changed", events: CHANGES },
    NotifiedTable { name: "memberships", function: "cgk_memberships_changed", events: CHANGES },
    NotifiedTable { name: "organization_domains", function: "cgk_organization_domains_changed", events: ALL },
];

/// Returns a query with one row and one column: the reason why changes are not notified, or null if all are notified.
///
/// A missing table has no changes. Only the registry must exist. Writes of logical replication fire no statement-level
/// trigger, whatever the trigger's mode is. The query takes no locks.
pub(crate) fn unnotified_sql() -> String {
    let (mut triggers, mut tables) = (String::new(), String::new());
    for table in TABLES {
        let comma = if tables.is_empty() { "" } else { ", " };
        let _ = write!(tables, "{comma}'{}'", table.name);
        for (event, bit) in table.events {
            let function = if *bit == TRUNCATE { "cgk_table_truncated" } else { table.function };
            let comma = if triggers.is_empty() { "" } else { ", " };
            let _ = write!(triggers, "{comma}('{0}', '{0}_notify_{event}', '{function}', {bit})", table.name);
        }
    }
    format!(
        "select nullif(pg_catalog.concat_ws('; ',
    (select 'these triggers are missing, disabled or altered: '
            || pg_catalog.string_agg(e.trigger, ', ' order by e.trigger)
       from (values {triggers}) as e (relation, trigger, function, kind)
       join pg_catalog.pg_namespace n on n.nspname = 'public'
       left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = e.relation
      where (c.oid is not null or e.relation = 'organizations')
        and not exists (
            select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
             where t.tgrelid = c.oid and t.tgname = e.trigger and t.tgtype = e.kind and t.tgqual is null
               and t.tgenabled in ('O', 'A') and p.proname = e.function and p.pronamespace = n.oid)),
    (select 'logical replication writes these tables, and its changes fire no such trigger: '
            || pg_catalog.string_agg(c.relname, ', ' order by c.relname)
       from pg_catalog.pg_subscription_rel r
       join pg_catalog.pg_class c on c.oid = r.srrelid
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'public' and c.relname in ({tables})),
    case when pg_catalog.to_regprocedure('public.cgk_notify_changes(pg_catalog.text[])') is null
         then 'the function cgk_notify_changes is missing' end), '') as unnotified_changes"
    )
}
