// A tenant's transaction with postgres.js: postgres({ prepare: false }).
import type { Sql, TransactionSql } from "postgres";

/** The same `sql`, with transactions that refuse every query after their end: a late one runs in no other tenant. */
export function guarded(sql: Sql): Sql {
  return new Proxy(sql, {
    get(target, key) {
      if (key === "isGuarded") return true;
      if (key !== "begin") return Reflect.get(target, key) as unknown;
      return (...args: any[]) => {
        let ended = false;
        const body = args.pop() as (tx: TransactionSql) => Promise<unknown>;
        const run = async (tx: TransactionSql) => body(transaction(tx, () => ended));
        return (target.begin as any)(...args, (tx: TransactionSql) => run(tx).finally(() => (ended = true)));
      };
    },
  });
}

function transaction(tx: TransactionSql, ended: () => boolean): TransactionSql {
  const late = () => new Error("the transaction has ended");
  const query = (made: any) => {
    const send = made?.handler; // a query is sent when it is awaited, not when it is made
    if (typeof send === "function") made.handler = (one: any) => (ended() ? one.reject(late()) : send(one));
    return made;
  };
  return new Proxy(tx, {
    apply: (target, self, args) => query(Reflect.apply(target as any, self, args)),
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof value !== "function") return value;
      return (...args: any[]) => {
        if (ended()) throw late();
        if (key !== "savepoint") return query(value.apply(target, args));
        const body = args.pop() as (tx: TransactionSql) => Promise<unknown>;
        return value.apply(target, [...args, (inner: TransactionSql) => body(transaction(inner, ended))]);
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
