//! What is not there, and ids of something else: the message names the object, and the help the next command.

use crate::{stage::Stage, support::cgk::Shell};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let shell = Shell::on(&stage.database);
    let none = "0195f0a0-0000-7000-8000-00000000000f";
    let (acme, user) = (stage.acme.to_string(), ada.to_string());
    let lines: Vec<String> = vec![
        "org:show nosuch".into(),
        "org:show nosuch --json".into(),
        format!("org:show {acme}"),
        format!("org:show {user}"),
        "subscription:show nosuch --json".into(),
        "subscription:show acme --json".into(),
        "subscription:show acme --history".into(),
        "subscription:cancel acme".into(),
        "subscription:renew acme".into(),
        "subscription:change acme nosuch".into(),
        "quota:show nosuch --json".into(),
        "quota:show acme".into(),
        "quota:grant acme nosuch 5".into(),
        format!("member:remove acme {none}"),
        format!("member:remove acme {acme}"),
        format!("member:role acme {none} admin"),
        format!("member:add acme {none}"),
        format!("member:add acme {acme}"),
        format!("member:add {user} ben@example.com"),
        format!("invite:revoke acme {none}"),
        format!("invite:revoke acme {user}"),
        format!("invite:resend acme {user}"),
        "invite:revoke acme ben@example.com".into(),
        format!("key:revoke acme {user}"),
        format!("key:rotate acme {none}"),
        "key:revoke acme 0000".into(),
        format!("user:disable acme {acme}"),
        "user:enable acme x@example.com".into(),
        format!("user:merge {user} {none}"),
        format!("user:merge {user} {user}"),
        format!("user:merge {user} {acme}"),
        "user:merge ada@example.com ben@example.com".into(),
        format!("session:revoke acme {user}"),
        format!("session:list acme --user {none}"),
        format!("events:retry {user}"),
        format!("events:retry {none} --json"),
        "events:list nosuch".into(),
        "audit:list nosuch --json".into(),
        format!("audit:list {acme}"),
        "plan:list nosuch".into(),
        "tenant:show nosuch --json".into(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    // What is wrong with an id as a slug depends on its first character.
    let transcript = shell
        .transcript(&lines)
        .replace(&acme, "<acme>")
        .replace(&user, "<user>")
        .replace("it must start with a letter a-z", "<why>")
        .replace("'-' is not one of a-z, 0-9 and _", "<why>");
    insta::assert_snapshot!(transcript);
}
