-- What the catalogue says of every object of some schemas, one row an object: (nsp, kind, parent, name, facts).
-- Stands after `with s (nsp, schema, owner, role) as (…),`. facts are "aspect=value", joined by U+001F; what is not there is left
-- out. `{grants acl | owner | role | default}` is written out by mod.rs.
--
-- Left out on purpose: what extensions own, the ledger, what an owner may do to its own, internal triggers, the rows of
-- PostgreSQL 18 that say NOT NULL a second time, and where a table lies on disk.
member as materialized (
    select classid, objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and deptype = 'e'
),
rel as materialized (
    select s.*, c.*, c.oid as relid, c.relname::text as rel
    from s join pg_catalog.pg_class c on c.relnamespace = s.nsp
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c')
      and not (c.relname = 'schema_migrations' and c.relkind in ('r', 'p'))
      and not exists (select from member m where m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and m.objid = c.oid)
),
proc as materialized (
    select s.*, p.*, p.oid as procid,
           p.proname::text || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')' as signature
    from s join pg_catalog.pg_proc p on p.pronamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and m.objid = p.oid)
),
typ as materialized (
    select s.*, t.*, t.oid as typid
    from s join pg_catalog.pg_type t on t.typnamespace = s.nsp
    where (t.typtype in ('e', 'd', 'r') or (t.typtype = 'b' and t.typelem = 0))
      and not exists (select from member m where m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and m.objid = t.oid)
),
object (nsp, kind, parent, name, facts) as (
    select s.nsp, 'schema', '', '', pg_catalog.concat_ws(E'\x1f',
        'grants=' || {grants n.nspacl | n.nspowner | s.role | })
    from s join pg_catalog.pg_namespace n on n.oid = s.nsp
union all
    select c.nsp,
        case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
                       when 'c' then 'type' when 'f' then 'foreign table' else 'table' end,
        '', c.rel, pg_catalog.concat_ws(E'\x1f',
        'owner=' || case when c.relowner = c.owner then 'the schema''s' else pg_catalog.pg_get_userbyid(c.relowner) end,
        case when c.relkind in ('r', 'p') then 'logging=' || case c.relpersistence when 'u' then 'unlogged' else 'logged' end end,
        case when c.relkind = 'p' then 'partitioned by=' || pg_catalog.pg_get_partkeydef(c.relid) end,
        case when c.relispartition then 'partition=' || pg_catalog.pg_get_expr(c.relpartbound, c.relid) end,
        case when c.relkind in ('r', 'p') then 'row security=' ||
             case when c.relrowsecurity then 'on' else 'off' end || case when c.relforcerowsecurity then ', forced' else '' end end,
        case when c.relkind in ('r', 'p') and c.relreplident <> 'd'
             then 'replica identity=' || case c.relreplident when 'f' then 'full' when 'n' then 'nothing' else 'index' end end,
        'options=' || pg_catalog.array_to_string(c.reloptions, ', '),
        case when c.relkind in ('v', 'm') then 'definition=' || pg_catalog.pg_get_viewdef(c.relid) end,
        (select 'inherits=' || pg_catalog.string_agg(h.inhparent::pg_catalog.regclass::text, ', ' order by h.inhseqno)
         from pg_catalog.pg_inherits h where h.inhrelid = c.relid),
        (select pg_catalog.concat_ws(E'\x1f', 'data type=' || pg_catalog.format_type(q.seqtypid, null), 'start=' || q.seqstart,
                'increment=' || q.seqincrement, 'minimum=' || q.seqmin, 'maximum=' || q.seqmax, 'cache=' || q.seqcache,
                case when q.seqcycle then 'cycle=yes' end,
                (select 'owned by=' || r.relname::text || '.' || a.attname::text from pg_catalog.pg_depend d
                 join pg_catalog.pg_class r on r.oid = d.refobjid
                 join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                 where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.relid and d.objsubid = 0
                   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype in ('a', 'i')))
         from pg_catalog.pg_sequence q where c.relkind = 'S' and q.seqrelid = c.relid),
        'grants=' || {grants c.relacl | c.relowner | c.role | })
    from rel c
union all
    select c.nsp, 'columns', c.rel, '', pg_catalog.string_agg(a.attname::text, ', ' order by a.attnum)
    from rel c join pg_catalog.pg_attribute a on a.attrelid = c.relid and a.attnum > 0 and not a.attisdropped
    where c.relkind <> 'S'
    group by c.nsp, c.relid, c.rel
union all
    select c.nsp, 'column', c.rel, a.attname::text, pg_catalog.concat_ws(E'\x1f',
        'type=' || pg_catalog.format_type(a.atttypid, a.atttypmod),
        'not null=' || case when a.attnotnull then 'yes' else 'no' end,
        case a.attgenerated when '' then 'default=' || pg_catalog.pg_get_expr(d.adbin, d.adrelid)
             else 'generated=' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) || case a.attgenerated when 's' then ' stored' else ' virtual' end end,
        case a.attidentity when 'a' then 'identity=always' when 'd' then 'identity=by default' end,
        case when a.attcollation <> 0 and a.attcollation <> 100
             then 'collation=' || a.attcollation::pg_catalog.regcollation::text end,
        'grants=' || {grants a.attacl | c.relowner | c.role | })
    from rel c join pg_catalog.pg_attribute a on a.attrelid = c.relid and a.attnum > 0 and not a.attisdropped
    left join pg_catalog.pg_attrdef d on a.atthasdef and d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relkind <> 'S'
union all
    select c.nsp, 'constraint', c.rel, k.conname::text, pg_catalog.concat_ws(E'\x1f',
        'definition=' || pg_catalog.pg_get_constraintdef(k.oid),
        (select 'enforcing triggers=' || pg_catalog.string_agg(distinct case t.tgenabled when 'D' then 'disabled' when 'R' then 'replica only' else 'always' end, ', ')
         from pg_catalog.pg_trigger t where k.contype = 'f' and t.tgconstraint = k.oid and t.tgenabled <> 'O'))
    from rel c join pg_catalog.pg_constraint k on k.conrelid = c.relid
    where k.contype in ('c', 'f', 'p', 'u', 'x') or (k.contype = 'n' and not k.convalidated)
union all
    select c.nsp, 'index', c.rel, x.relname::text, pg_catalog.concat_ws(E'\x1f',
        'state=' || case when i.indisvalid and i.indisready then 'valid' else 'INVALID' end,
        case when i.indisreplident then 'replica identity=yes' end,
        case when k.oid is null then 'definition=' || pg_catalog.pg_get_indexdef(i.indexrelid, 0, true) end)
    from rel c join pg_catalog.pg_index i on i.indrelid = c.relid
    join pg_catalog.pg_class x on x.oid = i.indexrelid
    left join pg_catalog.pg_constraint k on k.conrelid = c.relid and k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
union all
    select c.nsp, 'trigger', c.rel, t.tgname::text, pg_catalog.concat_ws(E'\x1f',
        'definition=' || pg_catalog.pg_get_triggerdef(t.oid, true),
        'state=' || case t.tgenabled when 'D' then 'disabled' when 'R' then 'replica only' when 'A' then 'always' else 'enabled' end)
    from rel c join pg_catalog.pg_trigger t on t.tgrelid = c.relid and not t.tgisinternal
union all
    select c.nsp, 'rule', c.rel, r.rulename::text, pg_catalog.concat_ws(E'\x1f',
        'definition=' || pg_catalog.pg_get_ruledef(r.oid, true),
        'state=' || case r.ev_enabled when 'D' then 'disabled' when 'R' then 'replica only' when 'A' then 'always' else 'enabled' end)
    from rel c join pg_catalog.pg_rewrite r on r.ev_class = c.relid and r.rulename <> '_RETURN' and c.relhasrules
union all
    select c.nsp, 'policy', c.rel, p.polname::text, pg_catalog.concat_ws(E'\x1f',
        'command=' || case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
        case when not p.polpermissive then 'kind=restrictive' end,
        'roles=' || (select pg_catalog.string_agg(case when o = 0 then 'everyone' when o = c.role then 'the tenant''s role' else pg_catalog.pg_get_userbyid(o) end, ', ' order by 1)
                     from pg_catalog.unnest(p.polroles) o),
        'using=' || pg_catalog.pg_get_expr(p.polqual, p.polrelid),
        'check=' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
    from rel c join pg_catalog.pg_policy p on p.polrelid = c.relid
    -- What an admitted login sees of the shared tables is given by `setup:database --app-role` (src/login) and by no migration.
    where not (c.nsp = 'public'::pg_catalog.regnamespace and exists (
        select from pg_catalog.pg_roles r where p.polroles = array[r.oid] and p.polname = 'cgk_login_' || r.rolname))
union all
    select p.nsp, case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end, '', p.signature,
        pg_catalog.concat_ws(E'\x1f',
        'owner=' || case when p.proowner = p.owner then 'the schema''s' else pg_catalog.pg_get_userbyid(p.proowner) end,
        'arguments=' || pg_catalog.pg_get_function_arguments(p.procid),
        'returns=' || pg_catalog.pg_get_function_result(p.procid),
        'language=' || (select l.lanname::text from pg_catalog.pg_language l where l.oid = p.prolang),
        'body=' || coalesce(pg_catalog.pg_get_function_sqlbody(p.procid), p.prosrc),
        case p.provolatile when 'i' then 'volatility=immutable' when 's' then 'volatility=stable' end,
        case when p.proisstrict then 'on null input=returns null' end,
        'security=' || case when p.prosecdef then 'definer' else 'invoker' end,
        case when p.proleakproof then 'leakproof=yes' end,
        case p.proparallel when 's' then 'parallel=safe' when 'r' then 'parallel=restricted' end,
        case when p.prokind = 'w' then 'window=yes' end,
        'settings=' || pg_catalog.regexp_replace(pg_catalog.array_to_string(p.proconfig, ', '), '\m' || p.schema || '\M', '<schema>', 'g'),
        (select pg_catalog.concat_ws(E'\x1f', 'state function=' || g.aggtransfn, 'state type=' || pg_catalog.format_type(g.aggtranstype, null),
                'final function=' || nullif(g.aggfinalfn::text, '-'), 'initial state=' || g.agginitval)
         from pg_catalog.pg_aggregate g where p.prokind = 'a' and g.aggfnoid = p.procid),
        'grants=' || {grants p.proacl | p.proowner | p.role | everyone: execute})
    from proc p
union all
    select t.nsp, case t.typtype when 'd' then 'domain' else 'type' end, '', t.typname::text, pg_catalog.concat_ws(E'\x1f',
        'owner=' || case when t.typowner = t.owner then 'the schema''s' else pg_catalog.pg_get_userbyid(t.typowner) end,
        (select 'labels=' || pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel::text), ', ' order by e.enumsortorder)
         from pg_catalog.pg_enum e where t.typtype = 'e' and e.enumtypid = t.typid),
        case when t.typtype = 'd' then 'type=' || pg_catalog.format_type(t.typbasetype, t.typtypmod) end,
        case when t.typtype = 'd' and t.typnotnull then 'not null=yes' end,
        case when t.typtype = 'd' and t.typcollation not in (0, 100) then 'collation=' || t.typcollation::pg_catalog.regcollation::text end,
        'default=' || t.typdefault,
        (select 'range of=' || pg_catalog.format_type(g.rngsubtype, null) from pg_catalog.pg_range g where t.typtype = 'r' and g.rngtypid = t.typid),
        'grants=' || {grants t.typacl | t.typowner | t.role | everyone: usage})
    from typ t
union all
    select t.nsp, 'constraint', t.typname::text, k.conname::text, 'definition=' || pg_catalog.pg_get_constraintdef(k.oid)
    from typ t join pg_catalog.pg_constraint k on t.typtype = 'd' and k.contypid = t.typid and k.contype = 'c'
union all
    select * from (select s.nsp, 'default rights', '', case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                                             when 'T' then 'types' else d.defaclobjtype::text end
           || case when d.defaclrole = s.owner then '' else ' of ' || pg_catalog.pg_get_userbyid(d.defaclrole) end,
        'grants=' || {grants d.defaclacl | d.defaclrole | s.role | }
    from s join pg_catalog.pg_default_acl d on d.defaclnamespace = s.nsp) d (nsp, kind, parent, name, facts)
    where d.facts is not null
union all
    select s.nsp, 'statistics', coalesce(c.relname::text, ''), x.stxname::text, 'definition=' || pg_catalog.replace(pg_catalog.pg_get_statisticsobjdef(x.oid), s.schema || '.', '')
    from s join pg_catalog.pg_statistic_ext x on x.stxnamespace = s.nsp
    left join pg_catalog.pg_class c on c.oid = x.stxrelid
union all
    select s.nsp, 'operator', '', o.oprname::text || ' (' || pg_catalog.format_type(nullif(o.oprleft, 0), null) || ', '
           || pg_catalog.format_type(nullif(o.oprright, 0), null) || ')', 'function=' || o.oprcode
    from s join pg_catalog.pg_operator o on o.oprnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass and m.objid = o.oid)
union all
    select s.nsp, 'collation', '', l.collname::text, pg_catalog.concat_ws(E'\x1f', 'provider=' || l.collprovider::text, 'locale=' || l.collcollate::text)
    from s join pg_catalog.pg_collation l on l.collnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_collation'::pg_catalog.regclass and m.objid = l.oid)
union all
    select s.nsp, 'text search configuration', '', f.cfgname::text, ''
    from s join pg_catalog.pg_ts_config f on f.cfgnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_ts_config'::pg_catalog.regclass and m.objid = f.oid)
)
