-- What lets a tenant's role, or the login of a service, do more than it should: rows of 'role', schema, kind of finding, two
-- texts. Stands after `with t (schema, nsp, owner, oid, name) as materialized (…),`, the tenants and their roles, and with the
-- shared findings the roles of readers, which have their own name for a schema.
-- objects.rs and roles.rs say what each finding means.
here as materialized (
    select d.oid, d.datname::pg_catalog.text as name, d.datdba as owner from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()
),
-- Roles that administer: they act as tenants' roles by their office.
office as materialized (
    select r.oid from pg_catalog.pg_roles r where r.rolsuper or r.rolcreaterole
    union select h.owner from here h
    union select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'public'
    union select c.relowner from pg_catalog.pg_class c where c.oid = {registry_oid}
),
-- Logins of services, as `setup:database --app-role` marks them.
login as materialized (
    select r.* from {admitted_logins}
),
-- Tables of cgk's own in `public`, which no migration creates, and the roles that own such tables and schemas of tenants.
own as materialized (
    select c.*, c.oid as relid, c.oid::pg_catalog.regclass::pg_catalog.text as name, c.relname = 'cgk_aliases' as is_read_by_all
    from pg_catalog.pg_class c
    where c.relnamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = 'public') and c.relkind in ('r', 'p')
      and pg_catalog.starts_with(c.relname::pg_catalog.text, 'cgk_')
),
operators as materialized (
    select o.oid from office o
    union select n.nspowner from pg_catalog.pg_namespace n where pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_')
    union select c.relowner from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relname = 'schema_migrations' and c.relkind in ('r', 'p')
),
member as materialized (
    select m.roleid, m.member, x.rolname::pg_catalog.text as role, g.rolname::pg_catalog.text as group_role, {inherits} as inherits,
           {may_set} as may_set, m.admin_option as may_grant, E'\x1f' || {granted_by} as granted_by
    from {memberships} m
    join pg_catalog.pg_roles x on x.oid = m.member
    join pg_catalog.pg_roles g on g.oid = m.roleid
),
-- Roles with the names of another database's tenants and readers, for example of the database that this one was copied from,
-- and whether they give something here.
elsewhere (oid, gives) as materialized (
    select r.oid, not (
      not (r.rolsuper or r.rolcanlogin or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls)
      and not exists (select from member m where m.member = r.oid)
      and not exists (select from pg_catalog.pg_shdepend d
          where d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = r.oid
            and d.dbid in (0, (select h.oid from here h)) and d.classid <> 'pg_catalog.pg_auth_members'::pg_catalog.regclass))
    from pg_catalog.pg_roles r
    where r.rolname::pg_catalog.text ~ '^cgk_[a-z_][a-z0-9_]*_[0-9a-f]{10}$' and r.oid in (select m.roleid from member m)
),
lacking as materialized (
    select t.schema, t.oid, l.oid as login_oid, l.rolname::pg_catalog.text as login
    from {tenant_schemas} join t on t.nsp = n.oid cross join login l
    where o.status::pg_catalog.text in ('active', 'suspended')
      and not exists (select from member m where m.roleid = t.oid and m.member = l.oid and m.may_set)
),
finding (schema, kind, a, b) as (
    select t.schema, 'attribute', k.name, '' from t join pg_catalog.pg_roles r on r.oid = t.oid
    cross join lateral (values ('superuser', r.rolsuper), ('login', r.rolcanlogin), ('createrole', r.rolcreaterole),
        ('createdb', r.rolcreatedb), ('replication', r.rolreplication), ('bypassrls', r.rolbypassrls), ('inherit', r.rolinherit)) k (name, has)
    where k.has
union all
    select t.schema, 'member of', m.group_role, m.granted_by from t join member m on m.member = t.oid
union all
    select t.schema, 'has member', m.role,
        case when exists (select from t o where o.oid = m.member) then 'tenant'
             when not m.inherits then 'unknown'
             when exists (select from login l where l.oid = m.member) then 'login inherits' else 'inherits' end || m.granted_by
    from t join member m on m.roleid = t.oid
    where exists (select from t o where o.oid = m.member)
       or (m.member <> t.owner and not exists (select from office o where o.oid = m.member)
           and (m.inherits or not exists (select from login l where l.oid = m.member)))
union all
    -- A tenant that a service cannot enter. A login that acts as the role through another role has findings of its own. While
    -- the isolation is being changed, its direct rights may be enough, and the end of the change looks for tenants without either.
    select k.schema, 'lacks member', k.login, '' from lacking k
    where {settled} and not pg_catalog.pg_has_role(k.login_oid, k.oid, {acts})
union all
    -- ADMIN OPTION, also of a login that cgk made a member: it makes any role a member.
    select t.schema, 'may grant', m.role, m.granted_by
    from t join member m on m.roleid = t.oid
    where m.may_grant and m.member <> t.owner and not exists (select from office o where o.oid = m.member)
union all
    select t.schema, 'setting', c.setting, coalesce(h.name, '')
    from t join pg_catalog.pg_db_role_setting s on s.setrole = t.oid
    left join here h on h.oid = s.setdatabase
    cross join lateral pg_catalog.unnest(s.setconfig) c (setting)
    where s.setdatabase = 0 or h.oid is not null
union all
    -- Of default privileges that are the role's own also: whether they are of every schema, and who is named in them.
    select t.schema, case d.deptype when 'o' then 'owns' else 'right' end, i.type, coalesce(i.identity, '')
        || case when f.oid is not null and d.deptype = 'o'
                then E'\x1f' || case f.defaclnamespace when 0 then 'every' else 'one' end
                     || coalesce((select pg_catalog.string_agg(distinct E'\x1f' || case a.grantee when 0 then 'public'
                                         else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text) end, '')
                                  from pg_catalog.aclexplode(f.defaclacl) a), '')
                else '' end
    from t join pg_catalog.pg_shdepend d on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = t.oid
        and d.dbid in (0, (select h.oid from here h)) and d.deptype in ('a', 'o')
        and d.classid <> 'pg_catalog.pg_auth_members'::pg_catalog.regclass
    left join pg_catalog.pg_class c on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and c.oid = d.objid
    left join pg_catalog.pg_proc p on d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and p.oid = d.objid
    left join pg_catalog.pg_type y on d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and y.oid = d.objid
    left join pg_catalog.pg_default_acl f on d.classid = 'pg_catalog.pg_default_acl'::pg_catalog.regclass and f.oid = d.objid
    cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i
    -- What is in the tenant's own schema is compared object by object.
    where coalesce(c.relnamespace, p.pronamespace, y.typnamespace, f.defaclnamespace) is distinct from t.nsp
      and not (d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid = t.nsp and d.deptype = 'a')
      -- USAGE on the schemas of every search path, for a database in which PUBLIC does not have it.
      and not (d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.deptype = 'a' and exists (
          select from pg_catalog.pg_namespace n
          where n.oid = d.objid and (n.nspname = 'public' or n.nspname::pg_catalog.text = any ({further}))
            and not exists (select from pg_catalog.aclexplode(n.nspacl) a
                            where a.grantee = t.oid and (a.privilege_type <> 'USAGE' or a.is_grantable))))
union all
    select t.schema, 'writes ledger', '', ''
    from t join pg_catalog.pg_class c on c.relnamespace = t.nsp and c.relname = 'schema_migrations' and c.relkind in ('r', 'p')
    where pg_catalog.has_table_privilege(t.oid, c.oid, 'insert, update, delete, truncate')
union all
    select t.schema, 'has ledger', pg_catalog.string_agg(distinct pg_catalog.lower(a.privilege_type), ', '), ''
    from t join pg_catalog.pg_class c on c.relnamespace = t.nsp and c.relname = 'schema_migrations' and c.relkind in ('r', 'p')
    cross join lateral pg_catalog.aclexplode(c.relacl) a
    where a.grantee = t.oid and not pg_catalog.has_table_privilege(t.oid, c.oid, 'insert, update, delete, truncate')
    group by t.schema
union all
    select '', 'login writes ledger', l.rolname::pg_catalog.text, n.nspname::pg_catalog.text
    from login l, pg_catalog.pg_namespace n join pg_catalog.pg_class c
        on c.relnamespace = n.oid and c.relname = 'schema_migrations' and c.relkind in ('r', 'p')
    where {shared} and not l.rolsuper and (n.nspname = 'public' or pg_catalog.starts_with(n.nspname::pg_catalog.text, 'tenant_'))
      and pg_catalog.has_table_privilege(l.oid, c.oid, 'insert, update, delete, truncate')
union all
    select '', 'login attribute', l.rolname::pg_catalog.text, k.name from login l
    cross join lateral (values ('superuser', l.rolsuper), ('createrole', l.rolcreaterole), ('createdb', l.rolcreatedb),
        ('replication', l.rolreplication), ('bypassrls', l.rolbypassrls), ('inherit', l.rolinherit)) k (name, has)
    where {shared} and k.has
union all
    -- A membership in a role that is no tenant's of this database. Of those `has member` speaks.
    select '', case when e.gives then 'login member elsewhere' else 'login member' end, l.rolname::pg_catalog.text, m.group_role || m.granted_by
    from login l join member m on m.member = l.oid left join elsewhere e on e.oid = m.roleid
    where {shared} and not ({tenant_role}) and e.gives is distinct from false
union all
    -- A member of a login may act as it, and through it as every tenant.
    select '', 'login has member', l.rolname::pg_catalog.text, m.role || m.granted_by
    from login l join member m on m.roleid = l.oid
    where {shared} and not exists (select from office o where o.oid = m.member)
union all
    select '', 'login setting', l.rolname::pg_catalog.text, c.setting
    from login l join pg_catalog.pg_db_role_setting s on s.setrole = l.oid
    left join here h on h.oid = s.setdatabase
    cross join lateral pg_catalog.unnest(s.setconfig) c (setting)
    where {shared} and (s.setdatabase = 0 or h.oid is not null)
      and (pg_catalog.split_part(c.setting, '=', 1) in ('search_path', 'role', 'row_security', 'session_authorization', 'session_replication_role')
           or pg_catalog.starts_with(c.setting, 'app.current_') or pg_catalog.starts_with(c.setting, 'cgk.'))
      and not (h.oid is not null and c.setting = 'search_path=""')
union all
    select '', 'login path', l.rolname::pg_catalog.text, '' from login l
    where {shared} and not exists (
        select from pg_catalog.pg_db_role_setting s join here h on h.oid = s.setdatabase
        where s.setrole = l.oid and exists (select from pg_catalog.unnest(s.setconfig) c where pg_catalog.split_part(c, '=', 1) = 'search_path'))
union all
    select '', 'login owns', l.rolname::pg_catalog.text, pg_catalog.concat_ws(' ', i.type, i.identity)
    from login l join pg_catalog.pg_shdepend d on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = l.oid
        and d.dbid in (0, (select h.oid from here h)) and d.deptype = 'o'
    cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i
    where {shared}
union all
    -- Objects in no schema. A login uses none of them through cgk.
    select '', 'login has', l.rolname::pg_catalog.text, i.type || E'\x1f' || i.identity
    from login l join pg_catalog.pg_shdepend d on d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass and d.refobjid = l.oid
        and d.dbid in (0, (select h.oid from here h)) and d.deptype = 'a'
        and d.classid in ('pg_catalog.pg_largeobject'::pg_catalog.regclass, 'pg_catalog.pg_foreign_server'::pg_catalog.regclass,
                          'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass, 'pg_catalog.pg_tablespace'::pg_catalog.regclass,
                          'pg_catalog.pg_language'::pg_catalog.regclass, pg_catalog.to_regclass('pg_catalog.pg_parameter_acl'))
    cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i
    where {shared}
union all
    select '', 'login creates', l.rolname::pg_catalog.text, k.place from login l
    cross join lateral (values
        ('database', pg_catalog.has_database_privilege(l.oid, pg_catalog.current_database(), 'create')),
        ('public', (select pg_catalog.has_schema_privilege(l.oid, n.oid, 'create') and not exists (
                        select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE')
                    from pg_catalog.pg_namespace n where n.nspname = 'public'))) k (place, may)
    where {shared} and k.may and not l.rolsuper
union all
    select '', 'everyone creates', '', k.place from here h
    join pg_catalog.pg_database d on d.oid = h.oid
    cross join lateral (
        select 'public' as place from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
        where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'
        union all
        select 'database' from pg_catalog.aclexplode(d.datacl) a where a.grantee = 0 and a.privilege_type = 'CREATE') k
    where {shared}
union all
    -- The schemas of extensions, which are in every search path.
    select '', 'login creates in', l.rolname::pg_catalog.text, n.nspname::pg_catalog.text from login l, pg_catalog.pg_namespace n
    where {shared} and not l.rolsuper and n.nspname::pg_catalog.text = any ({further})
      and pg_catalog.has_schema_privilege(l.oid, n.oid, 'create') and not exists (
          select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE')
union all
    select '', 'everyone creates in', '', n.nspname::pg_catalog.text from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
    where {shared} and n.nspname::pg_catalog.text = any ({further}) and a.grantee = 0 and a.privilege_type = 'CREATE'
union all
    -- Whatever --app-tables says, a login gets none of these on a shared table. Those of everyone are compared with the tables.
    select '', 'login has on shared', l.rolname::pg_catalog.text, pg_catalog.concat(c.oid::pg_catalog.regclass, E'\x1f',
        pg_catalog.string_agg(pg_catalog.lower(a.privilege_type), ', ' order by a.privilege_type collate "C"))
    from login l, pg_catalog.pg_class c cross join lateral pg_catalog.aclexplode(c.relacl) a
    where {shared} and a.grantee = l.oid and c.relowner <> l.oid
      and c.relnamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = 'public') and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and (a.privilege_type in ('MAINTAIN', 'REFERENCES', 'TRIGGER', 'TRUNCATE')
           -- Tables of cgk's own: a login gets nothing on them.
           or c.relkind = 'r' and pg_catalog.starts_with(c.relname::pg_catalog.text, 'cgk_'))
    group by l.rolname, c.oid
union all
    -- Nor may it pass on what --app-tables gives. Rights on columns are written as in REVOKE.
    select '', 'login passes on', l.rolname::pg_catalog.text, pg_catalog.concat(case c.relkind when 'S' then 'sequence ' end, c.oid::pg_catalog.regclass,
        E'\x1f', pg_catalog.string_agg(a.held, ', ' order by a.held collate "C"))
    from login l, pg_catalog.pg_class c cross join lateral (
        select k.grantee, pg_catalog.lower(k.privilege_type) from pg_catalog.aclexplode(c.relacl) k
        where k.is_grantable and k.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE')
        union all
        select k.grantee, pg_catalog.lower(k.privilege_type) || ' (' || pg_catalog.quote_ident(b.attname::pg_catalog.text) || ')'
        from pg_catalog.pg_attribute b cross join lateral pg_catalog.aclexplode(b.attacl) k where b.attrelid = c.oid and k.is_grantable) a (grantee, held)
    where {shared} and a.grantee = l.oid and c.relowner <> l.oid and not pg_catalog.starts_with(c.relname::pg_catalog.text, 'cgk_')
      and c.relnamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = 'public') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    group by l.rolname, c.oid, c.relkind
union all
    -- Without USAGE on a schema of the search path the server finds nothing in it, and says that the relation does not exist.
    select '', 'everyone lacks', n.nspname::pg_catalog.text, pg_catalog.count(*)::pg_catalog.text
    from pg_catalog.pg_namespace n, pg_catalog.pg_namespace s join pg_catalog.pg_roles r
        on r.rolname::pg_catalog.text = 'cgk_' || pg_catalog.substr(s.nspname::pg_catalog.text, 8) || '_' || {tag}
    where {shared} and {with_roles} and (n.nspname = 'public' or n.nspname::pg_catalog.text = any ({further}))
      and pg_catalog.starts_with(s.nspname::pg_catalog.text, 'tenant_')
      and not exists (select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'USAGE')
      and not pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage')
    group by n.nspname
union all
    -- Whoever may change what cgk records decides what this comparison says. A login may be let record the comparisons.
    select '', 'own right', o.name, pg_catalog.concat(case when a.grantee = 0 then '' else r.rolname::pg_catalog.text end, E'\x1f',
        pg_catalog.string_agg(distinct pg_catalog.lower(a.privilege_type), ', '))
    from own o cross join lateral (
        select false, false, a.grantee, a.privilege_type from pg_catalog.aclexplode(o.relacl) a
        union all
        select true, o.is_read_by_all and b.attname in ('slug', 'organization_id', 'expires_at') and a.privilege_type = 'SELECT',
               a.grantee, a.privilege_type
        from pg_catalog.pg_attribute b cross join lateral pg_catalog.aclexplode(b.attacl) a where b.attrelid = o.relid) a (of_column, is_given, grantee, privilege_type)
    left join pg_catalog.pg_roles r on r.oid = a.grantee
    where {shared} and not a.is_given and (a.grantee = 0
        or a.privilege_type <> 'SELECT' and a.grantee <> o.relowner
           and not (o.relname = 'cgk_stamps' and a.privilege_type in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'))
           and not exists (select from operators p where p.oid = a.grantee) and not exists (select from t where t.oid = a.grantee)
           -- Those of logins, of tenants and of readers have lines of their own.
           and not exists (select from login l where l.oid = a.grantee and o.relkind = 'r' and not a.of_column)
           and not exists (select from pg_catalog.pg_namespace s where pg_catalog.starts_with(s.nspname::pg_catalog.text, 'tenant_')
                           and r.rolname::pg_catalog.text = 'cgk_' || pg_catalog.substr(s.nspname::pg_catalog.text, 8) || '_' || {tag}))
    group by o.name, a.grantee, r.rolname
union all
    select '', 'own owner', o.name, pg_catalog.concat(pg_catalog.pg_get_userbyid(o.relowner), E'\x1f', (
        select pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text) from pg_catalog.pg_class c where c.oid = {registry_oid}))
    from own o
    where {shared} and not exists (select from operators p where p.oid = o.relowner)
      and not exists (select from login l where l.oid = o.relowner) and not exists (select from t where t.oid = o.relowner)
union all
    select '', 'own part', o.name, k.kind || E'\x1f' || k.name
    from own o cross join lateral (
        select 'trigger', g.tgname::pg_catalog.text from pg_catalog.pg_trigger g where g.tgrelid = o.relid and not g.tgisinternal
        union all select 'rule', w.rulename::pg_catalog.text from pg_catalog.pg_rewrite w where w.ev_class = o.relid
        union all select 'policy', p.polname::pg_catalog.text from pg_catalog.pg_policy p
        where p.polrelid = o.relid and not (o.is_read_by_all and p.polname = 'cgk_aliases_of_visible')
        union all select 'row security', case when o.relrowsecurity then 'on' else 'off' end
        where o.relrowsecurity <> o.is_read_by_all or o.relforcerowsecurity) k (kind, name)
    where {shared}
union all
    -- What everyone may do, every tenant may. Objects of schemas are compared with them; these are in none.
    (select '', 'everyone has', 'large object', l.oid::pg_catalog.text from pg_catalog.pg_largeobject_metadata l
    where {shared} and l.lomacl is not null and exists (select from pg_catalog.aclexplode(l.lomacl) a where a.grantee = 0)
    order by l.oid limit 1000)
union all
    select '', 'everyone has', k.type, k.name from (
        select 'foreign-data wrapper', pg_catalog.quote_ident(w.fdwname::pg_catalog.text), w.fdwacl from pg_catalog.pg_foreign_data_wrapper w
        union all select 'server', pg_catalog.quote_ident(s.srvname::pg_catalog.text), s.srvacl from pg_catalog.pg_foreign_server s
        union all select 'tablespace', pg_catalog.quote_ident(p.spcname::pg_catalog.text), p.spcacl from pg_catalog.pg_tablespace p
        {parameters}) k (type, name, acl)
    where {shared} and k.acl is not null and exists (select from pg_catalog.aclexplode(k.acl) a where a.grantee = 0)
union all
    -- Settings with which every session begins: without triggers and foreign keys, as another role, against policies, or with
    -- what policies and functions of cgk read.
    select '', 'everyone setting', coalesce(h.name, ''), c.setting
    from pg_catalog.pg_db_role_setting s left join here h on h.oid = s.setdatabase
    cross join lateral pg_catalog.unnest(s.setconfig) c (setting)
    where {shared} and s.setrole = 0 and (s.setdatabase = 0 or h.oid is not null)
      and (pg_catalog.split_part(c.setting, '=', 1) in ('role', 'session_authorization', 'session_replication_role', 'row_security')
           or pg_catalog.starts_with(c.setting, 'app.current_') or pg_catalog.starts_with(c.setting, 'cgk.'))
      and c.setting not in ('role=none', 'session_replication_role=origin', 'session_replication_role=local', 'row_security=on')
union all
    -- What stands among the server's own functions and operators since the database was made: a call of the same name may find
    -- it, also a qualified one. 16384 is the first OID that initdb does not give.
    select '', 'built-in', i.type, i.identity
    from pg_catalog.pg_proc p cross join lateral pg_catalog.pg_identify_object('pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, 0) i
    where {shared} and p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace and p.oid >= 16384
      and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e')
      and (p.prosecdef or exists (select from pg_catalog.pg_proc b where b.proname = p.proname and b.pronamespace = p.pronamespace and b.oid < 16384))
union all
    select '', 'built-in', i.type, i.identity
    from pg_catalog.pg_operator p cross join lateral pg_catalog.pg_identify_object('pg_catalog.pg_operator'::pg_catalog.regclass, p.oid, 0) i
    where {shared} and p.oprnamespace = 'pg_catalog'::pg_catalog.regnamespace and p.oid >= 16384
      and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e')
      and exists (select from pg_catalog.pg_operator b where b.oprname = p.oprname and b.oprnamespace = p.oprnamespace and b.oid < 16384)
union all
    select '', 'everyone mapping', pg_catalog.quote_ident(m.srvname::pg_catalog.text), '' from pg_catalog.pg_user_mappings m
    where {shared} and m.umuser = 0
union all
    select '', 'publishes all', b.pubname::pg_catalog.text, '' from pg_catalog.pg_publication b where {shared} and b.puballtables
union all
    -- A policy under which a login reads the registry, given to a tenant's role.
    select t.schema, 'reads registry', p.polname::pg_catalog.text, '' from t join pg_catalog.pg_policy p on t.oid = any (p.polroles)
    where p.polrelid = {registry_oid} and pg_catalog.starts_with(p.polname::pg_catalog.text, 'cgk_reader_') and t.nsp <> 0
union all
    -- Whoever reads the parent reads the child's rows too, and of a child in public the parent's policies say nothing.
    select '', case when c.relnamespace <> p.relnamespace then case when c.relispartition then 'partition' else 'inherits' end else 'child' end,
        c.oid::pg_catalog.regclass::pg_catalog.text, p.oid::pg_catalog.regclass::pg_catalog.text
    from pg_catalog.pg_inherits h
    join pg_catalog.pg_class c on c.oid = h.inhrelid and c.relkind in ('r', 'p', 'f')
    join pg_catalog.pg_class p on p.oid = h.inhparent
    join pg_catalog.pg_namespace cn on cn.oid = c.relnamespace
    join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
    where {shared} and case when cn.oid <> pn.oid
        then pg_catalog.starts_with(cn.nspname::pg_catalog.text, 'tenant_') or pg_catalog.starts_with(pn.nspname::pg_catalog.text, 'tenant_')
        else cn.nspname = 'public' and p.relrowsecurity and not c.relrowsecurity
             and exists (select from pg_catalog.aclexplode(c.relacl) a where a.grantee = 0
                         union all select from pg_catalog.pg_attribute b cross join lateral pg_catalog.aclexplode(b.attacl) a
                                    where b.attrelid = c.oid and a.grantee = 0) end
union all
    -- Default privileges of every schema reach tenants' schemas too.
    select '', 'default right', pg_catalog.pg_get_userbyid(f.defaclrole)::pg_catalog.text,
        pg_catalog.concat_ws(E'\x1f', case f.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                                           when 'T' then 'types' when 'n' then 'schemas' when 'L' then 'large objects' else f.defaclobjtype::pg_catalog.text end,
            case when a.grantee = 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text) end,
            pg_catalog.string_agg(pg_catalog.lower(a.privilege_type), ', ' order by a.privilege_type collate "C"))
    from pg_catalog.pg_default_acl f cross join lateral pg_catalog.aclexplode(f.defaclacl) a
    where {shared} and f.defaclnamespace = 0 and a.grantee <> f.defaclrole
      and not (a.grantee = 0 and f.defaclobjtype in ('f', 'T'))
    group by f.oid, f.defaclrole, f.defaclobjtype, a.grantee
)
select 'role', f.schema, f.kind, f.a, f.b from finding f order by f.schema collate "C", f.kind, f.a collate "C", f.b collate "C"
