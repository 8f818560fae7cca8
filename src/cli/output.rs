//! Writes to standard output without ever panicking: a reader that leaves ends the command quietly.

use super::error::CliError;
use serde::Serialize;
use std::io::{self, Write};

/// Standard output, as text or as JSON.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// `--json`.
    pub json: bool,
}

impl Output {
    /// One line, or several.
    pub fn line(self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", printable(text))?;
        Ok(stdout.flush()?)
    }

    /// A JSON document on a line of its own.
    pub fn document(self, document: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(document).map_err(io::Error::from)?;
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }

    /// Bytes as they are.
    pub fn raw(self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }
}

/// Says something beside the result. That nobody hears it is no reason to stop.
pub fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// The text without control characters but newlines: names come from tenants, and must not steer an operator's terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter }).collect()
}

/// An aligned table; the last column is not padded.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| printable(cell).replace('\n', "\u{fffd}"))).collect();
    let header = header.map(str::to_owned);
    let all = || std::iter::once(&header).chain(&rows);
    let mut widths = [0; N];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let padded: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        padded.trim_end().to_owned()
    };
    all().map(line).collect::<Vec<_>>().join("\n")
}

/// `label  value` lines.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let line = |(label, value): &(&str, String)| format!("{label:<width$}  {value}").trim_end().to_owned();
    pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `41.2 ms`, or seconds from ten on.
pub fn duration(duration_us: u64) -> String {
    let (tenths_ms, tenths_s) = (duration_us / 100, duration_us / 100_000);
    if duration_us < 10_000_000 {
        format!("{}.{} ms", tenths_ms / 10, tenths_ms % 10)
    } else {
        format!("{}.{} s", tenths_s / 10, tenths_s % 10)
    }
}

/// `2.0 GiB`.
pub fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    let tenths = |unit: u64| (bytes / unit, bytes % unit * 10 / unit);
    let ((whole, tenth), unit) =
        if bytes >= crate::model::GIB { (tenths(crate::model::GIB), "GiB") } else { (tenths(MIB), "MiB") };
    format!("{whole}.{tenth} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long name".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "N"], &rows), "NAME       N\na          1\nlong name");
    }

    #[test]
    fn a_tenants_name_cannot_steer_the_terminal() {
        let shown = table(["NAME"], &[["x\u{1b}[2Jy\nz".to_owned()]]);
        assert_eq!(shown, "NAME\nx\u{fffd}[2Jy\u{fffd}z");
    }

    #[test]
    fn durations_and_sizes_read_well() {
        assert_eq!((duration(41_250).as_str(), duration(12_340_000).as_str()), ("41.2 ms", "12.3 s"));
        assert_eq!((size(2 << 30).as_str(), size(1_572_864).as_str()), ("2.0 GiB", "1.5 MiB"));
    }
}
