//! What an analysis found, in the form of `summary.json`. Figures that are not defined are null.

use serde::Serialize;

use crate::stats::sample::SEED;
use crate::table::{Column, Kind, Log1p, Table};

/// Words of a column that the summary lists.
const LISTED_WORDS: usize = 20;

/// A table in figures.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Its encoding: `UTF-8`, `UTF-16LE`, `UTF-16BE` or `GBK`.
    pub encoding: &'static str,
    /// What stands between cells.
    pub delimiter: char,
    /// Rows below the header.
    pub rows: u64,
    /// The columns, in the order of the file.
    pub columns: Vec<ColumnSummary>,
    /// Correlations of the numeric columns, of the values as read.
    pub correlation: Correlation,
    /// The rows that the pair grid shows.
    pub sample: SampleSummary,
}

/// A column in figures.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// `number`, `truth` or `text`.
    pub kind: &'static str,
    /// Cells that are missing.
    pub missing: u64,
    /// Figures of a numeric column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<NumbersSummary>,
    /// The most frequent words of a column of text, with their counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<WordsSummary>,
}

/// The figures of a numeric column.
#[derive(Debug, Clone, Serialize)]
pub struct NumbersSummary {
    /// Of the values as read, missing ones left out: pandas' `mean`, `std`, `min`, `max` and `skew`.
    pub mean: f64,
    /// Standard deviation of the sample.
    pub std: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Adjusted Fisher-Pearson coefficient.
    pub skewness: f64,
    /// What stands for missing numbers.
    pub filled_with: Option<f64>,
    /// Whether every distinct number was counted for that.
    pub filled_exactly: Option<bool>,
    /// Skewness with missing numbers filled.
    pub filled_skewness: f64,
    /// `applied`, `not_needed`, or `impossible` because of values of -1 or less.
    pub log1p: &'static str,
    /// Skewness of what the pair grid shows: filled, and transformed where that applies.
    pub prepared_skewness: f64,
}

/// The words of a column of text.
#[derive(Debug, Clone, Serialize)]
pub struct WordsSummary {
    /// Words and counts, most frequent first.
    pub most_frequent: Vec<(String, u64)>,
    /// Cells that were not looked at, because there was more text than is cut into words.
    pub unread_cells: u64,
    /// Whether rare words were left out of the count.
    pub rare_left_out: bool,
}

/// A matrix with the names of its columns.
#[derive(Debug, Clone, Serialize)]
pub struct Correlation {
    /// Names of rows and columns.
    pub columns: Vec<String>,
    /// Row after row.
    pub values: Vec<Vec<f64>>,
}

/// How the sample came about.
#[derive(Debug, Clone, Serialize)]
pub struct SampleSummary {
    /// Rows in it.
    pub rows: usize,
    /// Where its random numbers began.
    pub seed: u64,
}

impl Summary {
    pub(crate) fn of(table: &Table) -> Self {
        let numeric = table.numeric.iter().map(|column| table.columns[*column].name.clone());
        Self {
            bytes: table.looked.bytes,
            encoding: table.looked.name(),
            delimiter: table.delimiter,
            rows: table.rows,
            columns: table.columns.iter().map(ColumnSummary::of).collect(),
            correlation: Correlation { columns: numeric.collect(), values: table.correlations.clone() },
            sample: SampleSummary { rows: table.sample.rows().len(), seed: SEED },
        }
    }
}

impl ColumnSummary {
    fn of(column: &Column) -> Self {
        let numbers = column.numbers.map(|numbers| {
            let some = numbers.read.count > 0;
            let or_nan = |value: f64| if some { value } else { f64::NAN };
            NumbersSummary {
                mean: or_nan(numbers.read.mean()),
                std: numbers.read.deviation(),
                min: or_nan(numbers.read.min),
                max: or_nan(numbers.read.max),
                skewness: numbers.read.skewness(),
                filled_with: numbers.mode.map(|mode| mode.value),
                filled_exactly: numbers.mode.map(|mode| mode.exact),
                filled_skewness: numbers.filled.skewness(),
                log1p: match numbers.log1p {
                    Log1p::Applied => "applied",
                    Log1p::NotNeeded => "not_needed",
                    Log1p::Impossible => "impossible",
                },
                prepared_skewness: numbers.prepared.skewness(),
            }
        });
        let words = column.words.as_ref().map(|words| WordsSummary {
            most_frequent: words.counts.iter().take(LISTED_WORDS).cloned().collect(),
            unread_cells: words.unread,
            rare_left_out: words.forgot,
        });
        let kind = match column.kind {
            Kind::Number => "number",
            Kind::Truth => "truth",
            Kind::Text => "text",
        };
        Self { name: column.name.clone(), kind, missing: column.missing, numbers, words }
    }
}
