//! Tests of the table: equal to pandas' figures, types as pandas infers them, bounds, cuts, and a naive reckoning beside it.

use std::io::{Cursor, Write};

use encoding_rs::GB18030;
use meerkat_base::Clock;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{Analysis, Progress};

const MIXED: &[u8] = include_bytes!("fixtures/mixed.csv");
/// Written by scripts/analysis_fixture.py with pandas.
const PANDAS: &str = include_str!("fixtures/mixed.json");

fn analysed(bytes: &[u8], limits: &Limits) -> Result<Analysis, AnalysisError> {
    Analysis::of_csv(Cursor::new(bytes), limits)
}

fn summary(bytes: &[u8]) -> Value {
    serde_json::to_value(analysed(bytes, &Limits::default()).unwrap().summary()).unwrap()
}

fn near(own: &Value, theirs: &Value) -> bool {
    match (own.as_f64(), theirs.as_f64()) {
        (Some(own), Some(theirs)) => (own - theirs).abs() <= 1e-9 * theirs.abs().max(1.0),
        _ => own == theirs,
    }
}

#[test]
fn figures_are_equal_to_those_of_pandas() {
    let pandas: Value = serde_json::from_str(PANDAS).unwrap();
    let (gbk, _, wrong) = GB18030.encode(std::str::from_utf8(MIXED).unwrap());
    assert!(!wrong);
    for bytes in [MIXED, &gbk] {
        let own = summary(bytes);
        assert_eq!(own["rows"], pandas["rows"]);
        let (columns, expected) = (own["columns"].as_array().unwrap(), pandas["columns"].as_array().unwrap());
        assert_eq!(columns.len(), expected.len());
        for (own, theirs) in columns.iter().zip(expected) {
            assert_eq!((&own["name"], &own["missing"]), (&theirs["name"], &theirs["missing"]));
            assert_eq!(own["numbers"].is_object(), theirs["numeric"], "{theirs}");
            for key in ["mean", "std", "min", "max", "skewness", "filled_skewness"] {
                assert!(near(&own["numbers"][key], &theirs[key]), "{key}\n{own}\n{theirs}");
            }
        }
        let (own, theirs) = (&own["correlation"]["values"], &pandas["correlation"]);
        for a in 0..theirs.as_array().unwrap().len() {
            for b in 0..theirs.as_array().unwrap().len() {
                assert!(near(&own[a][b], &theirs[a][b]), "{a} {b}: {} {}", own[a][b], theirs[a][b]);
            }
        }
    }
}

fn kinds(text: &str) -> Vec<&'static str> {
    let analysis = analysed(text.as_bytes(), &Limits::default()).unwrap();
    analysis.summary().columns.iter().map(|column| column.kind).collect()
}

#[test]
fn types_are_those_of_pandas() {
    assert_eq!(kinds("a,b,c,d\n1,x,True,\n2.5,1,FALSE,\n,2,true,\n"), ["number", "text", "truth", "number"]);
    assert_eq!(kinds("a,b,c\nTrue,True,99999999999999999999\n,1,1\n"), ["text", "text", "text"]);
    assert_eq!(kinds("a\n2026-11-20\n"), ["text"]);
    assert_eq!(kinds("a\ninf\n1e5\n"), ["number"]);
}

#[test]
fn missing_numbers_become_the_mode_and_skewed_columns_their_logarithm() {
    // 9 stands twice, as often as 1: the smaller one fills.
    let own = summary(b"a,b,t\n1,-1,x\n1,5,\n9,7,y\n9,8,x\n,9,x\n100,-2,x\n");
    let a = &own["columns"][0]["numbers"];
    assert_eq!(
        (&a["filled_with"], &a["filled_exactly"], &a["log1p"]),
        (&1.0.into(), &true.into(), &"applied".into())
    );
    let logs: Vec<f64> = [1.0, 1.0, 9.0, 9.0, 1.0, 100.0_f64].iter().map(|value| value.ln_1p()).collect();
    let expected = Moments::of(logs[0], logs.iter().copied()).skewness();
    assert!((a["prepared_skewness"].as_f64().unwrap() - expected).abs() < 1e-12);
    let b = &own["columns"][1]["numbers"];
    assert_eq!(
        b["log1p"],
        if b["filled_skewness"].as_f64().unwrap().abs() >= 0.5 { "impossible" } else { "not_needed" }
    );
    assert_eq!(
        own["columns"][2]["words"]["most_frequent"],
        serde_json::json!([["x", 4], ["None", 1], ["y", 1]])
    );
}

#[test]
fn a_column_with_values_of_minus_one_or_less_stays_as_it_is() {
    let own = summary(b"a\n-1\n0\n0\n0\n50\n");
    let a = &own["columns"][0]["numbers"];
    assert_eq!(a["log1p"], "impossible");
    assert_eq!(a["prepared_skewness"], a["filled_skewness"]);
}

#[test]
fn files_that_hold_nothing_are_refused() {
    assert!(matches!(analysed(b"", &Limits::default()), Err(AnalysisError::NoHeader)));
    assert!(matches!(analysed(b"a,b\n", &Limits::default()), Err(AnalysisError::NoRows)));
    let unread = Analysis::of_file("/nowhere/x.csv".as_ref(), &Limits::default());
    assert!(matches!(unread, Err(AnalysisError::Read(_))));
}

#[test]
fn every_table_gets_every_chart() {
    for text in [
        "a\nx\n",
        "a\n1\n",
        "a,b\n,\n",
        "a,b\n1,2\n1,2\n",
        "a,b\ninf,-inf\n1,2\n3,1\n",
        "\u{202e}<b>,\"\n\"\n1,!\n2,?\n",
    ] {
        let analysis = analysed(text.as_bytes(), &Limits::default()).unwrap();
        let mut drawings =
            vec![analysis.heat_map(), analysis.skewness(), analysis.missing(), analysis.pair_grid()];
        drawings.extend(analysis.word_clouds());
        for drawing in drawings {
            let svg = drawing.svg().unwrap();
            assert!(svg.ends_with("</svg>\n") && !svg.contains("<b>"), "{text:?} {}", drawing.name());
        }
    }
}

#[test]
fn charts_say_what_they_leave_out() {
    let names: Vec<String> = (0..70).map(|n| format!("c{n}")).collect();
    let row = |n: usize| (0..70).map(|c| (n * (c + 3) % 17).to_string()).collect::<Vec<_>>().join(",");
    let rows: Vec<String> = (0..40).map(row).collect();
    let text = format!("{}\n{}\n", names.join(","), rows.join("\n"));
    let limits = Limits { sample_rows: 10, ..Limits::default() };
    let analysis = analysed(text.as_bytes(), &limits).unwrap();
    assert!(analysis.heat_map().svg().unwrap().contains("the first 60 of 70 numeric columns"));
    let pairs = analysis.pair_grid().svg().unwrap();
    assert!(pairs.contains("a sample of 10 of 40 rows") && pairs.contains("the first 12 of 70"));
    let text: String =
        std::iter::once("t\n".to_owned()).chain((0..30_000).map(|n| format!("word{n}\n"))).collect();
    let limits = Limits { words_bytes: 1, ..Limits::default() };
    let clouds = analysed(text.as_bytes(), &limits).unwrap().word_clouds();
    assert!(clouds[0].svg().unwrap().contains("cells were not looked at"));
}

#[test]
fn jpegs_for_clients_fit_into_one_read() {
    let analysis = analysed(MIXED, &Limits::default()).unwrap();
    let mut drawings =
        vec![analysis.heat_map(), analysis.skewness(), analysis.missing(), analysis.pair_grid()];
    drawings.extend(analysis.word_clouds());
    assert_eq!(drawings.len(), 6);
    for drawing in drawings {
        match drawing.jpeg() {
            Ok(jpeg) => assert!(jpeg.len() <= crate::CLIENT_JPEG_BYTES && jpeg.starts_with(b"\xff\xd8")),
            Err(error) => assert!(matches!(error, crate::DrawError::NoFont), "{error}"),
        }
    }
}

#[test]
fn an_analysis_can_be_watched_stopped_and_is_given_up_when_it_takes_too_long() {
    let text: String = std::iter::once("a\n".to_owned()).chain((0..9000).map(|n| format!("{n}\n"))).collect();
    let mut seen: Vec<Progress> = Vec::new();
    let watched = Analysis::watched(Cursor::new(&text), &Limits::default(), &mut |progress| {
        seen.push(progress);
        true
    });
    assert_eq!(watched.unwrap().summary().rows, 9000);
    assert!(seen.len() > 10 && seen.is_sorted_by_key(|progress| progress.done_bytes));
    let last = seen.last().unwrap();
    assert_eq!((last.done_bytes, last.of_bytes), (last.of_bytes, 3 * text.len() as u64));
    let stopped = Analysis::watched(Cursor::new(&text), &Limits::default(), &mut |_| false);
    assert!(matches!(stopped, Err(AnalysisError::Stopped)));

    struct Leaps(std::sync::atomic::AtomicU64);
    impl Clock for Leaps {
        fn wall(&self) -> meerkat_base::WallTime {
            meerkat_base::WallTime(0)
        }
        fn mono(&self) -> meerkat_base::MonoTime {
            meerkat_base::MonoTime(self.0.fetch_add(1_000_000_000, std::sync::atomic::Ordering::Relaxed))
        }
    }
    let limits = Limits { time: std::time::Duration::from_secs(3), ..Limits::default() };
    let (clock, mut always) = (Leaps(0.into()), |_| true);
    let slow = read(Cursor::new(&text), &mut Watcher::new(&limits, &clock, &mut always));
    assert!(matches!(slow, Err(AnalysisError::TooSlow { .. })));
}

/// A file that grows when its end was met so many times.
struct Changing {
    inner: Cursor<Vec<u8>>,
    before: u32,
}

impl Read for Changing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        if got == 0 {
            self.before = self.before.saturating_sub(1);
            if self.before == 0 && self.inner.get_ref().len() < 10 {
                self.inner.get_mut().write_all(b"a\n1\nxyz\n").unwrap();
            }
        }
        Ok(got)
    }
}

impl Seek for Changing {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn a_file_that_changes_between_readings_is_analysed_as_one_of_both_or_refused() {
    let mut refused = 0;
    for at_end in 1..=8 {
        let changing = Changing { inner: Cursor::new(b"a\n1\n2\n".to_vec()), before: at_end };
        match Analysis::of_csv(changing, &Limits::default()) {
            Ok(analysis) => assert!([2, 5].contains(&analysis.summary().rows)),
            Err(AnalysisError::Changed) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..8).contains(&refused), "{refused}");
}

#[test]
fn a_file_cut_at_any_byte_is_analysed_or_refused() {
    let whole = &MIXED[..1500];
    let (gbk, _, _) = GB18030.encode(std::str::from_utf8(MIXED).unwrap());
    for bytes in [whole, &gbk[..1500]] {
        for cut in 0..bytes.len() {
            if let Ok(analysis) = analysed(&bytes[..cut], &Limits::default()) {
                assert!(analysis.summary().rows <= 20, "cut at {cut}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn figures_are_those_of_a_naive_reckoning(
        rows in prop::collection::vec(prop::array::uniform2(prop::option::weighted(0.9, -1000..1000_i32)), 3..3000),
    ) {
        let cell = |value: &Option<i32>| value.map_or("NaN".to_owned(), |value| format!("{:.1}", f64::from(value) / 10.0));
        let lines: Vec<String> = rows.iter().map(|[x, y]| format!("{},{}", cell(x), cell(y))).collect();
        let own = summary(format!("x,y\n{}\n", lines.join("\n")).as_bytes());
        for column in 0..2 {
            let values: Vec<f64> = rows.iter().filter_map(|row| row[column]).map(|value| f64::from(value) / 10.0).collect();
            prop_assert_eq!(own["columns"][column]["missing"].as_u64().unwrap(), (rows.len() - values.len()) as u64);
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let sum = |power: i32| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>();
            let skewness = n * (n - 1.0).sqrt() / (n - 2.0) * sum(3) / sum(2).powf(1.5);
            let own = own["columns"][column]["numbers"]["skewness"].as_f64();
            if let (Some(own), true) = (own, skewness.is_finite()) {
                prop_assert!((own - skewness).abs() < 1e-9, "{} {}", own, skewness);
            }
        }
    }

    #[test]
    fn wild_bytes_are_analysed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(analysis) = analysed(&bytes, &Limits::default()) {
            prop_assert!(serde_json::to_string(&analysis.summary()).is_ok());
            prop_assert!(analysis.missing().svg().is_ok());
        }
    }
}
