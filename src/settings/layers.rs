//! Lays the built-in defaults, the files and the environment over one another. Knows no key by name and checks no value.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use config::{Config, Environment, FileFormat, Format, Map, Source, Value};

use super::problem::Problem;

/// The defaults, with every key explained.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Name of the layer of environment variables, as `config` writes it into values.
pub(super) const ENVIRONMENT: &str = "the environment";

const PREFIX: &str = "MEERKAT__";

/// A configuration file has at most this many bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The two trees a reader works with.
pub(super) struct Layers {
    /// Everything laid over one another.
    pub merged: Value,
    /// The built-in defaults alone.
    pub defaults: Value,
}

/// A parsed text as a layer.
#[derive(Debug, Clone)]
struct Parsed(Map<String, Value>);

impl Source for Parsed {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The built-in defaults alone.
pub(super) fn defaults() -> Value {
    let table = FileFormat::Toml
        .parse(None, DEFAULT_TOML)
        .expect("the built-in config/default.toml is valid TOML: a test reads it");
    Value::new(None, table)
}

/// Merges defaults < files in order < environment. What cannot be used is a problem and left out.
pub(super) fn merge(
    files: &[PathBuf],
    env: impl Iterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) -> Layers {
    let defaults = defaults();
    let mut builder = Config::builder();
    if let Ok(table) = defaults.clone().into_table() {
        builder = builder.add_source(Parsed(table));
    }
    for path in files {
        match read_file(path) {
            Ok(table) => builder = builder.add_source(Parsed(plain_keys_only(table, path, problems))),
            Err(complaint) => problems.push(Problem {
                key: path.display().to_string(),
                value: None,
                origin: None,
                complaint,
            }),
        }
    }
    let variables: Map<String, String> = usable_variables(env, problems).into_iter().collect();
    // `config` lower-cases the names; ids are lower case for that reason.
    builder = builder.add_source(Environment::with_prefix("MEERKAT").separator("__").source(Some(variables)));
    let merged = builder.build().map(|built| built.cache).unwrap_or_else(|error| {
        problems.push(Problem {
            key: "settings".into(),
            value: None,
            origin: None,
            complaint: error.to_string(),
        });
        defaults.clone()
    });
    Layers { merged, defaults }
}

fn read_file(path: &Path) -> Result<Map<String, Value>, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    FileFormat::Toml.parse(Some(&path.display().to_string()), &text).map_err(|error| {
        // The full message quotes the line, and the line may hold a secret: keep position and reason.
        let message = error.to_string();
        let kept: Vec<&str> = message
            .lines()
            .filter(|line| {
                !line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|')
            })
            .collect();
        kept.join(": ")
    })
}

/// Leaves out top-level keys that are no plain words: `config` would read them as paths with subscripts.
fn plain_keys_only(
    table: Map<String, Value>,
    path: &Path,
    problems: &mut Vec<Problem>,
) -> Map<String, Value> {
    let (plain, strange): (Map<_, _>, Map<_, _>) =
        table.into_iter().partition(|(key, _)| is_plain(key) && !key.is_empty());
    for key in strange.keys() {
        problems.push(Problem {
            key: key.escape_default().to_string(),
            value: None,
            origin: Some(path.display().to_string()),
            complaint: "no such key".into(),
        });
    }
    plain
}

fn is_plain(key: &str) -> bool {
    key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Picks `MEERKAT__…` out of the environment. `MEERKAT_LOG`, `MEERKAT_MODELS_DIR` and others with one
/// underscore are not settings and pass by.
fn usable_variables(
    env: impl Iterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let all: BTreeMap<String, String> =
        env.filter(|(name, _)| name.to_ascii_uppercase().starts_with(PREFIX)).collect();
    let mut usable = BTreeMap::new();
    for (name, value) in &all {
        let key = name.get(PREFIX.len()..).unwrap_or_default();
        let well_formed = is_plain(name) && key.split("__").all(|part| !part.is_empty());
        let longer = format!("{name}__");
        let complaint = if !well_formed {
            "is not of the form MEERKAT__SECTION__KEY".to_owned()
        } else if let Some((other, _)) =
            all.range(longer.clone()..).next().filter(|(n, _)| n.starts_with(&longer))
        {
            format!("contradicts {other}: set keys, not their section")
        } else {
            usable.insert(name.clone(), value.clone());
            continue;
        };
        problems.push(Problem {
            key: name.escape_default().to_string(),
            value: None,
            origin: None,
            complaint,
        });
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_env(names: &[&str], usable: &[&str], problems: usize) {
        let env = names.iter().map(|name| ((*name).to_owned(), "1".to_owned()));
        let mut found = Vec::new();
        let kept: Vec<String> = usable_variables(env, &mut found).into_keys().collect();
        assert_eq!(kept, usable, "{names:?}");
        assert_eq!(found.len(), problems, "{found:?}");
    }

    #[test]
    fn only_settings_variables_are_taken() {
        check_env(&["MEERKAT_LOG", "MEERKAT_MODELS_DIR", "PATH", "XMEERKAT__A"], &[], 0);
        check_env(&["MEERKAT__RING__SECONDS"], &["MEERKAT__RING__SECONDS"], 0);
        check_env(&["MEERKAT__", "MEERKAT__A____B", "MEERKAT__A[99999999999999]", "MEERKAT__A.B"], &[], 4);
        check_env(&["MEERKAT__FRAME", "MEERKAT__FRAME__LISTEN"], &["MEERKAT__FRAME__LISTEN"], 1);
        check_env(&["MEERKAT__A__B", "MEERKAT__A__BC"], &["MEERKAT__A__B", "MEERKAT__A__BC"], 0);
    }

    #[test]
    fn a_syntax_error_does_not_show_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "[http]\ntoken = \"hunter2\nlisten = 3\n").unwrap();
        let complaint = read_file(&path).unwrap_err();
        assert!(complaint.contains("line 2"), "{complaint}");
        assert!(!complaint.contains("hunter2"), "{complaint}");
    }

    #[test]
    fn strange_keys_do_not_become_paths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "\"ring[999999999999]\" = 1\n\"\" = 2\n").unwrap();
        let mut problems = Vec::new();
        let layers = merge(&[path], std::iter::empty(), &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(layers.merged, layers.defaults);
    }

    #[test]
    fn a_missing_or_huge_file_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let huge = dir.path().join("huge.toml");
        std::fs::write(&huge, vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
        let mut problems = Vec::new();
        merge(&[dir.path().join("none.toml"), huge], std::iter::empty(), &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
