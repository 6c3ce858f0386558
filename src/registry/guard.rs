//! The triggers of the registry that refuse to delete an organization, or to change its slug or id, while its schema
//! exists.

use crate::{
    db::{Operator, message, message_head::MessageHead},
    error::{Result, while_doing},
    lock,
};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// Whether the registry protects an organization whose schema exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryGuard {
    /// Its triggers exist.
    Present,
    /// This run created them.
    Made,
    /// The operator may not create them: another role owns the registry, or plpgsql may not be used.
    NotAllowed,
    /// The registry is a view, which cannot have such triggers.
    NotPossible,
}

/// The statements that create the triggers. They replace objects with the same names.
const GUARD: &str = include_str!("guard.sql");

/// The triggers, each with its `pg_trigger.tgtype`: for each row (1), before (2), on insert (4), delete (8), update
/// (16), truncate (32).
const TRIGGERS: [(&str, i16); 3] =
    [("cgk_registry_delete", 1 | 8), ("cgk_registry_update", 1 | 16), ("cgk_registry_truncate", 2 | 32)];

/// The state of the triggers, as found in the catalogue.
pub(crate) enum GuardFound {
    /// The registry is not a table, or does not exist.
    NotPossible,
    /// The triggers that do not work, each with the reason. Empty if all work.
    Wrong(Vec<(&'static str, &'static str)>),
}

/// Checks whether each trigger exists, is enabled, and calls the function as created by [`guard_registry`]. Writes
/// nothing.
pub(crate) async fn inspect_guard(operator: &Operator) -> Result<GuardFound> {
    let doing = || while_doing("look at the guard of the registry");
    let sql = "select w.name, t.oid is not null, t.tgenabled in ('O', 'A'), t.tgtype = w.type
                      and p.proname = 'cgk_guard_registry' and p.pronamespace = c.relnamespace and p.prosrc = $3
               from pg_catalog.pg_class c
               cross join rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.int2[]))
                          with ordinality w (name, type, place)
               left join pg_catalog.pg_trigger t on t.tgrelid = c.oid and t.tgname::pg_catalog.text = w.name
               left join pg_catalog.pg_proc p on p.oid = t.tgfoid
               where c.oid = pg_catalog.to_regclass('public.organizations') and c.relkind in ('r', 'p') order by w.place";
    let (names, types): (Vec<&str>, Vec<i16>) = TRIGGERS.into_iter().unzip();
    let body = GUARD.split("$$").nth(1).unwrap_or_default();
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&names, Type::TEXT_ARRAY), (&types, Type::INT2_ARRAY), (&body, Type::TEXT)];
    let rows = operator.client().query_typed(sql, &parameters).await.map_err(doing())?;
    if rows.is_empty() {
        return Ok(GuardFound::NotPossible);
    }
    let mut wrong = Vec::new();
    for (row, (name, _)) in rows.iter().zip(TRIGGERS) {
        let is = |index: usize| row.try_get::<_, Option<bool>>(index).map(Option::unwrap_or_default).map_err(doing());
        match (is(1)?, is(2)?, is(3)?) {
            (true, true, true) => {}
            (false, ..) => wrong.push((name, "is missing")),
            (true, false, _) => wrong.push((name, "is disabled")),
            (true, true, false) => wrong.push((name, "does not call the function that guards the registry")),
        }
    }
    Ok(GuardFound::Wrong(wrong))
}

/// Creates the triggers that refuse to delete an organization, or to change its slug or id, while its schema exists. A
/// missing, disabled or changed trigger is created again.
pub(crate) async fn guard_registry(operator: &Operator) -> Result<RegistryGuard> {
    let doing = || while_doing("guard the registry");
    match inspect_guard(operator).await? {
        GuardFound::NotPossible => return Ok(RegistryGuard::NotPossible),
        GuardFound::Wrong(wrong) if wrong.is_empty() => return Ok(RegistryGuard::Present),
        GuardFound::Wrong(_) => {}
    }
    let head = MessageHead::of(operator).lock_timeout(operator.session().lock_timeout).search_path("");
    let sql = head.lock(lock::database_key()).sql() + GUARD;
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => Ok(RegistryGuard::Made),
        Err(error) => match error.code() {
            Some(&(SqlState::INSUFFICIENT_PRIVILEGE | SqlState::UNDEFINED_OBJECT)) => Ok(RegistryGuard::NotAllowed),
            _ => Err(doing()(error)),
        },
    }
}
