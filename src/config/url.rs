//! Parses `postgresql://user:password@host:port,host:port/database?option=value`.
//!
//! It is stricter than libpq in one point. If an unescaped character makes it unclear where the password ends and the
//! host starts, libpq guesses, and may send the rest of the password to a name server. Here it is an error.

use super::error::ValueProblem;
use super::parts::{self, KeySecrecy, Parts};
use super::percent;

/// Parses the text after `postgresql://`.
pub(super) fn parse(rest: &str) -> Result<Parts, ValueProblem> {
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    refuse_ambiguity(authority, tail)?;

    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let mut parts = Parts::default();
    let hosts = match authority.split_once('@') {
        Some((userinfo, hosts)) => {
            credentials(&mut parts, userinfo)?;
            hosts
        }
        None => authority,
    };
    if !hosts.is_empty() {
        for host in hosts.split(',') {
            let (host, port) = split_port(host)?;
            parts.hosts.push(text(host)?);
            parts.ports.push(parts::port(&text(port)?)?);
        }
    }
    let database = text(path.strip_prefix('/').unwrap_or(path))?;
    if !database.is_empty() {
        parts.database = Some(database);
    }
    options(&mut parts, query)?;
    Ok(parts)
}

/// Refuses URLs with an unclear end of the password. If `@` and `#` in data are escaped, `@` can only end the user
/// part, and `#` cannot occur.
fn refuse_ambiguity(authority: &str, tail: &str) -> Result<(), ValueProblem> {
    let culprit = if authority.matches('@').count() > 1 {
        "`@`"
    } else if tail.contains('@') {
        "`/`, `?`, `#` or `@`"
    } else if tail.contains('#') {
        "`#`"
    } else {
        return Ok(());
    };
    Err(ValueProblem::invalid(
        format!("has an unescaped {culprit}, so it is not clear where the password ends"),
        "Percent-encode special characters in the password: `@` is %40, `#` is %23, `/` is %2F, `?` is %3F, `:` is \
         %3A, `%` is %25.",
    ))
}

fn credentials(parts: &mut Parts, userinfo: &str) -> Result<(), ValueProblem> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let user = text(user)?;
    if !user.is_empty() {
        parts.user = Some(user);
    }
    let password = bytes(password)?;
    if !password.is_empty() {
        parts.password = Some(password);
    }
    Ok(())
}

/// Splits `host:port`, `[::1]:port` or either without a port.
fn split_port(chunk: &str) -> Result<(&str, &str), ValueProblem> {
    let Some(bracketed) = chunk.strip_prefix('[') else {
        return Ok(chunk.split_once(':').unwrap_or((chunk, "")));
    };
    match bracketed.split_once(']') {
        Some((host, "")) => Ok((host, "")),
        Some((host, after)) if after.starts_with(':') => Ok((host, &after[1..])),
        _ => Err(ValueProblem::invalid(
            "has a bracketed address that does not end properly",
            "Write an IPv6 address as [::1] or [::1]:5432.",
        )),
    }
}

fn options(parts: &mut Parts, query: &str) -> Result<(), ValueProblem> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    if pairs.clone().any(|pair| pair.starts_with("password=")) {
        parts.key_secrecy = KeySecrecy::MayBeSecret;
    }
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(ValueProblem::invalid(
                "has an option without a value",
                "Write every option after `?` as name=value, with `&` between them.",
            ));
        };
        match text(key)?.as_str() {
            "password" => parts.password = Some(bytes(value)?).filter(|password| !password.is_empty()),
            key => parts.set(key, text(value)?)?,
        }
    }
    Ok(())
}

fn bytes(encoded: &str) -> Result<Vec<u8>, ValueProblem> {
    percent::decode(encoded).map_err(|percent::BadEscape| {
        ValueProblem::invalid(
            "has a `%` that does not start a percent escape such as %40",
            "Percent-encode the `%` itself as %25, and leave %00 out.",
        )
    })
}

fn text(encoded: &str) -> Result<String, ValueProblem> {
    String::from_utf8(bytes(encoded)?).map_err(|_| {
        ValueProblem::invalid("has percent escapes that are not UTF-8", "Percent-encode the UTF-8 bytes of the text.")
    })
}
