//! Feeds wild bytes to the reader of tables: it ends in an analysis whose charts can be drawn, or in an error.
#![no_main]

use std::io::Cursor;

use meerkat_analysis::{Analysis, Limits};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let limits = Limits { columns: 16, cell_bytes: 256, row_bytes: 1024, mode_values: 64, sample_rows: 20, ..Limits::default() };
    let Ok(analysis) = Analysis::of_csv(Cursor::new(input), &limits) else { return };
    let summary = analysis.summary();
    assert!(summary.rows >= 1 && summary.columns.len() <= 16);
    assert!(summary.columns.iter().all(|column| column.missing <= summary.rows));
    for own in summary.correlation.values.iter().flatten() {
        assert!(own.is_nan() || (-1.0..=1.0).contains(own));
    }
    for drawing in [analysis.heat_map(), analysis.skewness(), analysis.missing(), analysis.pair_grid()] {
        assert!(drawing.svg().is_ok());
    }
    for drawing in analysis.word_clouds() {
        assert!(drawing.svg().is_ok());
    }
});
