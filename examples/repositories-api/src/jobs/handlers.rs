//! The routes.

use super::{
    model::{Job, JobStatus, NewJob},
    store,
};
use crate::{
    app::App,
    http::{
        Body, Page, PageQuery,
        cursor::List,
        etag::{IfMatch, IfNoneMatch},
        idempotency::{Created, IdempotencyKey, Once},
        ownership::changeable,
        page::Parameters,
        path::{JobPath, Own, RepositoryPath},
        permissions::{Reader, Writer},
        problems::{BodyRefusals, Changed, Conflict, NotFound, Refusals},
    },
    repositories::{self, Repository},
    summary,
};
use axum::{Json, extract::State, http::StatusCode, response::Response};
use cgk::{
    OrganizationId,
    axum::{Problem, Require, Tenant, TenantDb},
};
use uuid::Uuid;

/// Lists the jobs of an organization, newest first.
#[utoipa::path(get, path = "/organizations/{organization_id}/jobs", tag = "jobs",
    params(("organization_id" = Uuid, Path), PageQuery),
    responses((status = 200, body = Page<Job>), Refusals, NotFound))]
pub async fn list_jobs(
    own: Own,
    _: Require<Reader>,
    Parameters(query): Parameters<PageQuery>,
    db: TenantDb<Problem>,
) -> Result<Json<Page<Job>>, Problem> {
    page(&db, own.organization, None, &query).await
}

/// Lists the jobs of a repository, newest first.
#[utoipa::path(get, path = "/organizations/{organization_id}/repositories/{repository_id}/jobs", tag = "jobs",
    params(("organization_id" = Uuid, Path), ("repository_id" = Uuid, Path), PageQuery),
    responses((status = 200, body = Page<Job>), Refusals, NotFound))]
pub async fn list_repository_jobs(
    own: Own<RepositoryPath>,
    _: Require<Reader>,
    Parameters(query): Parameters<PageQuery>,
    db: TenantDb<Problem>,
) -> Result<Json<Page<Job>>, Problem> {
    let id = own.path.repository_id;
    let repository: Option<Repository> = db.transaction(async |tx| Ok(repositories::find(tx, id).await?)).await?;
    db.context().own(repository)?;
    page(&db, own.organization, Some(id), &query).await
}

async fn page(
    db: &TenantDb<Problem>,
    organization: OrganizationId,
    repository: Option<Uuid>,
    query: &PageQuery,
) -> Result<Json<Page<Job>>, Problem> {
    let name = repository.map_or_else(|| "jobs".to_owned(), |id| format!("jobs of {id}"));
    let list = List { organization, name: &name };
    let wanted = query.of(list)?;
    let found = db.query_as(store::PAGE, &[&organization, &repository, &wanted.after, &wanted.rows()]).await?;
    Ok(Json(wanted.page(found, list, |job: &Job| job.id)))
}

/// Queues a job on a repository, once for each Idempotency-Key.
#[utoipa::path(post, path = "/organizations/{organization_id}/repositories/{repository_id}/jobs", tag = "jobs",
    params(("organization_id" = Uuid, Path), ("repository_id" = Uuid, Path),
        ("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$")),
    request_body = NewJob,
    responses((status = 201, body = Job, headers(("location" = String), ("etag" = String))), Refusals, BodyRefusals, NotFound))]
pub async fn create_job(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    own: Own<RepositoryPath>,
    _: Require<Writer>,
    key: IdempotencyKey,
    db: TenantDb<Problem>,
    body: Body<NewJob>,
) -> Result<Created, Problem> {
    let id = own.path.repository_id;
    let context = db.context();
    let once = Once::new(key, format!("POST /organizations/{}/repositories/{id}/jobs", own.organization), body.hash);
    let created = db
        .transaction(async |tx| {
            let repository = context.own(repositories::find(tx, id).await?)?;
            once.answer(tx, async {
                let job = store::insert(tx, repository.id, body.value.kind).await?;
                Ok(Created::new(job.path(), job.version, &job))
            })
            .await
        })
        .await?;
    summary::forget(&app, &tenant).await;
    app.new_job.notify_one();
    Ok(created)
}

/// Shows a job.
#[utoipa::path(get, path = "/organizations/{organization_id}/jobs/{job_id}", tag = "jobs",
    params(("organization_id" = Uuid, Path), ("job_id" = Uuid, Path), ("if-none-match" = Option<String>, Header)),
    responses((status = 200, body = Job, headers(("etag" = String))), (status = 304), Refusals, NotFound))]
pub async fn show_job(
    own: Own<JobPath>,
    _: Require<Reader>,
    if_none_match: IfNoneMatch,
    db: TenantDb<Problem>,
) -> Result<Response, Problem> {
    let found = db.query_as(store::FIND, &[&own.path.job_id]).await?.pop();
    let job: Job = db.context().own(found)?;
    Ok(if_none_match.answer(&job.etag(), Json(&job)))
}

/// Deletes a job that is not running.
#[utoipa::path(delete, path = "/organizations/{organization_id}/jobs/{job_id}", tag = "jobs",
    params(("organization_id" = Uuid, Path), ("job_id" = Uuid, Path), ("if-match" = Option<String>, Header)),
    responses((status = 204), Refusals, NotFound, Conflict, Changed))]
pub async fn delete_job(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    own: Own<JobPath>,
    _: Require<Writer>,
    if_match: IfMatch,
    db: TenantDb<Problem>,
) -> Result<StatusCode, Problem> {
    let id = own.path.job_id;
    let context = db.context();
    db.transaction(async |tx| {
        let job = changeable(context, store::lock(tx, id).await?)?;
        if_match.check(&job.etag())?;
        if job.status == JobStatus::Running {
            return Err(Problem::new(StatusCode::CONFLICT).detail("the job is running"));
        }
        store::delete(tx, id).await?;
        Ok(())
    })
    .await?;
    summary::forget(&app, &tenant).await;
    Ok(StatusCode::NO_CONTENT)
}
