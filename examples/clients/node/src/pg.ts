// A tenant's transaction on a pool of node-postgres. Statements without a name: see "Prepared statements".
import { Pool, type PoolClient } from "pg";

/** The connection of one transaction. After its end it refuses every statement: a late one runs in no other tenant. */
export type TenantClient = Pick<PoolClient, "query" | "escapeIdentifier" | "escapeLiteral">;

/** A pool that gives out such connections and nothing that leads past them. */
export class TenantPool extends Pool {
  readonly isGuarded = true;

  override connect(...callback: any[]): any {
    return callback.length ? super.connect(...(callback as [any])) : super.connect().then(guarded);
  }
}

function guarded(client: PoolClient): TenantClient & Pick<PoolClient, "release"> {
  let open = true;
  const inside = (): any => {
    if (!open) throw new Error("the transaction has ended, and its connection was given back to the pool");
    return client;
  };
  return {
    query: (...args: any[]) => inside().query(...args),
    escapeIdentifier: (text) => client.escapeIdentifier(text),
    escapeLiteral: (text) => client.escapeLiteral(text),
    release(destroy) {
      inside();
      open = false;
      client.release(destroy);
    },
  };
}

export async function withTenant<T>(pool: TenantPool, slug: string, body: (client: TenantClient) => Promise<T>): Promise<T> {
  const { release, ...client }: ReturnType<typeof guarded> = await pool.connect();
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
    release(open);
  }
}
