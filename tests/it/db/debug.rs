//! What handles show of themselves: where they lead, and no password.

use crate::stage::{Stage, as_login};
use cgk::{
    Db, Operator,
    login::{self, LoginOptions},
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
