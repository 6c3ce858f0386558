// A tenant's transaction with TypeORM. Entities: without a schema.
import type { DataSource, EntityManager } from "typeorm";

export async function withTenant<T>(source: DataSource, slug: string, body: (manager: EntityManager) => Promise<T>): Promise<T> {
  const runner = source.createQueryRunner();
  const isNested = () => Reflect.get(runner, "transactionDepth") !== 1;
  try {
    await runner.startTransaction();
    await runner.query("select public.cgk_enter($1)", [slug]);
    const result = await body(runner.manager);
    if (isNested()) throw new Error("a nested transaction was not awaited, or not ended");
    // In one message, so that nothing runs in between. The name of a tenant that was entered is [a-z0-9_]. TypeORM then commits nothing.
    await runner.query(`select public.cgk_check('${slug}'); commit and chain`);
    await runner.commitTransaction().catch(() => runner.query("rollback")).catch(() => {});
    return result;
  } catch (error) {
    // A savepoint of TypeORM that failed would keep the transaction open.
    await (isNested() ? runner.query("rollback") : runner.rollbackTransaction()).catch(() => {});
    throw error;
  } finally {
    await runner.release();
  }
}
