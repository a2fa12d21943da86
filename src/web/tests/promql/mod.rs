//! Reads just enough of a PromQL expression to know its metrics and labels.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::collections::{BTreeMap, BTreeSet};

use meerkat_base::metric::{ALL, Kind, Metric};

/// Labels that Prometheus itself adds.
const ADDED: [&str; 2] = ["instance", "job"];
/// Words of the language that are not names of series or functions.
const WORDS: [&str; 10] = ["and", "or", "unless", "offset", "bool", "by", "on", "sum", "min", "max"];

/// The names in an expression.
#[derive(Debug, Default)]
pub struct Expression {
    text: String,
    /// Series and the labels their selectors name.
    series: BTreeMap<String, BTreeSet<String>>,
    /// Labels named by `by` and `on`.
    grouped: BTreeSet<String>,
}

impl Expression {
    pub fn read(text: &str) -> Self {
        let mut found = Self { text: text.to_owned(), ..Self::default() };
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first == '[' {
                rest = &rest[rest.find(']').unwrap() + 1..];
            } else if first.is_ascii_alphabetic() || first == '_' {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                rest = found.word(word, after.trim_start());
            } else if first.is_ascii_digit() {
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        found
    }

    /// Takes up a word and returns what follows it.
    fn word<'a>(&mut self, word: &str, after: &'a str) -> &'a str {
        if let Some(list) = after.strip_prefix('(') {
            if !["by", "on"].contains(&word) {
                return list;
            }
            let (labels, rest) = list.split_once(')').unwrap();
            self.grouped.extend(labels.split(',').map(|label| label.trim().to_owned()));
            return rest;
        }
        if WORDS.contains(&word) {
            return after;
        }
        let labels = self.series.entry(word.to_owned()).or_default();
        let Some(selector) = after.strip_prefix('{') else { return after };
        let (matchers, rest) = selector.split_once('}').unwrap();
        // Every second piece lies between quotes.
        for piece in matchers.split('"').step_by(2) {
            let label = piece.trim_matches([',', ' ', '=', '!', '~']);
            if !label.is_empty() {
                labels.insert(label.to_owned());
            }
        }
        rest
    }

    /// The declared metrics behind the series.
    pub fn metrics(&self) -> impl Iterator<Item = &'static str> {
        self.series.keys().filter(|name| *name != "up").map(|name| declared(name, &self.text).0.name)
    }

    /// Panics when a series or one of its labels is not declared.
    pub fn check(&self) {
        let text = &self.text;
        assert!(!self.series.is_empty(), "no series in {text}");
        let mut known: BTreeSet<&str> = ADDED.into();
        for (name, used) in self.series.iter().filter(|(name, _)| *name != "up") {
            let (metric, suffix) = declared(name, text);
            let mut own: BTreeSet<&str> = ADDED.into();
            own.extend(metric.labels);
            if suffix == "_bucket" {
                own.insert("le");
            }
            for label in used {
                assert!(own.contains(label.as_str()), "{name} has no label {label}: {text}");
            }
            known.extend(own);
        }
        for label in &self.grouped {
            assert!(known.contains(label.as_str()), "nothing has a label {label}: {text}");
        }
    }

    /// Whether a label is still there in the result.
    pub fn keeps(&self, label: &str) -> bool {
        if !self.grouped.is_empty() {
            return self.grouped.contains(label);
        }
        ADDED.contains(&label)
            || self
                .series
                .keys()
                .any(|name| name != "up" && declared(name, &self.text).0.labels.contains(&label))
    }
}

/// The metric that a series belongs to, and what is behind its name.
fn declared<'a>(series: &'a str, text: &str) -> (&'static Metric, &'a str) {
    let metric = ALL.iter().find(|metric| {
        series == metric.name && metric.kind != Kind::Histogram
            || metric.kind == Kind::Histogram
                && ["_bucket", "_count", "_sum"]
                    .iter()
                    .any(|suffix| series.strip_suffix(suffix) == Some(metric.name))
    });
    let metric = metric.unwrap_or_else(|| panic!("no metric {series}: {text}"));
    (metric, &series[metric.name.len()..])
}

/// What stands between two marks, each time they occur.
pub fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(inner, _)| inner))
}

#[test]
fn names_are_found_and_checked() {
    let good = Expression::read(
        r#"histogram_quantile(0.9, sum by (le, stage) (rate(meerkat_stage_duration_seconds_bucket{stage=~"a|b"}[5m]))) > 2e9"#,
    );
    good.check();
    assert_eq!(good.metrics().collect::<Vec<_>>(), ["meerkat_stage_duration_seconds"]);
    assert!(good.keeps("stage") && !good.keeps("camera"));
    for bad in [
        "meerkat_no_such_total",
        "meerkat_stage_duration_seconds",
        r#"meerkat_frames_total{colour="red"}"#,
        "sum by (kind) (meerkat_frames_total)",
        "sum by (le) (meerkat_stage_duration_seconds_sum)",
        "some_other_series",
        "1 + 1",
    ] {
        let checked = std::panic::catch_unwind(|| Expression::read(bad).check());
        assert!(checked.is_err(), "{bad}");
    }
}
