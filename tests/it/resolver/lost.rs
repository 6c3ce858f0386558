//! Connections that are silent without being closed, and a database that gets its triggers while a service runs.

use super::memory::{patient_settings, resolver};
use crate::{
    auth::platform::Platform,
    stage::slug,
    support::{
        cgk::Shell,
        patience::{must_end, patient},
    },
};
use cgk::{
    Config, Db, ErrorKind,
    auth::{Auth, AuthSettings},
    config::TargetHost,
    resolver::{NoticeState, Resolver},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

/// A proxy whose connections that listen can be made silent: what the server sends on them stays in the proxy, and nothing is closed.
struct Silencer {
    config: Config,
    is_silent: Arc<watch::Sender<bool>>,
}

impl Silencer {
    async fn of(platform: &Platform) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = platform.stage.database.config().target().hosts()[0].clone();
        let is_silent = Arc::new(watch::Sender::new(false));
        let silence = Arc::clone(&is_silent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let silence = silence.subscribe();
                match &host {
                    TargetHost::Socket { directory, port } => {
                        let server = UnixStream::connect(format!("{directory}/.s.PGSQL.{port}")).await.unwrap();
                        tokio::spawn(relay(client, server, silence));
                    }
                    TargetHost::Network { name, port } => {
                        let server = TcpStream::connect((name.as_str(), *port)).await.unwrap();
                        tokio::spawn(relay(client, server, silence));
                    }
                    _ => unreachable!("there are two kinds of host"),
                }
            }
        });
        let url = crate::sandbox::url(&platform.stage.database, None);
        let (user, _) = url.split_once("://").unwrap().1.split_once('@').unwrap_or(("postgres", ""));
        let name = platform.stage.database.name();
        let config = Config::from_url(&format!("postgresql://{user}@127.0.0.1:{port}/{name}")).unwrap();
        Self { config: patient(&config).with_pool_size_max(2), is_silent }
    }
}

async fn relay<S: AsyncRead + AsyncWrite + Unpin>(client: TcpStream, server: S, mut is_silent: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (listens, is_listener) = watch::channel(false);
    let up = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            // Not `unlisten *`, by which every transaction ends.
            if buffer[..read].windows(8).any(|text| text == b"listen \"") {
                listens.send_replace(true);
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            if *is_listener.borrow() && is_silent.wait_for(|silent| !silent).await.is_err() {
                return;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = up => {}, () = down => {} }
}

/// A network that drops everything: no error comes, and no notice either.
#[tokio::test]
async fn a_connection_that_is_silent_counts_as_lost() {
    let platform = Platform::set().await;
    let silencer = Silencer::of(&platform).await;
    let db: Db = Db::connect(&silencer.config).await.unwrap();
    let auth = Auth::new(&db, AuthSettings::default());
    let patient = resolver(&auth).await;
    let mut settings = patient_settings();
    settings.silence_max = Duration::from_millis(400);
    let attentive = Resolver::new(&auth, settings);
    must_end("the first connection", attentive.until_notified()).await;
    for resolver in [&patient, &attentive] {
        resolver.tenant(&slug("acme")).await.unwrap();
    }
    silencer.is_silent.send_replace(true);
    platform.stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
    must_end("the silence", attentive.until_unnotified()).await;
    let NoticeState::NotReceived { why } = attentive.state() else { panic!("{:?}", attentive.state()) };
    assert!(!why.is_empty());
    assert_eq!(attentive.tenant(&slug("acme")).await.unwrap_err().kind(), ErrorKind::Suspended);
    // The control: no notice has come, and whoever takes silence for quiet still lets it in.
    assert!(patient.tenant(&slug("acme")).await.is_ok());
    // Heard again, both know.
    silencer.is_silent.send_replace(false);
    must_end("the notices", patient.caught_up()).await;
    assert_eq!(patient.tenant(&slug("acme")).await.unwrap_err().kind(), ErrorKind::Suspended);
    must_end("the next connection", attentive.until_notified()).await;
}

/// A service runs, and the migrations that notify come.
#[tokio::test]
async fn a_database_that_gets_its_triggers_notifies_from_then_on() {
    let platform = Platform::set().await;
    let stage = &platform.stage;
    // What the migrations up to 009 make, and nothing else.
    let older = "do $$
         declare item record;
         begin
             for item in select c.oid::regclass as name from pg_class c
                          where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                            and c.relname::text !~ '^(cgk_.*|schema_migrations|organizations|users|sessions|api_keys|billing|magic_links)$'
             loop execute format('drop table %s cascade', item.name); end loop;
             for item in select p.oid::regprocedure as name from pg_proc p
                          where p.pronamespace = 'public'::regnamespace and p.proname::text ~ '^cgk_'
                            and p.proname::text !~ '^cgk_(database_tag|isolation|isolation_modes|guard_registry|extension_schemas|search_path|refuse|join|forget|enter|check_path|left|check)$'
             loop execute format('drop function %s cascade', item.name); end loop;
             for item in select t.oid::regtype as name from pg_type t
                          where t.typnamespace = 'public'::regnamespace and t.typtype = 'e'
                            and t.typname::text !~ '^(organization|user|billing|magic_link)_'
             loop execute format('drop type %s', item.name); end loop;
         end $$;
         alter table users drop column holds_address; drop index sessions_user_id_idx;
         alter table sessions add constraint sessions_organization_id_user_id_fkey
             foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade;
         delete from schema_migrations where version > 9; comment on table schema_migrations is null;
         delete from cgk_migration_files where set = 'public' and version > 9";
    stage.sql(older).await;
    let resolver = Resolver::new(&platform.auth, patient_settings());
    must_end("the look at the catalogue", async {
        while !matches!(resolver.state(), NoticeState::NotReceived { why } if why.contains("organizations_notify_update")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let acme = slug("acme");
    resolver.tenant(&acme).await.unwrap();
    // The precondition: without triggers nothing is notified, so nothing is remembered.
    resolver.tenant(&acme).await.unwrap();
    assert_eq!((resolver.status().hits, resolver.status().lookups), (0, 2));

    let answer = Shell::on(&stage.database).run(&["migrate"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    // The question of this call finds them.
    resolver.caught_up().await;
    must_end("the notices", resolver.until_notified()).await;
    resolver.tenant(&acme).await.unwrap();
    resolver.tenant(&acme).await.unwrap();
    assert_eq!((resolver.status().hits, resolver.status().lookups), (1, 3));
    stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
    resolver.caught_up().await;
    assert_eq!(resolver.tenant(&acme).await.unwrap_err().kind(), ErrorKind::Suspended);
    let shop = "shop.example.org".parse().unwrap();
    assert_eq!(resolver.domain(&shop).await.unwrap(), None);
    let domains = cgk::domains::Domains::new(&platform.db);
    domains.add(platform.globex, &shop).await.unwrap();
    domains.verify(platform.globex, &shop).await.unwrap();
    resolver.caught_up().await;
    assert_eq!(resolver.domain(&shop).await.unwrap().unwrap().id, platform.globex);
}
