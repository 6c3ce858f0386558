// A tenant's transaction with TypeORM. Entities: without a schema.
import type { DataSource, EntityManager } from "typeorm";

export async function withTenant<T>(source: DataSource, slug: string, body: (manager: EntityManager) => Promise<T>): Promise<T> {
  const runner = source.createQueryRunner();
  try {
    await runner.startTransaction();
    await runner.query("select public.cgk_enter($1)", [slug]);
    const result = await body(runner.manager);
    await runner.query("select public.cgk_check($1)", [slug]);
    await runner.commitTransaction();
    if (runner.isTransactionActive) throw new Error("a nested transaction was not awaited, or not ended");
    return result;
  } catch (error) {
    try {
      while (runner.isTransactionActive) await runner.rollbackTransaction();
    } catch {} // the error of the transaction says more
    throw error;
  } finally {
    await runner.release();
  }
}
