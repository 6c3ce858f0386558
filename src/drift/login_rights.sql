-- What logins of services have on tenants' schemas more or less than `isolation::grants_sql` gives: rows of 'login rights',
-- schema, login, object, column, the schema's owner, the rights that are too many, those that are missing, and those that the
-- login may pass on.
-- Where `{needed}` is false no right is missing.
-- Stands after `with t (schema, nsp, owner) as materialized (…),`, the tenants.
login as materialized (
    -- One that was admitted under role isolation needs no rights of its own.
    select r.oid, r.rolname::pg_catalog.text as name, pg_catalog.pg_get_expr(p.polqual, p.polrelid) <> 'true' as is_direct
    from {admitted_logins} where not r.rolsuper
),
held as materialized (
    select d.classid, d.objid, t.* from t join pg_catalog.pg_depend d
        on d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = t.nsp and d.objsubid = 0
),
rel as materialized (
    select h.schema, h.owner, c.oid, c.relkind, c.relname, c.relowner, c.relacl, pg_catalog.format('%I.%I', h.schema, c.relname) as object
    from held h join pg_catalog.pg_class c on h.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and c.oid = h.objid
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
),
-- wanted is what must be there, allowed what may be. A relation of another owner's gets no right by default.
place (schema, object, col, acl, owner, wanted, allowed) as (
    select t.schema, pg_catalog.format('schema %I', t.schema), '', n.nspacl, n.nspowner, array['USAGE'], array['USAGE']
    from t join pg_catalog.pg_namespace n on n.oid = t.nsp
union all
    select r.schema, k.kind || r.object, '', r.relacl, r.relowner,
        case when r.relowner = r.owner then k.rights else '{}' end, k.rights
    from rel r cross join lateral (select case r.relkind when 'S' then 'sequence ' else 'table ' end,
        case when r.relname = 'schema_migrations' then '{}'::pg_catalog.text[]
             when r.relkind = 'S' then array['SELECT', 'UPDATE', 'USAGE'] else array['DELETE', 'INSERT', 'SELECT', 'UPDATE'] end) k (kind, rights)
union all
    select r.schema, 'table ' || r.object, pg_catalog.quote_ident(a.attname::pg_catalog.text), a.attacl, r.relowner, '{}', '{}'
    from rel r join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and a.attacl is not null
union all
    select h.schema, case p.prokind when 'p' then 'procedure ' else 'function ' end || p.oid::pg_catalog.regprocedure::pg_catalog.text,
        '', p.proacl, p.proowner, '{}', '{}'
    from held h join pg_catalog.pg_proc p on h.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and p.oid = h.objid and p.proacl is not null
union all
    select h.schema, 'type ' || pg_catalog.format_type(y.oid, null), '', y.typacl, y.typowner, '{}', '{}'
    from held h join pg_catalog.pg_type y on h.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and y.oid = h.objid and y.typacl is not null
union all
    select t.schema, 'default rights on ' || k.name, '', (select f.defaclacl from pg_catalog.pg_default_acl f
        where f.defaclrole = t.owner and f.defaclnamespace = t.nsp and f.defaclobjtype::pg_catalog.text = k.type), t.owner, k.rights, k.rights
    from t cross join (values ('r', 'tables', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']),
        ('S', 'sequences', array['SELECT', 'UPDATE', 'USAGE']), ('f', 'functions', '{}'), ('T', 'types', '{}')) k (type, name, rights)
),
finding as (
    select p.schema, l.name, p.object, p.col, pg_catalog.pg_get_userbyid(t.owner)::pg_catalog.text as schema_owner,
        array(select a.privilege_type from pg_catalog.aclexplode(p.acl) a where a.grantee = l.oid
              and a.privilege_type <> all (p.allowed) order by a.privilege_type collate "C") as more,
        array(select w from pg_catalog.unnest(p.wanted) w where {needed} and not exists (select from pg_catalog.aclexplode(p.acl) a
              where a.grantee = l.oid and a.privilege_type = w) order by w collate "C") as fewer,
        array(select a.privilege_type from pg_catalog.aclexplode(p.acl) a where a.grantee = l.oid
              and a.privilege_type = any (p.allowed) and a.is_grantable order by a.privilege_type collate "C") as passed
    from place p join t on t.schema = p.schema cross join login l where l.oid <> p.owner
)
select 'login rights', f.schema, f.name, f.object, f.col, f.schema_owner,
    pg_catalog.lower(pg_catalog.array_to_string(f.more, ', ')), pg_catalog.lower(pg_catalog.array_to_string(f.fewer, ', ')),
    pg_catalog.lower(pg_catalog.array_to_string(f.passed, ', '))
from finding f where f.more <> '{}' or f.fewer <> '{}' or f.passed <> '{}'
order by f.schema collate "C", f.name collate "C", f.object collate "C", f.col collate "C"
