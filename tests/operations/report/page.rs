//! Reads a page back: its tables by their captions, and its key figures.

use regex::Regex;
use std::collections::BTreeMap;

pub(super) struct Page {
    pub(super) html: String,
    tables: BTreeMap<String, Vec<Vec<String>>>,
}

/// The texts of all elements of a name.
fn elements<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let pattern = Regex::new(&format!(r"(?s)<{name}(?: [^>]*)?>(.*?)</{name}>")).unwrap();
    pattern.captures_iter(html).map(|found| found.get(1).unwrap().as_str()).collect()
}

/// The text of a piece of HTML, as a browser shows it.
pub(super) fn text(html: &str) -> String {
    let plain = Regex::new("<[^>]*>").unwrap().replace_all(html, "");
    let plain = plain.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Page {
    pub(super) fn of(html: String) -> Self {
        let cells = Regex::new(r"(?s)<t[hd](?: [^>]*)?>(.*?)</t[hd]>").unwrap();
        let mut tables = BTreeMap::new();
        for table in elements(&html, "table") {
            let caption = text(elements(table, "caption")[0]);
            let body = elements(table, "tbody")[0];
            let row = |row: &&str| cells.captures_iter(row).map(|cell| text(&cell[1])).collect::<Vec<_>>();
            let rows = elements(body, "tr").iter().map(row).collect();
            assert!(tables.insert(caption.clone(), rows).is_none(), "{caption} is there twice");
        }
        Self { html, tables }
    }

    /// The rows of a table, each cell as text.
    pub(super) fn rows(&self, caption: &str) -> &[Vec<String>] {
        let captions = || self.tables.keys().collect::<Vec<_>>();
        self.tables.get(caption).unwrap_or_else(|| panic!("no table {caption:?} among {:?}", captions()))
    }

    pub(super) fn has(&self, caption: &str) -> bool {
        self.tables.contains_key(caption)
    }

    /// The cell of a row, which its first cell names, in a column.
    pub(super) fn cell(&self, caption: &str, row: &str, column: usize) -> &str {
        let rows = self.rows(caption);
        let found = rows.iter().find(|cells| cells[0] == row);
        &found.unwrap_or_else(|| panic!("no row {row:?} in {caption:?}: {rows:#?}"))[column]
    }

    pub(super) fn figure(&self, id: &str) -> String {
        let pattern = Regex::new(&format!(r#"(?s)id="figure-{id}">.*?<dd class="value">(.*?)</dd>"#)).unwrap();
        text(&pattern.captures(&self.html).unwrap_or_else(|| panic!("no figure {id}"))[1])
    }

    pub(super) fn text(&self) -> String {
        text(self.html.split("<body>").nth(1).unwrap())
    }

    /// What holds for every page: it is complete, it loads nothing, and what assistive technology needs is there.
    pub(super) fn check(&self) {
        let html = &self.html;
        assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">") && html.ends_with("</html>"));
        let policy = "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-";
        assert!(html.contains(policy), "{html:.600}");
        for loaded in ["<script", "<link", "<img", "<iframe", "@import", "url(", " style=", " onload=", "javascript:"] {
            assert!(!html.contains(loaded), "{loaded}");
        }
        for landmark in ["<header>", "<nav aria-label=", "<main id=\"content\">", "<footer>"] {
            assert_eq!(html.matches(landmark).count(), 1, "{landmark}");
        }
        let level = Regex::new(r"<h([1-6])[ >]").unwrap();
        let levels: Vec<u8> = level.captures_iter(html).map(|found| found[1].parse().unwrap()).collect();
        assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1);
        assert!(levels[0] == 1 && levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
        let tables = elements(html, "table");
        assert_eq!(tables.len(), self.tables.len());
        let headings = Regex::new(r"<th(?: [^>]*)?>").unwrap();
        for table in tables {
            assert!(headings.find_iter(table).all(|th| th.as_str().contains("scope=")), "{table:.300}");
        }
        for drawing in Regex::new(r#"(?s)<svg class="(\w+)"[^>]*>"#).unwrap().captures_iter(html) {
            let opening = &drawing[0];
            let hidden = &drawing[1] == "bar";
            assert!(hidden || opening.contains("role=\"img\"") && opening.contains("aria-labelledby="), "{opening}");
        }
        let ids: Vec<String> =
            Regex::new(r#" id="([^"]+)""#).unwrap().captures_iter(html).map(|found| found[1].to_owned()).collect();
        let mut different = ids.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), ids.len(), "an id is there twice");
        let references = Regex::new(r##"(?:aria-labelledby="([^"]+)"|href="#([^"]+)")"##).unwrap();
        for found in references.captures_iter(html) {
            let named = found.get(1).or(found.get(2)).unwrap().as_str();
            assert!(named.split(' ').all(|id| ids.iter().any(|known| known == id)), "{named}");
        }
    }
}

/// Leaves a page for `scripts/report-test.sh`, which looks at it in a browser.
pub(super) fn keep(name: &str, html: &str) {
    if let Some(folder) = std::env::var_os("CGK_REPORT_PAGES").filter(|folder| !folder.is_empty()) {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.html")), html).unwrap();
    }
}
