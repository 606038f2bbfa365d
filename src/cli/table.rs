//! Tables that can be printed page by page: the columns keep their widths.

use std::io::{self, Write};

use super::screen::Paint;

/// Between two columns.
const GAP: &str = "  ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table; its first rows decide how wide the columns are.
pub struct Table {
    columns: Vec<(String, Align)>,
    widths: Vec<usize>,
    begun: bool,
}

impl Table {
    /// A table with these headings.
    pub fn new<N: Into<String>>(columns: impl IntoIterator<Item = (N, Align)>) -> Self {
        let columns: Vec<_> = columns.into_iter().map(|(name, align)| (name.into(), align)).collect();
        let widths = columns.iter().map(|(name, _)| name.chars().count()).collect();
        Table { columns, widths, begun: false }
    }

    /// Writes more rows, below the headings if they are the first. Each row has a cell for every column.
    pub fn rows(&mut self, out: &mut dyn Write, paint: Paint, rows: &[Vec<String>]) -> io::Result<()> {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !self.begun {
            self.begun = true;
            let headings: Vec<_> = self.columns.iter().map(|(name, _)| name.clone()).collect();
            writeln!(out, "{}", paint.bold(&self.line(&headings)))?;
        }
        rows.iter().try_for_each(|row| writeln!(out, "{}", self.line(row)))
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for ((cell, (_, align)), &width) in cells.iter().zip(&self.columns).zip(&self.widths) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if *align == Align::Right { (&*padding, "") } else { ("", &*padding) };
            line.extend([GAP, before, cell, after]);
        }
        line.strip_prefix(GAP).unwrap_or_default().trim_end().to_owned()
    }
}
