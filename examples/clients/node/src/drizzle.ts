// A tenant's transaction with Drizzle, over node-postgres or postgres.js. Tables: pgTable, without a schema.
import { sql } from "drizzle-orm";
import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";

type Db<H extends PgQueryResultHKT, S extends Record<string, unknown>> = PgDatabase<H, S>;
type Tx<H extends PgQueryResultHKT, S extends Record<string, unknown>> = Parameters<Parameters<Db<H, S>["transaction"]>[0]>[0];

export function withTenant<T, H extends PgQueryResultHKT, S extends Record<string, unknown>>(
  db: Db<H, S>,
  slug: string,
  body: (tx: Tx<H, S>) => Promise<T>,
): Promise<T> {
  return db.transaction(async (tx) => {
    await tx.execute(sql`select public.cgk_enter(${slug})`);
    const result = await body(tx);
    await tx.execute(sql`select public.cgk_check(${slug})`);
    return result;
  });
}
