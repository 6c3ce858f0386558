// A tenant's transaction with postgres.js: postgres({ prepare: false }).
import type { Sql, TransactionSql } from "postgres";

const ENDS = /^\s*(commit|end|abort|prepare\s+transaction|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b/i;
// Comments and literals.
const UNREAD = /--[^\r\n]*|\/\*[\s\S]*?\*\/|\be'(?:[^'\\]|''|\\[\s\S])*'|'(?:[^']|'')*'|"[^"]*"|(\$(?:[a-z_]\w*)?\$)[\s\S]*?\1/gi;
type Body = (tx: TransactionSql) => unknown;
interface Transaction {
  ended: boolean; // its handles refuse every query
  over: boolean; // begin() has returned: the connection is lost, or used by the next transaction
  pending: Set<Promise<unknown>>; // queries and savepoints without a result
}

/** The same `sql`, with transactions that refuse every query after their end: a late one runs in no other tenant. */
export function guarded(sql: Sql): Sql {
  return new Proxy(sql, {
    get(target, key) {
      if (key === "isGuarded") return true;
      if (key !== "begin") return Reflect.get(target, key) as unknown;
      return (...args: any[]) => {
        const body = args.pop() as Body;
        return begin(target, args, (tx, transaction) => inside(tx, transaction, body));
      };
    },
  });
}

export async function withTenant<T>(sql: Sql, slug: string, body: (tx: TransactionSql) => Promise<T>): Promise<T> {
  let result: unknown;
  await begin(sql, [], async (tx, transaction) => {
    await tx`select public.cgk_enter(${slug})`;
    result = await inside(tx, transaction, body);
    await tx`select public.cgk_check(${slug})`;
  });
  return result as T;
}

function begin(sql: Sql, options: any[], work: (tx: TransactionSql, transaction: Transaction) => Promise<unknown>) {
  const transaction: Transaction = { ended: false, over: false, pending: new Set() };
  const over = () => (transaction.ended = transaction.over = true);
  const whole: Promise<unknown> = (sql.begin as any)(...options, (tx: TransactionSql) => held(transaction, work(tx, transaction)));
  whole.then(over, over);
  return whole;
}

/**
 * The same outcome, or none when the transaction is over: postgres.js would send its COMMIT, ROLLBACK or ROLLBACK TO in the
 * transaction that uses the connection then.
 */
async function held<T>(transaction: Transaction, work: Promise<T>): Promise<T> {
  await work.catch(async () => {
    for (let turn = 0; turn < 2; turn++) await new Promise(setImmediate); // begin() hears of a lost connection in these
  });
  return transaction.over ? new Promise(() => {}) : work;
}

/** Runs the body, and waits for what it did not await; if that fails, the transaction does. */
function inside(tx: TransactionSql, transaction: Transaction, body: Body): Promise<unknown> {
  const whole = async () => {
    try {
      const result = await run(tx, transaction, body);
      transaction.ended = true;
      await Promise.all(transaction.pending);
      return result;
    } finally {
      transaction.ended = true;
      await Promise.allSettled(transaction.pending);
    }
  };
  return held(transaction, whole());
}

async function run(tx: TransactionSql, transaction: Transaction, body: Body): Promise<unknown> {
  const result = await body(handle(tx, transaction));
  return Array.isArray(result) ? Promise.all(result) : result;
}

/** The text of a query with its fragments, and `$` for each parameter. */
const textOf = (one: any): string =>
  (one?.strings ?? [""]).reduce((text: string, part: string, n: number) => text + (textOf(one.args[n - 1]) || "$") + part);

/** Whether a statement of the text ends the transaction. A nested comment leaves its end behind. */
const endsIt = (text: string) => text.replace(UNREAD, " ").split(/;|\*\//).some((statement) => ENDS.test(statement));

/** `tx`, of which every query and savepoint is refused after the transaction. */
function handle(tx: TransactionSql, transaction: Transaction): TransactionSql {
  const refused = (one: any) => {
    if (transaction.ended) return new Error("the transaction has ended");
    // After it, postgres.js would give the connection to the next transaction.
    if (endsIt(textOf(one))) return new Error("the transaction is ended by its helper");
  };
  const awaited = <P extends Promise<unknown>>(work: P): P => {
    const done = () => transaction.pending.delete(work);
    transaction.pending.add(work);
    Promise.prototype.then.call(work, done, done);
    return work;
  };
  const query = (made: any) => {
    const send = made?.handler; // a query is sent when it is awaited, not when it is made
    if (typeof send === "function")
      made.handler = (one: any) => {
        const error = refused(one);
        return error ? one.reject(error) : send(awaited(one));
      };
    return made;
  };
  const savepoint = (...args: any[]) => {
    const body = args.pop() as Body;
    return awaited((tx.savepoint as any)(...args, (inner: TransactionSql) => held(transaction, run(inner, transaction, body))));
  };
  return new Proxy(tx, {
    apply: (target, self, args) => query(Reflect.apply(target as any, self, args)),
    get(target, key) {
      const value: unknown = key === "savepoint" ? savepoint : Reflect.get(target, key);
      if (typeof value !== "function") return value;
      return (...args: any[]) => {
        if (transaction.ended) throw refused(null);
        if (key === "file") throw new Error("the text of a file is sent by unsafe()");
        return query(value.apply(target, args));
      };
    },
  });
}
