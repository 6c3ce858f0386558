// A tenant's transaction on a pool of node-postgres. Statements without a name: see "Prepared statements".
import type { Pool, PoolClient } from "pg";

export async function withTenant<T>(pool: Pool, slug: string, body: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
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
