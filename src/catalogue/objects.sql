-- What the catalogue says of every object of some schemas, one row an object: (nsp, kind, parent, name, facts).
-- Stands after `with s (nsp, schema, owner, role) as (…),`. facts are "aspect=value", joined by U+001F; what is not there is left
-- out. query.rs writes out the markers:
-- `{{text}} … {{fingerprint}} … {{end}}`: what people read, and what is only compared. Equal fingerprints must mean equal texts.
-- `{grants acl | owner | role | default}`: the rights, and those that the owner lacks; a right in a fifth field is left out.
-- `{comment catalogue | oid}`: the comment, with another name of the aspect in a third field.
-- `{key text | …}`: a hash of the fields.
--
-- Left out on purpose: what extensions own, what an owner may do to its own, internal triggers, and the name of a table's file; of the
-- ledger, the comment, who may read it as a whole, and the column that an earlier version's ledger gets with its first repair. A NOT NULL
-- is told with its column or domain, by its name only where somebody gave it one: PostgreSQL 18 names them all, and an upgrade
-- from an earlier version names them anew.
member as materialized (
    select classid, objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and deptype = 'e'
),
-- What a schema holds, through pg_depend: no index leads from a schema to its relations, functions and types.
held as materialized (
    select d.classid, d.objid from s join pg_catalog.pg_depend d
        on d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = s.nsp and d.objsubid = 0
),
rel as materialized (
    select s.*, c.*, c.oid as relid, c.relname::pg_catalog.text as rel,
           c.relname = 'schema_migrations' and c.relkind in ('r', 'p') as is_ledger,
           -- The names of the columns by their numbers, without those of dropped columns.
           array(select case when not a.attisdropped then a.attname::pg_catalog.text end from pg_catalog.pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 order by a.attnum) as cols,
           -- The comments of the relation (number 0) and of its columns.
           (select pg_catalog.jsonb_object_agg(d.objsubid, d.description) from pg_catalog.pg_description d
            where d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objoid = c.oid) as notes,
           -- The columns whose NOT NULL is a constraint: from PostgreSQL 18 on.
           array(select n.conkey[1] from pg_catalog.pg_constraint n where n.conrelid = c.oid and n.contype = 'n') as not_null
    from (select h.objid from held h where h.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          -- A composite type is in the schema, and its relation depends on the type.
          union all
          select t.typrelid from held h join pg_catalog.pg_type t on t.oid = h.objid
          where h.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and t.typtype = 'c'
            and not exists (select from member m where m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and m.objid = t.oid)) h (objid)
    join pg_catalog.pg_class c on c.oid = h.objid
    join s on s.nsp = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c')
      and not exists (select from member m where m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and m.objid = c.oid)
),
proc as materialized (
    select s.*, p.*, p.oid as procid,
           p.proname::pg_catalog.text || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')' as signature
    from held h join pg_catalog.pg_proc p on p.oid = h.objid and h.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    join s on s.nsp = p.pronamespace
    where not exists (select from member m where m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and m.objid = p.oid)
      -- The constructors of a range are a part of it.
      and not exists (select from pg_catalog.pg_depend i where i.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and i.objid = p.oid and i.deptype = 'i')
),
typ as materialized (
    select s.*, t.*, t.oid as typid
    from held h join pg_catalog.pg_type t on t.oid = h.objid and h.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
    join s on s.nsp = t.typnamespace
    -- 'p' is a type that was declared and not defined.
    where (t.typtype in ('e', 'd', 'r', 'p') or (t.typtype = 'b' and t.typelem = 0))
      and not exists (select from member m where m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and m.objid = t.oid)
),
{{fingerprint}}
-- To write an expression takes the server longer than to read it, and most tenants have the same. Those with the same tree,
-- in a table of the same name with the same columns, have the same text. It is written once for all, and found by a hash. A join
-- would be planned without knowing how many there are.
shape as materialized (
    select c.nsp, c.relid, c.rel, c.is_ledger, c.cols, c.rel || E'\x1d' || pg_catalog.array_to_string(c.cols, E'\x1d', '') as names from rel c
),
checks as materialized (
    select c.nsp, c.rel, k.oid, k.conname::pg_catalog.text as name,
           -- The last is from PostgreSQL 18 on.
           {key c.names | k.conbin::pg_catalog.text | k.connoinherit | k.convalidated | k.condeferrable | k.condeferred
               | (select (select conenforced from (select k.*) y) from (select true as conenforced) without)} as key
    from shape c join pg_catalog.pg_constraint k on k.conrelid = c.relid and k.contype = 'c'
    where k.conparentid = 0 or not exists (select from pg_catalog.pg_constraint a where a.oid = k.conparentid and a.conrelid = k.conrelid)
),
check_texts (of_key) as materialized (
    select pg_catalog.jsonb_object_agg(t.key, t.text) from (
        select y.key, pg_catalog.pg_get_constraintdef(min(y.oid)) as text from checks y group by y.key having pg_catalog.count(*) > 1) t
),
defaults as materialized (
    select c.nsp, c.rel, d.oid, c.cols[d.adnum] as name, {key c.names | d.adbin::pg_catalog.text} as key
    from shape c join pg_catalog.pg_attrdef d on d.adrelid = c.relid
    where not (c.is_ledger and c.cols[d.adnum] = 'repairs')
),
default_texts (of_key) as materialized (
    select pg_catalog.jsonb_object_agg(t.key, t.text) from (
        select y.key, (select pg_catalog.pg_get_expr(a.adbin, a.adrelid) from pg_catalog.pg_attrdef a where a.oid = min(y.oid)) as text from defaults y group by y.key having pg_catalog.count(*) > 1) t
),
index_expressions as materialized (
    select c.nsp, c.rel, i.indexrelid as oid, x.relname::pg_catalog.text as name,
           {key c.names | coalesce(i.indexprs::pg_catalog.text, '') | coalesce(i.indpred::pg_catalog.text, '')} as key
    from shape c join pg_catalog.pg_index i on i.indrelid = c.relid and (i.indexprs is not null or i.indpred is not null)
    join pg_catalog.pg_class x on x.oid = i.indexrelid
),
index_texts (of_key) as materialized (
    select pg_catalog.jsonb_object_agg(t.key, t.text) from (
        select y.key, (
            select pg_catalog.concat_ws(E'\x1f', 'expressions=' || pg_catalog.pg_get_expr(i.indexprs, i.indrelid), 'condition=' || pg_catalog.pg_get_expr(i.indpred, i.indrelid))
            from pg_catalog.pg_index i where i.indexrelid = min(y.oid)) as text from index_expressions y group by y.key having pg_catalog.count(*) > 1) t
),
{{end}}
object (nsp, kind, parent, name, facts) as (
    select s.nsp, 'schema', '', '', pg_catalog.concat_ws(E'\x1f',
        (select 'publications=' || pg_catalog.string_agg(b.pubname::pg_catalog.text, ', ' order by b.pubname::pg_catalog.text collate "C")
         -- 6237 is pg_publication_namespace, which PostgreSQL 14 does not have.
         from pg_catalog.pg_depend d join pg_catalog.pg_depend e on e.classid = 6237 and e.objid = d.objid and e.refclassid = 'pg_catalog.pg_publication'::pg_catalog.regclass
         join pg_catalog.pg_publication b on b.oid = e.refobjid
         where d.classid = 6237 and d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = s.nsp),
        case when n.nspname <> 'public' and n.nspowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(n.nspowner) end,
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
        'options=' || (select pg_catalog.string_agg(o, ', ' order by o collate "C") from pg_catalog.unnest(c.reloptions) o),
        (select 'toast options=' || (select pg_catalog.string_agg(o, ', ' order by o collate "C") from pg_catalog.unnest(w.reloptions) o)
         from pg_catalog.pg_class w where c.reltoastrelid <> 0 and w.oid = c.reltoastrelid and w.reloptions is not null),
        case when c.relam <> 0 and c.relkind in ('r', 'p', 'm')
             then 'access method=' || nullif((select m.amname::pg_catalog.text from pg_catalog.pg_am m where m.oid = c.relam), 'heap') end,
        case when c.reltablespace <> 0 then 'tablespace=' || (select b.spcname::pg_catalog.text from pg_catalog.pg_tablespace b where b.oid = c.reltablespace) end,
        case when c.reloftype <> 0 then 'of type=' || pg_catalog.format_type(c.reloftype, null) end,
        (select 'server=' || v.srvname::pg_catalog.text || coalesce(' (' || pg_catalog.array_to_string(f.ftoptions, ', ') || ')', '')
         from pg_catalog.pg_foreign_table f join pg_catalog.pg_foreign_server v on v.oid = f.ftserver where c.relkind = 'f' and f.ftrelid = c.relid),
        case when c.relhassubclass then (
            select 'children elsewhere=' || pg_catalog.string_agg(h.inhrelid::pg_catalog.regclass::pg_catalog.text, ', ' order by h.inhrelid::pg_catalog.regclass::pg_catalog.text collate "C")
            from pg_catalog.pg_inherits h join pg_catalog.pg_class k on k.oid = h.inhrelid
            where h.inhparent = c.relid and k.relnamespace <> c.nsp) end,
        (select 'detach pending=yes' from pg_catalog.pg_inherits h where h.inhrelid = c.relid and h.inhdetachpending),
        (select 'publications=' || pg_catalog.string_agg(b.pubname::pg_catalog.text
                || coalesce(' (' || (select pg_catalog.string_agg(a.attname::pg_catalog.text, ', ' order by a.attnum) from pg_catalog.pg_attribute a
                                     where a.attrelid = c.relid and a.attnum = any (pg_catalog.string_to_array(pg_catalog.translate(pg_catalog.to_jsonb(x) ->> 'prattrs', '[] ', ''), ',')::pg_catalog.int2[])) || ')', '')
                || coalesce(' where ' || (
                       -- PostgreSQL 14 has no filters: there the name is that of the column outside.
                       select (select pg_catalog.pg_get_expr(prqual, prrelid) from pg_catalog.pg_publication_rel y where y.oid = x.oid)
                       from (select null::pg_catalog.pg_node_tree as prqual) without), ''), ', ' order by b.pubname::pg_catalog.text collate "C")
         from pg_catalog.pg_publication_rel x join pg_catalog.pg_publication b on b.oid = x.prpubid where c.relkind in ('r', 'p') and x.prrelid = c.relid),
        case when c.relkind = 'c' then {comment pg_type | c.reltype} when not c.is_ledger then 'comment=' || (c.notes ->> '0') end,
        case when c.relkind in ('v', 'm') then 'definition=' || pg_catalog.pg_get_viewdef(c.relid) end,
        case when c.relkind = 'm' then 'populated=' || case when c.relispopulated then 'yes' else 'no' end end,
        (select 'inherits=' || pg_catalog.string_agg(h.inhparent::pg_catalog.regclass::pg_catalog.text, ', ' order by h.inhseqno)
         from pg_catalog.pg_inherits h where h.inhrelid = c.relid),
        (select pg_catalog.concat_ws(E'\x1f', 'data type=' || pg_catalog.format_type(q.seqtypid, null), 'start=' || q.seqstart,
                'increment=' || q.seqincrement, 'minimum=' || q.seqmin, 'maximum=' || q.seqmax, 'cache=' || q.seqcache,
                case when q.seqcycle then 'cycle=yes' end,
                case c.relpersistence when 'u' then 'logging=unlogged' end,
                (select 'owned by=' || r.relname::pg_catalog.text || '.' || a.attname::pg_catalog.text from pg_catalog.pg_depend d
                 join pg_catalog.pg_class r on r.oid = d.refobjid
                 join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                 where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.relid and d.objsubid = 0
                   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype in ('a', 'i')))
         from pg_catalog.pg_sequence q where c.relkind = 'S' and q.seqrelid = c.relid),
        case when c.is_ledger then 'grants=' || {grants c.relacl | c.relowner | c.role | | select}
             when c.relkind <> 'c' then 'grants=' || {grants c.relacl | c.relowner | c.role | } end,
        (select 'grants=' || {grants y.typacl | y.typowner | c.role | everyone: usage}
         from pg_catalog.pg_type y where c.relkind = 'c' and y.oid = c.reltype))
    from rel c
union all
    select c.nsp, 'columns', c.rel, '', pg_catalog.array_to_string(c.cols, ', ')
    from rel c where c.relkind <> 'S' and not c.is_ledger and pg_catalog.array_to_string(c.cols, '') <> ''
union all
    select c.nsp, 'column', c.rel, a.attname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'type=' || pg_catalog.format_type(a.atttypid, a.atttypmod),
        case when not a.attnotnull then 'not null=no' when n.oid is null then 'not null=yes'
             else pg_catalog.concat_ws(E'\x1f',
                 'not null=yes' || case when n.connoinherit then ', no inherit' else '' end || case when n.convalidated then '' else ', not valid' end,
                 case when n.conname !~ '_not_null[0-9]*$' then 'not null constraint=' || n.conname::pg_catalog.text end,
                 {comment pg_constraint | n.oid | not null comment}) end,
        {{text}}
        case a.attgenerated when '' then 'default=' || pg_catalog.pg_get_expr(d.adbin, d.adrelid)
             else 'generated=' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) || case a.attgenerated when 's' then ' stored' else ' virtual' end end,
        {{fingerprint}}
        'generated=' || nullif(a.attgenerated::pg_catalog.text, ''),
        {{end}}
        case a.attidentity when 'a' then 'identity=always' when 'd' then 'identity=by default' end,
        case when a.attcollation <> 0 and a.attcollation <> 100
             then 'collation=' || a.attcollation::pg_catalog.regcollation::pg_catalog.text end,
        -- Another storage is possible only for types of variable length.
        case when a.attlen = -1 and a.attstorage <> (select y.typstorage from pg_catalog.pg_type y where y.oid = a.atttypid)
             then 'storage=' || case a.attstorage when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended' end end,
        case a.attcompression when 'p' then 'compression=pglz' when 'l' then 'compression=lz4' end,
        case when coalesce(a.attstattarget, -1) >= 0 then 'statistics target=' || a.attstattarget end,
        'options=' || (select pg_catalog.string_agg(o, ', ' order by o collate "C") from pg_catalog.unnest(a.attoptions) o),
        'foreign options=' || pg_catalog.array_to_string(a.attfdwoptions, ', '),
        'comment=' || (c.notes ->> a.attnum::pg_catalog.text),
        'grants=' || {grants a.attacl | c.relowner | c.role | })
    from rel c join pg_catalog.pg_attribute a on a.attrelid = c.relid and a.attnum > 0 and not a.attisdropped
    {{text}}
    left join pg_catalog.pg_attrdef d on a.atthasdef and d.adrelid = a.attrelid and d.adnum = a.attnum
    {{end}}
    -- From PostgreSQL 18 on.
    left join lateral (
        select n.* from pg_catalog.pg_constraint n
        where a.attnotnull and a.attnum = any (c.not_null) and n.conrelid = a.attrelid and n.contype = 'n' and n.conkey[1] = a.attnum offset 0
    ) n on true
    where c.relkind <> 'S' and not (c.is_ledger and a.attname = 'repairs')
union all
    -- The server chooses the name of the ledger's key. It is another one if a table that was renamed has the usual name's index.
    select c.nsp, 'constraint', c.rel, case when c.is_ledger and k.contype = 'p' then 'schema_migrations_pkey' else k.conname::pg_catalog.text end, pg_catalog.concat_ws(E'\x1f',
        {{text}}
        'definition=' || pg_catalog.pg_get_constraintdef(k.oid),
        {{fingerprint}}
        -- The rest of a key is that of its index.
        case when k.contype in ('p', 'u') then pg_catalog.concat_ws(' ', k.contype, k.condeferrable, k.condeferred,
            (select (select conperiod from (select k.*) y) from (select false as conperiod) without))
             else pg_catalog.pg_get_constraintdef(k.oid) end,
        {{end}}
        case when k.contype = 'f' or k.condeferrable then (
         select 'enforcing triggers=' || pg_catalog.string_agg(distinct case t.tgenabled when 'D' then 'disabled' when 'R' then 'replica only' else 'always' end, ', ')
         -- Those of a foreign key, and of a deferrable unique or exclusion constraint. Of a partitioned table that is referred to,
         -- also those on its partitions.
         from (select k.oid
               union all
               select b.oid from (with recursive below (oid) as (
                       select b.oid from pg_catalog.pg_constraint b where b.conparentid = k.oid and b.conrelid = k.conrelid
                       union all
                       select b.oid from below a join pg_catalog.pg_constraint b on b.conparentid = a.oid and b.conrelid = k.conrelid)
                   select below.oid from below) b
               where k.contype = 'f' and exists (select from pg_catalog.pg_class r where r.oid = k.confrelid and r.relkind = 'p')) h
         cross join lateral (
             select t.tgenabled from pg_catalog.pg_trigger t where t.tgconstraint = h.oid and t.tgisinternal and t.tgenabled <> 'O' offset 0) t) end,
        {comment pg_constraint | k.oid})
    from rel c join pg_catalog.pg_constraint k on k.conrelid = c.relid
    where k.contype in ({{text}} 'c', {{end}} 'f', 'p', 'u', 'x')
      -- For each partition of a table that a foreign key refers to the server has one more constraint beside the foreign key.
      and (k.conparentid = 0 or not exists (select from pg_catalog.pg_constraint a where a.oid = k.conparentid and a.conrelid = k.conrelid))
{{fingerprint}}
union all
    select k.nsp, 'constraint', k.rel, k.name, pg_catalog.concat_ws(E'\x1f',
        coalesce((select t.of_key from check_texts t) ->> k.key, pg_catalog.pg_get_constraintdef(k.oid)), {comment pg_constraint | k.oid})
    from checks k
union all
    select d.nsp, 'default', d.rel, d.name, coalesce((select t.of_key from default_texts t) ->> d.key, (select pg_catalog.pg_get_expr(a.adbin, a.adrelid) from pg_catalog.pg_attrdef a where a.oid = d.oid)) from defaults d
union all
    select x.nsp, 'index expression', x.rel, x.name, coalesce((select t.of_key from index_texts t) ->> x.key, (
            select pg_catalog.concat_ws(E'\x1f', 'expressions=' || pg_catalog.pg_get_expr(i.indexprs, i.indrelid), 'condition=' || pg_catalog.pg_get_expr(i.indpred, i.indrelid))
            from pg_catalog.pg_index i where i.indexrelid = x.oid)) from index_expressions x
{{end}}
union all
    select c.nsp, 'index', c.rel, case when c.is_ledger and i.indisprimary then 'schema_migrations_pkey' else x.relname::pg_catalog.text end, pg_catalog.concat_ws(E'\x1f',
        'state=' || case when i.indisvalid and i.indisready then 'valid' else 'INVALID' end,
        case when i.indisreplident then 'replica identity=yes' end,
        case when i.indisclustered then 'clustered=yes' end,
        case when x.reltablespace <> 0 then 'tablespace=' || (select b.spcname::pg_catalog.text from pg_catalog.pg_tablespace b where b.oid = x.reltablespace) end,
        -- Only an expression can have one.
        case when i.indexprs is not null then (
            select 'statistics targets=' || pg_catalog.string_agg(a.attnum || ': ' || a.attstattarget, ', ' order by a.attnum)
            from pg_catalog.pg_attribute a where a.attrelid = i.indexrelid and coalesce(a.attstattarget, -1) >= 0) end,
        {comment pg_class | i.indexrelid},
        {{text}}
        case when k.oid is null then 'definition=' || pg_catalog.pg_get_indexdef(i.indexrelid, 0, true)
             else 'options=' || (select pg_catalog.string_agg(o, ', ' order by o collate "C") from pg_catalog.unnest(x.reloptions) o) end
        {{fingerprint}}
        -- What pg_get_indexdef writes, without the names that it has to look up for each. An operator class belongs to one access
        -- method, and there is one for each key column: the columns after them are included ones.
        pg_catalog.concat_ws(' ', i.indisunique, i.indoption,
            case when 16384 > all (i.indclass::pg_catalog.oid[] || i.indcollation::pg_catalog.oid[]) then pg_catalog.concat_ws(' ', i.indclass, i.indcollation) end,
            -- From PostgreSQL 15 on.
            (select (select indnullsnotdistinct from (select i.*) y) from (select false as indnullsnotdistinct) without)),
        -- An operator class or a collation that is not the server's own may be one of the tenant's.
        case when 16384 <= any (i.indclass::pg_catalog.oid[] || i.indcollation::pg_catalog.oid[]) then 'definition=' || pg_catalog.pg_get_indexdef(i.indexrelid, 0, true) end,
        (select pg_catalog.string_agg(coalesce(c.cols[a.attnum], ''), ', ' order by a.place)
         from pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality a (attnum, place)),
        'options=' || x.reloptions::pg_catalog.text,
        -- B-trees (403) and hashes (405) have no parameters of operator classes.
        case when x.relam not in (403, 405) then (
            select 'parameters=' || pg_catalog.string_agg(a.attnum || ': ' || a.attoptions::pg_catalog.text, ', ' order by a.attnum)
            from pg_catalog.pg_attribute a where a.attrelid = i.indexrelid) end
        {{end}}
        )
    from rel c join pg_catalog.pg_index i on i.indrelid = c.relid
    join pg_catalog.pg_class x on x.oid = i.indexrelid
    {{text}}
    left join pg_catalog.pg_constraint k on k.conrelid = c.relid and k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
    {{end}}
union all
    select c.nsp, 'trigger', c.rel, t.tgname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'definition=' || coalesce(d.text, pg_catalog.pg_get_triggerdef(t.oid, true)),
        'state=' || case t.tgenabled when 'D' then 'disabled' when 'R' then 'replica only' when 'A' then 'always' else 'enabled' end,
        {comment pg_trigger | t.oid})
    -- PostgreSQL 14 calls the triggers that partitions have from their parent internal; those of foreign keys are everywhere.
    from rel c join pg_catalog.pg_trigger t on t.tgrelid = c.relid and (not t.tgisinternal or t.tgparentid <> 0 and not exists (
        select from pg_catalog.pg_constraint k where k.oid = t.tgconstraint and k.contype = 'f'))
    -- The text of pg_get_triggerdef, which reads all functions with the name of the trigger's function: one of each tenant. Null if
    -- the trigger has a condition, is a constraint, has tables of changed rows, or if names or arguments need a closer look.
    left join lateral (
        select 'CREATE TRIGGER ' || pg_catalog.quote_ident(t.tgname::pg_catalog.text)
               || case t.tgtype & 66 when 2 then ' BEFORE ' when 64 then ' INSTEAD OF ' else ' AFTER ' end
               || pg_catalog.concat_ws(' OR ', case when t.tgtype & 4 <> 0 then 'INSERT' end, case when t.tgtype & 8 <> 0 then 'DELETE' end,
                      case when t.tgtype & 16 <> 0 then 'UPDATE' || coalesce((
                          select ' OF ' || pg_catalog.string_agg(pg_catalog.quote_ident(c.cols[a.attnum]), ', ' order by a.place)
                          from pg_catalog.unnest(t.tgattr::pg_catalog.int2[]) with ordinality a (attnum, place)), '') end,
                      case when t.tgtype & 32 <> 0 then 'TRUNCATE' end)
               || ' ON ' || c.relid::pg_catalog.regclass::pg_catalog.text || case when t.tgtype & 1 <> 0 then ' FOR EACH ROW' else ' FOR EACH STATEMENT' end
               || ' EXECUTE FUNCTION '
               || case when n.nspname <> all (pg_catalog.current_schemas(true)) then pg_catalog.quote_ident(n.nspname::pg_catalog.text) || '.' || pg_catalog.quote_ident(p.proname::pg_catalog.text)
                       when n.nspname = pg_catalog.current_schema() and not exists (
                           select from pg_catalog.pg_proc h where h.proname = p.proname and h.pronamespace = 'pg_catalog'::pg_catalog.regnamespace)
                       then pg_catalog.quote_ident(p.proname::pg_catalog.text) end
               || '(' || coalesce((select pg_catalog.string_agg(pg_catalog.quote_literal(a.value), ', ' order by a.place)
                                   from pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.encode(t.tgargs, 'escape'), pg_catalog.chr(92) || '000')) with ordinality a (value, place)
                                   where a.place <= t.tgnargs), '') || ')' as text
        from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where p.oid = t.tgfoid and t.tgqual is null and t.tgconstraint = 0 and t.tgoldtable is null and t.tgnewtable is null
          -- A backslash stands for a byte that is no ASCII letter, or for itself.
          and pg_catalog.strpos(pg_catalog.replace(pg_catalog.encode(t.tgargs, 'escape'), pg_catalog.chr(92) || '000', ''), pg_catalog.chr(92)) = 0
        offset 0
    ) d on true
union all
    select c.nsp, 'rule', c.rel, r.rulename::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'definition=' || pg_catalog.pg_get_ruledef(r.oid, true),
        'state=' || case r.ev_enabled when 'D' then 'disabled' when 'R' then 'replica only' when 'A' then 'always' else 'enabled' end,
        {comment pg_rewrite | r.oid})
    from rel c join pg_catalog.pg_rewrite r on r.ev_class = c.relid and r.rulename <> '_RETURN' and c.relhasrules
union all
    select c.nsp, 'policy', c.rel, p.polname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'command=' || case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
        case when not p.polpermissive then 'kind=restrictive' end,
        'roles=' || (select pg_catalog.string_agg(case when o = 0 then 'everyone' when o = c.role then 'the tenant''s role' else pg_catalog.pg_get_userbyid(o) end, ', ' order by 1)
                     from pg_catalog.unnest(p.polroles) o),
        'using=' || pg_catalog.pg_get_expr(p.polqual, p.polrelid),
        'check=' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid),
        {comment pg_policy | p.oid})
    from rel c join pg_catalog.pg_policy p on p.polrelid = c.relid
    -- What an admitted login sees of the shared tables is given by `setup:database --app-role` (src/login) and by no migration.
    where not (c.nsp = 'public'::pg_catalog.regnamespace and exists (
        select from pg_catalog.pg_roles r where p.polroles = array[r.oid] and (p.polname = 'cgk_login_' || r.rolname
            -- A login that reads the registry and nothing else (docs/operations.md).
            or p.polname = 'cgk_reader_' || r.rolname and p.polcmd = 'r' and p.polpermissive)))
union all
    select p.nsp, case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end, '', p.signature,
        pg_catalog.concat_ws(E'\x1f',
        'owner=' || case when p.proowner = p.owner then 'the schema''s' else pg_catalog.pg_get_userbyid(p.proowner) end,
        'arguments=' || pg_catalog.pg_get_function_arguments(p.procid),
        'returns=' || pg_catalog.pg_get_function_result(p.procid),
        'language=' || (select l.lanname::pg_catalog.text from pg_catalog.pg_language l where l.oid = p.prolang),
        'body=' || coalesce(pg_catalog.pg_get_function_sqlbody(p.procid), p.prosrc),
        case p.provolatile when 'i' then 'volatility=immutable' when 's' then 'volatility=stable' end,
        case when p.proisstrict then 'on null input=returns null' end,
        'security=' || case when p.prosecdef then 'definer' else 'invoker' end,
        case when p.proleakproof then 'leakproof=yes' end,
        case p.proparallel when 's' then 'parallel=safe' when 'r' then 'parallel=restricted' end,
        case when p.prokind = 'w' then 'window=yes' end,
        case when p.procost <> case when p.prolang in (12, 13) then 1 else 100 end then 'cost=' || p.procost end,
        case when p.proretset and p.prorows <> 1000 then 'rows=' || p.prorows end,
        case when p.prosupport <> 0 then 'support=' || p.prosupport end,
        case when p.probin is not null then 'library=' || p.probin end,
        'transforms=' || (select pg_catalog.string_agg(pg_catalog.format_type(y, null), ', ') from pg_catalog.unnest(p.protrftypes) y),
        {comment pg_proc | p.procid},
        'settings=' || pg_catalog.regexp_replace(pg_catalog.array_to_string(p.proconfig, ', '), '\m' || p.schema || '\M', '<schema>', 'g'),
        (select pg_catalog.concat_ws(E'\x1f', 'state function=' || g.aggtransfn, 'state type=' || pg_catalog.format_type(g.aggtranstype, null),
                'final function=' || nullif(g.aggfinalfn::pg_catalog.text, '-'), 'initial state=' || g.agginitval,
                'combine function=' || nullif(g.aggcombinefn::pg_catalog.text, '-'), 'serialize function=' || nullif(g.aggserialfn::pg_catalog.text, '-'),
                'deserialize function=' || nullif(g.aggdeserialfn::pg_catalog.text, '-'),
                'moving functions=' || nullif(pg_catalog.concat_ws(', ', nullif(g.aggmtransfn::pg_catalog.text, '-'), nullif(g.aggminvtransfn::pg_catalog.text, '-'), nullif(g.aggmfinalfn::pg_catalog.text, '-')), ''),
                'moving state=' || case when g.aggmtranstype <> 0 then pg_catalog.concat_ws(', ', pg_catalog.format_type(g.aggmtranstype, null), g.aggmtransspace, g.aggminitval) end,
                case when g.aggtransspace <> 0 then 'state size=' || g.aggtransspace end,
                case when g.aggsortop <> 0 then 'sort operator=' || g.aggsortop::pg_catalog.regoperator end,
                -- What the final functions may do to the state, and whether they get the arguments too.
                case when (g.aggkind, g.aggfinalmodify, g.aggmfinalmodify, g.aggfinalextra, g.aggmfinalextra) <> ('n', 'r', 'r', false, false)
                     then 'kind=' || pg_catalog.concat_ws(', ', g.aggkind, g.aggfinalmodify, g.aggmfinalmodify, g.aggfinalextra, g.aggmfinalextra) end)
         from pg_catalog.pg_aggregate g where p.prokind = 'a' and g.aggfnoid = p.procid),
        'grants=' || {grants p.proacl | p.proowner | p.role | everyone: execute})
    from proc p
union all
    select t.nsp, case t.typtype when 'd' then 'domain' else 'type' end, '', t.typname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'owner=' || case when t.typowner = t.owner then 'the schema''s' else pg_catalog.pg_get_userbyid(t.typowner) end,
        (select 'labels=' || pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel::pg_catalog.text), ', ' order by e.enumsortorder)
         from pg_catalog.pg_enum e where t.typtype = 'e' and e.enumtypid = t.typid),
        case when t.typtype = 'd' then 'type=' || pg_catalog.format_type(t.typbasetype, t.typtypmod) end,
        case when t.typtype = 'd' and t.typnotnull then 'not null=yes' end,
        (select 'not null constraint=' || k.conname::pg_catalog.text from pg_catalog.pg_constraint k
         where t.typtype = 'd' and t.typnotnull and k.contypid = t.typid and k.contype = 'n' and k.conname !~ '_not_null[0-9]*$'),
        case when t.typtype = 'd' and t.typcollation not in (0, 100) then 'collation=' || t.typcollation::pg_catalog.regcollation::pg_catalog.text end,
        -- typdefault is the text of the statement, in which names are those of its search path.
        'default=' || coalesce(pg_catalog.pg_get_expr(t.typdefaultbin, 0), t.typdefault),
        (select 'range of=' || pg_catalog.concat_ws(', ', pg_catalog.format_type(g.rngsubtype, null), nullif(g.rngcanonical::pg_catalog.text, '-'), nullif(g.rngsubdiff::pg_catalog.text, '-'),
                'multirange ' || pg_catalog.format_type(g.rngmultitypid, null), nullif(nullif(g.rngcollation, 0), 100)::pg_catalog.regcollation::pg_catalog.text,
                (select 'operator class ' || o.opcname::pg_catalog.text from pg_catalog.pg_opclass o where o.oid = g.rngsubopc and not o.opcdefault)) from pg_catalog.pg_range g where t.typtype = 'r' and g.rngtypid = t.typid),
        {comment pg_type | t.typid},
        'grants=' || {grants t.typacl | t.typowner | t.role | everyone: usage})
    from typ t
union all
    select t.nsp, 'constraint', t.typname::pg_catalog.text, k.conname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f', 'definition=' || pg_catalog.pg_get_constraintdef(k.oid),
        {comment pg_constraint | k.oid})
    from typ t join pg_catalog.pg_constraint k on t.typtype = 'd' and k.contypid = t.typid and k.contype = 'c'
union all
    select * from (select s.nsp, 'default rights', '', case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                                             when 'T' then 'types' else d.defaclobjtype::pg_catalog.text end
           || case when d.defaclrole = s.owner then '' else ' of ' || pg_catalog.pg_get_userbyid(d.defaclrole) end,
        'grants=' || {grants d.defaclacl | d.defaclrole | s.role | }
    from held h join pg_catalog.pg_default_acl d on d.oid = h.objid and h.classid = 'pg_catalog.pg_default_acl'::pg_catalog.regclass
    join s on d.defaclnamespace = s.nsp) d (nsp, kind, parent, name, facts)
    where d.facts is not null
union all
    select s.nsp, 'statistics', coalesce(c.relname::pg_catalog.text, ''), x.stxname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'definition=' || pg_catalog.replace(pg_catalog.pg_get_statisticsobjdef(x.oid), s.schema || '.', ''),
        case when x.stxowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(x.stxowner) end,
        case when coalesce(x.stxstattarget, -1) >= 0 then 'statistics target=' || x.stxstattarget end,
        {comment pg_statistic_ext | x.oid})
    from held h join pg_catalog.pg_statistic_ext x on x.oid = h.objid and h.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass join s on x.stxnamespace = s.nsp
    left join pg_catalog.pg_class c on c.oid = x.stxrelid
union all
    select s.nsp, 'operator', '', o.oprname::pg_catalog.text || ' (' || pg_catalog.format_type(nullif(o.oprleft, 0), null) || ', '
           || pg_catalog.format_type(nullif(o.oprright, 0), null) || ')', pg_catalog.concat_ws(E'\x1f', 'function=' || o.oprcode,
        'returns=' || pg_catalog.format_type(nullif(o.oprresult, 0), null),
        case when o.oprcanmerge then 'merges=yes' end, case when o.oprcanhash then 'hashes=yes' end,
        'restrict=' || nullif(o.oprrest::pg_catalog.text, '-'), 'join=' || nullif(o.oprjoin::pg_catalog.text, '-'),
        case when o.oprcom <> 0 then 'commutator=' || o.oprcom::pg_catalog.regoperator end,
        case when o.oprnegate <> 0 then 'negator=' || o.oprnegate::pg_catalog.regoperator end,
        case when o.oprowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(o.oprowner) end,
        {comment pg_operator | o.oid})
    from held h join pg_catalog.pg_operator o on o.oid = h.objid and h.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass join s on o.oprnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass and m.objid = o.oid)
union all
    select s.nsp, 'collation', '', l.collname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f', 'provider=' || l.collprovider::pg_catalog.text, 'locale=' || l.collcollate::pg_catalog.text,
        'icu locale=' || coalesce(pg_catalog.to_jsonb(l) ->> 'colliculocale', pg_catalog.to_jsonb(l) ->> 'colllocale'),
        case when l.collctype <> l.collcollate then 'character type=' || l.collctype::pg_catalog.text end,
        'rules=' || (pg_catalog.to_jsonb(l) ->> 'collicurules'),
        case when not l.collisdeterministic then 'deterministic=no' end,
        case when l.collowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(l.collowner) end,
        {comment pg_collation | l.oid})
    from held h join pg_catalog.pg_collation l on l.oid = h.objid and h.classid = 'pg_catalog.pg_collation'::pg_catalog.regclass join s on l.collnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_collation'::pg_catalog.regclass and m.objid = l.oid)
union all
    select s.nsp, 'text search configuration', '', f.cfgname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        (select case when p.prsname <> 'default' then 'parser=' || p.prsname::pg_catalog.text end from pg_catalog.pg_ts_parser p where p.oid = f.cfgparser),
        'mappings=' || (select pg_catalog.string_agg(m.maptokentype || ': ' || m.mapdict::pg_catalog.regdictionary, ', ' order by m.maptokentype, m.mapseqno)
                        from pg_catalog.pg_ts_config_map m where m.mapcfg = f.oid),
        case when f.cfgowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(f.cfgowner) end,
        {comment pg_ts_config | f.oid})
    from held h join pg_catalog.pg_ts_config f on f.oid = h.objid and h.classid = 'pg_catalog.pg_ts_config'::pg_catalog.regclass join s on f.cfgnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_ts_config'::pg_catalog.regclass and m.objid = f.oid)
union all
    select s.nsp, 'text search dictionary', '', f.dictname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'template=' || (select t.tmplname::pg_catalog.text from pg_catalog.pg_ts_template t where t.oid = f.dicttemplate), 'options=' || f.dictinitoption,
        case when f.dictowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(f.dictowner) end,
        {comment pg_ts_dict | f.oid})
    from held h join pg_catalog.pg_ts_dict f on f.oid = h.objid and h.classid = 'pg_catalog.pg_ts_dict'::pg_catalog.regclass join s on f.dictnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_ts_dict'::pg_catalog.regclass and m.objid = f.oid)
union all
    select s.nsp, 'conversion', '', f.conname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f', 'function=' || f.conproc, case when f.condefault then 'default=yes' end,
        'encodings=' || pg_catalog.pg_encoding_to_char(f.conforencoding) || ', ' || pg_catalog.pg_encoding_to_char(f.contoencoding),
        case when f.conowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(f.conowner) end,
        {comment pg_conversion | f.oid})
    from held h join pg_catalog.pg_conversion f on f.oid = h.objid and h.classid = 'pg_catalog.pg_conversion'::pg_catalog.regclass join s on f.connamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_conversion'::pg_catalog.regclass and m.objid = f.oid)
union all
    select s.nsp, 'operator class', '', f.opcname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f', 'type=' || pg_catalog.format_type(f.opcintype, null),
        'method=' || (select m.amname::pg_catalog.text from pg_catalog.pg_am m where m.oid = f.opcmethod), case when f.opcdefault then 'default=yes' end,
        case when f.opckeytype <> 0 then 'storage=' || pg_catalog.format_type(f.opckeytype, null) end,
        case when f.opcowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(f.opcowner) end,
        {comment pg_opclass | f.oid})
    from held h join pg_catalog.pg_opclass f on f.oid = h.objid and h.classid = 'pg_catalog.pg_opclass'::pg_catalog.regclass join s on f.opcnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_opclass'::pg_catalog.regclass and m.objid = f.oid)
union all
    select s.nsp, 'operator family', '', f.opfname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'method=' || (select m.amname::pg_catalog.text from pg_catalog.pg_am m where m.oid = f.opfmethod),
        'operators=' || (select pg_catalog.string_agg(o.held, ', ' order by o.held collate "C") from (
            select a.amopstrategy || ' ' || a.amopopr::pg_catalog.regoperator::pg_catalog.text
                   || case when a.amoppurpose = 'o' then ' for order by' else '' end as held
            from pg_catalog.pg_amop a where a.amopfamily = f.oid) o),
        'functions=' || (select pg_catalog.string_agg(o.held, ', ' order by o.held collate "C") from (
            select a.amprocnum || ' (' || pg_catalog.format_type(a.amproclefttype, null) || ', ' || pg_catalog.format_type(a.amprocrighttype, null)
                   || ') ' || a.amproc::pg_catalog.oid::pg_catalog.regprocedure::pg_catalog.text as held
            from pg_catalog.pg_amproc a where a.amprocfamily = f.oid) o),
        case when f.opfowner <> s.owner then 'owner=' || pg_catalog.pg_get_userbyid(f.opfowner) end,
        {comment pg_opfamily | f.oid})
    from held h join pg_catalog.pg_opfamily f on f.oid = h.objid and h.classid = 'pg_catalog.pg_opfamily'::pg_catalog.regclass join s on f.opfnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_opfamily'::pg_catalog.regclass and m.objid = f.oid)
union all
    -- A cast has no schema; it goes with its source, or else with its target.
    select s.nsp, 'cast', '', pg_catalog.format_type(k.castsource, null) || ' AS ' || pg_catalog.format_type(k.casttarget, null), pg_catalog.concat_ws(E'\x1f',
        'method=' || case k.castmethod when 'f' then k.castfunc::pg_catalog.oid::pg_catalog.regprocedure::pg_catalog.text when 'i' then 'inout' else 'binary' end,
        case k.castcontext when 'i' then 'context=implicit' when 'a' then 'context=assignment' end,
        {comment pg_cast | k.oid})
    from (select k.oid, k.castsource from pg_catalog.pg_cast k
          union all
          select k.oid, k.casttarget from pg_catalog.pg_cast k join pg_catalog.pg_type a on a.oid = k.castsource join pg_catalog.pg_type b on b.oid = k.casttarget
          where a.typnamespace <> b.typnamespace) c (oid, typid)
    join pg_catalog.pg_cast k on k.oid = c.oid join pg_catalog.pg_type t on t.oid = c.typid join s on s.nsp = t.typnamespace
    where not exists (select from member m where m.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass and m.objid = k.oid)
      -- That of a range to its multirange is a part of it.
      and not exists (select from pg_catalog.pg_depend i where i.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass and i.objid = k.oid and i.deptype = 'i')
union all
    -- In the shared schema, extensions are the operator's. No set of migrations creates one in each tenant's.
    select s.nsp, 'extension', '', e.extname::pg_catalog.text, 'version=' || e.extversion
    from held h join pg_catalog.pg_extension e on e.oid = h.objid and h.classid = 'pg_catalog.pg_extension'::pg_catalog.regclass
    join s on s.nsp = e.extnamespace
    where s.nsp <> 'public'::pg_catalog.regnamespace
union all
    -- It fires in the whole database; it goes with its function.
    select p.nsp, 'event trigger', '', e.evtname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f', 'event=' || e.evtevent::pg_catalog.text,
        'function=' || p.signature, 'tags=' || (select pg_catalog.string_agg(g, ', ' order by g collate "C") from pg_catalog.unnest(e.evttags) g),
        'state=' || case e.evtenabled when 'D' then 'disabled' when 'R' then 'replica only' when 'A' then 'always' else 'enabled' end,
        {comment pg_event_trigger | e.oid})
    from proc p join pg_catalog.pg_event_trigger e on e.evtfoid = p.procid
    where not exists (select from member m where m.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass and m.objid = e.oid)
union all
    select s.nsp, 'text search parser', '', f.prsname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'functions=' || pg_catalog.concat_ws(', ', f.prsstart, f.prstoken, f.prsend, f.prsheadline, f.prslextype),
        {comment pg_ts_parser | f.oid})
    from held h join pg_catalog.pg_ts_parser f on f.oid = h.objid and h.classid = 'pg_catalog.pg_ts_parser'::pg_catalog.regclass join s on f.prsnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_ts_parser'::pg_catalog.regclass and m.objid = f.oid)
union all
    select s.nsp, 'text search template', '', f.tmplname::pg_catalog.text, pg_catalog.concat_ws(E'\x1f',
        'functions=' || pg_catalog.concat_ws(', ', f.tmplinit, f.tmpllexize),
        {comment pg_ts_template | f.oid})
    from held h join pg_catalog.pg_ts_template f on f.oid = h.objid and h.classid = 'pg_catalog.pg_ts_template'::pg_catalog.regclass join s on f.tmplnamespace = s.nsp
    where not exists (select from member m where m.classid = 'pg_catalog.pg_ts_template'::pg_catalog.regclass and m.objid = f.oid)
)
