//! Tables of cgk's own in the shared schema.

/// The statement that takes all rights on new tables from everyone but their owner. Besides PUBLIC these can be logins of services:
/// `setup:database --app-tables all` gives them rights on whatever is created later in the shared schema, by default privileges.
/// The names are qualified, and need no quotes.
pub(crate) fn close_sql(tables: &[&str]) -> String {
    let tables = tables.iter().map(|table| format!("'{table}'")).collect::<Vec<_>>().join(", ");
    format!(
        "do $cgk$
declare
    found record;
begin
    for found in
        select distinct c.oid::pg_catalog.regclass as name,
               case when a.grantee = 0 then 'public' else a.grantee::pg_catalog.regrole::pg_catalog.text end as grantee
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) a
        where c.oid = any (array[{tables}]::pg_catalog.regclass[]) and a.grantee <> c.relowner
    loop
        execute pg_catalog.format('revoke all on %s from %s', found.name, found.grantee);
    end loop;
end
$cgk$;
"
    )
}
