//! `host=localhost dbname=app password='it''s not this: it\'s that'`: libpq's other form.

use std::iter::Peekable;
use std::str::Chars;

use super::error::ValueProblem;
use super::parts::{KeySecrecy, Parts};

/// Splits a key=value string into its parts.
pub(super) fn parse(text: &str) -> Result<Parts, ValueProblem> {
    // If a password contains an unquoted space, the rest of it looks like keys, so no key may be shown.
    let mut parts = Parts { key_secrecy: KeySecrecy::MayBeSecret, ..Parts::default() };
    let mut rest = text.chars().peekable();
    loop {
        skip_blanks(&mut rest);
        if rest.peek().is_none() {
            return Ok(parts);
        }
        let key = take_while(&mut rest, |c| c != '=' && !c.is_whitespace());
        skip_blanks(&mut rest);
        if rest.next() != Some('=') || key.is_empty() {
            return Err(broken("has a word that is not part of a key=value pair"));
        }
        skip_blanks(&mut rest);
        let value = if rest.next_if_eq(&'\'').is_some() { quoted(&mut rest)? } else { simple(&mut rest) };
        parts.set(&key, value)?;
    }
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> Result<String, ValueProblem> {
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('\'') => return Ok(value),
            Some('\\') => value.extend(rest.next()),
            Some(c) => value.push(c),
            None => return Err(broken("has a quoted value without its closing quote")),
        }
    }
}

fn simple(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
        if c == '\\' {
            value.extend(rest.next());
        } else {
            value.push(c);
        }
    }
    value
}

fn skip_blanks(rest: &mut Peekable<Chars<'_>>) {
    take_while(rest, char::is_whitespace);
}

fn take_while(rest: &mut Peekable<Chars<'_>>, wanted: impl Fn(char) -> bool) -> String {
    let mut taken = String::new();
    while let Some(c) = rest.next_if(|c| wanted(*c)) {
        taken.push(c);
    }
    taken
}

fn broken(what: &str) -> ValueProblem {
    ValueProblem::invalid(
        what,
        "Put values with blanks between single quotes, with `\\'` for a quote and `\\\\` for a backslash, or write a \
         URL: postgresql://user:password@host:5432/database.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_quotes_and_escapes() {
        let parts =
            parse(r"host = /tmp,db.example  port=5433,  dbname='a b' user=u password='it\'s \\ ok' x=y\ z e=''");
        let parts = parts.ok().unwrap();
        assert_eq!(parts.hosts, ["/tmp", "db.example"]);
        assert_eq!(parts.ports, [5433, 5432]);
        assert_eq!(parts.database.as_deref(), Some("a b"));
        assert_eq!(parts.password.as_deref(), Some(br"it's \ ok".as_slice()));
        assert_eq!(parts.options, [("x".to_owned(), "y z".to_owned())]);
    }

    #[test]
    fn refuses_what_is_not_key_value() {
        for broken in ["password=two words x=1", "host='open", "=x", "host=a b"] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
