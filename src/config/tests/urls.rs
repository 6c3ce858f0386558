//! Tests of strings that must be accepted.

use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs};

use crate::config::{Config, Pooling, RemotePlaintext, RootCerts, TlsMode};

const SYSTEM: TlsMode = TlsMode::Verify { roots: RootCerts::System, client: None };

struct Case {
    url: &'static str,
    target: &'static str,
    tls: TlsMode,
    pooling: Pooling,
    notices: usize,
}

const fn case(url: &'static str, target: &'static str, tls: TlsMode) -> Case {
    Case { url, target, tls, pooling: Pooling::Direct, notices: 0 }
}

const fn noticed(url: &'static str, target: &'static str, tls: TlsMode, pooling: Pooling, notices: usize) -> Case {
    Case { url, target, tls, pooling, notices }
}

fn cases() -> Vec<Case> {
    use TlsMode::Disable as Plain;
    vec![
        // Neon, direct and pooled.
        case(
            "postgresql://app_owner:npg_x1@ep-cool-name-a1b2c3.eu-central-1.aws.neon.tech/shop?sslmode=require&channel_binding=require",
            "postgresql://app_owner@ep-cool-name-a1b2c3.eu-central-1.aws.neon.tech:5432/shop",
            SYSTEM,
        ),
        noticed(
            "postgresql://app_owner:npg_x1@ep-cool-name-a1b2c3-pooler.eu-central-1.aws.neon.tech/shop?sslmode=require",
            "postgresql://app_owner@ep-cool-name-a1b2c3-pooler.eu-central-1.aws.neon.tech:5432/shop",
            SYSTEM,
            Pooling::Direct,
            1,
        ),
        // Supabase: direct, session pooler, transaction pooler.
        case(
            "postgresql://postgres:pw@db.abcdefgh.supabase.co:5432/postgres",
            "postgresql://postgres@db.abcdefgh.supabase.co:5432/postgres",
            SYSTEM,
        ),
        case(
            "postgresql://postgres.abcdefgh:pw@aws-0-eu-central-1.pooler.supabase.com:5432/postgres",
            "postgresql://postgres.abcdefgh@aws-0-eu-central-1.pooler.supabase.com:5432/postgres",
            SYSTEM,
        ),
        noticed(
            "postgresql://postgres.abcdefgh:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?pgbouncer=true&connection_limit=1",
            "postgresql://postgres.abcdefgh@aws-0-eu-central-1.pooler.supabase.com:6543/postgres",
            SYSTEM,
            Pooling::Transaction,
            1,
        ),
        // RDS.
        case(
            "postgres://admin:pw@shop.c9x.eu-west-1.rds.amazonaws.com:5432/shop?sslmode=verify-full",
            "postgresql://admin@shop.c9x.eu-west-1.rds.amazonaws.com:5432/shop",
            SYSTEM,
        ),
        // Prisma's own example.
        noticed(
            "postgresql://johndoe:pw@localhost:5432/mydb?schema=public&connection_limit=5&pool_timeout=20",
            "postgresql://johndoe@localhost:5432/mydb",
            Plain,
            Pooling::Direct,
            3,
        ),
        // Heroku, and options that its users add.
        case(
            "postgres://uabc:p0f@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1?ssl=true",
            "postgresql://uabc@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1",
            SYSTEM,
        ),
        // Google Cloud SQL: the host in the query is used.
        case(
            "postgresql://u:pw@localhost/shop?host=/cloudsql/project:region:instance",
            "postgresql://u@/shop?host=/cloudsql/project%3Aregion%3Ainstance&port=5432",
            Plain,
        ),
        // User names of Azure.
        case(
            "postgres://app%40server:pw@server.postgres.database.azure.com/shop?sslmode=require",
            "postgresql://app%40server@server.postgres.database.azure.com:5432/shop",
            SYSTEM,
        ),
        // Sockets, for which sslmode has no effect.
        case(
            "postgresql:///shop?host=/var/run/postgresql",
            "postgresql:///shop?host=/var/run/postgresql&port=5432",
            Plain,
        ),
        case(
            "postgresql://u@%2Ftmp%2Fpg:5433/shop?sslmode=require",
            "postgresql://u@/shop?host=/tmp/pg&port=5433",
            Plain,
        ),
        // This machine.
        case("postgres://u:pw@127.0.0.1/shop", "postgresql://u@127.0.0.1:5432/shop", Plain),
        case("postgres://u:pw@[::1]:5433/shop?sslmode=prefer", "postgresql://u@[::1]:5433/shop", Plain),
        case("postgres://u:pw@[::1]/shop?sslmode=disable", "postgresql://u@[::1]:5432/shop", Plain),
        case("postgres://localhost/shop?sslmode=require", "postgresql://localhost:5432/shop", SYSTEM),
        case("postgres://localhost/shop?channel_binding=require", "postgresql://localhost:5432/shop", SYSTEM),
        case("postgres://localhost/shop?sslrootcert=system", "postgresql://localhost:5432/shop", SYSTEM),
        // Other machines.
        case("postgres://u@[2001:db8::1]/shop", "postgresql://u@[2001:db8::1]:5432/shop", SYSTEM),
        noticed("postgres://u@db/shop?sslmode=prefer", "postgresql://u@db:5432/shop", SYSTEM, Pooling::Direct, 1),
        noticed("postgres://u@db/shop?sslmode=verify-ca", "postgresql://u@db:5432/shop", SYSTEM, Pooling::Direct, 1),
        // The name is localhost, but the address is not.
        case("host=localhost hostaddr=203.0.113.9 dbname=shop", "postgresql://localhost:5432/shop", SYSTEM),
        case("hostaddr=203.0.113.9 dbname=shop port=5433", "postgresql://203.0.113.9:5433/shop", SYSTEM),
        // Several hosts.
        case(
            "postgres://u:pw@a.example:5433,b.example,[2001:db8::2]:5434/shop?target_session_attrs=read-write",
            "postgresql://u@a.example:5433,b.example:5432,[2001:db8::2]:5434/shop",
            SYSTEM,
        ),
        case(
            "host=a.example,b.example port=6000 dbname=shop",
            "postgresql://a.example:6000,b.example:6000/shop",
            SYSTEM,
        ),
        case(
            "host=localhost,10.0.0.1 port=,6000 dbname=shop",
            "postgresql://localhost:5432,10.0.0.1:6000/shop",
            SYSTEM,
        ),
        // The key=value form.
        case(
            r"host=localhost user='my user' password='it\'s' dbname=shop sslmode=disable",
            "postgresql://my%20user@localhost:5432/shop",
            Plain,
        ),
        // Spaces around, empty options, names that need escapes.
        case("\n postgres://localhost/my%20shop?sslmode=& \n", "postgresql://localhost:5432/my%20shop", Plain),
    ]
}

#[test]
fn what_people_paste_works() {
    for Case { url, target, tls, pooling, notices } in cases() {
        let config = Config::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(config.target().to_string(), target, "{url}");
        assert_eq!(config.tls(), &tls, "{url}");
        assert_eq!(config.pooling(), pooling, "{url}");
        assert_eq!(config.notices().len(), notices, "{url}: {:?}", config.notices());
        let ssl_mode = if tls == TlsMode::Disable { SslMode::Disable } else { SslMode::Require };
        assert_eq!(config.pg().get_ssl_mode(), ssl_mode, "{url}");
        assert_eq!(config.pg().get_ports().len(), config.pg().get_hosts().len(), "{url}");
        assert_eq!(config.pg().get_options(), None, "{url}");
    }
}

#[test]
fn a_displayed_target_is_a_url_for_the_same_target() {
    for Case { url, .. } in cases() {
        let target = Config::from_url(url).unwrap().target().clone();
        assert_eq!(Config::from_url(&target.to_string()).unwrap().target(), &target, "{url}");
    }
}

#[test]
fn the_driver_gets_what_the_url_says() {
    let config = Config::from_url(
        "postgres://u%2B:p%40%3A%2F%3f%23%25@a.example:1,b.example:2/shop?connect_timeout=3&keepalives_count=7&\
         channel_binding=require&target_session_attrs=primary&load_balance_hosts=random&sslnegotiation=direct&\
         application_name=shop%20web&options=endpoint%3Dep-x&connect_timeout=4&tcp_user_timeout=9&keepalives_idle=11",
    )
    .unwrap();
    let pg = config.pg();
    assert_eq!(pg.get_hosts(), [Host::Tcp("a.example".into()), Host::Tcp("b.example".into())]);
    assert_eq!(pg.get_ports(), [1, 2]);
    assert_eq!((pg.get_user(), pg.get_dbname()), (Some("u+"), Some("shop")));
    assert_eq!(pg.get_password(), Some(b"p@:/?#%".as_slice()));
    assert_eq!(pg.get_connect_timeout(), Some(&Duration::from_secs(4)));
    assert_eq!(pg.get_tcp_user_timeout(), Some(&Duration::from_secs(9)));
    assert_eq!((pg.get_keepalives_retries(), pg.get_keepalives_idle()), (Some(7), Duration::from_secs(11)));
    assert_eq!(pg.get_channel_binding(), ChannelBinding::Require);
    assert_eq!(pg.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    assert_eq!(pg.get_load_balance_hosts(), LoadBalanceHosts::Random);
    assert_eq!(pg.get_ssl_negotiation(), SslNegotiation::Direct);
    assert_eq!(pg.get_options(), Some("endpoint=ep-x"));
    assert_eq!(pg.get_application_name(), Some("shop web"));
    assert_eq!(config.session().application_name, "shop web");
}

#[test]
fn the_driver_gets_defaults() {
    let config = Config::from_url("postgres://localhost/shop").unwrap();
    let pg = config.pg();
    assert_eq!(pg.get_connect_timeout(), Some(&Duration::from_secs(10)));
    assert!(pg.get_keepalives() && pg.get_keepalives_interval().is_some());
    assert_eq!(pg.get_application_name(), Some("cgk"));
    assert_eq!((pg.get_user(), pg.get_password()), (None, None));
    let renamed = config.with_application_name("web");
    assert_eq!(renamed.pg().get_application_name(), Some("web"));
}

#[test]
fn plaintext_to_another_machine_can_be_allowed() {
    for (url, tls) in [
        ("postgres://u@db/shop", TlsMode::Disable),
        ("postgres://u@db/shop?sslmode=prefer", TlsMode::Disable),
        ("postgres://u@db/shop?sslmode=disable", TlsMode::Disable),
        ("postgres://u@db/shop?sslmode=require", SYSTEM),
        ("postgres://u@db/shop?sslrootcert=system", SYSTEM),
    ] {
        let config = Config::from_url_with(url, RemotePlaintext::Allow).unwrap();
        assert_eq!(config.tls(), &tls, "{url}");
        assert_eq!(config.notices().len(), usize::from(tls == TlsMode::Disable), "{url}");
    }
}

#[test]
fn another_database_of_the_same_server() {
    let config = Config::from_url("postgres://u:pw@localhost/shop").unwrap();
    let other = config.with_database("my other");
    assert_eq!(other.target().to_string(), "postgresql://u@localhost:5432/my%20other");
    assert_eq!(other.pg().get_dbname(), Some("my other"));
    assert_eq!(config.pg().get_dbname(), Some("shop"));
}

#[test]
fn certificates_are_relative_to_the_working_directory() {
    let scratch = super::Scratch::new(&[("ca.pem", ""), ("me.pem", ""), ("me.key", "")]);
    let url = "postgres://u@db/shop?sslrootcert=ca.pem&sslcert=me.pem&sslkey=me.key";
    let config = scratch.load(&[("DATABASE_URL", url)]).unwrap();
    let TlsMode::Verify { roots, client: Some(client) } = config.tls() else { panic!("{:?}", config.tls()) };
    assert_eq!(roots, &RootCerts::File(scratch.path().join("ca.pem")));
    assert_eq!(
        (client.certificate.clone(), client.key.clone()),
        (scratch.path().join("me.pem"), scratch.path().join("me.key"))
    );
}
