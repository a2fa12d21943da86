//! What the HTTP side is shown of the running node and of its database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use meerkat_actors::Node;
use meerkat_actors::camera::CameraReport;
use meerkat_actors::node::NodeHandle;
use meerkat_actors::notifier::ChannelReport;
use meerkat_actors::supervision;
use meerkat_base::{CameraId, Clock, EventId, ImageFormat, Mode, MonoTime, Sighting, WallTime};
use meerkat_store::inventory::ClipQuery;
use meerkat_store::{ClipState, DataLock, EventCursor, EventRow, Store, StoreError, StoreReader};
use meerkat_web as web;
use metrics_exporter_prometheus::PrometheusHandle;

use super::detectors::Detectors;
use super::housekeeping::DiskState;
use super::nightly::StoreState;
use super::reading::Reading;
use super::rows::{SentEvent, SentFile, SentSighting, SentVisit};
use crate::settings::Settings;

/// The node for the HTTP side.
pub(super) struct View {
    node: NodeHandle,
    disk: DiskState,
    store: StoreState,
    listeners: Vec<web::ListenerStatus>,
    notices: Vec<String>,
    detectors: Arc<Detectors>,
    clock: Arc<dyn Clock>,
    started: WallTime,
    started_mono: MonoTime,
    metrics: PrometheusHandle,
}

impl View {
    pub fn new(
        node: &Node,
        (disk, store): (DiskState, StoreState),
        settings: &Settings,
        clock: &Arc<dyn Clock>,
        started: WallTime,
        metrics: PrometheusHandle,
        detectors: Arc<Detectors>,
    ) -> Self {
        let listeners = node
            .addresses()
            .iter()
            .map(|(address, tls)| web::ListenerStatus {
                dialect: if *tls { "frame+tls" } else { "frame" }.to_owned(),
                address: address.to_string(),
            })
            .collect();
        let mut notices = Vec::new();
        if settings.notify.channels.is_empty() {
            notices.push("No channel is configured: events are recorded, but nobody is told.".to_owned());
        }
        let started_mono = clock.mono();
        Self {
            node: node.view(),
            disk,
            store,
            listeners,
            notices,
            detectors,
            clock: Arc::clone(clock),
            started,
            started_mono,
            metrics,
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            self.node.down().iter().map(|kind| format!("actor {kind} waits for its restart")).collect();
        problems.extend(self.disk.problem());
        problems.extend(self.store.problems());
        let abandoned = self.node.abandoned_threads();
        if abandoned > 0 {
            problems.push(format!("{abandoned} threads hang in native code and were given up"));
        }
        problems
    }
}

impl web::NodeView for View {
    fn status(&self) -> web::Status {
        let problems = self.problems();
        let degraded = !problems.is_empty();
        web::Status {
            node: web::NodeStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: super::COMMIT.to_owned(),
                started: self.started,
                uptime_seconds: self.clock.mono().since(self.started_mono).as_secs_f64(),
                degraded,
                notices: problems
                    .into_iter()
                    .chain(self.detectors.notices())
                    .chain(self.notices.iter().cloned())
                    .collect(),
            },
            listeners: self.listeners.clone(),
            cameras: self.node.cameras().into_iter().map(camera_status).collect(),
            actors: self.node.actors().into_iter().map(actor_status).collect(),
            queues: web::QueueStatus {
                in_flight_bytes: self.node.in_flight_bytes() as u64,
                ring_bytes: self.node.ring_bytes() as u64,
                outbox_waiting: self.node.outbox_waiting(),
                mailboxes: self
                    .node
                    .queues()
                    .into_iter()
                    .map(|(actor, waiting)| web::MailboxStatus {
                        actor: actor.to_owned(),
                        waiting: waiting as u64,
                    })
                    .collect(),
            },
            channels: self.node.channels().into_iter().map(channel_status).collect(),
            snoozes: self.node.rules().snoozes().iter().map(super::snoozes::status).collect(),
            detectors: self
                .node
                .detectors()
                .iter()
                .map(|(role, info)| web::DetectorStatus::new(role, info))
                .collect(),
            abandoned_threads: self.node.abandoned_threads() as u64,
        }
    }

    fn latest_picture(&self, camera: &CameraId) -> Option<(Bytes, ImageFormat, WallTime)> {
        let frame = self.node.camera(camera)?.latest()?;
        Some((frame.bytes, frame.format, frame.wall))
    }

    fn render_metrics(&self) -> String {
        self.metrics.render()
    }

    fn ready(&self) -> web::Readiness {
        let reasons = self.problems();
        web::Readiness { ok: reasons.is_empty(), reasons }
    }

    fn confirm_store(&self) -> Result<bool, String> {
        let confirmed =
            self.node.archivist().ask_blocking(Store::confirm).map_err(|error| error.to_string())?;
        if let Some(suspended) = &confirmed {
            tracing::info!(reason = suspended.reason, "somebody looked at the database: deletion goes on");
        }
        Ok(confirmed.is_some())
    }

    fn request_new_reference(&self, camera: &CameraId) -> bool {
        match self.node.camera(camera) {
            Some(camera) if camera.mode() == Some(Mode::Guard) => {
                camera.want_reference();
                true
            }
            _ => false,
        }
    }
}

fn camera_status(report: CameraReport) -> web::CameraStatus {
    web::CameraStatus {
        id: report.id,
        connected: report.connected,
        up: report.up,
        mode: report.mode,
        dialect: report.last_frame.map(|_| "frame".to_owned()),
        last_frame: report.last_frame,
        frames: report.frames,
        frames_per_second: report.frames_per_second,
        refused: report.refused,
        ring_bytes: report.ring_bytes as u64,
        slots: report
            .slots
            .into_iter()
            .map(|slot| web::SlotStatus {
                detector: slot.detector.to_owned(),
                full: slot.full,
                replaced: slot.replaced,
            })
            .collect(),
        recording: report.recording,
    }
}

fn channel_status((name, report): (String, ChannelReport)) -> web::ChannelStatus {
    web::ChannelStatus {
        name,
        kind: report.kind.to_owned(),
        breaker: report.breaker.as_str().to_owned(),
        waiting: report.backlog.waiting,
        dead: report.backlog.dead,
        waiting_since: report.backlog.oldest,
        last_delivery: report.news.last_delivery,
        last_error: report.news.last_error,
    }
}

fn actor_status(report: supervision::ActorReport) -> web::ActorStatus {
    web::ActorStatus {
        kind: report.kind.to_string(),
        camera: report.camera,
        generation: u64::from(report.generation),
        state: match report.state {
            supervision::ActorState::Running => web::ActorState::Running,
            supervision::ActorState::BackingOff => web::ActorState::BackingOff,
        },
        restarts: u64::from(report.restarts),
        last_error: report.last_error,
        last_restart: report.last_failure,
    }
}

/// Clips and names, or frames and boxes, in one answer to the command line: some megabytes.
const MAX_PARTS: usize = 15_000;

/// The stored events for the HTTP side.
pub(super) struct Events {
    events: Reading,
    /// Of its own: whoever compares all files with their rows keeps nobody from the events.
    clips: Reading,
}

impl Events {
    pub fn new(data_dir: &Path, lock: DataLock) -> Self {
        let reading = |lock| Reading::watchful(data_dir, lock);
        Self { events: reading(lock.clone()), clips: reading(lock) }
    }

    fn ask<R>(
        &self,
        question: impl FnOnce(&StoreReader) -> Result<R, StoreError>,
    ) -> Result<R, web::EventSourceError> {
        self.events.ask(question).map_err(unread)
    }

    fn ask_clips<R>(
        &self,
        question: impl FnOnce(&StoreReader) -> Result<R, StoreError>,
    ) -> Result<R, web::EventSourceError> {
        self.clips.ask(question).map_err(unread)
    }
}

fn unread(error: StoreError) -> web::EventSourceError {
    web::EventSourceError(error.to_string())
}

fn stored(query: &web::EventQuery) -> meerkat_store::EventQuery {
    meerkat_store::EventQuery {
        limit: query.limit,
        before: query.before.map(|place| EventCursor { started: place.started, id: place.id }),
        camera: query.camera.clone(),
        kind: query.kind,
        person: query.person.clone(),
        since: query.since,
        until: query.until,
    }
}

/// Rows from the first on, until together they are as heavy as one answer may be; the first one always. What is counted
/// is up to `weight`. Says whether some were left out.
fn cut<T>(rows: &mut Vec<T>, most: usize, weight: impl Fn(&T) -> usize) -> bool {
    let mut sum = 0_usize;
    let fit = rows.iter().take_while(|row| {
        sum = sum.saturating_add(weight(row));
        sum <= most
    });
    let fit = fit.count().max(1);
    let is_cut = fit < rows.len();
    rows.truncate(fit);
    is_cut
}

fn sent(row: impl serde::Serialize) -> Result<serde_json::Value, web::EventSourceError> {
    serde_json::to_value(row).map_err(|error| web::EventSourceError(error.to_string()))
}

impl web::EventSource for Events {
    fn recent(&self, query: &web::EventQuery) -> Result<Vec<web::EventSummary>, web::EventSourceError> {
        let query = stored(query);
        Ok(self.ask(|store| store.recent_events(&query))?.into_iter().map(summary).collect())
    }

    fn rows(&self, query: &web::EventQuery) -> Result<web::RowPage<web::EventPlace>, web::EventSourceError> {
        let asked = stored(query);
        let mut events = self.ask(|store| store.recent_events(&asked))?;
        let is_full = events.len() >= query.limit;
        let is_cut = cut(&mut events, MAX_PARTS, |event| 1 + event.clips.len() + event.identities.len());
        // A full page may be the last one; then the next is empty.
        let next = events.last().filter(|_| is_full || is_cut).map(EventRow::cursor);
        let next = next.map(|place| web::EventPlace { started: place.started, id: place.id });
        let rows = events.into_iter().map(|event| sent(SentEvent::from(event)));
        Ok(web::RowPage { rows: rows.collect::<Result<_, _>>()?, next })
    }

    fn row(&self, id: EventId) -> Result<Option<serde_json::Value>, web::EventSourceError> {
        self.ask(|store| store.event(id))?.map(|event| sent(SentEvent::from(event))).transpose()
    }

    fn sighting_rows(&self, id: EventId, from_seq: u64) -> Result<web::RowPage<u64>, web::EventSourceError> {
        let mut sightings = self.ask(|store| store.sightings(id, from_seq))?;
        cut(&mut sightings, MAX_PARTS, |seen| 1 + seen.detections.len());
        let next = sightings.last().map(|last| last.seq.saturating_add(1));
        let rows = sightings.into_iter().map(|seen| sent(SentSighting::from(seen)));
        Ok(web::RowPage { rows: rows.collect::<Result<_, _>>()?, next })
    }

    fn visits(
        &self,
        query: &web::VisitQuery,
    ) -> Result<web::RowPage<web::VisitPlace>, web::EventSourceError> {
        let after = query.after.map(|place| (place.at, place.number));
        let lines =
            self.ask(|store| store.check_ins_between(query.since, query.until, after, query.limit))?;
        let next = lines.last().map(|(number, last)| web::VisitPlace { at: last.at, number: *number });
        let next = next.filter(|_| lines.len() >= query.limit);
        let rows = lines.into_iter().map(|(_, line)| sent(SentVisit::from(line)));
        Ok(web::RowPage { rows: rows.collect::<Result<_, _>>()?, next })
    }

    fn clips(&self, query: &web::ClipQuery) -> Result<web::RowPage<u64>, web::EventSourceError> {
        let (clips, next) = self.ask_clips(|store| match query {
            web::ClipQuery::Newest { camera, kind, limit } => {
                let wanted = ClipQuery { camera: camera.clone(), kind: *kind, limit: *limit };
                Ok((store.newest_clips(&wanted)?, None))
            }
            web::ClipQuery::After(number) => {
                let page = store.clips_after(*number)?;
                let next = page.last().map(|(last, _)| *last);
                Ok((page.into_iter().map(|(_, clip)| clip).collect(), next))
            }
            web::ClipQuery::At(path) => Ok((store.clips_at(path)?, None)),
        })?;
        let rows = clips.into_iter().map(|clip| sent(SentFile::from(clip)));
        Ok(web::RowPage { rows: rows.collect::<Result<_, _>>()?, next })
    }

    fn snapshots(&self, query: &web::SnapshotQuery) -> Result<web::RowPage<u64>, web::EventSourceError> {
        let (paths, next): (Vec<String>, _) = self.ask_clips(|store| match query {
            web::SnapshotQuery::After(number) => {
                let page = store.snapshots_after(*number)?;
                let next = page.last().map(|(last, _)| *last);
                Ok((page.into_iter().map(|(_, snapshot)| snapshot.path).collect(), next))
            }
            web::SnapshotQuery::At(path) => {
                let is_there = store.has_snapshot(path)?;
                Ok((is_there.then(|| path.clone()).into_iter().collect(), None))
            }
        })?;
        Ok(web::RowPage { rows: paths.into_iter().map(serde_json::Value::from).collect(), next })
    }

    fn event(&self, id: EventId) -> Result<Option<web::EventSummary>, web::EventSourceError> {
        Ok(self.ask(|store| store.event(id))?.map(summary))
    }

    fn sightings(&self, id: EventId, from_seq: u64) -> Result<Vec<Sighting>, web::EventSourceError> {
        self.ask(|store| store.sightings(id, from_seq))
    }
}

fn summary(row: EventRow) -> web::EventSummary {
    web::EventSummary {
        id: row.id,
        camera: row.camera,
        kind: row.kind,
        started: row.started,
        ended: row.ended,
        score: row.score,
        identities: row.identities,
        recording_refused: row.recording_refused,
        kept: row.kept,
        // One that was set aside is a spool, not a file to play.
        clip: row
            .clips
            .iter()
            .find(|clip| clip.state != ClipState::SetAside)
            .map(|clip| PathBuf::from(&clip.path)),
        snapshot: row.snapshot.map(PathBuf::from),
        detail: row.detail,
        snoozed: row.snoozed,
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn an_answer_is_cut_before_it_gets_too_heavy_but_never_to_nothing() {
        for (weights, most, left) in [
            (vec![1, 1, 1], 3, 3),
            (vec![1, 1, 1], 2, 2),
            (vec![9, 1], 3, 1),
            (vec![1, 9, 1], 3, 1),
            (vec![usize::MAX, usize::MAX], usize::MAX, 2),
            (vec![], 3, 0),
        ] {
            let mut rows = weights.clone();
            assert_eq!(cut(&mut rows, most, |weight| *weight), left < weights.len(), "{weights:?}");
            assert_eq!(rows.len(), left, "{weights:?}");
        }
    }
}
