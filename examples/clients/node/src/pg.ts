// A tenant's transaction on a pool of node-postgres. Statements without a name: see "Prepared statements".
import { Pool, type PoolClient, type PoolConfig } from "pg";

/** What a transaction may use of its connection. After its end it refuses every statement: a late one runs in no other tenant. */
export type TenantClient = Pick<PoolClient, "query" | "escapeIdentifier" | "escapeLiteral">;

/** A pool that gives out such connections and nothing that leads past them. */
export class TenantPool extends Pool {
  readonly isGuarded = true;

  constructor(config?: PoolConfig) {
    super(config);
    // The next statement of a lost connection fails. Without a listener, the process would end.
    this.on("error", () => {});
    this.on("connect", (client) => client.on("error", () => {}));
  }

  override connect(...callback: any[]): any {
    if (callback.length) return super.connect(...(callback as [any]));
    return super.connect().then((client) => {
      const [inside, end] = guarded(client);
      let isOurs = true;
      const release = (destroy?: boolean) => {
        if (isOurs) client.release(destroy);
        isOurs = false;
        end();
      };
      // Drizzle does not give back a connection on which BEGIN fails.
      const query = (...args: any[]) => {
        const sent = (inside.query as any)(...args);
        if (/^\s*begin\b/i.test(args[0]?.text ?? args[0])) sent.catch(() => release(true));
        return sent;
      };
      return { ...inside, query, release };
    });
  }
}

/** The client until its end is called. A COMMIT that the server answers with ROLLBACK, since a statement had failed, is an error. */
function guarded(client: TenantClient): [TenantClient, () => void] {
  let open = true;
  const committed = (result: any) => {
    if (result.command === "ROLLBACK") throw new Error("nothing was committed: a statement that was not awaited has failed");
    return result;
  };
  const query = (...args: any[]) => {
    if (!open) throw new Error("the transaction has ended");
    const sent = (client.query as any)(...args);
    return /^\s*commit\b/i.test(args[0]?.text ?? args[0]) ? sent.then(committed) : sent;
  };
  const { escapeIdentifier, escapeLiteral } = client;
  return [{ query, escapeIdentifier, escapeLiteral }, () => (open = false)];
}

export async function withTenant<T>(pool: TenantPool, slug: string, body: (client: TenantClient) => Promise<T>): Promise<T> {
  const client: PoolClient = await pool.connect();
  const [inside, end] = guarded(client);
  let open = true; // a connection whose transaction may be open is thrown away
  try {
    await client.query("begin");
    await client.query("select public.cgk_enter($1)", [slug]);
    const result = await body(inside).finally(end);
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
