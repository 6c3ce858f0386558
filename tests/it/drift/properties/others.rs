//! Properties of sequences, types and all other objects.

use super::Row;

pub(crate) const SEQUENCES: &[Row] = &[
    (14, "alter sequence numbers increment 5", "alter sequence numbers increment 1", "sequence numbers: increment"),
    (14, "alter sequence numbers minvalue -5", "alter sequence numbers minvalue 1", "sequence numbers: minimum"),
    (14, "alter sequence numbers maxvalue 77", "alter sequence numbers no maxvalue", "sequence numbers: maximum"),
    (14, "alter sequence numbers start 5", "alter sequence numbers start 1", "sequence numbers: start"),
    (14, "alter sequence numbers cache 5", "alter sequence numbers cache 1", "sequence numbers: cache"),
    (14, "alter sequence numbers cycle", "alter sequence numbers no cycle", "sequence numbers: cycle"),
    (14, "alter sequence few as int", "alter sequence few as bigint", "sequence few: data type"),
    (
        14,
        "alter sequence numbers owned by orders.total",
        "alter sequence numbers owned by none",
        "sequence numbers: owned by",
    ),
    (15, "alter sequence numbers set unlogged", "alter sequence numbers set logged", "sequence numbers: logging"),
    (
        14,
        "grant update on sequence numbers to pg_monitor",
        "revoke update on sequence numbers from pg_monitor",
        "sequence numbers: grants",
    ),
    (
        14,
        "alter sequence orders_id_seq cache 20",
        "alter sequence orders_id_seq cache 1",
        "sequence orders_id_seq: cache",
    ),
];

pub(crate) const TYPES: &[Row] = &[
    (
        14,
        "alter type mood rename value 'high' to 'tall'",
        "alter type mood rename value 'tall' to 'high'",
        "type mood: labels",
    ),
    (
        14,
        "update pg_enum set enumsortorder = -enumsortorder where enumtypid = 'mood'::regtype",
        "update pg_enum set enumsortorder = -enumsortorder where enumtypid = 'mood'::regtype",
        "type mood: labels",
    ),
    (14, "alter type mood owner to pg_monitor", "alter type mood owner to {owner}", "type mood: owner"),
    (14, "revoke usage on type mood from public", "grant usage on type mood to public", "type mood: "),
    (
        14,
        "alter type pair add attribute c int",
        "alter type pair drop attribute c",
        "column pair.c: not from any migration",
    ),
    (
        14,
        "alter type pair alter attribute a type bigint",
        "alter type pair alter attribute a type int",
        "column pair.a: type",
    ),
    (14, "alter domain word set default 'x'", "alter domain word drop default", "domain word: default"),
    (14, "alter domain word set not null", "alter domain word drop not null", "domain word: not null"),
    (14, "alter domain word owner to pg_monitor", "alter domain word owner to {owner}", "domain word: owner"),
    (
        14,
        "create cast (pair as text) with function pair_text(pair)",
        "drop cast (pair as text)",
        "cast pair AS text: not from any migration",
    ),
    (
        14,
        "create cast (pair as text) with function pair_text(pair) as implicit",
        "drop cast (pair as text)",
        "cast pair AS text: not from any migration",
    ),
];

pub(crate) const OTHERS: &[Row] = &[
    (
        14,
        "alter statistics both_columns set statistics 50",
        "alter statistics both_columns set statistics -1",
        "statistics both_columns: statistics target",
    ),
    (
        14,
        "alter statistics both_columns owner to pg_monitor",
        "alter statistics both_columns owner to {owner}",
        "statistics both_columns: owner",
    ),
    (
        14,
        "drop statistics both_columns; create statistics both_columns (ndistinct) on total, code from orders",
        "drop statistics both_columns; create statistics both_columns (dependencies) on total, code from orders",
        "statistics both_columns: definition",
    ),
    (
        14,
        "alter operator === (int, int) set (restrict = eqsel)",
        "alter operator === (int, int) set (restrict = none)",
        "operator === (integer, integer): restrict",
    ),
    (
        14,
        "alter operator === (int, int) owner to pg_monitor",
        "alter operator === (int, int) owner to {owner}",
        "operator === (integer, integer): owner",
    ),
    (
        14,
        "comment on operator === (int, int) is 'x'",
        "comment on operator === (int, int) is null",
        "operator === (integer, integer): comment",
    ),
    (
        14,
        "alter operator family ints using hash add operator 1 = (bigint, bigint)",
        "alter operator family ints using hash drop operator 1 (bigint, bigint)",
        "operator family ints: operators",
    ),
    (
        14,
        "alter operator family ints using hash add function 1 (bigint) hashint8(bigint)",
        "alter operator family ints using hash drop function 1 (bigint)",
        "operator family ints: functions",
    ),
    (
        14,
        "comment on operator family ints using hash is 'x'",
        "comment on operator family ints using hash is null",
        "operator family ints: comment",
    ),
    (
        14,
        "create operator family more using btree",
        "drop operator family more using btree",
        "operator family more: not from any migration",
    ),
    (
        14,
        "alter text search dictionary plain_words (accept = false)",
        "alter text search dictionary plain_words (accept)",
        "text search dictionary plain_words: options",
    ),
    (
        14,
        "alter text search configuration words add mapping for asciiword with simple",
        "alter text search configuration words drop mapping for asciiword",
        "text search configuration words: mappings",
    ),
    (
        14,
        "create text search parser more (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype)",
        "drop text search parser more",
        "text search parser more: not from any migration",
    ),
    (
        14,
        "create text search template more (lexize = dsimple_lexize)",
        "drop text search template more",
        "text search template more: not from any migration",
    ),
    (
        14,
        "alter collation plain owner to pg_monitor",
        "alter collation plain owner to {owner}",
        "collation plain: owner",
    ),
    (14, "create publication out_{n} for table orders", "drop publication out_{n}", "table orders: publications"),
    (
        15,
        "create publication out_{n} for table orders (id, total) where (total > 1)",
        "drop publication out_{n}",
        "table orders: publications are out_{n} (id, total) where (total > 1)",
    ),
    (
        15,
        "create publication out_{n} for table parts where (id > 1) with (publish_via_partition_root)",
        "drop publication out_{n}",
        "table parts: publications are out_{n} where (id > 1)",
    ),
    (
        15,
        "create publication out_{n} for tables in schema {schema}",
        "drop publication out_{n}",
        "schema: publications",
    ),
    (
        14,
        "create event trigger on_{n} on ddl_command_end when tag in ('CREATE OPERATOR CLASS') execute function on_ddl()",
        "drop event trigger on_{n}",
        "event trigger on_{n}: not from any migration",
    ),
    (
        14,
        "alter default privileges in schema {schema} grant select on tables to pg_monitor",
        "alter default privileges in schema {schema} revoke select on tables from pg_monitor",
        "default rights tables: grants",
    ),
    (
        14,
        "alter default privileges for role pg_monitor in schema {schema} grant execute on functions to pg_read_all_stats",
        "alter default privileges for role pg_monitor in schema {schema} revoke execute on functions from pg_read_all_stats",
        "default rights functions of pg_monitor: not from any migration",
    ),
    (
        14,
        "grant usage on schema {schema} to pg_monitor",
        "revoke usage on schema {schema} from pg_monitor",
        "schema: grants",
    ),
    (
        14,
        "grant insert on schema_migrations to pg_monitor",
        "revoke insert on schema_migrations from pg_monitor",
        "table schema_migrations: grants",
    ),
    (14, "grant select on schema_migrations to pg_monitor", "revoke select on schema_migrations from pg_monitor", "-"),
];
