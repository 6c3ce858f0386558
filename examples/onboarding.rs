//! From an e-mail address to a tenant with a plan and an API key, and a second member by invitation.
//!
//! `DATABASE_URL=… cargo run --example onboarding`, on a database that may get the bundled tables. Without DATABASE_URL a
//! private, throw-away server is used.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use cgk::{
    Config, Db, Operator, TenantSlug,
    auth::{Auth, AuthSettings, NewApiKey, UserRole},
    migrate::{Migrations, Silent},
    platform::{Actor, Invitations, Invitee, Members, NewInvitation, NewSignUp, PageRequest, SignUps},
    provisioning::{self, NewOrganization},
    setup,
    testing::LocalServer,
};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (_server, config) = match Config::load() {
        Ok(config) => (None, config),
        Err(error) if error.is_missing_url() => {
            let server = LocalServer::start_default(&|line| println!("{line}"))?;
            let config = Config::from_url(&server.url("postgres"))?;
            (Some(server), config)
        }
        Err(error) => return Err(error.into()),
    };
    let operator = Operator::connect(&config).await?;
    let migrations = Migrations::load(config.migrations())?;
    setup::setup(&operator, &migrations, &mut Silent).await?;
    let db = Db::connect(&config).await?;

    // Ada has shown that the address is hers, by a magic link or a provider. The client sends a key with its request, and the same
    // one when it asks again.
    let slug: TenantSlug = "acme".parse()?;
    let sign_ups = SignUps::new(&db);
    let new = NewSignUp::of_address("ada@example.com", NewOrganization::new(slug.clone()).name("Acme Inc."))
        .plan("team".parse()?)
        .api_key(NewApiKey::named("default").scope("orders:read"));
    let begun = sign_ups.sign_up("request-1", &new, Duration::ZERO).await?;
    println!("signed up: {:?}", begun.state);

    // The operator's process: `cgk provision --watch`.
    provisioning::serve_due(&config, &migrations, &Default::default(), &mut |_| {}).await?;
    let done = sign_ups.sign_up("request-1", &new, Duration::from_secs(10)).await?;
    println!("and again: {:?}", done.state);
    let token = done.token.ok_or("the token was in an answer before")?;
    let key = Auth::new(&db, AuthSettings::default()).api_keys().verify(token.reveal()).await?;
    println!("the key is one of tenant {}", key.tenant.slug);

    // Ada invites Ben, who follows the link in his mail.
    let invitations = Invitations::new(&db);
    let ben = NewInvitation::of_address("ben@example.com").role(UserRole::Admin);
    let by_ada = invitations.clone().acting_as(Actor::User(done.user_id));
    let (invitation, token) = by_ada.create(done.organization_id, &ben).await?;
    invitations.accept(token.reveal(), &Invitee::Address(invitation.email)).await?;
    for member in Members::new(&db).list(done.organization_id, &PageRequest::default()).await?.items {
        println!("{} is {}", member.email, member.role);
    }
    Ok(())
}
