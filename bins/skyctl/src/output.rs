//! Printing: tables for people, JSON and YAML for programs.
//!
//! On a terminal a table has colours and keeps to its width; in a pipe it is one header line and plain
//! columns. Control characters in a record never reach a table, so no record can play with a terminal.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, presets};
use serde::Serialize;
use skyclaw_config::Environment;

use crate::error::Error;

/// How to print a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns, or lines of a name and a value, for people
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    look: Look,
    /// Whether someone watches stderr.
    pub(crate) watched: bool,
}

/// What stdout can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    terminal: bool,
    colours: bool,
}

impl Look {
    /// A pipe or file.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { terminal: false, colours: false };
}

impl Output {
    pub(crate) fn new(format: Format, env: &Environment) -> Self {
        let terminal = stdout().is_terminal();
        let colours = terminal && env.get("NO_COLOR").is_none() && env.get("TERM") != Some("dumb");
        Self { format, look: Look { terminal, colours }, watched: stderr().is_terminal() }
    }

    /// Prints a value: as a table if that is the format.
    pub(crate) fn show(&self, value: &impl Serialize, table: impl FnOnce() -> Table) -> Result<(), Error> {
        let text = match self.format {
            Format::Table => table().render(self.look),
            Format::Json => json(value)?,
            Format::Yaml => serde_yaml_ng::to_string(value).map_err(|e| Error::Encode(e.to_string()))?,
        };
        print(text.as_bytes())
    }
}

/// Prints bytes as they are.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::Output)
}

/// Says something about what is printed. Nothing depends on it.
pub(crate) fn say(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// JSON as people read it, with a newline at its end.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::Encode(e.to_string()))?;
    Ok(text + "\n")
}

/// Rows under a header, or without one.
#[derive(Debug, Default)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns with these names.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: vec![] }
    }

    /// Lines of a name and a value, which may itself have lines. What is `None` is left out.
    pub(crate) fn of_fields(fields: Vec<(&'static str, Option<String>)>) -> Self {
        let clean_lines = |text: String| text.lines().map(clean).collect::<Vec<_>>().join("\n");
        let rows =
            fields.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), clean_lines(value?)]));
        Self { header: vec![], rows: rows.collect() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|text| clean(&text)).collect());
    }

    pub(crate) fn render(&self, look: Look) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING);
        let arrangement =
            if look.terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        table.set_content_arrangement(arrangement);
        if look.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if !self.header.is_empty() {
            table.set_header(self.header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        }
        for row in &self.rows {
            table.add_row(row.iter().map(|text| cell(text)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// A cell; the words for states have colours.
fn cell(text: &str) -> Cell {
    let cell = Cell::new(text);
    match text {
        "completed" | "running" => cell.fg(Color::Green),
        "failed" | "lost" => cell.fg(Color::Red),
        "leased" | "degraded" | "pending" => cell.fg(Color::Yellow),
        "cancelled" | "expired" | "stopped" => cell.fg(Color::DarkGrey),
        _ => cell,
    }
}

/// The text with its control characters escaped.
pub(crate) fn clean(text: &str) -> String {
    let escape = |c: char| c.is_control().then(|| c.escape_default());
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match escape(c) {
            Some(escaped) => out.extend(escaped),
            None => out.push(c),
        }
    }
    out
}

/// How long ago something was, in its largest unit.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A command and its arguments as one would type them.
pub(crate) fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "STATUS", "COMMAND"]);
        table.row(vec!["job_1".into(), "completed".into(), "echo hello".into()]);
        table.row(vec!["job_22".into(), "failed".into(), "a\nb\u{1b}[31m".into()]);
        table
    }

    #[test]
    fn a_table_in_a_pipe_has_one_header_and_plain_columns_and_no_control_characters() {
        expect![[r"
            ID      STATUS     COMMAND
            job_1   completed  echo hello
            job_22  failed     a\nb\u{1b}[31m
        "]]
        .assert_eq(&table().render(Look::PLAIN));
    }

    #[test]
    fn a_table_has_colours_on_a_terminal_only() {
        assert!(!table().render(Look { terminal: true, colours: false }).contains('\u{1b}'));
        assert!(table().render(Look { terminal: true, colours: true }).contains("\u{1b}["));
    }

    #[test]
    fn fields_that_are_not_there_are_left_out() {
        let fields = Table::of_fields(vec![
            ("id", Some("x".into())),
            ("error", None),
            ("status", Some("ok".into())),
            ("stdout", Some("a\n\tb\n".into())),
        ]);
        expect![[r"
            id      x
            status  ok
            stdout  a
                    \tb
        "]]
        .assert_eq(&fields.render(Look::PLAIN));
    }

    #[test]
    fn an_age_has_one_unit() {
        let shown = |s: u64| age(Duration::from_secs(s));
        assert_eq!(
            [shown(0), shown(59), shown(60), shown(7200), shown(200_000)],
            ["0s", "59s", "1m", "2h", "2d"]
        );
    }

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        assert_eq!(command_line(["bash", "-lc", "echo 'hi'", ""]), r"bash -lc 'echo '\''hi'\''' ''");
    }
}
