-- The rights of one login itself, $1, on the schemas of tenants and on what is in them: rows of `own`, one for each statement that
-- revokes some of them. Rights of PUBLIC and of other roles are not its own. The schemas are those of tenants, those that are
-- ready for new tenants, and strays: schemas with the name of a tenant's, of no tenant.
-- pg_shdepend has each object whose list of rights names the role, whatever its kind is. src/drift/roles.sql finds the rights of
-- tenants' roles in it.
with login as materialized (
    select r.oid, r.rolname::pg_catalog.text as name from pg_catalog.pg_roles r where r.rolname::pg_catalog.text = $1
),
-- is_revocable: nothing needs the rights there. A tenant without a role that the login may act as is entered with them.
place (nsp, schema, owner, kind, is_revocable) as materialized (
    select n.oid, n.nspname::pg_catalog.text, n.nspowner, 'tenant', exists (select from login l where {member})
    from {tenant_schemas}
union all
    select n.oid, n.nspname::pg_catalog.text, n.nspowner, 'ready', true from pg_catalog.pg_namespace n where {is_ready}
union all
    select n.oid, n.nspname::pg_catalog.text, n.nspowner, 'stray', false from pg_catalog.pg_namespace n
    where pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_') and not {is_tenant_schema}
      and n.nspowner in (select n.nspowner from {tenant_schemas}
                         union select c.relowner from pg_catalog.pg_class c where c.oid = {registry_oid}
                         union select r.oid from pg_catalog.pg_roles r where r.rolname = current_user)
),
named as materialized (
    select distinct d.classid, d.objid
    from login l join pg_catalog.pg_shdepend d
        on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = l.oid and d.deptype = 'a'
       and d.dbid = (select b.oid from pg_catalog.pg_database b where b.datname = pg_catalog.current_database())
),
-- Default privileges are first: objects that are created meanwhile get none of them. Those without a schema are of every schema.
listed (nsp, step, clause, object, acl) as (
    select p.nsp, 1, pg_catalog.format('alter default privileges %srevoke all on %s',
        case when f.defaclnamespace <> 0 then pg_catalog.format('in schema %I ', p.schema) end,
        case f.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types'
                             when 'n' then 'schemas' end), '', f.defaclacl
    from named d join pg_catalog.pg_default_acl f on d.classid = 'pg_catalog.pg_default_acl'::pg_catalog.regclass and f.oid = d.objid
    join place p on case f.defaclnamespace when 0 then f.defaclrole = p.owner else f.defaclnamespace = p.nsp end
    where f.defaclobjtype in ('r', 'S', 'f', 'T', 'n')
union all
    select p.nsp, 2, 'revoke all on schema', pg_catalog.quote_ident(p.schema), n.nspacl
    from named d join pg_catalog.pg_namespace n on d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and n.oid = d.objid
    join place p on p.nsp = n.oid
union all
    -- To revoke the rights on a table is to revoke those on its columns.
    select p.nsp, 3, case c.relkind when 'S' then 'revoke all on sequence' else 'revoke all on table' end,
        pg_catalog.format('%I.%I', p.schema, c.relname), a.acl
    from named d join pg_catalog.pg_class c on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and c.oid = d.objid
    join place p on p.nsp = c.relnamespace
    cross join lateral (select c.relacl union all
                        select b.attacl from pg_catalog.pg_attribute b where b.attrelid = c.oid and not b.attisdropped) a (acl)
union all
    select p.nsp, 3, 'revoke all on routine', i.identity, r.proacl
    from named d join pg_catalog.pg_proc r on d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and r.oid = d.objid
    join place p on p.nsp = r.pronamespace
    cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
union all
    select p.nsp, 3, 'revoke all on type', pg_catalog.format('%I.%I', p.schema, y.typname), y.typacl
    from named d join pg_catalog.pg_type y on d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and y.oid = d.objid
    join place p on p.nsp = y.typnamespace
),
own (nsp, step, clause, grantor, objects) as (
    select o.nsp, o.step, o.clause, a.grantor, pg_catalog.string_agg(distinct o.object, ', ')
    from login l, listed o cross join lateral pg_catalog.aclexplode(o.acl) a
    where a.grantee = l.oid
    group by o.nsp, o.step, o.clause, a.grantor
)
