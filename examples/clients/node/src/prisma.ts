// A tenant's transaction with Prisma 7. Prisma writes the schema into every statement, "public"."orders"; this adapter gives
// it the name of a schema that does not exist and takes it out again, so that the search path of cgk_enter decides.
import { PrismaPg } from "@prisma/adapter-pg";
import type { Prisma, PrismaClient } from "./generated/client.js";

const MARK = '"cgk_tenant".';

function unqualified<T extends object>(target: T): T {
  return new Proxy(target, {
    get(object, key) {
      const value = Reflect.get(object, key) as unknown;
      if (typeof value !== "function") return value;
      if (key === "queryRaw" || key === "executeRaw")
        return (query: { sql: string }) => value.call(object, { ...query, sql: query.sql.replaceAll(MARK, "") });
      if (key === "connect" || key === "startTransaction")
        return async (...args: unknown[]) => unqualified(await value.apply(object, args));
      return value.bind(object);
    },
  });
}

export const tenantAdapter = (config: ConstructorParameters<typeof PrismaPg>[0]): PrismaPg =>
  unqualified(new PrismaPg(config, { schema: "cgk_tenant" }));

type Body<T> = (tx: Prisma.TransactionClient) => Promise<T>;

/**
 * Runs the body, and waits for the transactions inside of it that it did not await: while one is open, Prisma rolls back no more
 * than that one, and then commits. It fails if there is one.
 */
async function whole<T>(tx: Prisma.TransactionClient, body: Body<T>): Promise<T> {
  const open = new Set<Promise<unknown>>();
  let ended = false;
  const begin = (work: unknown, ...options: unknown[]) => {
    if (ended) return Promise.reject(new Error("the transaction has ended"));
    if (typeof work !== "function") return Promise.reject(new Error("a list runs on another connection, outside of the tenant"));
    const nested = (inner: Prisma.TransactionClient) => whole(inner, work as Body<unknown>);
    const result: Promise<unknown> = (tx.$transaction as any)(nested, ...options);
    const done = () => open.delete(result);
    open.add(result);
    result.then(done, done);
    return result;
  };
  const inside = new Proxy(tx, { get: (target, key) => (key === "$transaction" ? begin : (Reflect.get(target, key) as unknown)) });
  try {
    const result = await body(inside);
    if (open.size > 0) throw new Error("a nested transaction was not awaited");
    return result;
  } finally {
    ended = true;
    await Promise.allSettled(open);
  }
}

export function withTenant<T>(prisma: PrismaClient, slug: string, body: Body<T>): Promise<T> {
  return prisma.$transaction(async (tx) => {
    await tx.$queryRaw`select public.cgk_enter(${slug})`;
    const result = await whole(tx, body);
    // In one message, so that nothing runs in between. The name of a tenant that was entered is [a-z0-9_]. Prisma then commits nothing.
    const checked = await tx.$executeRawUnsafe(`select public.cgk_check('${slug}'); commit and chain`);
    if (checked === undefined) throw new Error("a statement that was not awaited has failed"); // Prisma had sent both at once
    return result;
  });
}
