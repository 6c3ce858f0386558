//! Pages of other origins change nothing with the cookie of a user. `SameSite=Lax` keeps out other sites; the hosts of two tenants are
//! one site.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use cgk::axum::Problem;

/// Refuses what a browser sends for a page of another origin and is more than reading: 403.
pub async fn check(request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_same(request.headers()) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::FORBIDDEN).detail("a page of another origin has sent this").into_response()
}

/// A browser says it in `sec-fetch-site`, and one that is old or has no TLS in `origin`. Other programs send neither.
fn is_same(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host.as_bytes());
    host.is_some() && host == headers.get(header::HOST).map(|host| host.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(headers: &[(&'static str, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        is_same(&headers.collect())
    }

    #[test]
    fn another_origin_is_told_by_the_browser() {
        let host = ("host", "acme.example.com");
        for own in [
            &[host][..],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
            &[host, ("origin", "https://acme.example.com")],
        ] {
            assert!(same(own), "{own:?}");
        }
        for other in [
            &[host, ("sec-fetch-site", "same-site")][..],
            &[host, ("sec-fetch-site", "cross-site"), ("origin", "https://acme.example.com")],
            &[host, ("origin", "https://globex.example.com")],
            &[host, ("origin", "null")],
            &[("origin", "https://acme.example.com")],
        ] {
            assert!(!same(other), "{other:?}");
        }
    }
}
