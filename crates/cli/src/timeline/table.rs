//! A timeline for people: within the width of their terminal, or whole if it goes elsewhere.

use std::borrow::Cow;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use icecore::{Result, Timestamp};

use super::{Line, Of};
use crate::output::{Output, cut, shown};
use crate::time;

/// On a terminal a line is cut behind so many lines of the terminal.
const LINES_MAX: usize = 2;
/// More of a text is never seen there, so it need not be laid out.
const CHARS_MAX: usize = 1_000;
/// So much of a name is seen on every terminal.
const NAME_CHARS_MIN: usize = 12;
/// Elsewhere names are lined up if they are no longer than this.
const PADDED_CHARS_MAX: usize = 40;

/// What stands in one row.
struct Shown {
    start: String,
    took: String,
    what: String,
    says: String,
}

pub fn print(of: &Of, lines: &[Line], limit: usize, output: &mut Output) -> Result<()> {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
        return Ok(());
    };
    let (kind, Of::Trace { id, .. } | Of::Session { id, .. }) = (of.kinds()[0], of);
    let whole = nanos_between(first.at, last.at) / 1e6 + last.took_ms.unwrap_or(0.0);
    let title = if kind == "trace" { "Trace" } else { "Session" };
    output.line(&format!("{title} {}, from {}, {}", shown(id), time::show(first.at), duration(whole)))?;
    let mut rows = rows(of, lines, first.at, whole);
    let rows = rows.split_off(rows.len().saturating_sub(limit));
    if rows.is_empty() {
        return Ok(());
    }
    output.line(&laid_out(of, &rows, output.width()))
}

fn rows(of: &Of, lines: &[Line], first: Timestamp, whole_ms: f64) -> Vec<Shown> {
    let mut rows: Vec<Shown> = Vec::new();
    let mut pieces = 0_u64;
    for (place, line) in lines.iter().enumerate() {
        let is_piece = line.folds.is_some() && place > 0 && lines[place - 1].folds == line.folds;
        pieces = if is_piece { pieces + 1 } else { 1 };
        if let (true, Some(row), Some(folds)) = (is_piece, rows.last_mut(), &line.folds) {
            row.says = format!("{folds}, {pieces} times");
            continue;
        }
        let start = match of {
            Of::Trace { .. } => offset(nanos_between(first, line.at) / 1e6, whole_ms),
            Of::Session { .. } => to_the_millisecond(line.at),
        };
        let took = line.took_ms.map(duration).unwrap_or_default();
        rows.push(Shown { start, took, what: line.what.clone(), says: line.says.clone() });
    }
    rows
}

fn laid_out(of: &Of, rows: &[Shown], width: Option<u16>) -> String {
    let is_trace = matches!(of, Of::Trace { .. });
    let headings: &[&str] =
        if is_trace { &["START", "TOOK", "NODE", "OUTCOME"] } else { &["TIME", "TASK", "WHAT"] };
    let cells = rows.iter().map(|row| {
        let all = [&row.start, &row.took, &row.what, &row.says];
        let all: Vec<_> = if is_trace { all.to_vec() } else { vec![all[0], all[2], all[3]] };
        all.into_iter().map(|cell| shown(cell)).collect()
    });
    match width {
        Some(width) => for_terminal(headings, cells, width),
        None => in_lines(headings, cells.collect()),
    }
}

/// Within so many columns: what is said has what the others leave, and is cut.
fn for_terminal<'a>(headings: &[&str], rows: impl Iterator<Item = Vec<Cow<'a, str>>>, width: u16) -> String {
    let (names, says) = (headings.len() - 2, headings.len() - 1);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().copied()).set_truncation_indicator("…");
    for mut cells in rows {
        // An id is known by its beginning.
        cells[names] = cut(&cells[names], usize::from(width / 5).max(NAME_CHARS_MIN)).into();
        cells[says] = cut(&cells[says], CHARS_MAX).into();
        let mut row = Row::from(cells);
        row.max_height(LINES_MAX);
        table.add_row(row);
    }
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    for (place, column) in table.column_iter_mut().enumerate() {
        if place < names {
            column.set_constraint(ColumnConstraint::ContentWidth);
        } else if place == names {
            column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed((width / 4).max(12))));
        }
        if is_number(headings, place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Whole, a line each. Nothing is padded for the sake of a longer one that may be anything.
fn in_lines<'a>(headings: &[&'a str], mut rows: Vec<Vec<Cow<'a, str>>>) -> String {
    rows.insert(0, headings.iter().map(|heading| (*heading).into()).collect());
    let widest = |place: usize| {
        rows.iter().map(|row| row[place].chars().count()).max().unwrap_or(0).min(PADDED_CHARS_MAX)
    };
    let widths: Vec<_> = (0..headings.len() - 1).map(widest).collect();
    let line = |row: &Vec<Cow<'_, str>>| {
        let cell = |(place, width): (usize, &usize)| match is_number(headings, place) {
            true => format!(" {:>width$} ", row[place]),
            false => format!(" {:<width$} ", row[place]),
        };
        let line: String = widths.iter().enumerate().map(cell).collect();
        format!("{line} {}", row[headings.len() - 1]).trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Of four columns the first two are numbers.
fn is_number(headings: &[&str], place: usize) -> bool {
    headings.len() == 4 && place < 2
}

fn nanos_between(first: Timestamp, at: Timestamp) -> f64 {
    at.0.saturating_sub(first.0) as f64
}

/// How long after the first line: in one unit for all lines, so that they can be compared at a glance.
fn offset(ms: f64, whole_ms: f64) -> String {
    match whole_ms {
        ..10_000.0 => format!("+{ms:.1} ms"),
        ..3_600_000.0 => format!("+{:.3} s", ms / 1e3),
        _ => {
            let seconds = ms / 1e3;
            let (hours, rest) = ((seconds / 3_600.0).floor(), seconds % 3_600.0);
            format!("+{hours:.0}:{:02.0}:{:04.1}", (rest / 60.0).floor(), rest % 60.0)
        }
    }
}

pub fn duration(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        ..1_000.0 => format!("{ms:.0} ms"),
        ..100_000.0 => format!("{:.1} s", ms / 1e3),
        ..6_000_000.0 => format!("{:.0} min", ms / 6e4),
        _ => format!("{:.0} h", ms / 3.6e6),
    }
}

fn to_the_millisecond(at: Timestamp) -> String {
    let nanos_of_last = at.0.rem_euclid(1_000_000);
    let whole = time::show(Timestamp(at.0 - nanos_of_last));
    let Some(rest) = whole.strip_suffix('Z') else { return whole };
    match rest.split_once('.') {
        Some((seconds, digits)) => format!("{seconds}.{digits:0<3}Z"),
        None => format!("{rest}.000Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Line> {
        let line = |ms: i64, what: &str, says: &str, folds: Option<&str>| Line {
            at: Timestamp(1_795_510_158_505_293_000 + ms * 1_000_000),
            took_ms: Some(0.25 * ms as f64),
            what: what.to_owned(),
            says: says.to_owned(),
            json: serde_json::Value::Null,
            folds: folds.map(str::to_owned),
        };
        let long = "error, again after 1.0 ms: ConnectionError('the weather service did not answer, and said why at length: no')";
        vec![
            line(0, "plan", "done", None),
            line(3, "a node with a name that nobody would type", long, None),
            line(4, "planner", "chunk a", Some("step 1 chunk")),
            line(5, "planner", "chunk b", Some("step 1 chunk")),
            line(
                6,
                "evil\u{1b}[2J\r\n",
                "\u{9b}31m \u{7}日本語の長いテキスト日本語の長いテキスト日本語の長いテキスト日本語の長いテキスト",
                None,
            ),
        ]
    }

    fn table(width: Option<u16>) -> String {
        let of = Of::Trace { tenant: "acme".to_owned(), id: "t".to_owned() };
        laid_out(&of, &rows(&of, &lines(), lines()[0].at, 7.0), width)
    }

    /// Wide characters count as two, as on a terminal.
    fn columns(line: &str) -> usize {
        line.chars().map(|c| if ('\u{2e80}'..'\u{a000}').contains(&c) { 2 } else { 1 }).sum()
    }

    #[test]
    fn a_table_fits_into_the_terminal_and_controls_nothing() {
        for width in [40, 80, 120, 200] {
            let table = table(Some(width));

            let long: Vec<_> = table.lines().filter(|line| columns(line) > usize::from(width)).collect();
            assert!(long.is_empty(), "{width}: {long:?}");
            assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table:?}");
            assert!(table.lines().count() <= 1 + LINES_MAX * 4, "{table}");
        }
        assert!(
            table(Some(80)).contains('…') && table(Some(120)).contains("said why"),
            "{}",
            table(Some(120))
        );
    }

    #[test]
    fn elsewhere_everything_is_whole_in_one_line_each() {
        let table = table(None);

        assert_eq!(table.lines().count(), 5, "{table}");
        assert!(table.contains("at length: no')") && table.contains("step 1 chunk, 2 times"), "{table}");
        assert!(!table.contains('\u{1b}') && table.contains("evil\\u{1b}[2J\\r\\n"), "{table}");
    }

    #[test]
    fn offsets_have_one_unit_and_durations_their_own() {
        assert_eq!(
            [offset(3.25, 9e3), offset(3.25, 1e4), offset(3_723_450.0, 4e6)],
            ["+3.2 ms", "+0.003 s", "+1:02:03.4"]
        );
        let durations = [0.25, 12.34, 250.4, 1_500.0, 150_000.0, 9e6].map(duration);
        assert_eq!(durations, ["0.25 ms", "12.3 ms", "250 ms", "1.5 s", "2 min", "2 h"]);
        assert_eq!(to_the_millisecond(Timestamp(1_500_000_000_000_999_999)), "2017-07-14T02:40:00.000Z");
        assert_eq!(to_the_millisecond(Timestamp(1_500_000_000_120_999_999)), "2017-07-14T02:40:00.120Z");
    }
}
