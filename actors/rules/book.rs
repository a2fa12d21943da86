//! The rules as they are asked: those of the settings in their order, then one for each channel that none of them
//! names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meerkat_base::{Event, EventKind, EventPhase, Severity, WallTime};
use meerkat_notify::Language;
use meerkat_settings::{ChannelSettings, QuietSettings, QuietThen, RuleSettings, Schedule, Settings};
use meerkat_store::Snooze;

use super::windows::{Memory, Sameness};
use super::{KeptBack, Now, Promise, Telling, Verdict, schedule, snoozing};

/// Everything that is asked about an event, from one set of settings.
#[derive(Debug, Clone)]
pub(super) struct Rulebook {
    rules: Vec<RuleSettings>,
    channels: Vec<(String, ChannelSettings)>,
    pub language: Language,
}

/// What an event is to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    No,
    /// It would fit, were it more certain.
    TooUncertain,
    Yes,
}

/// Whether a message goes, by quiet hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hush {
    Goes,
    Held(WallTime),
    Dropped,
}

impl Rulebook {
    pub fn new(settings: &Settings) -> Self {
        let notify = &settings.notify;
        let named: BTreeSet<&String> = notify.rules.iter().flat_map(|rule| &rule.channels).collect();
        let alone = notify.channels.iter().filter(|(name, _)| !named.contains(name));
        let alone = alone.map(|(name, channel)| without_rules(name, channel));
        let language = match notify.language {
            meerkat_settings::Language::Chinese => Language::Chinese,
            meerkat_settings::Language::English => Language::English,
        };
        Self {
            rules: notify.rules.iter().cloned().chain(alone).collect(),
            channels: notify.channels.iter().map(|(name, channel)| (name.clone(), channel.clone())).collect(),
            language,
        }
    }

    /// Whether there is a rule of this name in the settings.
    pub fn has(&self, rule: &str) -> bool {
        self.rules.iter().any(|own| own.name == rule)
    }

    fn channel(&self, name: &str) -> Option<&ChannelSettings> {
        self.channels.iter().find(|(own, _)| own == name).map(|(_, channel)| channel)
    }

    /// Asks every rule about an event that began, or that became more certain. `settled` are channels that had their
    /// say about it before; `subject` is what a notice is about.
    pub fn judge(
        &self,
        memory: &mut Memory,
        snoozes: &[Snooze],
        event: &Event,
        subject: &str,
        settled: &BTreeSet<String>,
        now: Now,
    ) -> Verdict {
        let mut verdict = Verdict {
            settled: settled.clone(),
            snoozed: snoozing::covers(snoozes, &event.camera, now.wall),
            ..Verdict::default()
        };
        for rule in &self.rules {
            match fit(rule, event, now.wall) {
                Fit::No => continue,
                Fit::TooUncertain => {
                    verdict.may_rise = true;
                    continue;
                }
                Fit::Yes => self.apply(rule, memory, snoozes, event, subject, now, &mut verdict),
            }
            if rule.last {
                break;
            }
        }
        verdict
    }

    #[allow(clippy::too_many_arguments, reason = "one step of the function above")]
    fn apply(
        &self,
        rule: &RuleSettings,
        memory: &mut Memory,
        snoozes: &[Snooze],
        event: &Event,
        subject: &str,
        now: Now,
        verdict: &mut Verdict,
    ) {
        let asked: Vec<&String> = rule
            .channels
            .iter()
            .filter(|name| {
                // A channel that fails is not told so by itself.
                let own_failure = event.kind == EventKind::ChannelFailing && subject == name.as_str();
                let wants = self.channel(name).is_some_and(|channel| is_for(channel, event));
                wants && !own_failure && !verdict.settled.contains(*name)
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        // Told or not: a rule after this one does not tell what this one keeps back.
        verdict.settled.extend(asked.iter().map(|name| (*name).clone()));
        if let Some(reason) = snoozing::keeps_back(snoozes, &event.camera, &rule.name, now.wall) {
            verdict.snoozed = true;
            verdict.kept_back.extend(asked.iter().map(|_| reason));
            return;
        }
        let same = Sameness {
            rule: rule.name.clone(),
            camera: event.camera.clone(),
            kind: event.kind,
            identities: event.identities.clone(),
        };
        if memory.is_cooling(&same, now.mono) {
            verdict.kept_back.extend(asked.iter().map(|_| KeptBack::CoolingDown));
            return;
        }
        let before = (verdict.tellings.len(), verdict.promises.len());
        let severity = rule.severity.unwrap_or_else(|| event.kind.severity());
        let mut window = None;
        for name in asked {
            let Some(channel) = self.channel(name) else { continue };
            let phases = rule.phases.clone().unwrap_or_else(|| channel.phases_of(event.kind));
            let ends = phases.contains(&EventPhase::Ended);
            if phases.contains(&EventPhase::Started) {
                let open = &mut window;
                let told = telling(rule, channel, name, severity, EventPhase::Started, memory, open, now);
                let hears = told.0.is_some();
                record(told, verdict);
                // Who does not hear of the start does not hear of the end.
                if !hears {
                    continue;
                }
            }
            if ends {
                verdict.promises.push(Promise { channel: name.clone(), rule: rule.name.clone(), severity });
            }
        }
        // What nobody hears of, because all are asleep, keeps back nothing after it.
        if (verdict.tellings.len(), verdict.promises.len()) != before {
            memory.told(same, rule.cooldown, now.mono);
        }
    }

    /// Who is told that an event is over, of those to whom that was promised.
    pub fn end(&self, memory: &mut Memory, promises: &[Promise], now: Now) -> Verdict {
        let mut verdict = Verdict::default();
        let mut windows: BTreeMap<&str, Option<Option<WallTime>>> = BTreeMap::new();
        for promise in promises {
            let Some(channel) = self.channel(&promise.channel) else { continue };
            // The rule may be gone by now, the promise is not; and the channel has quiet hours all the same.
            let own;
            let rule = match self.rules.iter().find(|rule| rule.name == promise.rule) {
                Some(rule) => rule,
                None => {
                    own = without_rules(&promise.channel, channel);
                    &own
                }
            };
            let window = windows.entry(&promise.rule).or_default();
            let (name, phase) = (&promise.channel, EventPhase::Ended);
            let told = telling(rule, channel, name, promise.severity, phase, memory, window, now);
            record(told, &mut verdict);
        }
        verdict
    }
}

/// What a channel is told that no rule names: the rule that its own section is.
fn without_rules(name: &str, channel: &ChannelSettings) -> RuleSettings {
    RuleSettings {
        // No rule of the settings can have this name.
        name: format!("channel {name}"),
        order: u32::MAX,
        kinds: channel.kinds_without_rules(),
        cameras: None,
        identities: None,
        min_score: 0.0,
        min_severity: Severity::Info,
        schedule: Schedule::always(),
        phases: None,
        channels: vec![name.to_owned()],
        severity: None,
        cooldown: Duration::ZERO,
        group: Duration::ZERO,
        quiet: None,
        last: false,
    }
}

/// Whether a channel's own section lets an event through.
fn is_for(channel: &ChannelSettings, event: &Event) -> bool {
    let of_kind = channel.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind));
    let at_camera = channel.cameras.as_ref().is_none_or(|cameras| cameras.contains(&event.camera));
    of_kind && (at_camera || event.camera.is_node())
}

fn fit(rule: &RuleSettings, event: &Event, now: WallTime) -> Fit {
    let known = |name: &String| event.identities.contains(name);
    let fits = rule.kinds.contains(&event.kind)
        && rule.cameras.as_ref().is_none_or(|cameras| cameras.contains(&event.camera))
        && rule.identities.as_ref().is_none_or(|identities| identities.iter().any(known))
        && event.kind.severity() >= rule.min_severity
        && schedule::holds(&rule.schedule, now);
    if !fits {
        return Fit::No;
    }
    // What is no number is not certain.
    let certain = event.kind.is_notice() || event.score >= rule.min_score || rule.min_score <= 0.0;
    if certain { Fit::Yes } else { Fit::TooUncertain }
}

fn hush(quiets: [Option<&QuietSettings>; 2], severity: Severity, now: WallTime) -> Hush {
    let mut hush = Hush::Goes;
    for quiet in quiets.into_iter().flatten() {
        let Some(until) = schedule::holds_until(&quiet.schedule, now) else { continue };
        if quiet.unless.is_some_and(|unless| severity >= unless) {
            continue;
        }
        hush = match (quiet.then, hush) {
            (QuietThen::Drop, _) | (_, Hush::Dropped) => Hush::Dropped,
            (QuietThen::Hold, Hush::Held(other)) => Hush::Held(until.max(other)),
            (QuietThen::Hold, Hush::Goes) => Hush::Held(until),
        };
    }
    hush
}

/// One channel's message, and why it does not go by itself at once. `window` is the answer of the rule's window, asked
/// at most once per event.
#[allow(clippy::too_many_arguments, reason = "what a message depends on")]
fn telling(
    rule: &RuleSettings,
    channel: &ChannelSettings,
    name: &str,
    severity: Severity,
    phase: EventPhase,
    memory: &mut Memory,
    window: &mut Option<Option<WallTime>>,
    now: Now,
) -> (Option<Telling>, Option<KeptBack>) {
    let at = |due: WallTime, merge_key: Option<String>| {
        Some(Telling { channel: name.to_owned(), severity, due, merge_key })
    };
    let word = if phase == EventPhase::Ended { "ended" } else { "started" };
    match hush([rule.quiet.as_ref(), channel.quiet.as_ref()], severity, now.wall) {
        Hush::Dropped => return (None, Some(KeptBack::Quiet)),
        // What rules and events it is about plays no part: one message in the morning.
        Hush::Held(until) => {
            return (
                at(until, Some(format!("quiet {word} {}", until.0 / 1_000_000))),
                Some(KeptBack::Grouped),
            );
        }
        Hush::Goes => {}
    }
    if rule.group.is_zero() {
        return (at(now.wall, None), None);
    }
    let due = *window.get_or_insert_with(|| memory.window(&rule.name, phase, rule.group, now));
    match due {
        None => (at(now.wall, None), None),
        Some(due) => {
            let key = format!("group {} {word} {}", rule.name, due.0);
            (at(due, Some(key)), Some(KeptBack::Grouped))
        }
    }
}

fn record((told, kept_back): (Option<Telling>, Option<KeptBack>), verdict: &mut Verdict) {
    verdict.tellings.extend(told);
    verdict.kept_back.extend(kept_back);
}
