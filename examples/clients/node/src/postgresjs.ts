// A tenant's transaction with postgres.js: postgres({ prepare: false }).
import type { Sql, TransactionSql } from "postgres";

const ENDS = /^\s*(commit|end|abort|prepare\s+transaction|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b/i;
// Comments and literals.
const UNREAD = /--[^\r\n]*|\/\*[\s\S]*?\*\/|\be'(?:[^'\\]|''|\\[\s\S])*'|'(?:[^']|'')*'|"[^"]*"|(\$(?:[a-z_]\w*)?\$)[\s\S]*?\1/gi;
type Body = (tx: TransactionSql) => unknown;
interface Transaction {
  ended: boolean; // its handles refuse every query
  over: boolean; // begin() has returned, or an own statement was the end: the connection is lost, or used by the next transaction
  pending: Set<Promise<unknown>>; // queries and savepoints without a result
  fail: (error: Error) => void; // ends begin()
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
  let fail!: (error: Error) => void;
  const failed = new Promise<never>((_, reject) => (fail = reject));
  const transaction: Transaction = { ended: false, over: false, pending: new Set(), fail };
  const over = () => (transaction.ended = transaction.over = true);
  const whole: Promise<unknown> = (sql.begin as any)(...options, (tx: TransactionSql) => held(transaction, work(tx, transaction)));
  whole.then(over, over);
  return Promise.race([whole, failed]);
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
function textOf(one: any): string {
  const part = (value: any): string =>
    value instanceof one.constructor ? textOf(value) : Array.isArray(value) ? value.map(part).join(" ") : "$";
  return (one.strings ?? []).map((text: string, n: number) => (n > 0 ? part(one.args[n - 1]) : "") + text).join("");
}

/** Whether a statement of the text ends the transaction, as far as the text shows it. A nested comment leaves its end behind. */
const endsIt = (text: string) =>
  text.length < 20_000 && text.replace(UNREAD, " ").split(/;|\*\//).some((statement) => ENDS.test(statement));

/** Whether a query has ended the transaction, as the server says. It says ROLLBACK of ROLLBACK TO too. */
function hasEnded(result: any, text: string): boolean {
  const commands: unknown[] = result?.command === undefined && Array.isArray(result) ? result.map((one) => one?.command) : [result?.command];
  const isPart = /rollback[\s\S]*\bto\b/i.test(text);
  return commands.some((command) => command === "COMMIT" || command === "PREPARE TRANSACTION" || (command === "ROLLBACK" && !isPart));
}

/** `tx`, of which every query and savepoint is refused after the transaction. */
function handle(tx: TransactionSql, transaction: Transaction): TransactionSql {
  const late = () => new Error("the transaction has ended");
  const own = () => new Error("the transaction is ended by its helper");
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
        const text = textOf(one);
        // After its end, postgres.js gives the connection to the next transaction.
        if (transaction.ended || endsIt(text)) return one.reject(transaction.ended ? late() : own());
        const ended = (result: unknown) => {
          if (!hasEnded(result, text)) return;
          transaction.ended = transaction.over = true;
          transaction.fail(own());
        };
        Promise.prototype.then.call(one, ended, () => {});
        return send(awaited(one));
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
        if (transaction.ended) throw late();
        if (key === "file") throw new Error("the text of a file is sent by unsafe()");
        return query(value.apply(target, args));
      };
    },
  });
}
