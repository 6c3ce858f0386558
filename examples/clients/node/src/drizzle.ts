// A tenant's transaction with Drizzle, over a TenantPool (pg.ts) or a guarded postgres.js (postgresjs.ts), which refuse what runs
// after the transaction. Tables: pgTable, without a schema.
import { sql } from "drizzle-orm";
import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";

type Db<H extends PgQueryResultHKT, S extends Record<string, unknown>> = PgDatabase<H, S> & { $client: object };
type Tx<H extends PgQueryResultHKT, S extends Record<string, unknown>> = Parameters<Parameters<Db<H, S>["transaction"]>[0]>[0];

export function withTenant<T, H extends PgQueryResultHKT, S extends Record<string, unknown>>(
  db: Db<H, S>,
  slug: string,
  body: (tx: Tx<H, S>) => Promise<T>,
): Promise<T> {
  if (!Reflect.get(db.$client, "isGuarded")) throw new Error("drizzle() needs a TenantPool, or guarded(postgres(…))");
  return db.transaction(async (tx) => {
    await tx.execute(sql`select public.cgk_enter(${slug})`);
    const result = await body(tx);
    await tx.execute(sql`select public.cgk_check(${slug})`);
    return result;
  });
}
