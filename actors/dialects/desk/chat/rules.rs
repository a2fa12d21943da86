//! The rules of the chat: regular expressions, searched in their order, with what they answer. Read from a TOML file.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// The rules that are built in.
const BUILT_IN: &str = include_str!("../../../../config/desk-chat.toml");
/// Longest file of rules, bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 10;
/// Most rules.
const MAX_RULES: usize = 256;
/// Longest pattern and longest answer, bytes.
const MAX_PATTERN_BYTES: usize = 1024;
const MAX_ANSWER_BYTES: usize = 1024;
/// Most memory of one compiled pattern, and of what it keeps while it searches, bytes.
const MAX_COMPILED_BYTES: usize = 256 << 10;
/// Deepest nesting of a pattern.
const MAX_NESTING: u32 = 32;

/// The language of a built-in answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Language {
    /// Chinese.
    #[default]
    #[serde(rename = "zh")]
    Chinese,
    /// English.
    #[serde(rename = "en")]
    English,
}

/// An answer that is made when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuiltIn {
    /// The time, as `ctime` writes it.
    Time,
    /// How the node is.
    Status,
    /// The cameras.
    Cameras,
    /// What happened today.
    EventsToday,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// These words.
    Words(String),
    /// What is true at the moment.
    Made(BuiltIn, Language),
}

/// A file of rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It is no such TOML.
    #[error("{0}")]
    Toml(String),
    /// There are too many.
    #[error("{count} rules, and at most {MAX_RULES} are allowed")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Some of them are wrong; all that are.
    #[error("{}", in_one_line(.0))]
    Rules(Vec<WrongRule>),
}

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: rule {number}: {reason}")]
pub struct WrongRule {
    /// Which, from 1.
    pub number: usize,
    /// The line where that shows, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

fn in_one_line(wrong: &[WrongRule]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    pattern: Spanned<String>,
    answer: Option<String>,
    builtin: Option<BuiltIn>,
    language: Option<Language>,
}

/// All rules, in their order.
#[derive(Debug, Clone)]
pub struct Rules(Vec<(Regex, Reply)>);

impl Rules {
    /// The rules that are built in.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN).expect("the built-in rules are right: a test reads them")
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is no TOML of this form, or rules of it cannot be used.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let sections = sections(text)?;
        if sections.len() > MAX_RULES {
            return Err(RulesError::TooMany { count: sections.len() });
        }
        let (mut rules, mut wrong) = (Vec::new(), Vec::new());
        for (at, section) in sections.into_iter().enumerate() {
            match read_rule(text, section) {
                Ok(rule) => rules.push(rule),
                Err((line, reason)) => wrong.push(WrongRule { number: at + 1, line, reason }),
            }
        }
        if wrong.is_empty() { Ok(Self(rules)) } else { Err(RulesError::Rules(wrong)) }
    }

    /// What the first rule that matches says.
    pub fn reply(&self, text: &str) -> Option<&Reply> {
        self.0.iter().find(|(pattern, _)| pattern.is_match(text)).map(|(_, reply)| reply)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, so that every text comes back.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The sections of a file, each a rule that is not looked at yet: what is wrong with one hides no other.
fn sections(text: &str) -> Result<Vec<Spanned<DeValue<'_>>>, RulesError> {
    let wrong =
        |byte: usize, reason: &str| Err(RulesError::Toml(format!("line {}: {reason}", line_at(text, byte))));
    let file = match DeTable::parse(text) {
        Ok(file) => file.into_inner(),
        Err(error) => return wrong(error.span().map_or(0, |span| span.start), error.message()),
    };
    let mut sections = Vec::new();
    for (key, value) in file {
        let place = key.span().start;
        let name: &str = key.get_ref();
        if name != "rule" {
            return wrong(place, &format!("unknown section `{name}`, expected `[[rule]]`"));
        }
        let DeValue::Array(rules) = value.into_inner() else {
            return wrong(place, "a rule begins with `[[rule]]`");
        };
        sections.extend(rules);
    }
    Ok(sections)
}

/// Reads one section; what is wrong with it, and in which line.
fn read_rule(text: &str, section: Spanned<DeValue<'_>>) -> Result<(Regex, Reply), (usize, String)> {
    let begin = section.span().start;
    let raw = RawRule::deserialize(ValueDeserializer::from(section)).map_err(|error| {
        let place = error.span().map_or(begin, |span| span.start);
        (line_at(text, place), error.message().to_owned())
    })?;
    let line = line_at(text, raw.pattern.span().start);
    rule(raw).map_err(|reason| (line, reason))
}

/// The line, from 1, in which this byte stands.
fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|&byte| byte == b'\n').count() + 1
}

fn rule(raw: RawRule) -> Result<(Regex, Reply), String> {
    let pattern = raw.pattern.get_ref();
    if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("a pattern has 1 to {MAX_PATTERN_BYTES} bytes"));
    }
    let compiled = RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .nest_limit(MAX_NESTING)
        .build();
    let pattern = compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the pattern is too large when compiled".to_owned(),
        other => format!("the pattern cannot be used: {}", last_line(&other.to_string())),
    })?;
    let reply = match (raw.answer, raw.builtin, raw.language) {
        (Some(words), None, None) if (1..=MAX_ANSWER_BYTES).contains(&words.len()) => Reply::Words(words),
        (Some(_), None, None) => return Err(format!("an answer has 1 to {MAX_ANSWER_BYTES} bytes")),
        (None, Some(builtin), language) => Reply::Made(builtin, language.unwrap_or_default()),
        (Some(_), None, Some(_)) => return Err("language belongs to builtin".to_owned()),
        _ => return Err("give one of answer and builtin".to_owned()),
    };
    Ok((pattern, reply))
}

/// Errors of patterns are drawings of several lines; the last says what it is.
fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Reply> {
        Some(Reply::Words(text.to_owned()))
    }

    #[test]
    fn the_built_in_rules_answer_as_the_notes_say() {
        let rules = Rules::built_in();
        let check = |texts: &[&str], reply: Option<Reply>| {
            for text in texts {
                assert_eq!(rules.reply(text).cloned(), reply, "{text}");
            }
        };
        check(&["你好", "您好", "hello", "hi", "说你好吗", "which"], words("您好！"));
        let made = |builtin, language| Some(Reply::Made(builtin, language));
        check(&["现在几点", "时间", "time", "sometimes"], made(BuiltIn::Time, Language::Chinese));
        assert!(matches!(rules.reply("weather"), Some(Reply::Words(words)) if words.contains("天气")));
        assert_eq!(rules.reply("天气怎么样"), rules.reply("weather"));
        check(&["再见", "see you", "goodbye"], words("再见！"));
        check(&["你叫什么", "你是谁", "name"], words("我叫Meerkat。"));
        check(&["你好，现在几点", "天气 hi"], words("您好！"));
        check(&["", "abc", "吃了吗", "the cameras are on", "HELLO"], None);
    }

    #[test]
    fn the_node_is_asked_in_both_languages() {
        let rules = Rules::built_in();
        use BuiltIn::{Cameras, EventsToday, Status};
        use Language::{Chinese, English};
        let cases = [
            ("状态", Status, Chinese),
            ("节点状态？", Status, Chinese),
            ("status", Status, English),
            ("Status?", Status, English),
            ("摄像头", Cameras, Chinese),
            ("cameras", Cameras, English),
            ("今天的事件", EventsToday, Chinese),
            ("今天事件", EventsToday, Chinese),
            ("events today", EventsToday, English),
            ("today's events", EventsToday, English),
            ("Events", EventsToday, English),
        ];
        for (text, builtin, language) in cases {
            assert_eq!(rules.reply(text), Some(&Reply::Made(builtin, language)), "{text}");
        }
    }

    #[test]
    fn the_order_of_the_file_counts_and_no_rule_at_all_is_allowed() {
        let text =
            "[[rule]]\npattern = \"^a\"\nanswer = \"first\"\n[[rule]]\npattern = \"a\"\nanswer = \"second\"";
        let rules = Rules::parse(text).unwrap();
        assert_eq!(
            (rules.reply("ab").cloned(), rules.reply("ba").cloned()),
            (words("first"), words("second"))
        );
        assert!(Rules::parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |text: &str, parts: &[&str]| {
            let message = Rules::parse(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
        };
        let good = "[[rule]]\npattern = \"a\"\nanswer = \"b\"\n";
        check("[[rule]\n", &["line 1"]);
        check(&format!("{good}[[rule]]\npattern = \"a\"\nanser = \"b\"\n"), &["line 6: ", "anser"]);
        check(&format!("{good}[[rules]]\npattern = \"a\"\n"), &["line 4: ", "rules"]);
        check(&format!("{good}[[rule]]\npattern = \"(\"\nanswer = \"b\"\n"), &["line 5: rule 2", "pattern"]);
        check(
            &format!("{good}\n\n[[rule]]\nanswer = \"b\"\npattern = \"(\"\n"),
            &["line 8: rule 2", "pattern"],
        );
        check("[[rule]]\npattern = \"\"\nanswer = \"b\"\n", &["rule 1", "1 to 1024"]);
        check("[[rule]]\npattern = \"a\"\n", &["rule 1", "answer and builtin"]);
        check(&format!("{good}builtin = \"time\"\n"), &["rule 1", "answer and builtin"]);
        check(&format!("{good}language = \"en\"\n"), &["rule 1", "language"]);
        check("[[rule]]\npattern = \"a\"\nbuiltin = \"weather\"\n", &["weather"]);
        check("[[rule]]\npattern = \"a\"\nanswer = \"\"\n", &["rule 1", "1 to 1024"]);
        check(&good.repeat(257), &["257 rules"]);
        check("[[rule]]\npattern = 'a{9999}{9999}'\nanswer = \"b\"\n", &["rule 1"]);
        check("[[rule]]\npattern = '\\w{500}\\w{500}'\nanswer = \"b\"\n", &["rule 1", "too large"]);
        check(
            &format!("[[rule]]\npattern = '{}a{}'\nanswer = \"b\"\n", "(".repeat(60), ")".repeat(60)),
            &["rule 1"],
        );
        check("[[rule]]\npattern = '(a)\\1'\nanswer = \"b\"\n", &["rule 1", "backreference"]);
    }

    #[test]
    fn all_wrong_rules_are_named() {
        let text = "[[rule]]\npattern = \"(\"\nanswer = \"b\"\n\
                    [[rule]]\npattern = \"a\"\nanswer = \"b\"\n\
                    [[rule]]\npattern = \"a\"\nanser = \"b\"\n\
                    [[rule]]\nanswer = \"b\"\n\
                    [[rule]]\npattern = \"a\"\nanswer = \"\"\n";
        let error = Rules::parse(text).unwrap_err();
        let said = error.to_string();
        let RulesError::Rules(wrong) = error else { panic!("{said}") };
        let places: Vec<_> = wrong.iter().map(|wrong| (wrong.number, wrong.line)).collect();
        assert_eq!(places, [(1, 2), (3, 9), (4, 10), (5, 13)], "{said}");
        for part in ["line 2: rule 1: ", "; line 9: rule 3: ", "anser", "pattern", "1 to 1024"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn patterns_that_ruin_backtracking_engines_take_linear_time() {
        let rules = Rules::parse("[[rule]]\npattern = '^(a+)+$'\nanswer = \"b\"\n").unwrap();
        assert_eq!(rules.reply(&format!("{}!", "a".repeat(4000))), None);
    }
}
