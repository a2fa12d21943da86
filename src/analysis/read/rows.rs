//! The rows of a table: splits text into cells within the limits, and names the place of what does not fit. Does not
//! look into the cells.

use std::io::{Read, Seek, SeekFrom};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use meerkat_base::text::shown;

use super::decoded::Decoded;
use super::encoding::Looked;
use crate::error::AnalysisError;
use crate::limits::Limits;

/// What may stand between cells; the comma unless the header has none.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// One row, as its cells. A short row has empty cells at its end, as in pandas.
pub struct Row<'a> {
    line: u64,
    names: &'a [String],
    text: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Row<'a> {
    /// The cell in a column, counted from 0.
    pub fn cell(&self, column: usize) -> &'a [u8] {
        let Some(&end) = self.ends.get(column) else { return b"" };
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.text[start..end]
    }

    /// An error at a cell of this row.
    pub fn wrong_cell(&self, column: usize, what: impl Into<String>) -> AnalysisError {
        wrong_cell(self.line, self.names, column, what.into())
    }
}

fn wrong_cell(line: u64, names: &[String], column: usize, what: String) -> AnalysisError {
    let name = names.get(column).map_or(String::new(), |name| shown(name.as_bytes()));
    AnalysisError::Cell { line, column: column + 1, name, what }
}

/// Where the reading of rows has come to at the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// There is text.
    NotYet,
    /// The text is over; a line end was added, which tells an open quote from a finished row.
    LineEnded,
    /// Nothing comes any more.
    Ended,
}

/// Reads rows one after the other; holds one of them.
pub struct Rows<R> {
    input: Decoded<R>,
    csv: Reader,
    delimiter: u8,
    names: Vec<String>,
    limits: Limits,
    text: Vec<u8>,
    ends: Vec<usize>,
    cells: usize,
    /// Line ends that were passed over before rows.
    skipped_lines: u64,
    /// Line at which the last row that was read begins.
    line: u64,
    tail: Tail,
    rows: u64,
}

impl<R: Read + Seek> Rows<R> {
    /// Begins at the top of a file that was looked at, and reads its header.
    pub fn open(mut reader: R, looked: &Looked, limits: &Limits) -> Result<Self, AnalysisError> {
        reader.seek(SeekFrom::Start(looked.mark_bytes))?;
        let mut input = Decoded::new(reader, looked);
        let delimiter = delimiter(input.text()?.unwrap_or_default());
        let mut rows = Self {
            input,
            csv: ReaderBuilder::new().delimiter(delimiter).build(),
            delimiter,
            names: Vec::new(),
            limits: limits.clone(),
            text: vec![0; limits.row_bytes],
            ends: vec![0; limits.columns + 1],
            cells: 0,
            skipped_lines: 0,
            line: 0,
            tail: Tail::NotYet,
            rows: 0,
        };
        if !rows.advance()? {
            return Err(AnalysisError::NoHeader);
        }
        if rows.cells > limits.columns {
            return Err(rows.too_many_columns());
        }
        rows.names = rows.header()?;
        rows.rows = 0;
        Ok(rows)
    }

    /// The names of the columns: an empty one is `Unnamed: N`, a repeated one gets a number, as in pandas.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What stands between cells.
    pub fn delimiter(&self) -> char {
        char::from(self.delimiter)
    }

    /// Bytes of the file that were read so far.
    pub fn taken_bytes(&self) -> u64 {
        self.input.taken_bytes()
    }

    /// The next row; none at the end.
    pub fn next(&mut self) -> Result<Option<Row<'_>>, AnalysisError> {
        if !self.advance()? {
            return Ok(None);
        }
        let columns = self.names.len();
        if self.cells > columns {
            return Err(
                self.wrong_line(format!("{} cells, and the header names {columns} columns", self.cells))
            );
        }
        self.rows += 1;
        if self.rows > self.limits.rows {
            return Err(self.wrong_line(format!("over {} rows", self.limits.rows)));
        }
        Ok(Some(self.row()))
    }

    fn row(&self) -> Row<'_> {
        Row { line: self.line, names: &self.names, text: &self.text, ends: &self.ends[..self.cells] }
    }

    fn wrong_cell(&self, column: usize, what: impl Into<String>) -> AnalysisError {
        wrong_cell(self.line, &self.names, column, what.into())
    }

    fn wrong_line(&self, what: impl Into<String>) -> AnalysisError {
        AnalysisError::Line { line: self.line, what: what.into() }
    }

    fn too_many_columns(&self) -> AnalysisError {
        self.wrong_line(format!("over {} columns", self.limits.columns))
    }

    /// Reads the next row that is not blank into the buffers; whether there was one.
    fn advance(&mut self) -> Result<bool, AnalysisError> {
        loop {
            if !self.advance_any()? {
                return Ok(false);
            }
            // As in pandas: blanks alone are no row, two quotes are.
            let text = &self.text[..self.ends[0]];
            let only =
                self.cells == 1 && !text.is_empty() && text.iter().all(|byte| matches!(byte, b' ' | b'\t'));
            if !only {
                break;
            }
        }
        let mut start = 0;
        for column in 0..self.cells {
            let end = self.ends[column];
            if end - start > self.limits.cell_bytes {
                return Err(self.long_cell(column));
            }
            start = end;
        }
        Ok(true)
    }

    fn long_cell(&self, column: usize) -> AnalysisError {
        let limit = self.limits.cell_bytes;
        self.wrong_cell(column, format!("longer than {limit} bytes; is a quote not closed?"))
    }

    fn advance_any(&mut self) -> Result<bool, AnalysisError> {
        let (mut filled, mut cells) = (0, 0);
        self.skip_line_ends()?;
        self.line = self.csv.line() + self.skipped_lines;
        loop {
            let Some(text) = self.input.text()? else {
                return Err(self.wrong_cell(cells, "bytes that do not decode"));
            };
            let (piece, is_own) = match self.tail {
                Tail::NotYet if !text.is_empty() => (text, true),
                Tail::NotYet => {
                    self.tail = Tail::LineEnded;
                    (&b"\n"[..], false)
                }
                Tail::LineEnded | Tail::Ended => {
                    self.tail = Tail::Ended;
                    (&b""[..], false)
                }
            };
            let (result, taken, written, ended) =
                self.csv.read_record(piece, &mut self.text[filled..], &mut self.ends[cells..]);
            if is_own {
                self.input.take(taken);
            }
            filled += written;
            cells += ended;
            match result {
                ReadRecordResult::InputEmpty if self.tail == Tail::LineEnded && filled > 0 => {
                    return Err(self.wrong_line("a quote that begins in this row is not closed"));
                }
                ReadRecordResult::InputEmpty => {
                    // What cannot become a row any more is not read to its end.
                    let begun = self.ends[..cells].last().copied().unwrap_or_default();
                    if filled - begun > self.limits.cell_bytes {
                        return Err(self.long_cell(cells));
                    }
                }
                ReadRecordResult::OutputFull => {
                    let begun = self.ends[..cells].last().copied().unwrap_or_default();
                    if filled - begun > self.limits.cell_bytes {
                        return Err(self.long_cell(cells));
                    }
                    return Err(self.wrong_line(format!("longer than {} bytes", self.limits.row_bytes)));
                }
                ReadRecordResult::OutputEndsFull => return Err(self.too_many_columns()),
                ReadRecordResult::Record => {
                    self.cells = cells;
                    return Ok(true);
                }
                ReadRecordResult::End => return Ok(false),
            }
        }
    }

    /// Passes over empty lines, so that the line of a row is the one at which it begins.
    fn skip_line_ends(&mut self) -> Result<(), AnalysisError> {
        while let Some(text) = self.input.text()? {
            let ends = text.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if ends == 0 {
                break;
            }
            self.skipped_lines += text[..ends].iter().filter(|byte| **byte == b'\n').count() as u64;
            self.input.take(ends);
        }
        Ok(())
    }

    fn header(&self) -> Result<Vec<String>, AnalysisError> {
        let mut names: Vec<String> = Vec::with_capacity(self.cells);
        let mut taken = std::collections::HashSet::new();
        let row = self.row();
        for column in 0..self.cells {
            let text = std::str::from_utf8(row.cell(column))
                .map_err(|_| self.wrong_cell(column, "the text ends within a character"))?;
            let name = if text.is_empty() { format!("Unnamed: {column}") } else { text.to_owned() };
            let mut unique = name.clone();
            let mut number = 0;
            while !taken.insert(unique.clone()) {
                number += 1;
                unique = format!("{name}.{number}");
            }
            names.push(unique);
        }
        Ok(names)
    }
}

/// What stands between the cells of a header: a comma if there is any outside quotes, else what is there most.
fn delimiter(beginning: &[u8]) -> u8 {
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut quoted = false;
    let line = beginning.iter().skip_while(|byte| matches!(byte, b'\r' | b'\n'));
    for byte in line.take_while(|byte| !matches!(byte, b'\r' | b'\n')) {
        if *byte == b'"' {
            quoted = !quoted;
        } else if let Some(which) = DELIMITERS.iter().position(|one| one == byte)
            && !quoted
        {
            counts[which] += 1;
        }
    }
    if counts[0] > 0 {
        return b',';
    }
    // Of equal ones the first: `max_by_key` takes the last, so it looks from behind.
    let most = (0..DELIMITERS.len()).rev().max_by_key(|which| counts[*which]);
    most.map_or(b',', |which| DELIMITERS[which])
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
