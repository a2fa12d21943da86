//! What is wrong with the settings, all of it at once. Says key, value, where it was set and what is allowed.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `frame.listen`; for a file that cannot be read, its path.
    pub key: String,
    /// The value that was given, escaped and cut; `None` where it is a secret or plays no part.
    pub value: Option<String>,
    /// Where it was set: a file, or the name of an environment variable. `None` for the built-in defaults.
    pub origin: Option<String>,
    /// What is wrong, or what is allowed.
    pub complaint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(origin) = &self.origin {
            write!(f, " (set by {origin})")?;
        }
        write!(f, ": {}", self.complaint)
    }
}

/// Everything that is wrong with the settings; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsErrors(Vec<Problem>);

impl SettingsErrors {
    /// Wraps the problems, or nothing when there are none.
    pub fn from_problems(problems: Vec<Problem>) -> Option<Self> {
        if problems.is_empty() { None } else { Some(Self(problems)) }
    }

    /// Every problem, in the order in which the keys are read.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the settings have one error:")?,
            n => write!(f, "the settings have {n} errors:")?,
        }
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}

/// The candidate most like `wrong`, if one is near enough to be what was meant. Letter case does not count.
pub(super) fn nearest<'c>(wrong: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let wrong = wrong.to_ascii_lowercase();
    // A third of the letters may be wrong, at least one and at most three.
    let tolerated = (wrong.len() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(&wrong, candidate), candidate))
        .filter(|&(distance, _)| distance <= tolerated)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that make one text the other (optimal string alignment);
/// long texts count as far away.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let a: Vec<char> = a.chars().take(LONGEST + 1).collect();
    let b: Vec<char> = b.chars().take(LONGEST + 1).collect();
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        let names = ["listen", "allow", "max_scans", "seconds"];
        let check =
            |wrong: &str, expected| assert_eq!(nearest(wrong, names.into_iter()), expected, "{wrong}");
        check("lisen", Some("listen"));
        check("Listen", Some("listen"));
        check("max_scan", Some("max_scans"));
        check("lisetn", Some("listen"));
        check("alolw", Some("allow"));
        check("zzzzzz", None);
        check("", None);
        check(&"x".repeat(10_000), None);
    }

    #[test]
    fn a_problem_is_one_line() {
        let problem = Problem {
            key: "frame.max_scans".into(),
            value: Some("0".into()),
            origin: Some("node.toml".into()),
            complaint: "must be a whole number from 1 to 10000".into(),
        };
        let shown = "frame.max_scans = 0 (set by node.toml): must be a whole number from 1 to 10000";
        assert_eq!(problem.to_string(), shown);
        let errors = SettingsErrors::from_problems(vec![problem.clone(), problem]).unwrap();
        assert_eq!(errors.to_string().lines().count(), 3);
    }
}
