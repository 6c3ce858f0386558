//! The provider, as an application meets it: by the client and the hooks of the crate `open-feature`.

use crate::{platform::slug, stage::Stage};
use cgk::{
    OrganizationId, TenantContext,
    flags::{self, Environment, EvaluationLog, FlagProvider, Flags, FlagsSettings, LogSettings},
};
use open_feature::{
    Client, EvaluationContext, EvaluationErrorCode, EvaluationOptions, EvaluationReason, FlagMetadataValue, MockHook,
    OpenFeature, StructValue, Value,
};
use std::num::NonZeroU32;

const FEATURES: &str = r#"
    insert into features (key, name, enabled) values ('on', 'On', true), ('off', 'Off', false), ('staff', 'Staff', false);
    insert into features (key, name, enabled, on_value, off_value)
    values ('number', 'N', true, '10', '5'), ('ratio', 'R', true, '0.5', '0'), ('text', 'T', true, '"new"', '"old"'),
           ('structure', 'S', true, '{"rows": 10, "wide": true, "none": null, "list": [1, "a"]}', '{}');
    insert into features (key, name, kind, percentage, enabled) values ('half', 'Half', 'percentage', 50, true);
    insert into features (key, name, kind, enabled) values ('sso', 'SSO', 'plan', true);
    insert into feature_rules (feature_id, environment_id, position, enabled, conditions)
    select f.id, e.id, 1, true, '[{"attribute": "email", "operator": "ends_with", "values": ["@cgk.dev"]},
                                  {"attribute": "age", "operator": "greater", "values": [17]}]'
      from features f, environments e where f.key = 'staff' and e.name = 'prod'"#;

struct Served {
    stage: Stage,
    flags: Flags,
    api: OpenFeature,
}

async fn serve(provider: impl Fn(&Flags) -> FlagProvider) -> Served {
    let stage = Stage::set().await;
    stage.run(FEATURES).await;
    let flags = Flags::new(&stage.db, FlagsSettings::default());
    let mut api = OpenFeature::default();
    api.set_provider(provider(&flags)).await;
    Served { stage, flags, api }
}

fn prod() -> Environment {
    Environment::of(flags::Stage::Prod)
}

fn of_acme(flags: &Flags) -> FlagProvider {
    FlagProvider::of_tenant(flags, prod(), &slug("acme"))
}

async fn why(client: &Client, key: &str, context: &EvaluationContext) -> (bool, String, String) {
    let details = client.get_bool_details(key, Some(context), None).await.unwrap();
    assert_eq!(
        details.flag_metadata.values.get("environment"),
        Some(&FlagMetadataValue::String("default/prod".into()))
    );
    (details.value, details.variant.unwrap(), details.reason.unwrap().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_value_variant_and_reason() {
    let Served { stage: _stage, api, .. } = serve(of_acme).await;
    assert_eq!(api.provider_metadata().await.name, "cgk");
    let client = api.create_client();
    let ada = EvaluationContext::default()
        .with_targeting_key("ada")
        .with_custom_field("email", "ada@cgk.dev")
        .with_custom_field("age", 36);
    let young = EvaluationContext::default().with_custom_field("email", "bob@cgk.dev").with_custom_field("age", 3);
    let told = |on: bool, reason: &str| (on, if on { "on" } else { "off" }.to_owned(), reason.to_owned());
    assert_eq!(why(&client, "on", &ada).await, told(true, "STATIC"));
    assert_eq!(why(&client, "off", &ada).await, told(false, "DISABLED"));
    assert_eq!(why(&client, "staff", &ada).await, told(true, "TARGETING_MATCH"));
    assert_eq!(why(&client, "staff", &young).await, told(false, "DISABLED"));
    assert_eq!(why(&client, "half", &ada).await, told(flags::bucket("half", "ada") < 50_000, "SPLIT"));
    assert_eq!(why(&client, "sso", &ada).await, told(false, "PLAN"));

    assert_eq!(client.get_int_value("number", None, None).await, Ok(10));
    assert_eq!(client.get_float_value("number", None, None).await, Ok(10.0));
    assert_eq!(client.get_float_value("ratio", None, None).await, Ok(0.5));
    assert_eq!(client.get_string_value("text", None, None).await, Ok("new".to_owned()));
    let structure = client.get_struct_value::<StructValue>("structure", None, None).await.unwrap();
    let list = Value::Array(vec![Value::Int(1), Value::String("a".into())]);
    assert_eq!(structure.fields.get("list"), Some(&list));
    assert_eq!((structure.fields.len(), structure.fields.get("rows")), (3, Some(&Value::Int(10))));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_codes_of_the_standard() {
    let Served { stage: _stage, api, flags } = serve(of_acme).await;
    let client = api.create_client();
    let code = |error: open_feature::EvaluationError| error.code;
    assert_eq!(client.get_bool_value("other", None, None).await.map_err(code), Err(EvaluationErrorCode::FlagNotFound));
    assert_eq!(client.get_int_value("text", None, None).await.map_err(code), Err(EvaluationErrorCode::TypeMismatch));
    assert_eq!(client.get_int_value("ratio", None, None).await.map_err(code), Err(EvaluationErrorCode::TypeMismatch));
    let half = client.get_bool_value("half", None, None).await.map_err(code);
    assert_eq!(half, Err(EvaluationErrorCode::TargetingKeyMissing));
    let empty = open_feature::EvaluationContext::default().with_targeting_key("");
    let half = client.get_bool_value("half", Some(&empty), None).await.map_err(code);
    assert_eq!(half, Err(EvaluationErrorCode::TargetingKeyMissing));

    let mut api = OpenFeature::default();
    api.set_provider(FlagProvider::of_tenant(&flags, prod(), &slug("nobody"))).await;
    let nobody = api.create_client().get_bool_value("on", None, None).await.map_err(code);
    assert_eq!(nobody, Err(EvaluationErrorCode::InvalidContext));
    api.set_provider(FlagProvider::of_tenant(&flags, prod().project("web"), &slug("acme"))).await;
    let elsewhere = api.create_client().get_bool_value("on", None, None).await.unwrap_err();
    assert!(matches!(elsewhere.code, EvaluationErrorCode::General(_)), "{elsewhere:?}");
    assert_eq!(elsewhere.message.as_deref(), Some("there is no environment web/prod"));
}

/// The tenant is that of the request; a question outside of one has no answer, and no other tenant's.
#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_is_that_of_the_context() {
    let Served { stage, api, .. } = serve(|flags| FlagProvider::of_context(flags, prod())).await;
    stage.run("insert into tenant_globex.features (key, name, enabled) values ('on', 'Off here', false)").await;
    let client = api.create_client();
    let outside = client.get_bool_value("on", None, None).await.unwrap_err();
    assert_eq!(outside.code, EvaluationErrorCode::InvalidContext);
    for (tenant, is_on) in [("acme", true), ("globex", false)] {
        let id: OrganizationId = stage
            .watch
            .query_one("select id from public.organizations where slug = $1", &[&tenant])
            .await
            .unwrap()
            .get(0);
        let context = TenantContext::new(id, slug(tenant));
        assert_eq!(context.scope(client.get_bool_value("on", None, None)).await, Ok(is_on), "{tenant}");
    }
}

/// The crate's own mock of a hook: each stage is called once, with what the provider said.
#[tokio::test(flavor = "multi_thread")]
async fn the_hooks_of_a_client_see_the_evaluation() {
    let Served { stage: _stage, api, .. } = serve(of_acme).await;
    let mut found = MockHook::new();
    found.expect_before().times(1).returning(|context, _| {
        assert_eq!((context.flag_key, context.provider_metadata.name.as_str()), ("staff", "cgk"));
        // A hook may say who asks.
        let ada = EvaluationContext::default().with_custom_field("email", "ada@cgk.dev").with_custom_field("age", 36);
        Ok(Some(ada))
    });
    found
        .expect_after()
        .times(1)
        .withf(|_, details, _| {
            details.value == Value::Bool(true) && details.reason == Some(EvaluationReason::TargetingMatch)
        })
        .returning(|_, _, _| Ok(()));
    found.expect_error().never();
    found.expect_finally().times(1).returning(|_, _, _| ());
    let client = api.create_client().with_hook(found);
    assert_eq!(client.get_bool_value("staff", None, None).await, Ok(true));

    let mut missing = MockHook::new();
    missing.expect_before().times(1).returning(|_, _| Ok(None));
    missing.expect_after().never();
    missing
        .expect_error()
        .times(1)
        .withf(|_, error, _| error.code == EvaluationErrorCode::FlagNotFound)
        .returning(|_, _, _| ());
    missing.expect_finally().times(1).returning(|_, _, _| ());
    let client = api.create_client().with_hook(missing);
    let options = EvaluationOptions::default();
    assert!(client.get_bool_value("other", None, Some(&options)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_written_to_the_log() {
    let stage = Stage::set().await;
    stage.run(FEATURES).await;
    let mut settings = LogSettings::default();
    settings.one_in = NonZeroU32::MIN;
    let log = EvaluationLog::new(&stage.db, settings);
    let flags = Flags::new(&stage.db, FlagsSettings::default());
    let mut api = OpenFeature::default();
    api.set_provider(of_acme(&flags).with_log(&log)).await;
    let ada = EvaluationContext::default().with_targeting_key("ada");
    for _ in 0..3 {
        api.create_client().get_bool_value("on", Some(&ada), None).await.unwrap();
    }
    log.flush().await;
    let written = "select count(*) from evaluation_logs where targeting_key = 'ada' and feature_key = 'on' and is_on";
    assert_eq!(stage.count(written).await, 3);
}
