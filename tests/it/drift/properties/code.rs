//! Properties of functions, triggers, policies, rules and views.

use super::Row;

pub(crate) const CODE: &[Row] = &[
    (
        14,
        "alter table orders disable trigger orders_touch",
        "alter table orders enable trigger orders_touch",
        "trigger orders.orders_touch: state",
    ),
    (
        14,
        "alter table orders enable replica trigger orders_touch",
        "alter table orders enable trigger orders_touch",
        "trigger orders.orders_touch: state",
    ),
    (
        14,
        "alter table orders enable always trigger orders_touch",
        "alter table orders enable trigger orders_touch",
        "trigger orders.orders_touch: state",
    ),
    (
        14,
        "comment on trigger orders_touch on orders is 'x'",
        "comment on trigger orders_touch on orders is null",
        "trigger orders.orders_touch: comment",
    ),
    (14, "alter table items disable rule kept", "alter table items enable rule kept", "rule items.kept: state"),
    (14, "alter table items enable always rule kept", "alter table items enable rule kept", "rule items.kept: state"),
    (
        14,
        "create or replace rule kept as on delete to items do also select 1",
        "create or replace rule kept as on delete to items do instead nothing",
        "rule items.kept: definition",
    ),
    (
        14,
        "alter policy orders_all on orders using (true)",
        "alter policy orders_all on orders using (total >= 0)",
        "policy orders.orders_all: using",
    ),
    (
        14,
        "alter policy orders_all on orders with check (true)",
        "alter policy orders_all on orders with check (total >= 1)",
        "policy orders.orders_all: check",
    ),
    (
        14,
        "alter policy orders_all on orders to pg_monitor",
        "alter policy orders_all on orders to public",
        "policy orders.orders_all: roles",
    ),
    (
        14,
        "drop policy orders_all on orders; create policy orders_all on orders as restrictive using (total >= 0) with check (total >= 1)",
        "drop policy orders_all on orders; create policy orders_all on orders using (total >= 0) with check (total >= 1)",
        "policy orders.orders_all: kind",
    ),
    (
        14,
        "drop policy orders_all on orders; create policy orders_all on orders for update using (total >= 0) with check (total >= 1)",
        "drop policy orders_all on orders; create policy orders_all on orders using (total >= 0) with check (total >= 1)",
        "policy orders.orders_all: command",
    ),
    (14, "alter function answer cost 7", "alter function answer cost 100", "function answer(a integer): cost"),
    (14, "alter function many rows 7", "alter function many rows 1000", "function many(): rows"),
    (14, "alter function answer stable", "alter function answer volatile", "function answer(a integer): volatility"),
    (14, "alter function answer immutable", "alter function answer volatile", "function answer(a integer): volatility"),
    (
        14,
        "alter function answer parallel safe",
        "alter function answer parallel unsafe",
        "function answer(a integer): parallel",
    ),
    (
        14,
        "alter function answer leakproof",
        "alter function answer not leakproof",
        "function answer(a integer): leakproof",
    ),
    (
        14,
        "alter function answer strict",
        "alter function answer called on null input",
        "function answer(a integer): on null input",
    ),
    (
        14,
        "alter function answer security definer",
        "alter function answer security invoker",
        "function answer(a integer): security",
    ),
    (
        14,
        "alter function answer set work_mem = '1MB'",
        "alter function answer reset work_mem",
        "function answer(a integer): settings",
    ),
    (
        14,
        "create or replace function answer(a int default 1) returns int language sql as 'select 43'",
        "create or replace function answer(a int default 1) returns int language sql as 'select 42'",
        "function answer(a integer): body",
    ),
    (
        14,
        "create or replace function answer(a int default 2) returns int language sql as 'select 42'",
        "create or replace function answer(a int default 1) returns int language sql as 'select 42'",
        "function answer(a integer): arguments",
    ),
    (
        14,
        "alter function answer owner to pg_monitor",
        "alter function answer owner to {owner}",
        "function answer(a integer): owner",
    ),
    (
        14,
        "grant execute on function answer to pg_monitor",
        "revoke execute on function answer from pg_monitor",
        "function answer(a integer): grants",
    ),
    (
        14,
        "comment on function answer is 'x'",
        "comment on function answer is null",
        "function answer(a integer): comment",
    ),
    (
        14,
        "alter procedure tidy security definer",
        "alter procedure tidy security invoker",
        "procedure tidy(): security",
    ),
    (
        14,
        "create or replace aggregate highest (int) (sfunc = int4larger, stype = int, parallel = safe)",
        "create or replace aggregate highest (int) (sfunc = int4larger, stype = int)",
        "aggregate highest(integer): parallel",
    ),
];

pub(crate) const VIEWS: &[Row] = &[
    (
        15,
        "alter view open_orders set (security_invoker = true)",
        "alter view open_orders reset (security_invoker)",
        "view open_orders: options",
    ),
    (
        14,
        "alter view open_orders set (security_barrier = true)",
        "alter view open_orders reset (security_barrier)",
        "view open_orders: options",
    ),
    (
        14,
        "alter view open_orders set (check_option = local)",
        "alter view open_orders reset (check_option)",
        "view open_orders: options",
    ),
    (
        14,
        "create or replace view open_orders as select id, total from orders",
        "create or replace view open_orders as select id, total from orders where total > 0",
        "view open_orders: definition",
    ),
    (
        14,
        "alter view open_orders alter total set default 5",
        "alter view open_orders alter total drop default",
        "column open_orders.total: default",
    ),
    (
        14,
        "grant insert on open_orders to pg_monitor",
        "revoke insert on open_orders from pg_monitor",
        "view open_orders: grants",
    ),
    (
        14,
        "alter view open_orders owner to pg_monitor",
        "alter view open_orders owner to {owner}",
        "view open_orders: owner",
    ),
    (
        14,
        "alter materialized view totals set (fillfactor = 50)",
        "alter materialized view totals reset (fillfactor)",
        "materialized view totals: options",
    ),
    (
        14,
        "alter materialized view totals cluster on totals_idx",
        "alter materialized view totals set without cluster",
        "-",
    ),
    (
        14,
        "revoke execute on function touch() from {owner}",
        "grant execute on function touch() to {owner}",
        "function touch(): grants are everyone: execute; the owner without: execute",
    ),
    (
        14,
        "revoke usage on sequence numbers from {owner}",
        "grant usage on sequence numbers to {owner}",
        "sequence numbers: grants are the owner without: usage",
    ),
    (
        14,
        "revoke usage on type mood from {owner}",
        "grant usage on type mood to {owner}",
        "type mood: grants are everyone: usage; the owner without: usage",
    ),
];
