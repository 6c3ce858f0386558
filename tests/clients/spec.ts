// The specification that every Node client meets: node spec.js CLIENT. Started by tests/clients/main.rs, which makes the
// database: tenants acme and globex with a table marks, a suspended tenant and one that is being set up.
import "reflect-metadata";
import { strict as assert } from "node:assert";
import { eq, sql as drizzleSql } from "drizzle-orm";
import { drizzle as drizzlePg } from "drizzle-orm/node-postgres";
import { integer, pgTable, text } from "drizzle-orm/pg-core";
import { drizzle as drizzleJs } from "drizzle-orm/postgres-js";
import knexOf from "knex";
import { Kysely, PostgresDialect, sql as kyselySql } from "kysely";
import pg from "pg";
import postgres from "postgres";
import { DataSource, EntitySchema } from "typeorm";
import * as onDrizzle from "./drizzle.js";
import { type Prisma, PrismaClient } from "./generated/client.js";
import * as onKnex from "./knex.js";
import * as onKysely from "./kysely.js";
import * as onPg from "./pg.js";
import * as onPostgresJs from "./postgresjs.js";
import * as onPrisma from "./prisma.js";
import * as onTypeOrm from "./typeorm.js";

type Row = Record<string, unknown>;
type Execute = (sql: string) => Promise<Row[]>;
/** A transaction inside of the tenant's, in the words of the library. */
type Nest = (inner: (execute: Execute) => Promise<void>) => Promise<void>;
interface Client {
  tenant<T>(slug: string, body: (execute: Execute, nest?: Nest) => Promise<T>): Promise<T>;
  /** Further handles that a transaction gives out, or statements made inside of it; run after its end. */
  late?(slug: string, sql: string): Promise<(() => Promise<unknown>)[]>;
  outside: Execute;
  /** Reads the tag of row 0 and adds row 66, in the words of the library. */
  model?(slug: string): Promise<string | undefined>;
}

const CONNECTIONS = 8;
const BUSY = process.env.CGK_CLIENT_POOLED === "1" ? 3 : CONNECTIONS;
const ALTERNATIONS = Number(process.env.CGK_CLIENT_ALTERNATIONS ?? 400);
const pool = (max: number) => new onPg.TenantPool({ max });

const clients: Record<string, (max: number) => Client | Promise<Client>> = {
  pg: (max) => {
    const db = pool(max);
    return {
      tenant: (slug, body) => onPg.withTenant(db, slug, (c) => body(async (s) => (await c.query(s)).rows)),
      outside: async (s) => (await db.query(s)).rows,
      late: (slug, s) => onPg.withTenant(db, slug, async (c) => {
        const { query } = c;
        // What leads past the handle is not there, also inside.
        for (const key of ["connection", "on", "once", "release"]) assert.equal(Reflect.get(c, key), undefined, key);
        return [async () => query(s), async () => c.query({ text: s })];
      }),
    };
  },
  postgresjs: (max) => {
    const sql = postgres({ prepare: false, max, onnotice: () => {} });
    return {
      tenant: (slug, body) => {
        const executeIn = (tx: postgres.TransactionSql) => async (s: string) => [...(await tx.unsafe<Row[]>(s))];
        return onPostgresJs.withTenant(sql, slug, (tx) =>
          body(executeIn(tx), async (inner) => void (await tx.savepoint((nested) => inner(executeIn(nested))))),
        );
      },
      outside: async (s) => [...(await sql.unsafe(s))],
      late: (slug, s) => onPostgresJs.withTenant(sql, slug, async (tx) => {
        const inner = await tx.savepoint(async (inner) => [async () => inner.unsafe(s), inner.unsafe.bind(null, s)]);
        const [made, { unsafe }] = [tx.unsafe(s), tx];
        const ends = ["commit", " ROLLBACK", "end", "abort", "rollback work", "/**/commit", "-- x\rcommit", "-- x\ncommit", ";commit",
          "/* /* */ */ commit", "select 1; commit", "select '\\'; commit", "select e'\\''; commit", "prepare transaction 'x'"];
        for (const end of ends) await assert.rejects(async () => tx.unsafe(end), /ended by its helper/, end);
        await assert.rejects(async () => tx`${tx.unsafe("commit")}`, /ended by its helper/);
        await assert.rejects(async () => tx` ${tx``} ${[tx`commit`]}`, /ended by its helper/);
        await assert.rejects(async () => tx.file("commit.sql"), /sent by unsafe/);
        // What only looks like a fragment or an end.
        const json = { strings: ["commit", "x"], args: [] };
        assert.deepEqual((await tx`select ${json as any}::jsonb as json, ${"COMMIT"}::text as command`)[0], { json, command: "COMMIT" });
        await tx`select ';commit', ${1}::int, ${tx("end")} -- ;commit
          from (select $$;commit$$, $a$;end$a$, e'\\';commit') x (a, b, "end") /* ;commit */`;
        await tx.unsafe("savepoint own");
        await tx.unsafe("rollback to own");
        return [...inner, async () => made, async () => unsafe(s), async () => made.cursor(1, () => {})];
      }),
      model: (slug) =>
        onPostgresJs.withTenant(sql, slug, async (tx) => {
          await tx`insert into marks ${tx({ tag: "model", n: 66 })}`;
          return (await tx<{ tag: string }[]>`select tag from marks where n = ${0}`)[0]?.tag;
        }),
    };
  },
  "drizzle-pg": (max) => drizzleClient(drizzlePg(pool(max)), (result) => result.rows),
  "drizzle-postgresjs": (max) =>
    drizzleClient(drizzleJs(onPostgresJs.guarded(postgres({ prepare: false, max }))), (result) => [...result]),
  knex: (max) => {
    const knex = knexOf({ client: "pg", connection: {}, pool: { min: 0, max } });
    return {
      tenant: (slug, body) => {
        const executeIn = (trx: knexOf.Knex) => async (s: string) => (await trx.raw(s)).rows;
        return onKnex.withTenant(knex, slug, (trx) =>
          body(executeIn(trx), (inner) => trx.transaction((nested) => inner(executeIn(nested)))),
        );
      },
      outside: async (s) => (await knex.raw(s)).rows,
      late: (slug) => onKnex.withTenant(knex, slug, async (trx) => {
        const made = trx("marks").insert({ tag: "late", n: 70 });
        const nested = await trx.transaction(async (inner) => async () => inner("marks").insert({ tag: "late", n: 70 }));
        return [async () => made, nested];
      }),
      model: (slug) =>
        onKnex.withTenant(knex, slug, async (trx) => {
          await trx("marks").insert({ tag: "model", n: 66 });
          return (await trx("marks").where({ n: 0 }).first("tag"))?.tag;
        }),
    };
  },
  kysely: (max) => {
    const db = new Kysely<{ marks: { tag: string; n: number } }>({ dialect: new PostgresDialect({ pool: pool(max) }) });
    return {
      tenant: (slug, body) =>
        onKysely.withTenant(db, slug, (trx) => body(async (s) => (await kyselySql.raw<Row>(s).execute(trx)).rows)),
      outside: async (s) => (await kyselySql.raw<Row>(s).execute(db)).rows,
      late: (slug, s) => onKysely.withTenant(db, slug, async (trx) => {
        const made = trx.insertInto("marks").values({ tag: "late", n: 70 });
        const compiled = kyselySql.raw<Row>(s).compile(trx);
        return [() => made.execute(), () => trx.executeQuery(compiled)];
      }),
      model: (slug) =>
        onKysely.withTenant(db, slug, async (trx) => {
          await trx.insertInto("marks").values({ tag: "model", n: 66 }).execute();
          return (await trx.selectFrom("marks").select("tag").where("n", "=", 0).executeTakeFirst())?.tag;
        }),
    };
  },
  typeorm: async (max) => {
    const Mark = new EntitySchema<{ n: number; tag: string }>({
      name: "Mark",
      tableName: "marks",
      columns: { n: { type: Number, primary: true }, tag: { type: String } },
    });
    const source = new DataSource({
      type: "postgres",
      host: process.env.PGHOST!,
      port: Number(process.env.PGPORT),
      username: process.env.PGUSER!,
      password: process.env.PGPASSWORD ?? "",
      database: process.env.PGDATABASE!,
      entities: [Mark],
      extra: { max },
    });
    await source.initialize();
    return {
      tenant: (slug, body) =>
        onTypeOrm.withTenant(source, slug, (manager) =>
          body((s) => manager.query(s), (inner) => manager.transaction((nested) => inner((s) => nested.query(s)))),
        ),
      outside: (s) => source.query(s),
      late: (slug, s) => onTypeOrm.withTenant(source, slug, async (manager) => {
        const made = manager.createQueryBuilder().insert().into(Mark).values({ tag: "late", n: 70 });
        const nested = await manager.transaction(async (inner) => async () => inner.query(s));
        return [() => made.execute(), nested, () => manager.queryRunner!.query(s)];
      }),
      model: (slug) =>
        onTypeOrm.withTenant(source, slug, async (manager) => {
          await manager.insert(Mark, { tag: "model", n: 66 });
          return (await manager.findOneBy(Mark, { n: 0 }))?.tag;
        }),
    };
  },
  prisma: (max) => {
    // Prisma gives up after 2 seconds in which no connection is free, which a busy machine exceeds.
    const patient = { maxWait: 60_000, timeout: 60_000 };
    const prisma = new PrismaClient({ adapter: onPrisma.tenantAdapter({ max }), transactionOptions: patient });
    return {
      tenant: (slug, body) => {
        const executeIn = (tx: Prisma.TransactionClient) => (s: string) => tx.$queryRawUnsafe<Row[]>(s);
        return onPrisma.withTenant(prisma, slug, (tx) =>
          body(executeIn(tx), (inner) => tx.$transaction((nested) => inner(executeIn(nested)))),
        );
      },
      outside: (s) => prisma.$queryRawUnsafe<Row[]>(s),
      late: (slug, s) => onPrisma.withTenant(prisma, slug, async (tx) => {
        const made = tx.mark.create({ data: { tag: "late", n: 70 } });
        const list = Reflect.get(tx, "$transaction") as (list: unknown) => Promise<unknown>;
        await assert.rejects(list([tx.$queryRawUnsafe("select 1")]), /outside of the tenant/);
        return [async () => made, () => tx.$executeRawUnsafe(s)];
      }),
      model: (slug) =>
        onPrisma.withTenant(prisma, slug, async (tx) => {
          await tx.mark.create({ data: { tag: "model", n: 66 } });
          return (await tx.mark.findUnique({ where: { n: 0 } }))?.tag;
        }),
    };
  },
};

function drizzleClient(db: any, rows: (result: any) => Row[]): Client {
  const marks = pgTable("marks", { n: integer().primaryKey(), tag: text() });
  return {
    tenant: (slug, body) => {
      const executeIn = (tx: any) => async (s: string) => rows(await tx.execute(drizzleSql.raw(s)));
      return onDrizzle.withTenant(db, slug, (tx: any) =>
        body(executeIn(tx), (inner) => tx.transaction((nested: any) => inner(executeIn(nested)))),
      );
    },
    outside: async (s) => rows(await db.execute(drizzleSql.raw(s))),
    late: (slug, s) =>
      onDrizzle.withTenant(db, slug, async (tx: any) => {
        const inner = await tx.transaction(async (inner: any) => async () => inner.execute(drizzleSql.raw(s)));
        const [made, prepared] = [tx.insert(marks).values({ tag: "late", n: 70 }), tx.insert(marks).values({ tag: "late", n: 70 }).prepare("")];
        return [inner, async () => made, async () => prepared.execute()];
      }),
    model: (slug) =>
      onDrizzle.withTenant(db, slug, async (tx: any) => {
        await tx.insert(marks).values({ tag: "model", n: 66 });
        return (await tx.select().from(marks).where(eq(marks.n, 0)))[0]?.tag;
      }),
  };
}

/** The SQLSTATE, from whatever a driver and a library have wrapped around it. */
function codeOf(error: any, depth = 0): string | undefined {
  if (!error || typeof error !== "object" || depth > 6) return undefined;
  if (typeof error.originalCode === "string") return error.originalCode;
  for (const inner of [error.cause, error.meta?.driverAdapterError, error.driverError]) {
    const code = codeOf(inner, depth + 1);
    if (code) return code;
  }
  return typeof error.code === "string" ? error.code : undefined;
}

const admin = new pg.Client({ connectionString: process.env.CGK_CLIENT_ADMIN! });
const count = async (slug: string, n: number) =>
  Number((await admin.query(`select count(*) from tenant_${slug}.marks where n = ${n}`)).rows[0].count);

let [passed, failed] = [0, 0];
async function check(name: string, body: () => Promise<void>) {
  try {
    await body();
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}: ${error} ${codeOf(error) ?? ""}`);
  }
}
function gate() {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}
async function fails(code: string, work: Promise<unknown>) {
  const outcome = await work.then(() => "no error", (error) => codeOf(error) ?? String(error));
  assert.equal(outcome, code);
}
async function isClean(client: Client) {
  const session = "select current_user::text u, coalesce(current_setting('cgk.tenant', true), '') t, current_setting('search_path') p";
  for (let i = 0; i < 2 * CONNECTIONS; i++) {
    const [row] = await client.outside(session);
    assert.deepEqual([row!.u, row!.t], [process.env.PGUSER, ""]);
    assert.ok(!String(row!.p).includes("tenant_"));
  }
}

async function specification(client: Client) {
  const run = (slug: string, ...steps: string[]) =>
    client.tenant(slug, async (execute) => {
      const answers: Row[][] = [];
      for (const step of steps) answers.push(await execute(step));
      return answers;
    });
  await check("two statements and a commit", async () => {
    const answers = await run("acme", "insert into marks (tag, n) values ('own', 1)", "select tag from marks where n = 1");
    assert.deepEqual(answers[1]!.map((row) => ({ ...row })), [{ tag: "own" }]);
    assert.deepEqual([await count("acme", 1), await count("globex", 1)], [1, 0]);
  });
  await check("the other tenant's table by its full name", () => fails("42501", run("acme", "select * from tenant_globex.marks")));
  await check("the session is clean after a commit", () => isClean(client));
  await check("an error of the application rolls back", async () => {
    const stop = new Error("of the application");
    const work = client.tenant("acme", async (execute) => {
      await execute("insert into marks (tag, n) values ('x', 2)");
      throw stop;
    });
    await assert.rejects(work, (error) => error === stop);
    assert.equal(await count("acme", 2), 0);
    await isClean(client);
  });
  await check("an error of the server rolls back", async () => {
    await fails("22012", run("acme", "insert into marks (tag, n) values ('x', 2)", "select 1 / 0"));
    assert.equal(await count("acme", 2), 0);
    await isClean(client);
  });
  await check("a swallowed error of the server is not committed", async () => {
    const work = client.tenant("acme", async (execute) => {
      await execute("insert into marks (tag, n) values ('x', 2)");
      await execute("select 1 / 0").catch(() => {});
    });
    await assert.rejects(work);
    assert.equal(await count("acme", 2), 0);
    await isClean(client);
  });
  await check("unknown, suspended and unfinished tenants have their codes", async () => {
    const codes = { nope: "TN401", "x, tenant_globex": "TN401", sleepy: "TN402", newcomer: "TN403" };
    for (const [slug, code] of Object.entries(codes)) await fails(code, run(slug, "select 1"));
    await isClean(client);
  });
  await check("a transaction that left its tenant is not committed", async () => {
    for (const leave of [
      "select set_config('search_path', 'public', true)",
      "reset role",
      "set local role none",
      "set local search_path = tenant_globex",
    ]) {
      await fails("TN501", run("acme", "insert into marks (tag, n) values ('x', 3)", leave));
      assert.equal(await count("acme", 3), 0);
    }
    await isClean(client);
  });
  await check("another tenant cannot be entered inside", async () => {
    await fails("TN405", run("acme", "select public.cgk_enter('globex')"));
    await run("acme", "select public.cgk_enter('acme')");
  });
  await check("a statement after the end of its transaction runs in no tenant", async () => {
    const sql = "insert into marks (tag, n) values ('late', 70)";
    const handles = [...((await client.late?.("acme", sql)) ?? [])];
    await client.tenant("acme", async (execute) => handles.push(() => execute(sql)));
    for (const [number, late] of handles.entries()) {
      // Every connection is in globex, so the late statement's own is too. (Behind a pooler as many as it has.)
      let inside = 0;
      const [full, end] = [gate(), gate()];
      const work = Array.from({ length: BUSY }, () =>
        client.tenant("globex", async (execute) => {
          await execute("select 1");
          if (++inside === BUSY) full.open();
          await end.opened;
        }),
      );
      await full.opened;
      const outcome = (async () => late())().then(() => "it ran", () => "refused");
      // What waits for a connection is let go, and finds no tenant.
      await Promise.race([outcome, new Promise((resolve) => setTimeout(resolve, 500))]);
      end.open();
      await Promise.all(work);
      assert.equal(await outcome, "refused", `handle ${number}`);
      assert.deepEqual([await count("acme", 70), await count("globex", 70)], [0, 0], `handle ${number}`);
    }
    await isClean(client);
  });
  await check("a nested transaction that is not awaited ends in no other tenant", async () => {
    const [begun, fail, full, end] = [gate(), gate(), gate(), gate()];
    let nested: Promise<unknown> | undefined;
    const acme = client.tenant("acme", async (execute, nest) => {
      await execute("insert into marks (tag, n) values ('outer', 80)");
      nested = nest?.(async () => {
        begun.open();
        await fail.opened;
        throw new Error("late");
      }).catch((error) => error);
      if (nested) await begun.opened;
    });
    const outcome = acme.then(() => 1, () => 0);
    // A client may keep the connection until the nested transaction has ended. Otherwise it is in globex then.
    const kept = await Promise.race([outcome.then(() => 0), new Promise<number>((resolve) => setTimeout(resolve, 300, 1))]);
    let inside = 0;
    const work = Array.from({ length: BUSY - kept }, (_, n) =>
      client.tenant("globex", async (execute, nest) => {
        const add = (execute: Execute) => execute(`insert into marks (tag, n) values ('kept', ${81 + n})`).then(() => {});
        await (nest ? nest(add) : add(execute));
        if (++inside === BUSY - kept) full.open();
        await end.opened;
      }),
    );
    await full.opened;
    fail.open();
    await nested;
    end.open();
    await Promise.all(work);
    const refuses = ["postgresjs", "drizzle-postgresjs", "typeorm", "prisma"].includes(process.argv[2]!);
    assert.deepEqual([await outcome, await count("acme", 80)], refuses ? [0, 0] : [1, 1]);
    for (const n of work.keys()) assert.equal(await count("globex", 81 + n), 1, `globex ${n}`);
    await admin.query("delete from tenant_acme.marks where n >= 80; delete from tenant_globex.marks where n >= 80");
    await isClean(client);
  });
  if ((await client.tenant("acme", async (_, nest) => nest !== undefined)) === true)
    await check("a body that fails beside open nested transactions commits nothing", async () => {
      for (let wait = 0; wait < 24; wait++) {
        const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
        const acme = client.tenant("acme", async (execute, nest) => {
          await execute(`insert into marks (tag, n) values ('outer', ${100 + wait})`);
          const inside = nest!(async (execute) => {
            await execute("select 1");
            await pause(wait);
            await execute("select 1");
          });
          if (wait % 2) inside.catch(() => {});
          await (wait % 2 ? pause(6) : Promise.all([inside, pause(6).then(() => Promise.reject(new Error("stop")))]));
          throw new Error("stop");
        });
        await assert.rejects(acme, `after ${wait} ms`);
      }
      assert.equal((await admin.query("select from tenant_acme.marks where n >= 100")).rowCount, 0);
      await isClean(client);
    });
  await check("outside of a tenant nothing of a tenant's is reached", async () => {
    await fails("42P01", client.outside("select * from marks"));
    await fails("42501", client.outside("select * from tenant_acme.marks"));
  });
  await check("outside of a transaction block no tenant is entered", async () => {
    await client.outside("select public.cgk_enter('acme')").catch((error) => assert.equal(codeOf(error), "TN406"));
    await isClean(client);
    await fails("42P01", client.outside("select * from marks"));
    await fails("TN501", client.outside("select public.cgk_check('acme')"));
  });
  if (client.model)
    await check("a model reads and writes the tenant's table", async () => {
      assert.deepEqual([await client.model!("acme"), await client.model!("globex")], ["acme", "globex"]);
      assert.deepEqual([await count("acme", 66), await count("globex", 66)], [1, 1]);
      await admin.query("delete from tenant_acme.marks where n = 66; delete from tenant_globex.marks where n = 66");
    });
  await check(`${ALTERNATIONS} alternating transactions on ${CONNECTIONS} connections`, async () => {
    let wrong = 0;
    const worker = async (first: number) => {
      for (let i = first; i < ALTERNATIONS; i += CONNECTIONS) {
        const slug = ["acme", "globex"][(i + Math.floor(i / CONNECTIONS)) % 2]!;
        const [row] = (await run(slug, "select tag from marks where n = 0"))[0]!;
        wrong += row?.tag === slug ? 0 : 1;
      }
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, (_, first) => worker(first)));
    assert.equal(wrong, 0);
  });
}

/** On a pool of one connection: what is lost on the way is lost as a whole, and the caller is told. */
async function losses(client: Client) {
  await check("a connection that is lost reaches no other tenant, and another one is made", async () => {
    const [begun, lost, entered, end] = [gate(), gate(), gate(), gate()];
    let pid: unknown;
    const acme = client.tenant("acme", async (execute) => {
      await execute("insert into marks (tag, n) values ('lost', 90)");
      [{ pid }] = (await execute("select pg_backend_pid() as pid")) as [Row];
      begun.open();
      await lost.opened;
      await execute("insert into marks (tag, n) values ('lost', 91)").catch(() => {});
    });
    const outcome = acme.then(() => "committed", () => "refused");
    await begun.opened;
    const globex = client.tenant("globex", async (execute) => {
      await execute("insert into marks (tag, n) values ('kept', 92)");
      entered.open();
      await end.opened;
    });
    await admin.query("select pg_terminate_backend($1)", [pid]);
    // A client that has no connection for globex before acme's transaction ends gets none in this time.
    await Promise.race([entered.opened, new Promise((resolve) => setTimeout(resolve, 500))]);
    lost.open();
    assert.equal(await outcome, "refused");
    await entered.opened;
    end.open();
    await globex;
    const counts = [await count("acme", 90), await count("acme", 91), await count("globex", 91), await count("globex", 92)];
    assert.deepEqual(counts, [0, 0, 0, 1]);
    assert.equal((await client.tenant("acme", (execute) => execute("select 1"))).length, 1);
  });
  await check("what the caller is told is what was committed, whatever fails behind the last statement", async () => {
    const turns = [0, 1, 2, 3, 4, 6, 8, 12, 20];
    let failed = 0;
    for (const wait of turns) {
      const outcome = await client
        .tenant("acme", async (execute) => {
          await execute("insert into marks (tag, n) values ('told', 93)");
          (async () => {
            for (let turn = 0; turn < wait; turn++) await new Promise(setImmediate);
            await execute("select 1 / 0");
          })().catch(() => (failed += 1));
        })
        .then(() => 1, () => 0);
      assert.deepEqual({ wait, committed: await count("acme", 93) }, { wait, committed: outcome });
      await admin.query("delete from tenant_acme.marks where n = 93");
    }
    while (failed < turns.length) await new Promise(setImmediate);
    await client.tenant("globex", (execute) => execute("select 1"));
  });
}

/** The control of late statements: the driver's own connection runs them in the next tenant, whose check passes. */
async function control() {
  const plain = new pg.Pool({ max: 1 });
  const transaction = async (slug: string, body: (client: pg.PoolClient) => Promise<unknown>) => {
    const client = await plain.connect();
    await client.query("begin");
    await client.query("select public.cgk_enter($1)", [slug]);
    await body(client);
    await client.query("select public.cgk_check($1)", [slug]);
    await client.query("commit");
    client.release();
  };
  let late: pg.PoolClient;
  await transaction("acme", async (client) => (late = client));
  await transaction("globex", () => late.query("insert into marks (tag, n) values ('late', 71)"));
  assert.equal(await count("globex", 71), 1);
  await plain.end();
}

/** The control of nested transactions: of postgres.js alone, a forgotten savepoint takes back what the next tenant has written. */
async function nestedControl() {
  const sql = postgres({ prepare: false, max: 1, onnotice: () => {} });
  const fail = gate();
  let forgotten: Promise<unknown> | undefined;
  await sql.begin(async (tx) => {
    await tx`select public.cgk_enter('acme')`;
    const begun = gate();
    forgotten = tx.savepoint(() => (begun.open(), fail.opened.then(() => Promise.reject(new Error("late"))))).catch(() => {});
    await begun.opened;
  });
  await sql.begin(async (tx) => {
    await tx`select public.cgk_enter('globex')`;
    await tx.savepoint((inner) => inner`insert into marks (tag, n) values ('kept', 81)`);
    fail.open();
    await forgotten;
    await tx`select public.cgk_check('globex')`;
  });
  assert.equal(await count("globex", 81), 0);
  await sql.end();
}

/** On a pool of one connection, which postgres.js gives to globex when acme's own statement ends its transaction. */
async function hiddenEnds(client: Client) {
  for (const end of ["/* /* */ ' */ commit -- '", "select 1 as a$$; rollback; select 1 as b$$"])
    await check(`an end that the text does not show is one: ${end}`, async () => {
      const [begun, go] = [gate(), gate()];
      let accepted = false;
      const acme = client.tenant("acme", async (execute) => {
        await execute("insert into marks (tag, n) values ('before', 95)");
        begun.open();
        await go.opened;
        await execute(end);
        accepted = true;
        await execute("insert into marks (tag, n) values ('after', 96)");
      });
      await begun.opened;
      const globex = client.tenant("globex", (execute) => execute("insert into marks (tag, n) values ('kept', 97)"));
      go.open();
      await assert.rejects(acme, /ended by its helper/);
      await globex;
      // The text was not refused, and what ran before a COMMIT is committed.
      assert.deepEqual([accepted, await count("acme", 95)], [true, end.includes("commit") ? 1 : 0]);
      assert.deepEqual([await count("acme", 96), await count("globex", 96), await count("globex", 97)], [0, 0, 1]);
      await admin.query("delete from tenant_acme.marks where n = 95; delete from tenant_globex.marks where n = 97");
    });
}

await admin.connect();
await check("control: a savepoint that is not awaited takes back what the next tenant has written", nestedControl);
await check("control: without a guard a late statement is committed in the next tenant", control);
await specification(await clients[process.argv[2]!]!(CONNECTIONS));
await losses(await clients[process.argv[2]!]!(1));
if (process.argv[2] === "postgresjs") await hiddenEnds(await clients.postgresjs!(1));
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
