//! `cgk config:show`

use anyhow::Result;
use cgk::Config;
use clap::Args;
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::table::{CellStyle, Grid},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk config:show
  cgk config:show --changed    only what is not at its default
  cgk config:show --json

Shows every setting, its value and where the value comes from, without connecting to the database. Passwords and keys \
             are shown as ***.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Show only the settings that are not at their default
    #[arg(long)]
    changed: bool,
}

/// A setting for display.
#[derive(Serialize)]
pub(crate) struct SettingView {
    pub(crate) name: &'static str,
    pub(crate) value: Option<String>,
    pub(crate) origin: String,
}

impl SettingView {
    /// Returns all settings of a configuration.
    pub(crate) fn all(config: &Config) -> Vec<Self> {
        let settings = config.settings().into_iter();
        settings.map(|of| Self { name: of.name, value: of.value, origin: of.origin.to_string() }).collect()
    }

    pub(crate) fn is_default(&self) -> bool {
        self.origin == "default"
    }
}

#[derive(Serialize)]
struct Answer {
    v: u32,
    settings: Vec<SettingView>,
    exit: Exit,
}

pub(crate) fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let mut settings = SettingView::all(&session.config()?);
    if arguments.changed {
        settings.retain(|setting| !setting.is_default());
    }
    let mut grid = Grid::new(&["SETTING", "VALUE", "FROM"]);
    for setting in &settings {
        let (value, style) = match &setting.value {
            Some(value) => (value.as_str(), CellStyle::Plain),
            None => ("none", CellStyle::Faint),
        };
        let origin = if setting.is_default() { CellStyle::Faint } else { CellStyle::Plain };
        grid.row([(setting.name, CellStyle::Plain), (value, style), (setting.origin.as_str(), origin)]);
    }
    session.printer.output(grid);
    session.printer.record(&Answer { v: crate::cli::JSON_VERSION, settings, exit: Exit::Done });
    Ok(Exit::Done)
}
