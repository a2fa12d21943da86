//! The wording of messages as templates (Jinja's language, by minijinja): the built-in ones in Chinese and English, and
//! those of the owner, which are checked before they are used. What a template is told is decided in `render`; how a
//! service wants its text escaped is its channel's business, so nothing is escaped here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use meerkat_base::{EventKind, EventPhase, metric};
use metrics::counter;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use tracing::warn;

use crate::render::Language;

/// Bytes of a template's own text at most.
pub const MAX_TEMPLATE_BYTES: usize = 16 * 1024;
/// Bytes of what a template writes at most. No service takes as much; channels cut further.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;
/// The work that one rendering may be: about so many steps, and 64 times as many bytes.
const FUEL: u64 = 20_000;

/// The name of the template that a channel has for itself; it goes before all others.
pub const CHANNEL: &str = "channel";
/// The name of the template of everything that was seen.
pub const ALERT: &str = "alert";
/// The name of the template of everything about the node itself.
pub const NOTICE: &str = "notice";
/// The name of the template of clips.
pub const CLIP: &str = "clip";
/// The name of the template of digests.
pub const DIGEST: &str = "digest";

const BUILT_IN: [(&str, &str); 8] = [
    ("alert.zh", include_str!("wording/alert.zh.jinja")),
    ("alert.en", include_str!("wording/alert.en.jinja")),
    ("notice.zh", include_str!("wording/notice.zh.jinja")),
    ("notice.en", include_str!("wording/notice.en.jinja")),
    ("clip.zh", include_str!("wording/clip.zh.jinja")),
    ("clip.en", include_str!("wording/clip.en.jinja")),
    ("digest.zh", include_str!("wording/digest.zh.jinja")),
    ("digest.en", include_str!("wording/digest.en.jinja")),
];

static WORDING: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment();
    for (name, text) in BUILT_IN {
        environment
            .add_template(name, text)
            .expect("the built-in templates are right: a test renders them all");
    }
    environment
});

/// What is wrong with a template of the owner's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// Where it was given: a key of the configuration, or a file.
    pub origin: String,
    /// The line of the template, from 1, where one can be named.
    pub line: Option<usize>,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A template of the owner's, not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSource {
    /// What it is for: [`CHANNEL`], [`ALERT`], [`NOTICE`], [`CLIP`], [`DIGEST`], a kind of event (`motion`), or a kind
    /// and a phase (`motion_ended`).
    pub name: String,
    /// Where it was given, for errors: a key, or a file.
    pub origin: String,
    /// The template.
    pub text: String,
}

/// The owner's templates, all of which have been tried. Without any, the built-in wording is used.
#[derive(Default)]
pub struct Templates {
    own: Environment<'static>,
    sources: BTreeMap<String, TemplateSource>,
}

impl Templates {
    /// Compiles templates and renders each with samples of everything it can be asked for, so that a misspelt variable
    /// shows before an alert needs the template. Gives all errors, at most one per template.
    pub fn compile(sources: Vec<TemplateSource>) -> Result<Self, Vec<TemplateError>> {
        let mut templates = Self { own: environment(), sources: BTreeMap::new() };
        let mut errors = Vec::new();
        for source in sources {
            if let Err((line, reason)) = templates.add(&source) {
                errors.push(TemplateError { origin: source.origin, line, reason });
            }
        }
        if errors.is_empty() { Ok(templates) } else { Err(errors) }
    }

    fn add(&mut self, source: &TemplateSource) -> Result<(), (Option<usize>, String)> {
        if source.text.len() > MAX_TEMPLATE_BYTES {
            return Err((None, format!("is larger than {MAX_TEMPLATE_BYTES} bytes")));
        }
        let samples = crate::samples::samples(&source.name)
            .ok_or_else(|| (None, format!("{} is nothing that a template can be for", source.name)))?;
        let wrong = |error: &minijinja::Error| (error.line(), reason(error));
        self.own
            .add_template_owned(source.name.clone(), source.text.clone())
            .map_err(|error| wrong(&error))?;
        for sample in samples {
            let tried = write(&self.own, &source.name, sample);
            if let Err(problem) = tried {
                self.own.remove_template(&source.name);
                return Err(match problem {
                    Problem::Engine(error) => wrong(&error),
                    other => (None, other.to_string()),
                });
            }
        }
        self.sources.insert(source.name.clone(), source.clone());
        Ok(())
    }

    /// The text of the first of these templates that the owner has given, else the built-in wording.
    pub(crate) fn text(
        &self,
        names: &[&str],
        built_in: &str,
        language: Language,
        values: Value,
        spare: impl FnOnce() -> String,
    ) -> String {
        if let Some(name) = names.iter().find(|name| self.sources.contains_key(**name)) {
            match write(&self.own, name, values.clone()) {
                Ok(text) => return text,
                Err(problem) => {
                    counter!(metric::TEMPLATE_FAILURES).increment(1);
                    let template = self.sources.get(*name).map_or(*name, |source| &source.origin);
                    warn!(template, %problem, "a template failed; the built-in wording is used");
                }
            }
        }
        let name = match language {
            Language::Chinese => format!("{built_in}.zh"),
            Language::English => format!("{built_in}.en"),
        };
        write(&WORDING, &name, values).unwrap_or_else(|problem| {
            counter!(metric::TEMPLATE_FAILURES).increment(1);
            warn!(template = name, %problem, "a built-in template failed; the message says the least");
            spare()
        })
    }
}

impl PartialEq for Templates {
    fn eq(&self, other: &Self) -> bool {
        self.sources == other.sources
    }
}

impl Eq for Templates {}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources.keys()).finish()
    }
}

/// The names of templates that an alert is written by, the first that is given wins.
pub(crate) fn names_of(kind: EventKind, phase: EventPhase) -> [String; 2] {
    [format!("{kind}_{}", phase_word(phase)), kind.to_string()]
}

/// The word for a phase in names of templates and as their variable `phase`.
pub(crate) fn phase_word(phase: EventPhase) -> &'static str {
    match phase {
        EventPhase::Started => "started",
        EventPhase::Updated => "updated",
        EventPhase::Ended => "ended",
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{}", reason(.0))]
    Engine(minijinja::Error),
    #[error("writes more than {MAX_TEXT_BYTES} bytes")]
    Long,
    #[error("writes nothing")]
    Blank,
}

fn write(environment: &Environment<'static>, name: &str, values: Value) -> Result<String, Problem> {
    let text = environment.get_template(name).and_then(|t| t.render(values)).map_err(Problem::Engine)?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(Problem::Long);
    }
    let text = crate::render::printable(&text);
    let text = text.trim_matches(['\n', ' ']);
    if text.is_empty() { Err(Problem::Blank) } else { Ok(text.to_owned()) }
}

/// The engine's sentence without its own idea of where, which is said apart.
fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(50);
    environment.set_debug(true);
    environment
}

#[cfg(test)]
mod tests;
