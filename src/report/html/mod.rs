//! The HTML page. It contains its style, has no script, and loads nothing. A policy in its head forbids scripts and
//! loading.
//!
//! The template escapes every value. The only text that is not escaped is the style, which is part of the program.

mod checks;
mod growth;
mod overview;
mod parts;
mod runs;
mod sizes;
mod treemap;
mod versions;

use super::model::FleetReport;
use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("style.css");

/// Returns the report as one HTML page. It has at most a few hundred kilobytes for any number of tenants.
///
/// ```no_run
/// # fn example(report: &cgk::report::FleetReport) -> std::io::Result<()> {
/// std::fs::write("fleet.html", cgk::report::html(report))
/// # }
/// ```
pub fn html(report: &FleetReport) -> String {
    let title = format!("Fleet report: {}", report.place.database);
    let sections = sections(report);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#content" { "Skip to the content" }
                (overview::header(report))
                nav aria-label="Sections" {
                    ul {
                        @for section in &sections {
                            li { a href={ "#" (section.id) } { (section.title) } }
                        }
                    }
                }
                main id="content" {
                    (overview::figures(report))
                    @for section in sections { (section.markup()) }
                }
                (overview::footer(report))
            }
        }
    };
    page.into_string()
}

/// A section with its heading.
pub(super) struct Section {
    id: &'static str,
    title: &'static str,
    body: Markup,
}

impl Section {
    fn markup(&self) -> Markup {
        let heading = format!("{}-heading", self.id);
        html! {
            section id=(self.id) aria-labelledby=(heading) {
                h2 id=(heading) { (self.title) }
                (self.body)
            }
        }
    }
}

fn sections(report: &FleetReport) -> Vec<Section> {
    let section = |id, title, body| Section { id, title, body };
    let mut sections = vec![
        section("versions", "Versions and states", versions::body(report)),
        section("sizes", "Sizes", sizes::body(report)),
    ];
    sections.extend(report.growth.as_ref().map(|growth| section("growth", "Growth", growth::body(growth))));
    sections.push(section("runs", "Migration runs", runs::body(report)));
    sections.push(section("drift", "Differences from the migrations", checks::drift(report)));
    sections.push(section("checks", "Checks", checks::body(report)));
    sections
}

/// Returns the policy: nothing is loaded, and only this style is used.
fn policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'")
}

#[cfg(test)]
mod tests {
    use super::STYLE;
    use std::collections::HashMap;

    type Colours = HashMap<String, [f64; 3]>;

    /// Returns the colours in a block of CSS variables.
    fn colours(block: &str) -> Colours {
        let channel = |text: &str| f64::from(u8::from_str_radix(text, 16).unwrap()) / 255.0;
        let declarations = block.split(['{', '}', ';']).filter_map(|part| part.trim().split_once(": #"));
        declarations
            .map(|(name, hex)| (name.to_owned(), [channel(&hex[..2]), channel(&hex[2..4]), channel(&hex[4..6])]))
            .collect()
    }

    /// Returns the contrast of two colours, as the accessibility guidelines (WCAG 2) define it.
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        let luminance = |c: [f64; 3]| 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
        let (a, b) = (luminance(one), luminance(other));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// Returns the variables of the light, dark and print themes.
    fn themes() -> Vec<Colours> {
        STYLE.split(":root {").skip(1).map(|part| colours(part.split('}').next().unwrap())).collect()
    }

    #[test]
    fn texts_can_be_read_on_every_background() {
        let themes = themes();
        assert_eq!(themes.len(), 3);
        for theme in themes {
            let pairs = ["ink", "muted", "accent", "good", "warning", "bad"]
                .into_iter()
                .flat_map(|text| ["page", "surface"].map(|ground| (text, ground)));
            let cells = ["cell-1", "cell-2", "cell-3", "cell-rest"].map(|ground| ("cell-ink", ground));
            for (text, ground) in pairs.chain(cells) {
                let found = contrast(theme[&format!("--{text}")], theme[&format!("--{ground}")]);
                assert!(found >= 4.5, "{text} on {ground}: {found:.2}");
            }
        }
        // The control: these two colours have too little contrast.
        assert!(contrast([0.5; 3], [0.6; 3]) < 2.0);
    }

    #[test]
    fn bars_can_be_told_from_their_track() {
        for theme in themes() {
            for fill in ["fill", "fill-good", "fill-bad", "fill-other"] {
                let found = contrast(theme[&format!("--{fill}")], theme["--surface"]);
                assert!(found >= 3.0, "{fill}: {found:.2}");
            }
        }
    }
}
