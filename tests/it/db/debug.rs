//! What handles show of themselves: where they lead, and no password; and what one that only reads cannot do.

use crate::stage::{Stage, as_login, slug};
use cgk::{
    Db, Operator,
    lifecycle::{self, CreateOptions},
    login::{self, LoginOptions},
    migrate::Migrations,
};

#[tokio::test]
async fn handles_show_where_they_lead_and_no_password() {
    let stage = Stage::set().await;
    let operator = stage.database.operator().await.unwrap();
    let admission = login::admit(&operator, &stage.app_name(), &LoginOptions::default()).await.unwrap();
    let password = admission.password.as_ref().unwrap();
    let config = as_login(stage.database.config(), &admission);
    // The control: it is in the configuration.
    assert!(config.url_of("x", Some(password.reveal())).contains(password.reveal()));
    let db: Db = Db::connect(&config).await.unwrap();
    let operator = Operator::connect(&config).await.unwrap();
    for shown in [format!("{db:?}"), format!("{operator:?}")] {
        assert!(shown.contains(stage.database.name()), "{shown}");
        assert!(!shown.contains(password.reveal()), "{shown}");
    }
    assert_eq!(format!("{password:?}"), "Password(***)");
}

#[tokio::test]
async fn an_operator_that_only_reads_is_refused_by_the_server() {
    let stage = Stage::set().await;
    let (hooli, options) = (slug("hooli"), CreateOptions::default());
    let operator = stage.database.operator().await.unwrap();
    let create = async || {
        lifecycle::create(&operator, &stage.db, &Migrations::bundled(), &hooli, &options)
            .await
            .map(|made| made.tenant.slug)
    };
    operator.read_only().await.unwrap();
    let error = create().await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("25006"), "{error:?}");
    // The control: another one makes the tenant.
    let operator = stage.database.operator().await.unwrap();
    lifecycle::create(&operator, &stage.db, &Migrations::bundled(), &hooli, &options).await.unwrap();
}
