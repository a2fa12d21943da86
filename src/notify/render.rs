//! Words for people, in Chinese and English, from what happened, put together by the templates of `templates`. Plain
//! text of any length; what a service allows and how it escapes is its channel's business.

use std::sync::Arc;

use meerkat_base::{CameraId, EventKind, EventPhase, WallTime};
use minijinja::{Value, context};

use crate::alert::{Alert, ClipPart, Digest, DigestLine};
use crate::templates::{self, Templates};

/// Names longer than this are cut, characters.
const NAME_CHARS: usize = 40;
/// More names than this are only counted.
pub(crate) const NAMES: usize = 10;
/// More lines of a digest than this are only counted.
pub(crate) const DIGEST_LINES: usize = 20;
/// Details of a notice longer than this are cut, characters.
const DETAIL_CHARS: usize = 300;
/// More lines of details than this are left out: a message about several events has a line for each kind and camera.
const DETAIL_LINES: usize = DIGEST_LINES + 4;

/// The language of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// 中文.
    #[default]
    Chinese,
    /// English.
    English,
}

impl Language {
    /// Accepts `zh` and `en`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "zh" => Some(Self::Chinese),
            "en" => Some(Self::English),
            _ => None,
        }
    }
}

/// The time zone of the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(jiff::tz::TimeZone);

/// The text names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a time zone: allowed are UTC, an offset such as +08:00, system, or a name that this machine's tzdata knows"
)]
pub struct BadZone;

impl Zone {
    /// Accepts `UTC`, a fixed offset (`+08:00`, `-0330`), `system`, or a name of the machine's time zone database
    /// (`Asia/Shanghai`).
    pub fn parse(text: &str) -> Result<Self, BadZone> {
        if text.eq_ignore_ascii_case("utc") || text == "Z" {
            return Ok(Self::default());
        }
        if text == "system" {
            return jiff::tz::TimeZone::try_system().map(Self).map_err(|_| BadZone);
        }
        if text.starts_with(['+', '-']) {
            return offset(text).map(|o| Self(jiff::tz::TimeZone::fixed(o))).ok_or(BadZone);
        }
        jiff::tz::TimeZone::get(text).map(Self).map_err(|_| BadZone)
    }

    /// The next moment after `after` at which clocks here show this time of the day; where they skip it, as they show
    /// it shifted.
    pub fn next_daily(&self, after: WallTime, hour: u8, minute: u8) -> WallTime {
        let after = jiff::Timestamp::from_microsecond(after.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let (hour, minute) =
            (i8::try_from(hour.min(23)).unwrap_or(0), i8::try_from(minute.min(59)).unwrap_or(0));
        let today = after.to_zoned(self.0.clone()).date();
        let mut date = today;
        loop {
            let Ok(at) = date.at(hour, minute, 0, 0).to_zoned(self.0.clone()) else { break };
            if at.timestamp() > after {
                return WallTime(at.timestamp().as_microsecond());
            }
            let Ok(next) = date.tomorrow() else { break };
            date = next;
        }
        WallTime(i64::MAX)
    }

    /// A moment as people write it: RFC 3339, or a date with or without a time of the day, as clocks here show it.
    pub fn moment(&self, text: &str) -> Option<WallTime> {
        let text = text.trim();
        if let Ok(moment) = text.parse::<jiff::Timestamp>() {
            return Some(WallTime(moment.as_microsecond()));
        }
        let local: jiff::civil::DateTime = text.parse().ok()?;
        Some(WallTime(local.to_zoned(self.0.clone()).ok()?.timestamp().as_microsecond()))
    }

    /// The zone itself.
    pub fn time_zone(&self) -> &jiff::tz::TimeZone {
        &self.0
    }

    /// RFC 3339 to the second with a space for readability (its section 5.6): `2026-11-21 05:31:14+08:00`,
    /// in UTC `2026-11-20 21:31:14Z`.
    pub fn format(&self, time: WallTime) -> String {
        let time = jiff::Timestamp::from_microsecond(time.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        if self.0 == jiff::tz::TimeZone::UTC {
            return time.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        }
        time.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string()
    }

    fn strftime(&self, time: WallTime, how: &str) -> String {
        let time = jiff::Timestamp::from_microsecond(time.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        time.to_zoned(self.0.clone()).strftime(how).to_string()
    }

    /// Its name, such as `UTC` or `Asia/Shanghai`; for a fixed offset that.
    fn name(&self) -> String {
        match self.0.iana_name() {
            Some(name) => name.to_owned(),
            None => self.strftime(WallTime(0), "%:z"),
        }
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

/// `+HH:MM` or `+HHMM`, at most a day.
fn offset(text: &str) -> Option<jiff::tz::Offset> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: Vec<i32> = match text.get(1..)?.as_bytes() {
        [a, b, b':', c, d] | [a, b, c, d] => {
            [a, b, c, d].iter().filter(|d| d.is_ascii_digit()).map(|d| i32::from(**d - b'0')).collect()
        }
        _ => return None,
    };
    let [a, b, c, d] = digits.try_into().ok()?;
    let (hours, minutes) = (a * 10 + b, c * 10 + d);
    if hours > 23 || minutes > 59 {
        return None;
    }
    jiff::tz::Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

/// How a channel writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Style {
    /// The language.
    pub language: Language,
    /// The zone of its times.
    pub zone: Zone,
    /// The owner's own wording.
    pub templates: Arc<Templates>,
}

/// An alert as a few lines; the first says all that matters, for it is what a locked telephone shows.
pub fn alert_text(alert: &Alert, style: &Style) -> String {
    let [phased, kind] = templates::names_of(alert.kind, alert.phase);
    let general = if alert.kind.is_notice() { templates::NOTICE } else { templates::ALERT };
    let names = [templates::CHANNEL, &phased, &kind, general];
    style.templates.text(&names, general, style.language, values(alert, style, None), || {
        format!("Meerkat: {} {}, {}", alert.camera, alert.kind, style.zone.format(alert.started))
    })
}

/// What goes with a clip, be it sent as a file or as a link, which is the channel's to add.
pub fn clip_text(alert: &Alert, clip: &ClipPart, style: &Style) -> String {
    let values = values(alert, style, Some(clip));
    style.templates.text(&[templates::CLIP], templates::CLIP, style.language, values, || {
        format!("Meerkat: {} {}, {}", alert.camera, clip.name, clip.link.as_deref().unwrap_or_default())
    })
}

/// A digest: one line in all, then one per camera and kind.
pub fn digest_text(digest: &Digest, style: &Style) -> String {
    let values = digest_values(digest, style);
    style.templates.text(&[templates::DIGEST], templates::DIGEST, style.language, values, || {
        format!("Meerkat: {} alerts could not be sent in time", digest.total())
    })
}

/// The test of a channel: that it is one, and that nothing has happened.
pub fn test_text(channel: &str, time: WallTime, style: &Style) -> String {
    let time = style.zone.format(time);
    match style.language {
        Language::Chinese => {
            format!("【Meerkat】测试消息：通道 {channel} 可以送达，{time}\n这是测试，没有发生任何事件。")
        }
        Language::English => {
            format!(
                "[Meerkat] test: channel {channel} delivers, {time}\nThis is a test; nothing has happened."
            )
        }
    }
}

/// What is said besides, line by line.
fn detail_lines(detail: &str) -> String {
    let lines = detail.lines().map(|line| cut_line(line, DETAIL_CHARS)).filter(|line| !line.is_empty());
    let kept: Vec<String> = lines.take(DETAIL_LINES).collect();
    kept.join("\n")
}

/// How many of which kind at which camera: one line each, with a line feed before it.
pub fn counts_text(counts: &[DigestLine], language: Language) -> String {
    let mut text = String::new();
    for line in counts.iter().take(DIGEST_LINES) {
        let place = place(&line.camera, line.camera_name.as_deref(), language);
        let (what, count) = (what(line.kind, language), line.count);
        text.push_str(&match (language, count) {
            (Language::Chinese, 1) => format!("\n{place}：{what}"),
            (Language::Chinese, _) => format!("\n{place}：{what} {count} 次"),
            (Language::English, 1) => format!("\n{place}: {what}"),
            (Language::English, _) => format!("\n{place}: {what}, {count} times"),
        });
    }
    let more = counts.len().saturating_sub(DIGEST_LINES);
    if more > 0 {
        text.push_str(&match language {
            Language::Chinese => format!("\n另有 {more} 项"),
            Language::English => format!("\nand {more} more lines"),
        });
    }
    text
}

/// What templates of alerts and clips are told; `docs/channels.md` lists it.
pub(crate) fn values(alert: &Alert, style: &Style, clip: Option<&ClipPart>) -> Value {
    // Not for a moved object, say, whose detector gives no score.
    let score = if alert.score.is_finite() { alert.score.clamp(0.0, 1.0) } else { 0.0 };
    let is_over = alert.kind.is_notice() && alert.phase == EventPhase::Ended;
    let words = if is_over { what_is_over } else { what };
    let shown = identities(&alert.identities, style.language);
    context! {
        id => alert.id.to_string(),
        event => alert.event.to_string(),
        camera => alert.camera.as_str(),
        camera_name => place(&alert.camera, alert.camera_name.as_deref(), style.language),
        kind => alert.kind.as_str(),
        what => words(alert.kind, style.language),
        phase => templates::phase_word(alert.phase),
        phase_text => phase(alert.phase, style.language),
        time => style.zone.format(alert.started),
        date => style.zone.strftime(alert.started, "%Y-%m-%d"),
        clock => style.zone.strftime(alert.started, "%H:%M:%S"),
        zone => style.zone.name(),
        identities => shown.into_iter().collect::<Value>(),
        people => alert.identities.len() as u64,
        score => score,
        percent => (score * 100.0).round() as i64,
        severity => alert.severity.as_str(),
        detail => detail_lines(&alert.detail),
        link => clip.and_then(|clip| clip.link.as_deref()).unwrap_or_default(),
        seconds => clip.map_or(0, |clip| clip.duration.as_secs_f32().round() as i64),
    }
}

/// What templates of digests are told; `docs/channels.md` lists it.
pub(crate) fn digest_values(digest: &Digest, style: &Style) -> Value {
    let line = |line: &DigestLine| {
        context! {
            camera => line.camera.as_str(),
            camera_name => place(&line.camera, line.camera_name.as_deref(), style.language),
            kind => line.kind.as_str(),
            what => what(line.kind, style.language),
            count => line.count,
        }
    };
    context! {
        id => digest.id.to_string(),
        total => digest.total(),
        oldest => style.zone.format(digest.oldest),
        newest => style.zone.format(digest.newest),
        zone => style.zone.name(),
        counts => digest.counts.iter().take(DIGEST_LINES).map(line).collect::<Value>(),
        more => digest.counts.len().saturating_sub(DIGEST_LINES) as u64,
    }
}

/// Says that the picture stayed behind because of its size or form.
pub(crate) fn picture_omitted(language: Language) -> &'static str {
    match language {
        Language::Chinese => "\n（图片不符合通道限制，未发送）",
        Language::English => "\n(picture not sent: beyond what this channel takes)",
    }
}

fn place(camera: &CameraId, name: Option<&str>, language: Language) -> String {
    if camera.is_node() {
        let own = match language {
            Language::Chinese => "本节点",
            Language::English => "this node",
        };
        return own.to_owned();
    }
    let name = name.map(one_line).unwrap_or_default();
    if name.is_empty() { camera.as_str().to_owned() } else { name }
}

fn what(kind: EventKind, language: Language) -> &'static str {
    match (language, kind) {
        (Language::Chinese, EventKind::Motion) => "画面有动静",
        (Language::Chinese, EventKind::ObjectMoved) => "看守的物品被移动",
        (Language::Chinese, EventKind::ObjectRemoved) => "看守的物品不见了",
        (Language::Chinese, EventKind::Person) => "发现人员",
        (Language::Chinese, EventKind::Face) => "发现人脸",
        (Language::Chinese, EventKind::CameraSilent) => "摄像头没有画面",
        (Language::Chinese, EventKind::ActorFailing) => "部件反复出错",
        (Language::Chinese, EventKind::DiskLow) => "磁盘空间不足",
        (Language::Chinese, EventKind::RecordingRefused) => "无法录像",
        (Language::Chinese, EventKind::ChannelFailing) => "通知通道发送失败",
        (Language::Chinese, EventKind::ClockJump) => "系统时间跳变",
        (Language::Chinese, EventKind::StoreDamaged) => "存储数据受损",
        (Language::Chinese, EventKind::Viewer) => "有人在观看",
        (Language::English, EventKind::Motion) => "motion",
        (Language::English, EventKind::ObjectMoved) => "guarded object moved",
        (Language::English, EventKind::ObjectRemoved) => "guarded object gone",
        (Language::English, EventKind::Person) => "person seen",
        (Language::English, EventKind::Face) => "face seen",
        (Language::English, EventKind::CameraSilent) => "camera silent",
        (Language::English, EventKind::ActorFailing) => "an actor fails again and again",
        (Language::English, EventKind::DiskLow) => "disk nearly full",
        (Language::English, EventKind::RecordingRefused) => "recording refused",
        (Language::English, EventKind::ChannelFailing) => "a channel delivers nothing",
        (Language::English, EventKind::ClockJump) => "the clock jumped",
        (Language::English, EventKind::StoreDamaged) => "stored evidence damaged",
        (Language::English, EventKind::Viewer) => "somebody watches live",
    }
}

/// What is said when a notice is over.
fn what_is_over(kind: EventKind, language: Language) -> &'static str {
    match (language, kind) {
        (Language::Chinese, EventKind::CameraSilent) => "摄像头恢复画面",
        (Language::Chinese, EventKind::ActorFailing) => "部件恢复正常",
        (Language::Chinese, EventKind::DiskLow) => "磁盘空间恢复充足",
        (Language::Chinese, EventKind::RecordingRefused) => "恢复录像",
        (Language::Chinese, EventKind::ChannelFailing) => "通知通道恢复发送",
        (Language::Chinese, EventKind::ClockJump) => "系统时间恢复稳定",
        (Language::Chinese, EventKind::StoreDamaged) => "存储数据问题已处理",
        (Language::Chinese, EventKind::Viewer) => "观看结束",
        (Language::English, EventKind::CameraSilent) => "camera sends again",
        (Language::English, EventKind::ActorFailing) => "the actor works again",
        (Language::English, EventKind::DiskLow) => "the disk has room again",
        (Language::English, EventKind::RecordingRefused) => "recording again",
        (Language::English, EventKind::ChannelFailing) => "the channel delivers again",
        (Language::English, EventKind::ClockJump) => "the clock is steady again",
        (Language::English, EventKind::StoreDamaged) => "the damage is dealt with",
        (Language::English, EventKind::Viewer) => "the viewer left",
        // What was seen is over in its own words.
        (_, seen) => what(seen, language),
    }
}

fn phase(phase: EventPhase, language: Language) -> &'static str {
    match (language, phase) {
        (_, EventPhase::Started) => "",
        (Language::Chinese, EventPhase::Updated) => "（持续中）",
        (Language::Chinese, EventPhase::Ended) => "（已结束）",
        (Language::English, EventPhase::Updated) => " (ongoing)",
        (Language::English, EventPhase::Ended) => " (over)",
    }
}

/// Names as people read them, the first few.
fn identities(identities: &[String], language: Language) -> Vec<String> {
    let shown = |name: &String| match (name.as_str(), language) {
        ("unknown", Language::Chinese) => "未登记人员".to_owned(),
        ("unknown", Language::English) => "somebody not enrolled".to_owned(),
        (name, _) => one_line(name),
    };
    identities.iter().take(NAMES).map(shown).collect()
}

/// A name somebody else chose, as one line without anything invisible, cut to a sane length.
fn one_line(name: &str) -> String {
    cut_line(name, NAME_CHARS)
}

fn cut_line(text: &str, most_chars: usize) -> String {
    let kept: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let kept = printable(&kept);
    let mut out: String = kept.trim().chars().take(most_chars).collect();
    if out.len() < kept.trim().len() {
        out.push('…');
    }
    out
}

/// Takes out control characters (except line feeds) and the invisible ones that reorder or hide text.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .filter(|&c| c == '\n' || !c.is_control())
        .filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'))
        .collect()
}

#[cfg(test)]
mod moments {
    use super::*;

    #[test]
    fn the_next_morning_is_that_of_the_place() {
        let zone = Zone::parse("+08:00").unwrap();
        let check = |after: &str, expected: &str| {
            let after = Zone::default().moment(after).unwrap();
            assert_eq!(zone.format(zone.next_daily(after, 3, 30)), expected);
        };
        check("2026-11-20T19:29:59Z", "2026-11-21 03:30:00+08:00");
        check("2026-11-20T19:30:00Z", "2026-11-22 03:30:00+08:00");
        check("2026-11-20T00:00:00Z", "2026-11-21 03:30:00+08:00");
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        let zone = Zone::parse("+08:00").unwrap();
        for (text, expected) in [
            ("2026-11-21T05:31:14Z", "2026-11-21 13:31:14+08:00"),
            ("2026-11-21T05:31:14+08:00", "2026-11-21 05:31:14+08:00"),
            ("2026-11-21", "2026-11-21 00:00:00+08:00"),
            ("2026-11-21 05:31", "2026-11-21 05:31:00+08:00"),
            ("2026-11-21T05:31:14", "2026-11-21 05:31:14+08:00"),
        ] {
            assert_eq!(zone.moment(text).map(|at| zone.format(at)).as_deref(), Some(expected), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "5"] {
            assert_eq!(zone.moment(bad), None, "{bad}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::alert;
    use uuid::Uuid;

    fn style(language: Language, zone: &str) -> Style {
        Style { language, zone: Zone::parse(zone).unwrap(), ..Style::default() }
    }

    #[test]
    fn an_alert_reads_well_in_both_languages() {
        let mut a = alert(EventKind::Person, None);
        assert_eq!(
            alert_text(&a, &style(Language::Chinese, "+08:00")),
            "【Meerkat】前门：发现人员，2026-11-21 05:31:14+08:00\n可信度：87%\n\
             事件：01920000-0000-7000-8000-000000000002"
        );
        a.camera_name = None;
        a.phase = EventPhase::Ended;
        a.kind = EventKind::Face;
        a.identities = vec!["Zhang San".into(), "unknown".into()];
        a.score = 0.0;
        assert_eq!(
            alert_text(&a, &style(Language::English, "UTC")),
            "[Meerkat] front: face seen (over), 2026-11-20 21:31:14Z\n\
             Who: Zhang San, somebody not enrolled\nEvent: 01920000-0000-7000-8000-000000000002"
        );
    }

    #[test]
    fn names_cannot_break_out_of_their_line() {
        let mut a = alert(EventKind::Person, None);
        a.camera_name = Some("Yard\r\n【Meerkat】fake\u{202e}\u{0}\u{1b}[31m".into());
        a.identities = vec!["长".repeat(100); 500];
        a.score = f32::NAN;
        let text = alert_text(&a, &style(Language::Chinese, "UTC"));
        assert!(text.starts_with("【Meerkat】Yard  【Meerkat】fake[31m：发现人员"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("…等 500 人"), "{text}");
        assert!(text.len() < 2048, "{}", text.len());
        a.camera_name = Some("\u{200b}\n".into());
        assert!(alert_text(&a, &Style::default()).starts_with("【Meerkat】front："));
    }

    #[test]
    fn every_kind_and_phase_has_its_words() {
        let mut seen = std::collections::HashSet::new();
        for language in [Language::Chinese, Language::English] {
            for kind in EventKind::ALL {
                for phase in [EventPhase::Started, EventPhase::Updated, EventPhase::Ended] {
                    let mut a = alert(kind, None);
                    a.phase = phase;
                    assert!(seen.insert(alert_text(&a, &style(language, "UTC"))), "{kind} {phase:?}");
                }
            }
        }
    }

    #[test]
    fn notices_say_since_when_and_that_it_is_over() {
        let mut a = alert(EventKind::CameraSilent, None);
        a.score = 0.0;
        a.detail = "no picture for 30 s\nlast frame 1234".into();
        assert_eq!(
            alert_text(&a, &style(Language::Chinese, "+08:00")),
            "【Meerkat】前门：摄像头没有画面，自 2026-11-21 05:31:14+08:00 起\nno picture for 30 s\nlast frame 1234"
        );
        a.camera_name = None;
        assert_eq!(
            alert_text(&a, &style(Language::English, "UTC")),
            "[Meerkat] front: camera silent since 2026-11-20 21:31:14Z\nno picture for 30 s\nlast frame 1234"
        );
        a.phase = EventPhase::Ended;
        a.detail.clear();
        assert_eq!(
            alert_text(&a, &style(Language::English, "UTC")),
            "[Meerkat] front: camera sends again (trouble began 2026-11-20 21:31:14Z)"
        );
        a.kind = EventKind::DiskLow;
        a.camera = CameraId::node();
        a.camera_name = Some("not asked for".into());
        a.detail = "x".repeat(10_000);
        let text = alert_text(&a, &style(Language::Chinese, "UTC"));
        assert!(
            text.starts_with("【Meerkat】本节点：磁盘空间恢复充足（问题始于 2026-11-20 21:31:14Z）"),
            "{text}"
        );
        assert!(text.chars().count() < 400 && text.ends_with('…'), "{text}");
    }

    #[test]
    fn clips_and_tests_say_what_they_are() {
        let clip = ClipPart {
            part: 1,
            name: "front.mp4".into(),
            file: None,
            link: None,
            duration: std::time::Duration::from_millis(12_400),
        };
        let a = alert(EventKind::Person, None);
        assert_eq!(
            clip_text(&a, &clip, &style(Language::English, "UTC")),
            "[Meerkat] 前门: person seen, 2026-11-20 21:31:14Z, clip of 12 s\n\
             Event: 01920000-0000-7000-8000-000000000002"
        );
        assert!(clip_text(&a, &clip, &Style::default()).contains("录像 12 秒"));
        for language in [Language::Chinese, Language::English] {
            let text = test_text("group", a.started, &style(language, "UTC"));
            assert!(text.contains("group") && text.contains("2026-11-20 21:31:14Z"), "{text}");
        }
    }

    #[test]
    fn a_digest_counts() {
        let line = |camera: &str, kind, count| DigestLine {
            camera: CameraId::parse(camera).unwrap(),
            camera_name: None,
            kind,
            count,
        };
        let mut digest = Digest {
            id: Uuid::nil(),
            oldest: WallTime(1_795_210_274_000_000),
            newest: WallTime(1_795_210_334_000_000),
            counts: vec![line("front", EventKind::Person, 12), line("yard", EventKind::Motion, u64::MAX)],
            already_sent: 0,
        };
        assert_eq!(digest.total(), u64::MAX);
        digest.counts[1].count = 30;
        assert_eq!(
            digest_text(&digest, &style(Language::English, "UTC")),
            "[Meerkat] 42 alerts could not be sent in time, 2026-11-20 21:31:14Z to 2026-11-20 21:32:14Z\n\
             front: person seen, 12 times\nyard: motion, 30 times"
        );
        digest.counts = vec![line("front", EventKind::Person, 1); 1000];
        let text = digest_text(&digest, &Style::default());
        assert_eq!(text.lines().count(), 22);
        assert!(text.ends_with("另有 980 项"), "{text}");
    }

    #[test]
    fn zones_are_offsets_or_names() {
        let time = WallTime(1_795_210_274_000_000);
        for (zone, shown) in [
            ("UTC", "2026-11-20 21:31:14Z"),
            ("+0800", "2026-11-21 05:31:14+08:00"),
            ("-03:30", "2026-11-20 18:01:14-03:30"),
        ] {
            assert_eq!(Zone::parse(zone).unwrap().format(time), shown, "{zone}");
        }
        for bad in
            ["", "+8", "+24:00", "+08:60", "+0a:00", "+é:00", "Mars/Olympus", "../etc/passwd", "+08:00:00"]
        {
            assert_eq!(Zone::parse(bad), Err(BadZone), "{bad}");
        }
        assert!(Zone::parse("system").is_ok());
        assert_eq!(Zone::default().format(WallTime(i64::MAX)), "1970-01-01 00:00:00Z");
        // Needs the machine's tzdata, which a minimal one lacks; then the name is refused, never guessed.
        if let Ok(zone) = Zone::parse("Asia/Shanghai") {
            assert_eq!(zone.format(time), "2026-11-21 05:31:14+08:00");
        }
    }
}
