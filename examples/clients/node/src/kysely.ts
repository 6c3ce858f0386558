// A tenant's transaction with Kysely, over a TenantPool (pg.ts). Over pg's own Pool a lost connection ends the process, and a COMMIT
// that the server turns into a ROLLBACK is not noticed.
import { type Kysely, type Transaction, sql } from "kysely";

export function withTenant<DB, T>(db: Kysely<DB>, slug: string, body: (trx: Transaction<DB>) => Promise<T>): Promise<T> {
  return db.transaction().execute(async (trx) => {
    await sql`select public.cgk_enter(${slug})`.execute(trx);
    const result = await body(trx);
    await sql`select public.cgk_check(${slug})`.execute(trx);
    return result;
  });
}
