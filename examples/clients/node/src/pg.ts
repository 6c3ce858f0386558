// A tenant's transaction on a pool of node-postgres. Statements without a name: see "Prepared statements".
import { Pool, type PoolClient } from "pg";

/** A pool whose connections refuse every use after they were given back: a late statement runs in no other tenant. */
export class TenantPool extends Pool {
  readonly isGuarded = true;

  override connect(...callback: any[]): any {
    return callback.length ? super.connect(...(callback as [any])) : super.connect().then(guarded);
  }
}

function guarded(client: PoolClient): PoolClient {
  let released = false;
  const inside = <T>(use: () => T): T => {
    if (released) throw new Error("the transaction has ended, and its connection was given back to the pool");
    return use();
  };
  return new Proxy(client, {
    get: (target, key) =>
      inside(() => {
        const value: unknown = Reflect.get(target, key);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) =>
          inside(() => {
            released = key === "release";
            return value.apply(target, args);
          });
      }),
  });
}

export async function withTenant<T>(pool: TenantPool, slug: string, body: (client: PoolClient) => Promise<T>): Promise<T> {
  const client: PoolClient = await pool.connect();
  let open = true; // a connection whose transaction may be open is thrown away
  try {
    await client.query("begin");
    await client.query("select public.cgk_enter($1)", [slug]);
    const result = await body(client);
    await client.query("select public.cgk_check($1)", [slug]);
    await client.query("commit");
    open = false;
    return result;
  } catch (error) {
    await client.query("rollback").then(() => (open = false), () => {});
    throw error;
  } finally {
    client.release(open);
  }
}
