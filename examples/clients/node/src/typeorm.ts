// A tenant's transaction with TypeORM. Entities: without a schema.
import type { DataSource, EntityManager } from "typeorm";

export function withTenant<T>(source: DataSource, slug: string, body: (manager: EntityManager) => Promise<T>): Promise<T> {
  return source.transaction(async (manager) => {
    await manager.query("select public.cgk_enter($1)", [slug]);
    const result = await body(manager);
    await manager.query("select public.cgk_check($1)", [slug]);
    return result;
  });
}
