//! The texts of triggers are those of the server.

use crate::sandbox::{Files, Raw, tenants};
use cgk::testing::TestServer;

const SET: &str = r#"
create table "group" (a int, b int, "odd ""name" int);
create view seen as select a from "group";
create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
create function "Odd touch"() returns trigger language plpgsql as $$ begin return new; end $$;
create function lower() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger plain before update on "group" for each row execute function touch();
create trigger "Odd ""name" after insert or delete or update or truncate on "group" execute function touch();
create trigger row_all after insert or delete or update on "group" for each row execute function touch();
create trigger columns before update of b, a, "odd ""name" on "group" for each row execute function touch();
create trigger columns_and_more before insert or update of a or delete on "group" for each row execute function touch();
create trigger odd_function before truncate on "group" for each statement execute function "Odd touch"();
create trigger hidden_function before insert on "group" for each row execute function lower();
create trigger of_public before insert on "group" for each row execute function public.touch_all();
create trigger of_public_hidden before insert on "group" for each row execute function public.touch();
create trigger of_another before insert on "group" for each row execute function "Other schema".touch();
create trigger built_in before update on "group" for each row execute function suppress_redundant_updates_trigger();
create trigger on_view instead of insert or update on seen for each row execute function touch();
create trigger argument before insert on "group" for each row execute function touch('a');
create trigger arguments before insert on "group" for each row execute function touch('a', '', 'it''s', 7, 'x, y');
create trigger empty_argument before insert on "group" for each row execute function touch('');
create trigger odd_arguments before insert on "group" for each row execute function touch('\', 'é', E'a\nb', '\000');
create trigger condition before update on "group" for each row when (old.a is distinct from new.a) execute function touch();
create constraint trigger late after insert on "group" deferrable initially deferred for each row execute function touch();
create trigger changed_rows after update on "group" referencing old table as before new table as after for each statement execute function touch();
"#;

#[tokio::test]
async fn the_text_of_a_trigger_is_that_of_the_server() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(
        "create schema \"Other schema\";
         create function \"Other schema\".touch() returns trigger language plpgsql as 'begin return new; end';
         create function public.touch() returns trigger language plpgsql as 'begin return new; end';
         create function public.touch_all() returns trigger language plpgsql as 'begin return new; end'",
    )
    .await;
    let migrations = Files::of_tenants(&[("001_set.sql", SET)]).load();
    let _operator = tenants(&database, &migrations, &["acme"]).await;
    let recorded = raw
        .all::<String>(
            "select o from public.cgk_references r cross join unnest(r.objects) o
             where r.set_name = 'tenant' and o ~ '^definition=CREATE (CONSTRAINT )?TRIGGER '",
        )
        .await;
    raw.run("set search_path = tenant_acme").await;
    let server = raw
        .all::<String>(
            "select 'definition=' || pg_get_triggerdef(t.oid, true) || chr(31) from pg_trigger t
             join pg_class c on c.oid = t.tgrelid where not t.tgisinternal and c.relnamespace = 'tenant_acme'::regnamespace",
        )
        .await;
    assert_eq!(server.len(), SET.matches(" trigger ").count() - SET.matches("returns trigger").count());
    assert_eq!(recorded.len(), server.len());
    for text in server {
        assert_eq!(recorded.iter().filter(|facts| facts.starts_with(&text)).count(), 1, "{text}\nin {recorded:#?}");
    }
}
