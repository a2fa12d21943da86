//! Which charts a table gets, and what they say about how they came about.

use super::bars::{Bar, bars};
use super::cloud::cloud;
use super::drawing::Drawing;
use super::heat_map::{HeatMap, Scale, heat_map};
use super::pair_grid::{Axis, pair_grid as grid};
use super::pie::{Piece, pie};
use crate::table::{Kind, Log1p, SKEWED, Table};

/// Columns in the heat map: more have no room for their names.
const HEAT_MAP_COLUMNS: usize = 60;
/// Bars of skewness.
const BARS: usize = 40;

const NO_NUMBERS: &str = "the table has no column of numbers";

/// The correlations of the numeric columns.
pub fn correlations(table: &Table) -> Drawing {
    const TITLE: &str = "Correlation";
    let all = table.numeric.len();
    if all == 0 {
        return Drawing::saying("heat_map", TITLE, NO_NUMBERS);
    }
    let shown = all.min(HEAT_MAP_COLUMNS);
    let names: Vec<String> =
        table.numeric.iter().take(shown).map(|column| table.columns[*column].name.clone()).collect();
    let values: Vec<Vec<f64>> =
        table.correlations.iter().take(shown).map(|row| row[..shown].to_vec()).collect();
    let of = if shown < all { format!("the first {shown} of {all} numeric columns") } else { String::new() };
    let note = joined(&[&format!("Pearson, over {} rows, pairwise complete", grouped(table.rows)), &of]);
    heat_map(&HeatMap {
        name: "heat_map",
        title: TITLE,
        note: &note,
        rows: &names,
        columns: &names,
        values: &values,
        scale: Scale::Correlation,
        size_px: (860, 760),
    })
}

/// The skewed columns, the most skewed first.
pub fn skewness(table: &Table) -> Drawing {
    const TITLE: &str = "Skewness beyond 0.5";
    if table.numeric.is_empty() {
        return Drawing::saying("skewness", TITLE, NO_NUMBERS);
    }
    let mut skewed: Vec<Bar> = Vec::new();
    let mut untransformed = 0;
    for column in &table.columns {
        let Some(numbers) = &column.numbers else { continue };
        let skewness = numbers.read.skewness();
        if numbers.log1p == Log1p::Impossible {
            untransformed += 1;
        }
        if skewness.abs() > SKEWED {
            let shown = format!("{skewness:.2}");
            skewed.push(Bar { name: column.name.clone(), value: skewness, shown });
        }
    }
    if skewed.is_empty() {
        return Drawing::saying("skewness", TITLE, "no column is skewed that much");
    }
    skewed.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
    let all = skewed.len();
    skewed.truncate(BARS);
    let of = if skewed.len() < all { format!("the first {BARS} of {all}") } else { String::new() };
    let not = match untransformed {
        0 => String::new(),
        some => format!("not transformed because of values of -1 or less: {some}"),
    };
    bars("skewness", TITLE, &joined(&["of the values as read, missing ones left out", &of, &not]), &skewed)
}

/// The missing values of each column.
pub fn missing(table: &Table) -> Drawing {
    const TITLE: &str = "Missing values";
    let pieces: Vec<Piece> = table
        .columns
        .iter()
        .map(|column| Piece { name: column.name.clone(), share: column.missing })
        .collect();
    let all: u64 = pieces.iter().map(|piece| piece.share).sum();
    if all == 0 {
        return Drawing::saying("missing", TITLE, "nothing is missing");
    }
    let columns = pieces.iter().filter(|piece| piece.share > 0).count();
    let note = format!(
        "{} in {columns} of {} columns, {} rows",
        grouped(all),
        table.columns.len(),
        grouped(table.rows)
    );
    pie("missing", TITLE, &note, pieces)
}

/// The first numeric columns against each other.
pub fn pair_grid(table: &Table) -> Drawing {
    const TITLE: &str = "Pairs of columns";
    let rows = table.sample.rows();
    let shown = rows.first().map_or(0, Vec::len);
    if shown == 0 {
        return Drawing::saying("pair_grid", TITLE, NO_NUMBERS);
    }
    let axes: Vec<Axis> = table.numeric[..shown]
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let column = &table.columns[*column];
            let numbers = column.numbers.as_ref();
            let prepare = |row: &Vec<f64>| numbers.map_or(row[place], |numbers| numbers.prepare(row[place]));
            let log = numbers.is_some_and(|numbers| numbers.log1p == Log1p::Applied);
            let name = if log { format!("ln(1+{})", column.name) } else { column.name.clone() };
            Axis { name, values: rows.iter().map(prepare).collect() }
        })
        .collect();
    let sample = if (rows.len() as u64) < table.sample.seen() {
        format!("a sample of {} of {} rows", grouped(rows.len() as u64), grouped(table.sample.seen()))
    } else {
        format!("all {} rows", grouped(table.sample.seen()))
    };
    let of = match table.numeric.len() {
        all if all > shown => format!("the first {shown} of {all} numeric columns"),
        _ => String::new(),
    };
    grid(TITLE, &joined(&[&sample, &of, "missing numbers filled with the mode"]), &axes)
}

/// A cloud for each column of text.
pub fn word_clouds(table: &Table) -> Vec<Drawing> {
    let texts = table.columns.iter().filter(|column| column.kind == Kind::Text);
    let with_words = texts.filter_map(|column| Some((column, column.words.as_ref()?)));
    let drawings = with_words.enumerate().map(|(n, (column, words))| {
        let name = format!("words-{}", n + 1);
        if words.counts.is_empty() {
            return Drawing::saying(&name, &column.name, "no words");
        }
        let unread = match words.unread {
            0 => String::new(),
            cells => format!("{} cells were not looked at: there is too much text", grouped(cells)),
        };
        cloud(&name, &column.name, &joined(&["words by how often they occur", &unread]), &words.counts)
    });
    drawings.collect()
}

/// The parts that say something, in one line.
fn joined(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("; ")
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_put_together() {
        assert_eq!(joined(&["a", "", "b"]), "a; b");
        assert_eq!([grouped(0), grouped(999), grouped(1_000_000)], ["0", "999", "1,000,000"]);
    }
}
