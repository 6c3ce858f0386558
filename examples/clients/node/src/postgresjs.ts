// A tenant's transaction with postgres.js: postgres({ prepare: false }).
import type { Sql, TransactionSql } from "postgres";

export async function withTenant<T>(sql: Sql, slug: string, body: (tx: TransactionSql) => Promise<T>): Promise<T> {
  let result: T;
  await sql.begin(async (tx) => {
    await tx`select public.cgk_enter(${slug})`;
    result = await body(tx);
    await tx`select public.cgk_check(${slug})`;
  });
  return result!;
}
