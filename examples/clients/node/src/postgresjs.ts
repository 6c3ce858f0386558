// A tenant's transaction with postgres.js: postgres({ prepare: false }).
import type { Sql, TransactionSql } from "postgres";

type Body = (tx: TransactionSql) => unknown;
interface Transaction {
  ended: boolean;
  savepoints: Set<Promise<unknown>>; // those that have not ended
}

/** The same `sql`, with transactions that refuse every query after their end: a late one runs in no other tenant. */
export function guarded(sql: Sql): Sql {
  return new Proxy(sql, {
    get(target, key) {
      if (key === "isGuarded") return true;
      if (key !== "begin") return Reflect.get(target, key) as unknown;
      return (...args: any[]) => {
        const body = args.pop() as Body;
        return (target.begin as any)(...args, (tx: TransactionSql) => run(tx, body));
      };
    },
  });
}

async function run(tx: TransactionSql, body: Body): Promise<unknown> {
  const transaction: Transaction = { ended: false, savepoints: new Set() };
  // A savepoint that is not awaited would end in the next transaction of the connection.
  const end = async () => {
    transaction.ended = true;
    const forgotten = transaction.savepoints.size;
    await Promise.allSettled(transaction.savepoints);
    return forgotten > 0;
  };
  let result: unknown;
  try {
    result = await body(handle(tx, transaction));
    if (Array.isArray(result)) result = await Promise.all(result);
  } catch (error) {
    await end();
    throw error;
  }
  if (await end()) throw new Error("a savepoint was not awaited before the transaction ended");
  return result;
}

/** `tx`, of which every query and savepoint is refused after the transaction. */
function handle(tx: TransactionSql, transaction: Transaction): TransactionSql {
  const late = () => new Error("the transaction has ended");
  const query = (made: any) => {
    const send = made?.handler; // a query is sent when it is awaited, not when it is made
    if (typeof send === "function") made.handler = (one: any) => (transaction.ended ? one.reject(late()) : send(one));
    return made;
  };
  const savepoint = (...args: any[]) => {
    const body = args.pop() as Body;
    const work: Promise<unknown> = (tx.savepoint as any)(...args, (inner: TransactionSql) => body(handle(inner, transaction)));
    const ended = () => transaction.savepoints.delete(work);
    transaction.savepoints.add(work);
    work.then(ended, ended);
    return work;
  };
  return new Proxy(tx, {
    apply: (target, self, args) => query(Reflect.apply(target as any, self, args)),
    get(target, key) {
      const value: unknown = key === "savepoint" ? savepoint : Reflect.get(target, key);
      if (typeof value !== "function") return value;
      return (...args: any[]) => {
        if (transaction.ended) throw late();
        return query(value.apply(target, args));
      };
    },
  });
}

export async function withTenant<T>(sql: Sql, slug: string, body: (tx: TransactionSql) => Promise<T>): Promise<T> {
  let result: T;
  await guarded(sql).begin(async (tx) => {
    await tx`select public.cgk_enter(${slug})`;
    result = await body(tx);
    await tx`select public.cgk_check(${slug})`;
  });
  return result!;
}
