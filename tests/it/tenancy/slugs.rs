//! Slugs from random texts: two that differ never come to the same schema or role, and the server takes the quoted names as they
//! are (threats T6–T9).

use crate::{
    stage::{connect, dice, long, report, run},
    support::score,
};
use cgk::{
    TenantSlug,
    ident::{DatabaseTag, Ident, RoleName, SchemaName},
    testing::TestServer,
};
use rand::{RngExt, rngs::StdRng};
use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

/// What the texts are made of: mostly what a slug may hold, and what has led others astray.
const ALPHABET: &[&str] = &[
    "a", "b", "z", "_", "__", "0", "9", "tenant_", "public", "pg_", "A", "Z", "-", ".", " ", "\"", "'", ",", ";", "\\",
    "\0", "%", "$", "ä", "ı", "ａ", "\u{200b}", "\n", "/*", "--", "e\u{301}",
];
/// Of these every text could be a slug, but for its length.
const PLAIN: usize = 10;

fn text(dice: &mut StdRng) -> String {
    let letters = if dice.random_range(0..4) < 3 { &ALPHABET[..PLAIN] } else { ALPHABET };
    // Lengths around the limit of a slug and that of PostgreSQL as often as short ones.
    let wanted = match dice.random_range(0..3) {
        0 => dice.random_range(0..12),
        1 => dice.random_range(40..70),
        _ => dice.random_range(0..80),
    };
    let mut text = String::new();
    while text.len() < wanted {
        text.push_str(letters[dice.random_range(0..letters.len())]);
    }
    text
}

/// What the server makes of a name that is written without quotes: folded, and cut off at 63 bytes.
fn folded(name: &str) -> String {
    let mut end = name.len().min(63);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_ascii_lowercase()
}

#[test]
fn different_slugs_have_different_schemas_and_roles() {
    let (mut dice, inputs) = (dice(), 100_000 * long().unwrap_or(1));
    let tag = DatabaseTag::of("shop");
    let hash = RandomState::new();
    let (mut slugs, mut schemas, mut roles) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut accepted = 0;
    for _ in 0..inputs {
        let text = text(&mut dice);
        let Ok(slug) = text.parse::<TenantSlug>() else { continue };
        accepted += 1;
        let (schema, role) = (SchemaName::of_tenant(&slug), RoleName::of_tenant(&slug, &tag));
        // Back to the slug, so no other slug has them; and the server neither folds nor cuts them.
        assert_eq!(schema.as_str().strip_prefix("tenant_"), Some(text.as_str()));
        let back = role.as_str().strip_prefix("cgk_").and_then(|rest| rest.strip_suffix(tag.as_str()));
        assert_eq!(back.and_then(|rest| rest.strip_suffix('_')), Some(text.as_str()));
        slugs.insert(hash.hash_one(&text));
        schemas.insert(hash.hash_one(folded(schema.as_str())));
        roles.insert(hash.hash_one(folded(role.as_str())));
    }
    let bad = slugs.len().abs_diff(schemas.len()) + slugs.len().abs_diff(roles.len());
    assert_eq!(bad, 0, "{} slugs, {} schemas, {} roles", slugs.len(), schemas.len(), roles.len());
    assert!(accepted > inputs / 5 && accepted < inputs, "{accepted} of {inputs}: this test proves nothing");
    let told = format!("{accepted} accepted, {} different slugs, as many schemas and roles", slugs.len());
    report(&told);
    score::note(12, "texts given as slugs, two of one schema or role", inputs, bad, &told);
}

/// The same texts with the mappings that are often seen: lower-cased, repaired, cut off by the server.
#[test]
fn control_careless_mappings_collide() {
    let mut dice = dice();
    let (mut texts, mut names) = (HashSet::new(), HashSet::new());
    for _ in 0..20_000 {
        let text = text(&mut dice);
        names.insert(folded(&format!("tenant_{}", text.replace(['-', '.', ' '], "_"))));
        texts.insert(text);
    }
    let lost = texts.len() - names.len();
    assert!(lost > 20, "only {lost} collisions: the test above could not see one");
    score::control(12, "lower-cased, repaired, cut off at 63 bytes", texts.len(), lost, "names met by another text");
}

/// The server makes schemas of exactly these names, and reads every quoted name as the one that was meant.
#[tokio::test]
async fn the_server_takes_quoted_names_as_they_are() {
    let database = TestServer::shared().database().await.unwrap();
    let client = connect(database.name()).await;
    let mut dice = dice();
    let wanted = if long().is_some() { 2_000 } else { 200 };
    let (mut meant, mut told) = (HashSet::new(), HashSet::new());
    while meant.len() < wanted {
        let text = text(&mut dice);
        if let Ok(slug) = text.parse::<TenantSlug>() {
            meant.insert(SchemaName::of_tenant(&slug).quoted());
            told.insert(format!("tenant_{text}"));
        }
    }
    for names in meant.iter().collect::<Vec<_>>().chunks(100) {
        let sql: String = names.iter().map(|name| format!("create schema {name};")).collect();
        run(&client, &sql).await.unwrap();
    }
    let rows = client.query("select nspname::text from pg_namespace where starts_with(nspname, 'tenant_')", &[]).await;
    let found: HashSet<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(found, told);

    // Any name at all, not only a tenant's.
    let mut others = 0;
    while others < wanted * 10 {
        let text = text(&mut dice);
        let Ok(ident) = Ident::new(text.as_str()) else { continue };
        let sql = "select parse_ident($1)::text[], parse_ident(quote_ident($2))::text[]";
        let row = client
            .query_one(sql, &[&ident.quoted(), &text])
            .await
            .unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
        assert_eq!((row.get(0), row.get(1)), (vec![text.clone()], vec![text]));
        others += 1;
    }
    score::note(
        12,
        "quoted names that the server read back",
        wanted + others,
        0,
        "schemas made, and identifiers parsed",
    );
}
