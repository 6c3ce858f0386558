//! What the tests of migrations share: raw sessions beside the library's own, sets of files made on the spot, a proxy that
//! counts messages, and a picture of a schema to compare with.

use cgk::{
    Config,
    config::TargetHost,
    migrate::{self, FleetPlan, Migrations, Outcome, RunReport, Scope, Silent, Target},
    testing::{TEST_DATABASE_URL, TestDatabase, TestServer},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_postgres::types::FromSql;

/// What has not ended by now hangs. No test measures by it, and a busy machine does not reach it.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// A session that the library knows nothing of.
pub(crate) struct Raw(tokio_postgres::Client);

impl Raw {
    pub(crate) async fn on(database: &TestDatabase) -> Self {
        Self::connect(&url(database, None)).await
    }

    pub(crate) async fn connect(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    #[expect(clippy::disallowed_methods, reason = "the tests speak to the server as psql does")]
    pub(crate) async fn try_run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.0.batch_execute(sql).await
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.try_run(sql).await.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
    }

    /// Runs a text as psql's -c does, and counts the statements that the server completed.
    #[expect(clippy::disallowed_methods, reason = "the tests speak to the server as psql does")]
    pub(crate) async fn completed(&self, sql: &str) -> Result<usize, tokio_postgres::Error> {
        let answers = self.0.simple_query(sql).await?;
        let is_end = |answer: &&tokio_postgres::SimpleQueryMessage| {
            matches!(answer, tokio_postgres::SimpleQueryMessage::CommandComplete(_))
        };
        Ok(answers.iter().filter(is_end).count())
    }

    /// Whether the server reads a text as more than one statement; nothing of it is run. A syntax error is no answer.
    pub(crate) async fn reads_several(&self, sql: &str) -> Option<bool> {
        match self.0.prepare(sql).await {
            Ok(_) => Some(false),
            Err(error) => {
                let error = error.as_db_error().expect("the server answered");
                let several = error.message().contains("multiple commands");
                (several || *error.code() != tokio_postgres::error::SqlState::SYNTAX_ERROR).then_some(several)
            }
        }
    }

    pub(crate) async fn one<T: for<'a> FromSql<'a>>(&self, sql: &str) -> T {
        self.0.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    pub(crate) async fn all<T: for<'a> FromSql<'a>>(&self, sql: &str) -> Vec<T> {
        let rows = self.0.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until a query says true.
    pub(crate) async fn wait_until(&self, condition: &str) {
        let began = Instant::now();
        while began.elapsed() < HANG {
            if self.one::<bool>(condition).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never became true: {condition}");
    }

    /// Waits until `pid` waits for a lock.
    pub(crate) async fn wait_until_blocked(&self, pid: &str) {
        self.wait_until(&format!("select exists (select from pg_locks where pid in ({pid}) and not granted)")).await;
    }
}

/// The URL of a test's database, as the server's own user or as a role made for the test.
pub(crate) fn url(database: &TestDatabase, role: Option<&str>) -> String {
    let base = match TestServer::shared().local() {
        Some(local) => local.url("postgres"),
        None => std::env::var(TEST_DATABASE_URL).unwrap(),
    };
    let (scheme, rest) = base.split_once("://").unwrap();
    let (user, rest) = rest.split_once('@').unwrap_or(("", rest));
    let (host, rest) = rest.split_once('/').unwrap();
    let query = rest.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    let user = role.map_or_else(|| user.to_owned(), |role| format!("{role}:{ROLE_PASSWORD}"));
    format!("{scheme}://{user}@{host}/{}{query}", database.name())
}

const ROLE_PASSWORD: &str = "of_a_test";

/// Makes a login role of the database, dropped with it, and returns its name and how to connect as it.
pub(crate) async fn login_role(database: &TestDatabase, raw: &Raw, attributes: &str) -> (String, Config) {
    let tag = cgk::ident::DatabaseTag::of(database.name());
    let role = format!("cgk_t{:08x}_{}", rand::random::<u32>(), tag.as_str());
    raw.run(&format!("create role {role} login password '{ROLE_PASSWORD}' {attributes}")).await;
    let config = Config::from_url(&url(database, Some(&role))).unwrap();
    (role, config)
}

/// A directory of migration files, gone with this value.
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    /// Both folders, empty.
    pub(crate) fn empty() -> Self {
        let directory = std::env::temp_dir().join(format!("cgk-files-{:016x}", rand::random::<u64>()));
        for set in ["public", "tenant"] {
            fs::create_dir_all(directory.join(set)).unwrap();
        }
        Self { directory }
    }

    /// The bundled public set, as [`TestServer::set_up_database`] has applied it, and these tenant files.
    pub(crate) fn of_tenants(files: &[(&str, &str)]) -> Self {
        let made = Self::empty();
        let bundled = Migrations::bundled();
        for file in bundled.set(migrate::Set::Public).files() {
            made.public(file.path().file_name().unwrap().to_str().unwrap(), file.sql());
        }
        for (name, sql) in files {
            made.tenant(name, sql);
        }
        made
    }

    pub(crate) fn public(&self, name: &str, sql: &str) -> &Self {
        fs::write(self.directory.join("public").join(name), sql).unwrap();
        self
    }

    pub(crate) fn tenant(&self, name: &str, sql: &str) -> &Self {
        fs::write(self.directory.join("tenant").join(name), sql).unwrap();
        self
    }

    pub(crate) fn without(&self, name: &str) -> &Self {
        fs::remove_file(self.directory.join("tenant").join(name)).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn try_load(&self) -> cgk::Result<Migrations> {
        Migrations::from_directory(&self.directory)
    }

    pub(crate) fn load(&self) -> Migrations {
        self.try_load().unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// SQL that a migration of [`meeting_place`] waits in until so many transactions wait in it at once. Once one of them is
/// committed, no other waits. A rehearsal would wait for ever.
pub(crate) fn meeting(number: usize) -> String {
    format!(
        "do $$ begin
           perform pg_advisory_xact_lock_shared(4713);
           while not exists (select from public.met)
             and (select count(*) from pg_locks where locktype = 'advisory' and objid = 4713
                    and database = (select oid from pg_database where datname = current_database())) < {number} loop
             perform pg_sleep(0.005);
           end loop;
           insert into public.met default values;
         end $$;"
    )
}

/// Makes what [`meeting`] wants.
pub(crate) async fn meeting_place(raw: &Raw) {
    raw.run("drop table if exists public.met; create table public.met ()").await;
}

/// Plans and runs everything to head.
/// Without a rehearsal: most of these tests plant files that fail, and look at the tenants.
pub(crate) async fn migrate_all(operator: &cgk::Operator, migrations: &Migrations) -> cgk::Result<RunReport> {
    let planned = plan_all(operator, migrations).await?;
    let options = migrate::RunOptions::default().unrehearsed();
    migrate::run_with(operator, migrations, planned, &options, &mut Silent).await
}

pub(crate) async fn plan_all<'a>(operator: &cgk::Operator, migrations: &'a Migrations) -> cgk::Result<FleetPlan<'a>> {
    migrate::plan_fleet(operator, migrations, &Scope::Everything, Target::Head).await
}

/// The error of a tenant that failed.
pub(crate) fn failure<'a>(report: &'a RunReport, slug: &str) -> &'a cgk::Error {
    let outcome = report.tenants.iter().find(|tenant| tenant.slug.as_ref().is_some_and(|found| found.as_str() == slug));
    match outcome.map(|outcome| &outcome.result) {
        Some(Outcome::Failed { error }) => error,
        other => panic!("{slug} did not fail: {other:?}"),
    }
}

/// Makes tenants with these migrations.
pub(crate) async fn tenants(database: &TestDatabase, migrations: &Migrations, slugs: &[&str]) -> cgk::Operator {
    let (operator, db) = (database.operator().await.unwrap(), database.db().await.unwrap());
    for slug in slugs {
        let (slug, options) = (slug.parse().unwrap(), cgk::lifecycle::CreateOptions::default());
        cgk::lifecycle::create(&operator, &db, migrations, &slug, &options).await.unwrap();
    }
    operator
}

/// Schemas that look like tenants' and are not. A run that touches one of them changes [`picture`].
pub(crate) async fn decoys(raw: &Raw) {
    raw.run(
        "create schema tenantsx; create schema tenants_archive; create schema tenant_ghost;
         create table tenantsx.orders (id int); create table tenants_archive.schema_migrations (version bigint);
         create table tenant_ghost.orders (id int)",
    )
    .await;
}

pub(crate) const DECOYS: [&str; 3] = ["tenantsx", "tenants_archive", "tenant_ghost"];

/// Everything the catalogue says of a schema, and its ledger.
pub(crate) async fn picture(raw: &Raw, schema: &str) -> Vec<String> {
    let sql = format!(
        "with n as (select oid, nspname, nspowner, nspacl from pg_namespace where nspname = '{schema}')
         select concat_ws(' ', 'schema', nspname, pg_get_userbyid(nspowner), nspacl) from n
         union all
         select concat_ws(' ', 'relation', c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relacl, obj_description(c.oid, 'pg_class'))
           from pg_class c, n where c.relnamespace = n.oid
         union all
         select concat_ws(' ', 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
                          pg_get_expr(d.adbin, d.adrelid))
           from n join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v')
                join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
         union all
         select concat_ws(' ', 'constraint', o.conname, pg_get_constraintdef(o.oid)) from pg_constraint o, n where o.connamespace = n.oid
         union all
         select concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid))
           from pg_index i join pg_class c on c.oid = i.indexrelid, n where c.relnamespace = n.oid
         union all
         select concat_ws(' ', 'function', p.proname, md5(p.prosrc)) from pg_proc p, n where p.pronamespace = n.oid
         union all
         select concat_ws(' ', 'type', t.typname) from pg_type t, n where t.typnamespace = n.oid
         union all
         select concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid)) from pg_trigger t join pg_class c on c.oid = t.tgrelid, n
           where c.relnamespace = n.oid and not t.tgisinternal
         union all
         select concat_ws(' ', 'default', d.defaclobjtype, d.defaclacl) from pg_default_acl d, n where d.defaclnamespace = n.oid
         order by 1"
    );
    let mut picture: Vec<String> = raw.all(&sql).await;
    // The history of runs is written whatever becomes of the run.
    picture.retain(|line| !line.contains("cgk_run"));
    let has_ledger = format!(
        "select exists (select from pg_attribute where attrelid = to_regclass('{schema}.schema_migrations') and attname = 'checksum')"
    );
    if raw.one(&has_ledger).await {
        picture.extend(
            raw.all::<String>(&format!("select 'row ' || m from {schema}.schema_migrations m order by version")).await,
        );
    }
    picture
}

/// The versions in a schema's ledger.
pub(crate) async fn versions(raw: &Raw, schema: &str) -> Vec<i64> {
    raw.all(&format!("select version from {schema}.schema_migrations order by version")).await
}

/// Whether a relation is there, by its full name.
pub(crate) async fn exists(raw: &Raw, relation: &str) -> bool {
    raw.one(&format!("select to_regclass('{relation}') is not null")).await
}

/// Random numbers whose seed is printed with a failing test and set by `CGK_TEST_SEED`.
pub(crate) fn seeded(test: &str) -> StdRng {
    let seed = std::env::var("CGK_TEST_SEED").ok().map_or_else(rand::random, |text| text.parse().unwrap());
    say(&format!("{test}: CGK_TEST_SEED={seed}"));
    StdRng::seed_from_u64(seed)
}

/// `CGK_TEST_LONG=20` makes the tests with random faults run twenty times as long.
pub(crate) fn rounds(default: usize) -> usize {
    default * std::env::var("CGK_TEST_LONG").ok().map_or(1, |text| text.parse().unwrap_or(10))
}

#[expect(clippy::print_stdout, reason = "shown with a failing test")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// A proxy in front of the server that notes what the client sends.
pub(crate) struct Proxy {
    seen: Arc<Mutex<Vec<Seen>>>,
    cut: Arc<Mutex<Option<(usize, Cut)>>>,
    rewriter: Rewriter,
    config: Config,
}

/// What the text of a simple query is replaced with on its way, if it is.
type Rewrite = Box<dyn FnMut(&str) -> Option<String> + Send>;
type Rewriter = Arc<Mutex<Option<Rewrite>>>;

/// Where a connection is cut: before a message of the client's reaches the server, or right after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Before,
    After,
}

/// A message of the client's: its kind, and its text where it has one.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) kind: u8,
    pub(crate) text: String,
}

impl Proxy {
    pub(crate) async fn to(database: &TestDatabase) -> Self {
        Self::for_connections(database, usize::MAX).await
    }

    /// One that lets so many connections through, and then is gone.
    pub(crate) async fn for_connections(database: &TestDatabase, connections_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = database.config().target().hosts()[0].clone();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let cut = Arc::new(Mutex::new(None));
        let cutting = Arc::clone(&cut);
        let rewriter = Rewriter::default();
        let rewriting = Arc::clone(&rewriter);
        tokio::spawn(async move {
            for _ in 0..connections_max {
                let Ok((client, _)) = listener.accept().await else { return };
                match &host {
                    TargetHost::Socket { directory, port } => {
                        let server = UnixStream::connect(format!("{directory}/.s.PGSQL.{port}")).await.unwrap();
                        let rewriting = Arc::clone(&rewriting);
                        tokio::spawn(relay(client, server, Arc::clone(&noted), Arc::clone(&cutting), rewriting));
                    }
                    TargetHost::Network { name, port } => {
                        let server = TcpStream::connect((name.as_str(), *port)).await.unwrap();
                        let rewriting = Arc::clone(&rewriting);
                        tokio::spawn(relay(client, server, Arc::clone(&noted), Arc::clone(&cutting), rewriting));
                    }
                    _ => unreachable!("there are two kinds of host"),
                }
            }
        });
        let direct = url(database, None);
        let (user, _) = direct.split_once("://").unwrap().1.split_once('@').unwrap_or(("postgres", ""));
        let config = Config::from_url(&format!("postgresql://{user}@127.0.0.1:{port}/{}", database.name())).unwrap();
        Self { seen, cut, rewriter, config }
    }

    /// Replaces the texts of simple queries on their way from now on.
    pub(crate) fn rewrite(&self, rewrite: impl FnMut(&str) -> Option<String> + Send + 'static) {
        *self.rewriter.lock().unwrap() = Some(Box::new(rewrite));
    }

    /// Cuts the connection at the message after so many others.
    pub(crate) fn cut_after(&self, messages: usize, how: Cut) {
        *self.cut.lock().unwrap() = Some((messages, how));
    }

    /// Whether the cut is still to come; there is none any more.
    pub(crate) fn spare(&self) -> bool {
        self.cut.lock().unwrap().take().is_some()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What was sent since the last call.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// How often an answer was waited for: simple queries and syncs, but for the sync behind a Close, which the driver sends
/// some time after a statement was dropped and does not wait for.
pub(crate) fn round_trips(seen: &[Seen]) -> usize {
    let closes = seen.windows(2).filter(|pair| pair[0].kind == b'C' && pair[1].kind == b'S').count();
    seen.iter().filter(|message| matches!(message.kind, b'Q' | b'S')).count() - closes
}

/// Counts a message; says whether it is the one at which the connection is cut.
fn due(cutting: &Mutex<Option<(usize, Cut)>>) -> Option<Cut> {
    let mut cutting = cutting.lock().unwrap();
    let (left, how) = (*cutting)?;
    *cutting = left.checked_sub(1).map(|left| (left, how));
    (left == 0).then_some(how)
}

/// The body of a message as it goes on.
fn rewritten(rewriter: &Rewriter, kind: u8, body: Vec<u8>) -> Vec<u8> {
    let mut rewriter = rewriter.lock().unwrap();
    let (b'Q', Some(rewrite)) = (kind, rewriter.as_mut()) else { return body };
    match rewrite(std::str::from_utf8(&body).unwrap().trim_end_matches('\0')) {
        Some(text) => [text.as_bytes(), b"\0"].concat(),
        None => body,
    }
}

async fn relay<S>(
    client: TcpStream,
    server: S,
    seen: Arc<Mutex<Vec<Seen>>>,
    cutting: Arc<Mutex<Option<(usize, Cut)>>>,
    rewriter: Rewriter,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    client.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let mut back = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    });
    // The first message has no kind: what starts the session.
    let mut first = true;
    let mut server_closed = false;
    loop {
        let Ok((kind, body)) = read_message(&mut from_client, first).await else { break };
        let now = if first { None } else { due(&cutting) };
        if now == Some(Cut::Before) {
            break;
        }
        let mut message = Vec::new();
        let body = if first {
            body
        } else {
            seen.lock().unwrap().push(Seen { kind, text: String::from_utf8_lossy(&body).into_owned() });
            message.push(kind);
            rewritten(&rewriter, kind, body)
        };
        message.extend((u32::try_from(body.len()).unwrap() + 4).to_be_bytes());
        message.extend(body);
        if to_server.write_all(&message).await.is_err() {
            server_closed = true;
            break;
        }
        if now == Some(Cut::After) {
            break;
        }
        first = false;
    }
    if server_closed {
        // What the server said before it closed the connection still reaches the client.
        let _ = (&mut back).await;
        let _ = tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await;
    }
    let _ = to_server.shutdown().await;
    back.abort();
}

/// Reads a message of the client's: its kind, but for the first one, which has none, and its body.
async fn read_message(from_client: &mut (impl AsyncRead + Unpin), first: bool) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = if first { 0 } else { from_client.read_u8().await? };
    let length = from_client.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    from_client.read_exact(&mut body).await?;
    Ok((kind, body))
}
