//! Plans: what is bundled, and what a product defines.

use crate::stage::Stage;
use cgk::platform::{
    Actor, Allowance, Entitlement, Issuance, PlanDefinition, PlanKey, Plans, PlatformError, QuotaKind, UsageType,
};

fn key(text: &str) -> PlanKey {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_plans_are_there() {
    let stage = Stage::set().await;
    let plans = Plans::new(&stage.db);
    let listed = plans.list().await.unwrap();
    let keys: Vec<&str> = listed.iter().map(|plan| plan.key.as_str()).collect();
    assert_eq!(keys, ["enterprise", "hobby", "scale", "team"]);
    let hobby = plans.find(&key("hobby")).await.unwrap();
    let wanted = [
        Entitlement::once(QuotaKind::CREDITS, 100),
        Entitlement::each_period(QuotaKind::RUNS, 1000),
        Entitlement::each_period(QuotaKind::SEATS, 3),
    ];
    assert_eq!(hobby.entitlements, wanted);
    let enterprise = plans.find(&key("enterprise")).await.unwrap();
    assert!(enterprise.entitlements.iter().all(|entitlement| entitlement.amount == Allowance::Unlimited));
    let missing = plans.find(&key("platinum")).await;
    assert!(matches!(missing, Err(PlatformError::NotFound { what: "plan" })), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_defined_anew_and_withdrawn() {
    let stage = Stage::set().await;
    let plans = Plans::new(&stage.db).acting_as(Actor::Operator("ops".into()));
    let exports: QuotaKind = "exports".parse().unwrap();
    let studio =
        PlanDefinition::new(key("studio")).name("Studio").includes(Entitlement::each_period(exports.clone(), 5));
    let unknown = plans.define(&studio).await;
    assert!(matches!(unknown, Err(PlatformError::NotFound { what: "kind of quota" })), "{unknown:?}");
    assert_eq!(stage.count("select count(*) from plans where key = 'studio'").await, 0);

    plans.define_kind(&exports, UsageType::Consumed).await.unwrap();
    plans.define_kind(&exports, UsageType::Consumed).await.unwrap();
    let other = plans.define_kind(&exports, UsageType::Allocated).await;
    assert!(matches!(other, Err(PlatformError::Invalid { .. })), "{other:?}");
    let defined = plans.define(&studio).await.unwrap();
    assert_eq!((defined.name.as_str(), defined.entitlements.len()), ("Studio", 1));

    let both = PlanDefinition::new(key("studio"))
        .includes(Entitlement::each_period(exports.clone(), Allowance::Unlimited))
        .includes(Entitlement::once(exports.clone(), 7));
    let again = plans.define(&both).await.unwrap();
    assert_eq!((again.id, again.name.as_str()), (defined.id, "studio"));
    assert_eq!(
        again.entitlements.iter().map(|e| e.issuance).collect::<Vec<_>>(),
        [Issuance::EachPeriod, Issuance::Once]
    );
    let twice = both.includes(Entitlement::once(exports, 8));
    assert!(matches!(plans.define(&twice).await, Err(PlatformError::Invalid { .. })));

    let archived = plans.archive(&key("studio")).await.unwrap();
    assert!(archived.archived_at.is_some());
    assert_eq!(plans.archive(&key("studio")).await.unwrap(), archived);
    assert!(plans.list().await.unwrap().iter().all(|plan| plan.id != archived.id));
    assert!(plans.list_all().await.unwrap().iter().any(|plan| plan.id == archived.id));

    let recorded = stage.rows(
        "select a.action, a.actor_kind, a.actor_id, count(e) from audit_events a
           join domain_events e on e.type = a.action and e.occurred_at >= a.occurred_at - interval '1 hour'
          where a.resource_kind = 'plan' group by a.id, a.action, a.actor_kind, a.actor_id, a.occurred_at order by a.occurred_at",
        &[],
    );
    let actions: Vec<(String, String)> = recorded.await.iter().map(|row| (row.get(0), row.get(2))).collect();
    let by_ops = |action: &str| (action.to_owned(), "ops".to_owned());
    assert_eq!(actions, [by_ops("cgk.plan.defined"), by_ops("cgk.plan.defined"), by_ops("cgk.plan.archived")]);
}
