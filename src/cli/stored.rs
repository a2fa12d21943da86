//! What is stored, for commands that only look: asked of the node that runs in the data folder, or read from the
//! database under the lock of the folder where none runs. The lock is held for one question at a time, so that whoever
//! reads what is printed at leisure keeps no node from starting.

use std::time::{Duration, Instant};

use anyhow::Context;
use meerkat_base::{EventId, Sighting, WallTime};
use meerkat_store::{CheckInRow, DataLock, EventCursor, EventQuery, EventRow, StoreError, StoreReader};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::running_node::{RunningNode, escaped};
use crate::app::rows::{SentEvent, SentSighting, SentVisit};
use crate::app::unusable_folder;
use crate::settings::Settings;

/// Events that one question asks for: what a node answers at most.
pub(super) const PAGE: usize = meerkat_web::MAX_EVENTS;
/// How long somebody who has the folder and is no node that answers is waited for: another command may look too.
const PATIENCE: Duration = Duration::from_millis(1_500);
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Where it is asked.
pub(super) struct Stored<'a> {
    settings: &'a Settings,
    /// The node that runs, once it was met.
    node: Option<RunningNode>,
}

/// Who has the data folder.
pub(super) enum Holder<'n> {
    /// Nobody did: this lock is ours now. None where there is no data folder.
    Nobody(Option<DataLock>),
    /// A node that answers.
    Node(&'n RunningNode),
}

impl<'a> Stored<'a> {
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, node: None }
    }

    /// Looks who has the data folder.
    pub fn holder(&mut self) -> anyhow::Result<Holder<'_>> {
        if self.node.is_none() {
            // Looking must not make a folder.
            if !self.settings.data_dir.is_dir() {
                return Ok(Holder::Nobody(None));
            }
            match self.take_or_find()? {
                Ok(lock) => return Ok(Holder::Nobody(Some(lock))),
                Err(node) => self.node = Some(node),
            }
        }
        let node = self.node.as_ref().expect("it was found above, or before");
        Ok(Holder::Node(node))
    }

    fn take_or_find(&self) -> anyhow::Result<Result<DataLock, RunningNode>> {
        let began = Instant::now();
        loop {
            let error = match DataLock::take_to_look(&self.settings.data_dir) {
                Ok(lock) => return Ok(Ok(lock)),
                Err(error) => error,
            };
            let StoreError::Locked { holder, .. } = &error else {
                return Err(unusable_folder(&self.settings.data_dir, error));
            };
            match RunningNode::find(self.settings, holder) {
                Ok(node) => return Ok(Err(node)),
                Err(problem) if began.elapsed() >= PATIENCE => {
                    let listen = self.settings.http.listen;
                    return Err(
                        problem.context(format!("{error}, and cannot be asked at http.listen = {listen}"))
                    );
                }
                Err(_) => std::thread::sleep(BETWEEN_TRIES),
            }
        }
    }

    /// Whether a question was answered by a node.
    pub fn has_met_node(&self) -> bool {
        self.node.is_some()
    }

    /// Asks one question of whoever has the data folder.
    pub fn ask<R>(
        &mut self,
        of_node: impl FnOnce(&RunningNode) -> anyhow::Result<R>,
        of_store: impl FnOnce(&StoreReader) -> Result<R, StoreError>,
    ) -> anyhow::Result<R> {
        let data_dir = &self.settings.data_dir;
        match self.holder()? {
            Holder::Node(node) => of_node(node),
            Holder::Nobody(_lock) => Ok(of_store(&StoreReader::open(data_dir)?)?),
        }
    }

    /// A page of events, and where the next one begins; none at the end, and a next one may be empty.
    pub fn events(&mut self, query: &EventQuery) -> anyhow::Result<(Vec<EventRow>, Option<EventCursor>)> {
        self.ask(
            |node| {
                let mut answer = node.get(&format!("store/events?{}", event_question(query)))?;
                let rows: Vec<SentEvent> = rows(&mut answer, "events")?;
                let next = answer["next"].as_str().map(str::parse).transpose();
                let rows = rows.into_iter().map(SentEvent::row).collect::<anyhow::Result<_>>()?;
                Ok((rows, next.context("the place of the next page")?))
            },
            |store| {
                let page = store.recent_events(query)?;
                // A full page may be the last one; then the next is empty.
                let next = page.last().filter(|_| page.len() == query.limit).map(EventRow::cursor);
                Ok((page, next))
            },
        )
    }

    /// One event.
    pub fn event(&mut self, id: EventId) -> anyhow::Result<Option<EventRow>> {
        self.ask(
            |node| {
                let Some(answer) = node.get_if_there(&format!("store/events/{id}"))? else { return Ok(None) };
                let sent: SentEvent = serde_json::from_value(answer).context(NO_ROWS)?;
                sent.row().map(Some)
            },
            |store| store.event(id),
        )
    }

    /// What was seen during an event.
    pub fn sightings(&mut self, id: EventId) -> anyhow::Result<Vec<Sighting>> {
        let mut sightings: Vec<Sighting> = Vec::new();
        loop {
            let from = sightings.last().map_or(0, |last| last.seq.saturating_add(1));
            let page = self.ask(
                |node| {
                    let mut answer = node.get(&format!("store/events/{id}/sightings?from={from}"))?;
                    let rows: Vec<SentSighting> = rows(&mut answer, "sightings")?;
                    Ok(rows.into_iter().map(Sighting::from).collect())
                },
                |store| store.sightings(id, from),
            )?;
            if page.is_empty() {
                return Ok(sightings);
            }
            sightings.extend(page);
        }
    }

    /// Who is enrolled, and since when.
    pub fn people(&mut self) -> anyhow::Result<Vec<(String, WallTime)>> {
        self.ask(
            |node| {
                let people = node.people()?.into_iter();
                people.map(|one| Ok((one.name, moment(&one.created)?))).collect()
            },
            |store| Ok(store.people()?.into_iter().map(|one| (one.name, one.created)).collect()),
        )
    }

    /// Calls `take` with each visit that began in a span of time, oldest first.
    pub fn each_visit(
        &mut self,
        (since, until): (WallTime, WallTime),
        mut take: impl FnMut(CheckInRow),
    ) -> anyhow::Result<()> {
        let mut after: Option<(WallTime, u64)> = None;
        loop {
            let (visits, next) = self.ask(
                |node| {
                    let mut question = format!(
                        "store/visits?since={}&until={}&limit={}",
                        escaped(&exact(since)),
                        escaped(&exact(until)),
                        meerkat_web::MAX_VISITS
                    );
                    if let Some((at, number)) = after {
                        question.push_str(&format!("&after={}_{number}", at.0));
                    }
                    let mut answer = node.get(&question)?;
                    let sent: Vec<SentVisit> = rows(&mut answer, "visits")?;
                    let visits = sent.into_iter().map(SentVisit::row).collect::<anyhow::Result<Vec<_>>>()?;
                    let next = answer["next"].as_str().map(str::parse::<meerkat_web::VisitPlace>).transpose();
                    let next = next.context("the place of the next page")?;
                    Ok((visits, next.map(|place| (place.at, place.number))))
                },
                |store| {
                    let limit = meerkat_web::MAX_VISITS;
                    let lines = store.check_ins_between(since, until, after, limit)?;
                    let next = lines.last().map(|(number, last)| (last.at, *number));
                    let next = next.filter(|_| lines.len() >= limit);
                    Ok((lines.into_iter().map(|(_, line)| line).collect(), next))
                },
            )?;
            visits.into_iter().for_each(&mut take);
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }
}

const NO_ROWS: &str = "the node answers with something that is no row; is it of this version?";

/// The rows that an answer has under a name.
pub(super) fn rows<T: DeserializeOwned>(answer: &mut Value, name: &str) -> anyhow::Result<Vec<T>> {
    serde_json::from_value(answer[name].take()).context(NO_ROWS)
}

fn moment(text: &str) -> anyhow::Result<WallTime> {
    let moment: jiff::Timestamp = text.parse().with_context(|| format!("the moment {text}"))?;
    Ok(WallTime(moment.as_microsecond()))
}

/// A moment to the microsecond, as a request takes it.
fn exact(at: WallTime) -> String {
    jiff::Timestamp::from_microsecond(at.0)
        .unwrap_or(if at.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX })
        .to_string()
}

/// The query as the interface of a node takes it.
fn event_question(query: &EventQuery) -> String {
    let given = [
        ("camera", query.camera.as_ref().map(|camera| camera.as_str().to_owned())),
        ("kind", query.kind.map(|kind| kind.as_str().to_owned())),
        ("person", query.person.clone()),
        ("since", query.since.map(exact)),
        ("until", query.until.map(exact)),
        ("before", query.before.map(|place| place.to_string())),
    ];
    let mut question = format!("limit={}", query.limit);
    for (key, value) in given {
        if let Some(value) = value {
            question.push_str(&format!("&{key}={}", escaped(&value)));
        }
    }
    question
}

#[cfg(test)]
mod tests {
    use meerkat_base::{CameraId, EventKind};

    use super::*;

    #[test]
    fn questions_keep_every_microsecond_and_every_character() {
        let query = EventQuery {
            limit: 7,
            camera: Some(CameraId::from_shown("fe80::1~2").unwrap()),
            kind: Some(EventKind::Face),
            person: Some("Li & 雷".to_owned()),
            since: Some(WallTime(1_795_210_274_123_456)),
            until: Some(WallTime(i64::MAX)),
            before: Some(EventCursor { started: WallTime(-5), id: EventId::new(WallTime(0), [0; 10]) }),
        };
        let question = event_question(&query);
        assert!(question.starts_with("limit=7&camera=fe80%3A%3A1~2&kind=face&person=Li%20%26%20%E9%9B%B7&"));
        assert!(question.contains("&since=2026-11-20T21%3A31%3A14.123456Z&"), "{question}");
        assert!(question.contains("&until=9999-12-30T"), "{question}");
        assert_eq!(moment("2026-11-20T21:31:14.123Z").unwrap().0, 1_795_210_274_123_000);
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made_and_a_question_leaves_it_free() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let env = [("MEERKAT__DATA_DIR".to_owned(), data.display().to_string())];
        let settings = Settings::load(&[], env.into_iter()).unwrap();
        let mut stored = Stored::new(&settings);
        assert!(stored.event(EventId::new(WallTime(0), [0; 10])).is_err());
        assert!(!data.exists());
        drop(meerkat_store::Store::open(&data, meerkat_store::StoreOptions::default()).unwrap());
        assert!(stored.event(EventId::new(WallTime(0), [0; 10])).unwrap().is_none());
        DataLock::take(&data).unwrap();
    }

    #[test]
    fn a_command_that_looks_waits_for_another_one() {
        let folder = tempfile::tempdir().unwrap();
        drop(meerkat_store::Store::open(folder.path(), meerkat_store::StoreOptions::default()).unwrap());
        let env = [
            ("MEERKAT__DATA_DIR".to_owned(), folder.path().display().to_string()),
            // Nobody listens there.
            ("MEERKAT__HTTP__LISTEN".to_owned(), "127.0.0.1:1".to_owned()),
        ];
        let settings = Settings::load(&[], env.into_iter()).unwrap();
        let other = DataLock::take(folder.path()).unwrap();
        let mut stored = Stored::new(&settings);
        let error = stored.people().unwrap_err();
        assert!(format!("{error:#}").contains("http.listen"), "{error:#}");
        drop(other);
        assert!(stored.people().unwrap().is_empty());
    }
}
