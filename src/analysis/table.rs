//! A table is read three times: for its encoding, for the types of its columns, for the figures. What is kept does not
//! grow with the number of rows.

use std::io::{Read, Seek};

use crate::error::AnalysisError;
use crate::limits::Limits;
use crate::read::cell::{Cell, is_missing, number};
use crate::read::encoding::{Looked, look};
use crate::read::rows::Rows;
use crate::stats::block::{BLOCK_ROWS, Block};
use crate::stats::mode::{Mode, ModeCounter};
use crate::stats::moments::Moments;
use crate::stats::pairs::Pairs;
use crate::stats::sample::Sample;
use crate::watch::Watcher;
use crate::words::count::{WordCounter, Words};

/// From this skewness on, either way, a column is transformed.
pub const SKEWED: f64 = 0.5;

/// Words that are kept of a column.
const WORDS: usize = 200;

/// Distinct values that any column with missing numbers may count.
const LEAST_MODE_VALUES: usize = 1024;

/// Text that is cut for any column, bytes.
const LEAST_WORDS_BYTES: usize = 64 << 10;

/// What the cells of a column are, as pandas infers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every cell is a number or missing.
    Number,
    /// Every cell is a truth value, none is missing; counts as the numbers 0 and 1.
    Truth,
    /// Anything else.
    Text,
}

/// What became of a column's transformation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log1p {
    /// ln(1 + x) was taken of every value.
    Applied,
    /// The column is not skewed that much, or its skewness is not defined.
    NotNeeded,
    /// It is skewed, but has values of -1 or less, of which there is no logarithm: it stays as it is.
    Impossible,
}

/// The figures of a column of numbers.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    /// Of the values as read, missing ones left out.
    pub read: Moments,
    /// What stands for missing numbers; none where nothing is missing, or everything.
    pub mode: Option<Mode>,
    /// Of the values with the mode in place of missing ones.
    pub filled: Moments,
    /// Whether the filled values are then transformed.
    pub log1p: Log1p,
    /// Of the values filled and, where it applies, transformed.
    pub prepared: Moments,
}

impl Numbers {
    /// What the preparation makes of one value.
    pub fn prepare(&self, value: f64) -> f64 {
        let filled = if value.is_nan() { self.mode.map_or(f64::NAN, |mode| mode.value) } else { value };
        if self.log1p == Log1p::Applied { filled.ln_1p() } else { filled }
    }
}

/// One column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name, as in pandas.
    pub name: String,
    /// What its cells are.
    pub kind: Kind,
    /// Cells that are missing.
    pub missing: u64,
    /// Figures, of numbers and truth values.
    pub numbers: Option<Numbers>,
    /// Words, of text; none beyond the number of clouds.
    pub words: Option<Words>,
}

/// A table that was read to its end.
#[derive(Debug)]
pub struct Table {
    /// What is known of the file.
    pub looked: Looked,
    /// What stands between its cells.
    pub delimiter: char,
    /// Rows below the header.
    pub rows: u64,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Which of them are numeric.
    pub numeric: Vec<usize>,
    /// Correlations of the numeric columns.
    pub correlations: Vec<Vec<f64>>,
    /// A sample of the first numeric columns, as read.
    pub sample: Sample,
}

/// Reads a table.
pub(crate) fn read<R: Read + Seek>(mut reader: R, watch: &mut Watcher<'_>) -> Result<Table, AnalysisError> {
    let limits = watch.limits();
    let looked = look(&mut reader, watch)?;
    watch.reading_ends();

    let mut rows = Rows::open(&mut reader, &looked, limits)?;
    let names = rows.names().to_vec();
    let delimiter = rows.delimiter();
    let (count, seen) = infer(&mut rows, names.len(), watch)?;
    if count == 0 {
        return Err(AnalysisError::NoRows);
    }
    watch.reading_ends();

    let mut rows = Rows::open(&mut reader, &looked, limits)?;
    if rows.names() != names {
        return Err(AnalysisError::Changed);
    }
    let mut figures = Figures::new(&seen, limits);
    figures.take(&mut rows, count, watch)?;
    let numeric = figures.numeric();
    let correlations = figures.pairs.matrix();
    let (mut numbers, mut words) = (figures.numbers.into_iter(), figures.words.into_iter().peekable());
    let columns = names.into_iter().zip(&seen).enumerate().map(|(column, (name, seen))| {
        let kind = seen.kind();
        Column {
            name,
            kind,
            missing: seen.missing,
            numbers: if kind == Kind::Text {
                None
            } else {
                numbers.next().map(|own| own.finish(seen.missing))
            },
            words: words.next_if(|(place, _)| *place == column).map(|(_, counter)| counter.finish(WORDS)),
        }
    });
    Ok(Table {
        looked,
        delimiter,
        rows: count,
        columns: columns.collect(),
        numeric,
        correlations,
        sample: figures.sample,
    })
}

/// What the cells of a column were so far.
#[derive(Debug, Clone, Default)]
struct Seen {
    numbers: u64,
    truths: u64,
    texts: u64,
    missing: u64,
}

impl Seen {
    fn kind(&self) -> Kind {
        match self {
            Self { texts: 0, truths: 0, .. } => Kind::Number,
            Self { texts: 0, numbers: 0, missing: 0, .. } => Kind::Truth,
            _ => Kind::Text,
        }
    }
}

fn infer<R: Read + Seek>(
    rows: &mut Rows<R>,
    columns: usize,
    watch: &mut Watcher<'_>,
) -> Result<(u64, Vec<Seen>), AnalysisError> {
    let mut seen = vec![Seen::default(); columns];
    let mut count = 0_u64;
    while let Some(row) = rows.next()? {
        for (column, seen) in seen.iter_mut().enumerate() {
            let cell = row.cell(column);
            let means = if seen.texts == 0 {
                Cell::of(cell)
            } else if is_missing(cell) {
                Cell::Missing
            } else {
                Cell::Text
            };
            match means {
                Cell::Missing => seen.missing += 1,
                Cell::Number(_) => seen.numbers += 1,
                Cell::Truth(_) => seen.truths += 1,
                Cell::Text => {
                    seen.texts += 1;
                    if std::str::from_utf8(cell).is_err() {
                        return Err(row.wrong_cell(column, "the text ends within a character"));
                    }
                }
            }
        }
        count += 1;
        if count.is_multiple_of(BLOCK_ROWS as u64) {
            watch.step(rows.taken_bytes())?;
        }
    }
    Ok((count, seen))
}

/// One numeric column while it is read.
struct Running {
    column: usize,
    /// The first number, about which sums are taken.
    origin: Option<f64>,
    read: Moments,
    /// Of ln(1 + x); none once a value has no logarithm.
    logs: Option<Moments>,
    /// Only where something is missing.
    mode: Option<ModeCounter>,
}

impl Running {
    fn take(&mut self, values: &[f64], scratch: &mut Vec<f64>) {
        let there = values.iter().copied().filter(|value| !value.is_nan());
        let Some(first) = there.clone().next() else { return };
        let origin = *self.origin.get_or_insert(first);
        let block = Moments::of(origin, there.clone());
        self.read.merge(&block);
        if let Some(mode) = &mut self.mode {
            there.clone().for_each(|value| mode.add(value));
        }
        if block.min <= -1.0 {
            self.logs = None;
        }
        if let Some(logs) = &mut self.logs {
            scratch.clear();
            scratch.extend(there.map(f64::ln_1p));
            logs.merge(&Moments::of(origin.ln_1p(), scratch.iter().copied()));
        }
    }

    fn finish(&self, missing: u64) -> Numbers {
        let mode = self.mode.as_ref().and_then(ModeCounter::mode);
        let fill = |read: &Moments, value: Option<f64>| {
            let mut filled = *read;
            if let Some(value) = value {
                filled.merge(&Moments::constant(value, missing));
            }
            filled
        };
        let value = mode.map(|mode| mode.value);
        let filled = fill(&self.read, value);
        let skewed = filled.skewness().abs() >= SKEWED;
        let (log1p, prepared) = match &self.logs {
            _ if !skewed => (Log1p::NotNeeded, filled),
            Some(logs) => (Log1p::Applied, fill(logs, value.map(f64::ln_1p))),
            None => (Log1p::Impossible, filled),
        };
        Numbers { read: self.read, mode, filled, log1p, prepared }
    }
}

/// All that is computed while the rows pass by.
struct Figures {
    numbers: Vec<Running>,
    words: Vec<(usize, WordCounter)>,
    block: Block,
    pairs: Pairs,
    sample: Sample,
    sampled: usize,
    scratch: Vec<f64>,
}

impl Figures {
    fn new(seen: &[Seen], limits: &Limits) -> Self {
        let of =
            |text: bool| (0..seen.len()).filter(move |column| (seen[*column].kind() == Kind::Text) == text);
        let filling = of(false).filter(|column| seen[*column].missing > 0).count();
        let distinct = (limits.mode_values / filling.max(1)).max(LEAST_MODE_VALUES);
        let numbers: Vec<Running> = of(false)
            .map(|column| Running {
                column,
                origin: None,
                read: Moments::default(),
                logs: Some(Moments::default()),
                mode: (seen[column].missing > 0).then(|| ModeCounter::new(distinct)),
            })
            .collect();
        let clouds = of(true).count().min(limits.clouds);
        let budget = (limits.words_bytes / clouds.max(1)).max(LEAST_WORDS_BYTES);
        let words = of(true).take(clouds).map(|column| (column, WordCounter::new(budget))).collect();
        Self {
            words,
            block: Block::new(numbers.len(), BLOCK_ROWS),
            pairs: Pairs::new(numbers.len()),
            sample: Sample::new(limits.sample_rows),
            sampled: numbers.len().min(limits.pair_columns),
            numbers,
            scratch: Vec::with_capacity(BLOCK_ROWS),
        }
    }

    fn numeric(&self) -> Vec<usize> {
        self.numbers.iter().map(|own| own.column).collect()
    }

    fn take<R: Read + Seek>(
        &mut self,
        rows: &mut Rows<R>,
        expected: u64,
        watch: &mut Watcher<'_>,
    ) -> Result<(), AnalysisError> {
        let mut values = vec![f64::NAN; self.numbers.len()];
        let mut count = 0_u64;
        while let Some(row) = rows.next()? {
            for (value, own) in values.iter_mut().zip(&self.numbers) {
                *value = numeric_value(row.cell(own.column))?;
            }
            self.block.push(&values);
            self.sample.offer(&values[..self.sampled]);
            let mut worked = false;
            for (column, counter) in &mut self.words {
                let cell = row.cell(*column);
                if is_missing(cell) {
                    counter.add_missing();
                } else {
                    let text = std::str::from_utf8(cell).map_err(|_| AnalysisError::Changed)?;
                    worked |= counter.add(text);
                }
            }
            count += 1;
            if self.block.is_full() {
                self.take_block();
                worked = true;
            }
            if worked {
                watch.step(rows.taken_bytes())?;
            }
        }
        self.take_block();
        if count == expected { Ok(()) } else { Err(AnalysisError::Changed) }
    }

    fn take_block(&mut self) {
        for (place, own) in self.numbers.iter_mut().enumerate() {
            own.take(self.block.column(place), &mut self.scratch);
        }
        self.pairs.add(&self.block);
        self.block.clear();
    }
}

/// A cell of a numeric column; not-a-number for a missing one.
fn numeric_value(cell: &[u8]) -> Result<f64, AnalysisError> {
    if let Some(value) = number(cell) {
        return Ok(value);
    }
    match Cell::of(cell) {
        Cell::Missing => Ok(f64::NAN),
        Cell::Number(value) => Ok(value),
        Cell::Truth(value) => Ok(f64::from(u8::from(value))),
        Cell::Text => Err(AnalysisError::Changed),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
