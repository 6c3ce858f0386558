//! Defines how cgk treats every option of a connection string: it is kept, converted, ignored with a notice, or
//! refused.

use super::error::ValueProblem;
use super::parts::{KeySecrecy, Parts};

/// The options of a connection string, grouped by their reader.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) ssl: Option<SslMode>,
    pub(super) root_certificates: Option<String>,
    pub(super) client_certificate: Option<String>,
    pub(super) client_key: Option<String>,
    pub(super) channel_binding_required: Option<ChannelBindingRequired>,
    pub(super) pgbouncer: Option<bool>,
    pub(super) application_name: Option<String>,
    /// The options that the driver understands, with the driver's names.
    pub(super) driver: Vec<(&'static str, String)>,
    pub(super) notices: Vec<String>,
}

/// The value of `sslmode`, if it makes a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Verify,
}

/// The URL asks for channel binding, which exists only over TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelBindingRequired;

impl Options {
    /// Groups the options of a connection string.
    pub(super) fn read(parts: &Parts) -> Result<Options, ValueProblem> {
        let mut options = Options::default();
        for (key, value) in &parts.options {
            options.take(key, value, parts.key_secrecy)?;
        }
        if let (Some(_), None) | (None, Some(_)) = (&options.client_certificate, &options.client_key) {
            return Err(refuse(
                "names a client certificate without its key, or a key without its certificate",
                "Give both sslcert and sslkey. The certificate of the server's authority is sslrootcert.",
            ));
        }
        Ok(options)
    }

    fn take(&mut self, key: &str, value: &str, secrecy: KeySecrecy) -> Result<(), ValueProblem> {
        match key {
            "sslmode" | "ssl" => self.ssl = Some(self.ssl_mode(value)?),
            "sslrootcert" => self.root_certificates = Some(value.to_owned()),
            "sslcert" => self.client_certificate = Some(value.to_owned()),
            "sslkey" => self.client_key = Some(value.to_owned()),
            "application_name" => self.application_name = Some(value.to_owned()),
            "pgbouncer" => self.pgbouncer = Some(boolean(value, "pgbouncer")?),
            "channel_binding" => {
                self.channel_binding_required = (value == "require").then_some(ChannelBindingRequired);
                self.drive("channel_binding", value);
            }
            "options" => {
                refuse_session_state(value)?;
                self.drive("options", value);
            }
            "target_session_attrs" => {
                let value = if value == "primary" { "read-write" } else { value };
                self.drive("target_session_attrs", value);
            }
            "keepalives_count" => self.drive("keepalives_retries", value),
            _ => {
                if let Some(known) = PASSED.iter().find(|known| **known == key) {
                    self.drive(known, value);
                } else if let Some((known, whose)) = IGNORED.iter().find(|(known, _)| *known == key) {
                    self.notices.push(format!("{known} in the connection URL is {whose} and is ignored"));
                } else {
                    self.judge(key, value, secrecy)?;
                }
            }
        }
        Ok(())
    }

    /// Passes an option to the driver. A later value replaces an earlier one; the driver would add it instead.
    fn drive(&mut self, key: &'static str, value: &str) {
        self.driver.retain(|(earlier, _)| *earlier != key);
        self.driver.push((key, value.to_owned()));
    }

    fn ssl_mode(&mut self, value: &str) -> Result<SslMode, ValueProblem> {
        match value {
            "disable" | "false" | "0" => Ok(SslMode::Disable),
            "prefer" => Ok(SslMode::Prefer),
            "require" | "verify-full" | "true" | "1" => Ok(SslMode::Verify),
            "verify-ca" => {
                self.notices.push("sslmode=verify-ca is taken as verify-full: the host name is verified too".into());
                Ok(SslMode::Verify)
            }
            "allow" | "no-verify" => Err(refuse(
                format!("sslmode={value} would accept any server"),
                "Write sslmode=verify-full, and sslrootcert=FILE when the server's certificate is signed by an \
                 authority of its own.",
            )),
            _ => Err(ValueProblem::invalid(
                "sslmode is none of disable, prefer, require, verify-ca and verify-full",
                "Write sslmode=verify-full, or leave it out.",
            )),
        }
    }

    /// Handles options of which only some values are allowed, and options that cannot be supported.
    fn judge(&mut self, key: &str, value: &str, secrecy: KeySecrecy) -> Result<(), ValueProblem> {
        let harmless = match key {
            "schema" | "currentSchema" if value == "public" => "it is the default",
            "gssencmode" if value != "require" => "encryption is by TLS only",
            "sslaccept" if value == "strict" => "certificates are always verified",
            "sslcompression" if value == "0" => "cgk does not use TLS compression",
            "sslsni" if value == "1" => "the host name is always sent",
            "ssl_min_protocol_version" if matches!(value, "TLSv1" | "TLSv1.1" | "TLSv1.2") => "TLS 1.2 is the least",
            "sslcertmode" if value == "allow" => "it is the default",
            _ => return Err(refusal(key, secrecy)),
        };
        self.notices.push(format!("{key} in the connection URL is ignored: {harmless}"));
        Ok(())
    }
}

/// Options that the driver reads under the same name.
const PASSED: &[&str] = &[
    "hostaddr",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "sslnegotiation",
];

/// Options of other programs in connection URLs.
const IGNORED: &[(&str, &str)] = &[
    ("connection_limit", "Prisma's"),
    ("pool_timeout", "Prisma's"),
    ("socket_timeout", "Prisma's"),
    ("statement_cache_size", "Prisma's"),
    ("single_use_connections", "Prisma's"),
    ("uselibpqcompat", "node-postgres's"),
    ("supa", "Supabase's"),
    ("workaround", "Vercel's"),
    ("fallback_application_name", "libpq's"),
    ("client_encoding", "libpq's"),
    ("krbsrvname", "libpq's"),
    ("gssdelegation", "libpq's"),
];

fn refusal(key: &str, secrecy: KeySecrecy) -> ValueProblem {
    let schema = "Remove it: the tenant's slug chooses the schema, and platform tables are in public.";
    let (known, advice) = match key {
        "schema" => ("schema", schema),
        "currentSchema" => ("currentSchema", schema),
        "search_path" => ("search_path", schema),
        "service" => ("service", "Write the address itself; pg_service.conf is not read."),
        "servicefile" => ("servicefile", "Write the address itself; pg_service.conf is not read."),
        "passfile" => ("passfile", "Put the URL with its password into a file and name it in CGK_DATABASE_URL_FILE."),
        "sslpassword" => ("sslpassword", "Decrypt the key into a file of its own and name that in sslkey."),
        "sslidentity" => ("sslidentity", "Convert the PKCS#12 file to PEM and name its parts in sslcert and sslkey."),
        "sslaccept" => ("sslaccept", "Remove it and name the authority's certificate in sslrootcert."),
        "gssencmode" => ("gssencmode", "Remove it and use TLS: sslmode=verify-full."),
        "sslcrl" => ("sslcrl", "Remove it; revocation lists are not checked."),
        "sslcrldir" => ("sslcrldir", "Remove it; revocation lists are not checked."),
        "require_auth" => ("require_auth", "Remove it, and write channel_binding=require to insist on SCRAM over TLS."),
        "requiressl" => ("requiressl", "Write sslmode=verify-full instead."),
        "ssl_min_protocol_version" => ("ssl_min_protocol_version", "Remove it; TLS 1.2 is the least that is spoken."),
        "ssl_max_protocol_version" => ("ssl_max_protocol_version", "Remove it; it would only weaken TLS."),
        "sslcompression" => ("sslcompression", "Remove it; cgk does not use TLS compression."),
        "sslcertmode" => ("sslcertmode", "Remove it; sslcert and sslkey say whether a certificate is sent."),
        "sslsni" => ("sslsni", "Remove it; the host name is always sent."),
        "replication" => ("replication", "Remove it; cgk does not replicate."),
        "statement_timeout" => ("statement_timeout", "Set session.statement_timeout in cgk.toml instead."),
        "lock_timeout" => ("lock_timeout", "Set session.lock_timeout in cgk.toml instead."),
        _ if secrecy == KeySecrecy::Showable && is_word(key) => {
            return refuse(format!("has the unknown option `{key}`"), "Remove the option, or correct its name.");
        }
        _ => return refuse("has an unknown option", UNKNOWN_AFTER_PASSWORD),
    };
    refuse(format!("has the option `{known}`, which cannot be honoured"), advice)
}

const UNKNOWN_AFTER_PASSWORD: &str = "Remove the option. In a key=value string, put a password with blanks between \
                                      single quotes; in a URL, percent-encode `&` as %26.";

/// Whether a text is short and simple enough to be a name.
pub(super) fn is_word(key: &str) -> bool {
    key.len() <= 40 && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn refuse(what: impl Into<String>, advice: impl Into<String>) -> ValueProblem {
    ValueProblem::refused(what, advice)
}

fn boolean(value: &str, key: &str) -> Result<bool, ValueProblem> {
    super::value::boolean(value)
        .map_err(|_| ValueProblem::invalid(format!("{key} is neither true nor false"), format!("Write {key}=true.")))
}

/// `options=-c search_path=…` would change the state to which cgk resets a session.
fn refuse_session_state(options: &str) -> Result<(), ValueProblem> {
    let names = options.split_whitespace().map(|word| word.trim_start_matches("--").trim_start_matches("-c"));
    for name in names.filter_map(|word| word.split('=').next()) {
        if ["search_path", "role", "session_authorization"].iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err(refuse(
                "sets search_path or a role in `options`, which is cgk's to set",
                "Remove it from `options`; cgk sets both in every tenant transaction.",
            ));
        }
    }
    Ok(())
}
