//! SQL about the registry of tenants is in `src/registry`: a change of its columns, of its names of schemas and roles, or of
//! its place has one folder to look at.

use super::layering::sources;
use regex::Regex;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The table where a statement uses it. Texts for people may name it.
const USES: &str = r"(?i)\b(?:from|join|into|update|only|truncate|(?:lock|alter|truncate) table|references)\s+public\.organizations\b|'public\.organizations'|\b(?:grant|policy|trigger)\b[^;\n]*\son\s+public\.organizations\b|qualified\(\x22organizations\x22\)";

/// The modules that may: the registry itself, and the application's own tables, which refer to an organization by a foreign
/// key and are read together with its row. They run in a service, never as the operator.
const ALLOWED: [&str; 6] = ["registry", "auth", "domains", "platform", "provisioning", "secret"];

fn uses(code: &str) -> Vec<String> {
    Regex::new(USES).unwrap().find_iter(code).map(|found| found.as_str().to_owned()).collect()
}

/// The queries that are files of their own.
fn sql_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sql_files(&path));
        } else if path.extension().is_some_and(|kind| kind == "sql") {
            let text = fs::read_to_string(&path).unwrap();
            let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
            found.push((path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned(), code.join("\n")));
        }
    }
    found
}

fn is_allowed(path: &Path) -> bool {
    ALLOWED
        .iter()
        .any(|module| path.starts_with(format!("src/{module}")) || path == Path::new(&format!("src/{module}.rs")))
}

#[test]
fn the_registry_is_queried_in_its_module() {
    let mut files: Vec<(PathBuf, String)> = sources().into_iter().map(|file| (file.path, file.code)).collect();
    // Of the program these are texts that it prints.
    files.retain(|(path, _)| !path.starts_with("src/cli"));
    files.extend(sql_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    let (own, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|(path, _)| is_allowed(path));
    assert!(others.iter().filter(|(path, _)| path.extension().is_some_and(|kind| kind == "sql")).count() > 3);
    let found = |files: &[(PathBuf, String)]| -> Vec<String> {
        let lines = files.iter().flat_map(|(path, code)| uses(code).into_iter().map(move |line| (path, line)));
        lines.map(|(path, line)| format!("{}: {line}", path.display())).collect()
    };
    assert!(
        found(&own).iter().filter(|line| line.starts_with("src/registry/")).count() > 10,
        "the search finds nothing"
    );
    let wrong = found(&others);
    assert!(wrong.is_empty(), "move this to src/registry/sql.rs:\n{}", wrong.join("\n"));
}

#[test]
fn the_search_finds_planted_sql() {
    for planted in [
        "\"select from public.organizations where id = $1\"",
        "\"select o.slug\n  from public.organizations o\"",
        "\"left join  public.organizations o on true\"",
        "\"update public.organizations set status = 'active'\"",
        "\"where p.polrelid = pg_catalog.to_regclass('public.organizations')\"",
        "\"where c.oid = 'public.organizations'::pg_catalog.regclass\"",
        "\"create policy a on public.organizations for select\"",
        "\"lock table public.organizations in share mode\"",
        "SchemaName::public().qualified(\"organizations\")",
    ] {
        assert_eq!(uses(planted).len(), 1, "{planted}");
    }
    for text in [
        "\"there is no table public.organizations\"",
        "\"make policies on public.organizations, which another role owns\"",
        "\"from public.organizations_archive\"",
    ] {
        assert!(uses(text).is_empty(), "{text}");
    }
    assert!(is_allowed(Path::new("src/registry/sql.rs")) && !is_allowed(Path::new("src/registry_copy/sql.rs")));
}
