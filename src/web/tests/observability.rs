//! What is written about metrics agrees with what the node declares: the docs, the dashboard, the alert rules.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]
//! The tools of Prometheus and systemd look at the files too where they are installed.

mod promql;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use meerkat_base::metric::{ALL, Kind};
use promql::Expression;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a tool; nothing when it is not installed.
fn run(program: &str, args: &[&Path]) -> Option<Result<(), String>> {
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {program} is not installed");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some(if output.status.success() { Ok(()) } else { Err(said) })
}

#[test]
fn the_docs_list_exactly_what_is_declared() {
    let declared: Vec<String> = ALL
        .iter()
        .map(|metric| {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(" "), metric.help)
        })
        .collect();
    let docs = read("docs/metrics.md");
    let listed: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `meerkat_")).collect();
    assert_eq!(listed, declared);
    // The questions below the table: the second cell of each row.
    for line in docs.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| `")) {
        let Some((_, cell)) = line.split_once(" | `") else { continue };
        Expression::read(cell.trim_end_matches("` |")).check();
    }
}

/// Every panel with its queries.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read("config/grafana/meerkat.json")).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

fn queries(panels: &[Value]) -> Vec<(String, String)> {
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    targets.map(|target| (text(&target["expr"]), text(&target["legendFormat"]))).collect()
}

#[test]
fn the_dashboard_asks_for_what_exists() {
    let mut used = BTreeSet::new();
    for (query, legend) in queries(&panels()) {
        let expression = Expression::read(&query);
        expression.check();
        for label in promql::between(&legend, "{{", "}}") {
            assert!(expression.keeps(label.trim()), "{legend} of {query}");
        }
        used.extend(expression.metrics().map(str::to_owned));
    }
    let missing: Vec<_> = ALL.iter().map(|metric| metric.name).filter(|name| !used.contains(*name)).collect();
    assert!(missing.is_empty(), "on no panel: {missing:?}");
}

#[test]
fn the_dashboard_is_well_laid_out() {
    let panels = panels();
    let number = |value: &Value| value.as_u64().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| number(&panel["id"])).collect();
    assert_eq!(ids.len(), panels.len(), "two panels share an id");
    let mut taken = BTreeSet::new();
    for panel in &panels {
        let place = &panel["gridPos"];
        let (x, y) = (number(&place["x"]), number(&place["y"]));
        assert!(x + number(&place["w"]) <= 24);
        for cell in
            (x..x + number(&place["w"])).flat_map(|x| (y..y + number(&place["h"])).map(move |y| (x, y)))
        {
            assert!(taken.insert(cell), "{} lies on another panel", panel["title"]);
        }
        assert!(!panel["title"].as_str().unwrap().is_empty());
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(!queries(std::slice::from_ref(panel)).is_empty(), "{} asks nothing", panel["title"]);
        }
    }
    let dashboard: Value = serde_json::from_str(&read("config/grafana/meerkat.json")).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "camera"]);
}

#[test]
fn the_alerts_ask_for_what_exists() {
    let text = read("config/prometheus/alerts.yml");
    let mut count = 0;
    for rule in text.split("- alert:").skip(1) {
        let expression = Expression::read(&expr_of(rule));
        expression.check();
        for use_of in promql::between(rule, "$labels.", "}}") {
            assert!(expression.keeps(use_of.trim()), "{rule}");
        }
        assert!(
            rule.contains("severity:") && rule.contains("summary:") && rule.contains("description:"),
            "{rule}"
        );
        count += 1;
    }
    assert!(count >= 10);
}

/// The expression of a rule: on the line of `expr:`, or the deeper lines after `expr: |`.
fn expr_of(rule: &str) -> String {
    let mut lines = rule.lines().skip_while(|line| !line.trim().starts_with("expr:"));
    let first = lines.next().unwrap();
    let rest = first.trim().trim_start_matches("expr:").trim();
    if rest != "|" {
        return rest.to_owned();
    }
    let depth = |line: &str| line.len() - line.trim_start().len();
    lines.take_while(|line| depth(line) > depth(first)).collect::<Vec<_>>().join(" ")
}

#[test]
fn promtool_accepts_config_rules_and_their_tests() {
    let promtool = |words: &[&str], file: &Path| {
        let mut args: Vec<&Path> = words.iter().map(Path::new).collect();
        args.push(file);
        run("promtool", &args)
    };
    for (words, file) in [
        (["check", "config"], "config/prometheus/prometheus.yml"),
        (["check", "rules"], "config/prometheus/alerts.yml"),
        (["test", "rules"], "src/web/tests/alerts_test.yml"),
    ] {
        match promtool(&words, &root().join(file)) {
            Some(result) => assert_eq!(result, Ok(()), "{file}"),
            None => return,
        }
    }
    // The queries of the dashboard as rules, so that the tool reads them.
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (i, (query, _)) in queries(&panels()).into_iter().enumerate() {
        let query = query.replace("$__rate_interval", "1m").replace("$camera", ".*");
        write!(rules, "  - record: panel:query:{i}\n    expr: {}\n", Value::from(query)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.yml");
    fs::write(&file, rules).unwrap();
    assert_eq!(promtool(&["check", "rules"], &file), Some(Ok(())));
}

#[test]
fn systemd_accepts_the_unit() {
    // The program is not installed here; another that certainly is stands in for it.
    let unit = read("config/systemd/meerkat.service").replace("/usr/local/bin/meerkat", "/bin/true");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meerkat.service");
    fs::write(&file, &unit).unwrap();
    if let Some(result) = run("systemd-analyze", &[Path::new("verify"), &file]) {
        assert_eq!(result, Ok(()));
    }
    for line in
        ["Type=notify", "WatchdogSec=10s", "Restart=always", "NoNewPrivileges=yes", "ProtectSystem=strict"]
    {
        assert!(unit.lines().any(|own| own == line), "{line}");
    }
}
