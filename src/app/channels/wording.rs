//! How the channels of checked settings write: language, time zone, and the owner's templates, compiled and tried.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use meerkat_notify::{Style, TemplateSource, Templates, Zone};

use crate::settings::{ChannelSettings, Language, NotifySettings, TemplateText};

/// How channels write: all alike, but for those that have a template of their own.
pub(super) struct Styles {
    common: Style,
    own: HashMap<String, Arc<Templates>>,
}

impl Styles {
    /// How one channel writes.
    pub(super) fn of(&self, channel: &ChannelSettings) -> Style {
        let templates = channel.template.as_ref().and_then(|own| self.own.get(&own.origin));
        let templates = templates.unwrap_or(&self.common.templates);
        Style { templates: Arc::clone(templates), ..self.common.clone() }
    }
}

/// Compiles all templates; all errors at once.
pub(super) fn styles(notify: &NotifySettings) -> anyhow::Result<Styles> {
    let zone =
        Zone::parse(&notify.time_zone).with_context(|| format!("notify.time_zone = {}", notify.time_zone))?;
    let source = |text: &TemplateText| TemplateSource {
        name: text.name.clone(),
        origin: text.origin.clone(),
        text: text.text.clone(),
    };
    let (language, used, unused) = match notify.language {
        Language::Chinese => (meerkat_notify::Language::Chinese, &notify.templates.zh, &notify.templates.en),
        Language::English => (meerkat_notify::Language::English, &notify.templates.en, &notify.templates.zh),
    };
    let common: Vec<TemplateSource> = used.iter().map(source).collect();
    let mut wrong = Vec::new();
    let templates = compile(common.clone(), &mut wrong);
    // Those of the other language are for another day, and shall be right by then.
    compile(unused.iter().map(source).collect(), &mut wrong);
    let own_texts: Vec<&TemplateText> =
        notify.channels.values().filter_map(|c| c.template.as_ref()).collect();
    for text in &own_texts {
        compile(vec![source(text)], &mut wrong);
    }
    if !wrong.is_empty() {
        return Err(anyhow!("templates that cannot be used:{}", wrong.concat()));
    }
    let mut own = HashMap::new();
    for text in own_texts {
        let both = common.iter().cloned().chain([source(text)]).collect();
        own.insert(text.origin.clone(), compile(both, &mut wrong));
    }
    Ok(Styles { common: Style { language, zone, templates }, own })
}

fn compile(sources: Vec<TemplateSource>, wrong: &mut Vec<String>) -> Arc<Templates> {
    let compiled = Templates::compile(sources).unwrap_or_else(|errors| {
        wrong.extend(errors.iter().map(|error| format!("\n  {error}")));
        Templates::default()
    });
    Arc::new(compiled)
}
