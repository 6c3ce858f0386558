//! The figures of a page, for every state and for an empty fleet.

use super::{
    fleet::{Fleet, NAME, TENANTS},
    page::{Page, keep},
};
use cgk::{
    ErrorKind,
    lifecycle::SizeSource,
    report::{self, DriftMode, DriftSource, EarlierReport, FleetReport, ReportOptions, size_text},
};
use serde_json::Value;

async fn read(fleet: &Fleet, options: &ReportOptions) -> (FleetReport, Page) {
    let operator = fleet.operator().await;
    let report = report::examine(&operator, &fleet.migrations, options).await.unwrap();
    let page = Page::of(report::html(&report));
    page.check();
    (report, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_counted_and_named() {
    let fleet = Fleet::with_every_state().await;
    let (report, page) = read(&fleet, &ReportOptions::default()).await;
    keep("states", &page.html);
    let found: Vec<(&str, &str)> = report.tenants.iter().map(|tenant| (tenant.tenant.as_str(), tenant.state)).collect();
    assert_eq!(found, TENANTS);

    let states = "Tenants by state of their schemas";
    for (key, word, slugs) in [
        ("at_head", "at the newest migration", "good, large, suspended_one"),
        ("behind", "behind", "failing, late"),
        ("ahead", "ahead of these files", "ahead"),
        ("diverged", "ledger and files differ", "diverged"),
        ("missing", "no schema", "missing, new_one"),
        ("half_provisioned", "incomplete", "half"),
        ("other_organization", "schema of another organization", "foreign_one"),
        ("being_dropped", "being dropped", "dropping"),
    ] {
        let group = report.states.iter().find(|group| group.key == key).unwrap();
        assert_eq!((group.named.join(", "), group.tenants), (slugs.to_owned(), slugs.split(", ").count()));
        assert_eq!(page.cell(states, word, 1), group.tenants.to_string());
        let shown = if key == "at_head" { "" } else { slugs };
        assert_eq!(page.cell(states, word, 4), shown, "{key}");
    }
    assert_eq!((page.figure("tenants"), page.figure("at-head")), ("12".into(), "3".into()));
    assert_eq!(page.cell("Tenants by status", "suspended", 2), "suspended_one");
    assert_eq!(page.cell("Tenants by status", "onboarding", 2), "new_one");
    assert_eq!(page.cell("Tenants by status", "active", 1), "10");
    assert_eq!(page.cell("Newest migration of the tenants", "900_later (newest)", 1), "4");
    let unusable = "Tenants that migrations do not correct";
    assert_eq!(page.cell(unusable, "missing", 1), NAME);
    assert!(page.cell(unusable, "half", 4).contains("there is no ledger tenant_half"), "{:?}", page.rows(unusable));

    // The run that failed for one tenant.
    assert_eq!(page.rows("The latest runs")[0][3..6], ["some tenants failed", "9", "1"].map(str::to_owned)[..]);
    assert_eq!(page.figure("failing"), "1");
    assert_eq!(page.cell("Tenants that failed in their last run", "failing", 2), "42P07");
    assert_eq!(page.rows("The slowest tenants in the recorded runs").len(), 10);
    let slow = "select max(duration_ms) from public.cgk_run_schemas where tenant is not null";
    assert_eq!(report.slow[0].longest.as_millis(), u128::try_from(fleet.number(slow).await).unwrap());
    assert!(page.rows("What cgk doctor finds").len() == report.checks.len() && report.checks.len() == 23);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_text_wherever_they_come_from() {
    let fleet = Fleet::with_every_state().await;
    let mut options = ReportOptions::default();
    options.drift = DriftMode::Compared;
    let (report, page) = read(&fleet, &options).await;
    let text = page.text();
    assert!(text.contains(NAME), "the name of a tenant is there");
    assert!(text.contains("table <img src=x onerror=alert(2)>: not from any migration"), "{text}");
    assert!(!page.html.contains("<script>") && !page.html.contains("<img"), "and they are no elements");
    assert_eq!(report.drift.source, DriftSource::Compared);
    let good = report.drift.schemas.iter().find(|schema| schema.schema == "tenant_good").unwrap();
    assert_eq!((good.count, good.differences.len()), (1, 1));
    assert_eq!(page.cell("Schemas that are not clean", "tenant_good", 1), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_those_of_the_server() {
    let fleet = Fleet::with_every_state().await;
    let (report, page) = read(&fleet, &ReportOptions::default()).await;
    let of = |schema: &str| {
        format!(
            "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 from pg_class c
             where c.relnamespace = to_regnamespace('{schema}') and c.relkind in ('r', 'm')"
        )
    };
    let mut sum = 0;
    for tenant in &report.tenants {
        let bytes = fleet.number(&of(&format!("tenant_{}", tenant.tenant))).await.unsigned_abs();
        assert_eq!(tenant.bytes.unwrap_or_default(), bytes, "{}", tenant.tenant);
        sum += bytes;
    }
    let sizes = report.sizes.as_ref().unwrap();
    assert_eq!((sizes.bytes, sizes.source), (sum, SizeSource::Measured));
    assert_eq!(page.figure("bytes"), size_text(sum));
    let largest = "The largest tenants";
    assert_eq!(page.rows(largest)[0][..2], ["large".to_owned(), size_text(sizes.largest_bytes)][..]);
    assert_eq!(page.rows(largest).len(), 10, "two have no schema");
    let counted: usize = sizes.buckets.iter().map(|bucket| bucket.tenants).sum();
    assert_eq!((counted, sizes.tenants), (10, 10));
    assert!(page.html.contains("<title>large: "), "the drawing names it");

    // A tenant that is locked against everybody: no size waits for it.
    let holder = crate::stage::connect(&fleet.database).await;
    crate::stage::run(&fleet.watch, "vacuum (analyze) tenant_large.filled").await;
    crate::stage::run(&holder, "begin; lock table tenant_good.orders in access exclusive mode").await;
    let config = fleet.database.config();
    let session =
        cgk::config::SessionSettings { lock_timeout: std::time::Duration::from_millis(1), ..config.session().clone() };
    let operator = cgk::Operator::connect(&config.clone().with_session(session)).await.unwrap();
    let report = report::examine(&operator, &fleet.migrations, &ReportOptions::default()).await.unwrap();
    let sizes = report.sizes.as_ref().unwrap();
    assert_eq!(sizes.source, SizeSource::Estimated);
    let large = report.tenants.iter().find(|tenant| tenant.tenant == "large").unwrap().bytes.unwrap();
    let main = fleet.number("select pg_relation_size('tenant_large.filled')").await.unsigned_abs();
    assert!(large >= main, "{large} of {main}");
    assert!(report::html(&report).contains("Sizes are estimates"));
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_is_the_difference_between_two_reports() {
    let fleet = Fleet::of(&["acme", "globex", "initech"]).await;
    let (first, page) = read(&fleet, &ReportOptions::default()).await;
    assert!(!page.has("The tenants that have changed most") && !page.html.contains("id=\"growth\""));
    let earlier = EarlierReport::parse(&serde_json::to_string(&first).unwrap()).unwrap();

    let sql = "create table tenant_acme.more as select repeat('x', 500) as t from generate_series(1, 5000);
               drop schema tenant_globex cascade; delete from public.organizations where slug = 'globex'";
    crate::stage::run(&fleet.watch, sql).await;
    // Its organization is the same.
    let rename = cgk::lifecycle::RenameOptions::default().slug(crate::stage::slug("apex"));
    let operator = fleet.operator().await;
    cgk::lifecycle::rename(&operator, &crate::stage::slug("acme"), &rename).await.unwrap();
    fleet.database.with_tenants(&["hooli"]).await.unwrap();
    let mut options = ReportOptions::default();
    options.earlier = Some(earlier.clone());
    let (second, page) = read(&fleet, &options).await;
    keep("growth", &page.html);
    let growth = second.growth.as_ref().unwrap();
    let total = |report: &FleetReport| report.sizes.as_ref().unwrap().bytes;
    assert_eq!((growth.bytes_before, growth.bytes_now), (total(&first), total(&second)));
    assert_eq!(
        (growth.appeared.as_slice(), growth.gone.as_slice()),
        (&["hooli".to_owned()][..], &["globex".to_owned()][..])
    );
    let grown = fleet.number("select pg_total_relation_size('tenant_apex.more')").await.unsigned_abs();
    let changed: Vec<_> =
        growth.changed.iter().map(|tenant| (tenant.tenant.as_str(), tenant.bytes - tenant.bytes_before)).collect();
    assert_eq!(changed, [("apex", grown)]);
    assert!(page.cell("The tenants that have changed most", "apex", 3).starts_with(&format!("+{}", size_text(grown))));

    let other = Fleet::of(&["acme"]).await;
    let operator = other.operator().await;
    let error = report::examine(&operator, &other.migrations, &options).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0941", ErrorKind::Conflict));
    for text in ["", "{}", "[1]", "{\"generated_at\":\"yesterday\",\"tenants\":[]}"] {
        let error = EarlierReport::parse(text).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("CGK0940", ErrorKind::Invalid), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_fleet_has_a_page_too() {
    let fleet = Fleet::of(&[]).await;
    let (report, page) = read(&fleet, &ReportOptions::default()).await;
    keep("empty", &page.html);
    assert_eq!((report.tenants.len(), page.figure("tenants")), (0, "0".to_owned()));
    for text in ["There are no tenants yet.", "No tenant has a schema.", "No run of cgk migrate is recorded."] {
        assert!(page.text().contains(text), "{text}");
    }
}

/// Where the page and the JSON say the same thing, they say the same number.
#[tokio::test(flavor = "multi_thread")]
async fn the_json_and_the_page_agree() {
    let fleet = Fleet::with_every_state().await;
    let (report, page) = read(&fleet, &ReportOptions::default()).await;
    let json: Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["tenants"].as_array().unwrap().len().to_string(), page.figure("tenants"));
    assert_eq!(size_text(json["sizes"]["bytes"].as_u64().unwrap()), page.figure("bytes"));
    assert_eq!(json["failing_count"].to_string(), page.figure("failing"));
    let largest = report.largest(3);
    for (tenant, row) in largest.iter().zip(page.rows("The largest tenants")) {
        assert_eq!((tenant.tenant.as_str(), size_text(tenant.bytes.unwrap())), (row[0].as_str(), row[1].clone()));
    }
    for check in json["checks"].as_array().unwrap() {
        let name = check["check"].as_str().unwrap();
        assert_eq!(page.cell("What cgk doctor finds", name, 1), check["verdict"].as_str().unwrap());
    }
    for version in json["versions"].as_array().unwrap() {
        let key = version["key"].as_str().unwrap();
        let key = if json["newest"] == version["key"] { format!("{key} (newest)") } else { key.to_owned() };
        assert_eq!(page.cell("Newest migration of the tenants", &key, 1), version["tenants"].to_string());
    }
    for bucket in json["sizes"]["buckets"].as_array().unwrap() {
        let tenants = bucket["tenants"].to_string();
        assert!(page.rows("How many tenants are how large").iter().any(|row| row[1] == tenants));
    }
    assert_eq!(json["runs"].as_array().unwrap().len(), page.rows("The latest runs").len());
}
