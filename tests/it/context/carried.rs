//! Where a context is reachable: in the task and all that it awaits, and elsewhere only where it was taken along.

use crate::support::log::Log;
use cgk::{OrganizationId, TenantContext, TenantError, UserId};
use std::sync::Arc;
use uuid::Uuid;

fn context(n: u128, slug: &str) -> TenantContext {
    TenantContext::new(OrganizationId(Uuid::from_u128(n)), slug.parse().unwrap())
}

fn slug_here() -> Option<String> {
    TenantContext::if_current().map(|context| context.slug.to_string())
}

#[tokio::test]
async fn it_holds_in_the_task_and_follows_only_where_it_is_taken() {
    let error = TenantContext::current().unwrap_err();
    assert!(matches!(error, cgk::Error::Tenant(TenantError::NoContext)));
    assert_eq!((error.code(), error.kind()), ("CGK0411", cgk::ErrorKind::Refused));
    let (acme, globex) = (context(1, "acme"), context(2, "globex"));
    acme.scope(async {
        assert_eq!(slug_here().as_deref(), Some("acme"));
        let (one, two) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                slug_here()
            },
            // Another one inside: it ends with its future.
            globex.scope(async { slug_here() }),
        );
        assert_eq!(
            (one.as_deref(), two.as_deref(), slug_here().as_deref()),
            (Some("acme"), Some("globex"), Some("acme"))
        );

        // What is spawned plainly has none; what is spawned by the context has it.
        assert_eq!(tokio::spawn(async { slug_here() }).await.unwrap(), None);
        assert_eq!(tokio::task::spawn_blocking(slug_here).await.unwrap(), None);
        let here = TenantContext::current().unwrap();
        assert_eq!(here.spawn(async { slug_here() }).await.unwrap().as_deref(), Some("acme"));
        assert_eq!(here.spawn_blocking(slug_here).await.unwrap().as_deref(), Some("acme"));
        let taken = Arc::clone(&here);
        let thread = std::thread::spawn(move || (slug_here(), taken.in_scope(slug_here), slug_here()));
        assert_eq!(thread.join().unwrap(), (None, Some("acme".into()), None));
    })
    .await;
    assert_eq!(slug_here(), None);
    // A thread of the pool for blocking work keeps nothing.
    acme.spawn_blocking(slug_here).await.unwrap();
    assert_eq!(tokio::task::spawn_blocking(slug_here).await.unwrap(), None);
    // Nor does a task whose future panicked.
    assert!(acme.spawn(async { panic!("on purpose") }).await.is_err());
    assert_eq!(slug_here(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_change_threads_keep_their_own() {
    let tasks: Vec<_> = (0..200_u128)
        .map(|n| {
            context(n, &format!("t{n}")).spawn(async move {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                    let here = TenantContext::current().unwrap();
                    assert_eq!((here.organization_id.0, here.slug.as_str()), (Uuid::from_u128(n), &*format!("t{n}")));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_message_takes_it_along_to_a_worker() {
    let (sender, mut queue) = tokio::sync::mpsc::channel::<(Vec<(&'static str, String)>, u32)>(8);
    let worker = tokio::spawn(async move {
        let mut done = Vec::new();
        while let Some((headers, job)) = queue.recv().await {
            let get = |name: &str| headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str());
            let context = TenantContext::from_headers(get).unwrap();
            done.push((context.scope(async { TenantContext::current().unwrap() }).await, job));
        }
        done
    });
    let ada = context(1, "acme").user(UserId(Uuid::from_u128(7)), "ada@example.com").role("owner").request_id("r-1\n2");
    assert_eq!(ada.request_id, "r-12");
    ada.scope(async {
        let headers = TenantContext::current().unwrap().to_headers().to_vec();
        sender.send((headers, 1)).await.unwrap();
    })
    .await;
    sender.send((context(2, "globex").to_headers().to_vec(), 2)).await.unwrap();
    drop(sender);
    let done = worker.await.unwrap();
    assert_eq!((&*done[0].0, done[0].1), (&ada, 1));
    assert_eq!((done[1].0.slug.as_str(), &done[1].0.user_id, done[1].1), ("globex", &None, 2));
}

#[test]
fn a_context_has_what_it_was_given_up_to_320_characters() {
    let ada = context(1, "acme").user(UserId(Uuid::from_u128(7)), "ada@example.com").role("owner").role("admin");
    assert_eq!(ada.user_id, Some(UserId(Uuid::from_u128(7))));
    assert_eq!(
        (ada.email.as_deref(), ada.roles.as_slice()),
        (Some("ada@example.com"), ["owner", "admin"].map(String::from).as_slice())
    );
    assert!(ada.has_role("owner") && ada.has_role("admin") && !ada.has_role("Owner") && !ada.has_role(""));
    let cut = "ü".repeat(320);
    let long = context(1, "acme").user(UserId(Uuid::from_u128(7)), &"ü".repeat(400)).role(&"ü".repeat(400));
    assert_eq!((long.email.as_deref(), long.roles.as_slice()), (Some(cut.as_str()), std::slice::from_ref(&cut)));
}

#[tokio::test]
async fn every_line_of_the_log_says_of_which_request_it_is() {
    let log = Log::default();
    let guard = log.listen("info");
    let ada = context(1, "acme").user(UserId(Uuid::from_u128(7)), "ada@example.com").request_id("r1");
    ada.scope(async { tracing::info!("inside") }).await;
    context(2, "globex").request_id("r2").in_scope(|| tracing::info!("program"));
    tracing::info!("outside");
    drop(guard);
    let text = log.text();
    let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap();
    let inside = line("inside");
    for field in [
        "request_id=r1",
        "tenant=acme",
        "organization_id=00000000-0000-0000-0000-000000000001",
        "user_id=00000000-0000-0000-0000-000000000007",
    ] {
        assert!(inside.contains(field), "{inside}");
    }
    assert!(line("program").contains("request_id=r2") && !line("program").contains("user_id"), "{text}");
    assert!(!line("outside").contains("request_id") && !text.contains("ada@example.com"), "{text}");
}
