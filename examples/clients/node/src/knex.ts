// A tenant's transaction with Knex.
import type { Knex } from "knex";

export function withTenant<T>(knex: Knex, slug: string, body: (trx: Knex.Transaction) => Promise<T>): Promise<T> {
  return knex.transaction(async (trx) => {
    await trx.raw("select public.cgk_enter(?)", [slug]);
    const result = await body(trx);
    // In one message, so that nothing runs in between. The name of a tenant that was entered is [a-z0-9_]. Knex then commits nothing.
    await trx.raw(`select public.cgk_check('${slug}'); commit and chain`);
    return result;
  });
}
