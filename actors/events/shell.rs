//! The actix shell of the events actor: sightings in, changes out to one courier per event.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use meerkat_base::{Clock, EventId, EventPhase};
use meerkat_settings::EventsSettings;
use tokio::sync::mpsc::{Sender, error::TrySendError};
use tracing::warn;

use super::Seen;
use super::courier::{CourierTools, dispatch};
use super::losses::{Lost, Reason, lose};
use super::visit::{Change, Visits};
use crate::camera::Camera;
use crate::supervision::{ActorKind, Mailbox, Offer, Sentinel, fault};

/// Sightings that may wait.
const CAPACITY: usize = 1024;
/// How often events are looked through for those that are over.
const TICK: Duration = Duration::from_millis(200);

/// What every generation of the events actor is built from.
pub struct EventsTools {
    /// How sightings become events.
    pub settings: EventsSettings,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// What follows from an event.
    pub courier: CourierTools,
}

/// The events actor.
pub struct Events {
    sentinel: Sentinel,
    clock: Arc<dyn Clock>,
    courier: CourierTools,
    visits: Visits,
    couriers: HashMap<EventId, Sender<Change>>,
    cameras: HashMap<meerkat_base::CameraId, Arc<Camera>>,
    generation: u64,
}

impl Events {
    /// Nothing has happened yet.
    pub fn new(tools: &EventsTools, sentinel: Sentinel) -> Self {
        let entropy = || {
            let mut bytes = [0; 10];
            bytes.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..10]);
            bytes
        };
        Self {
            sentinel,
            clock: Arc::clone(&tools.clock),
            courier: tools.courier.clone(),
            visits: Visits::new(tools.settings.clone(), entropy),
            couriers: HashMap::new(),
            cameras: HashMap::new(),
            generation: tools.courier.next_generation(),
        }
    }

    fn carry(&mut self, camera: &Arc<Camera>, changes: Vec<Change>) {
        for mut change in changes {
            leave_out_outdated(camera, &mut change);
            let id = change.event.id;
            let over = change.event.phase == EventPhase::Ended;
            if change.event.phase == EventPhase::Started {
                self.couriers.insert(id, dispatch(self.courier.clone(), Arc::clone(camera), self.generation));
            }
            let Some(courier) = self.couriers.get(&id) else { continue };
            let is_there = hand_over(courier, change);
            if over || !is_there {
                over_with(&mut self.couriers, id);
            }
        }
    }

    fn tick(&mut self) {
        let changes = self.visits.tick(self.clock.mono());
        self.carry_all(changes);
    }

    fn carry_all(&mut self, changes: Vec<Change>) {
        for change in changes {
            if let Some(camera) = self.cameras.get(&change.event.camera).cloned() {
                self.carry(&camera, vec![change]);
            }
        }
        if self.visits.running() == 0 {
            // Nobody is kept alive for an event that is over.
            self.cameras.clear();
        }
    }
}

/// Leaves out where something was seen before the mask changed: it may be where nobody may look any more.
fn leave_out_outdated(camera: &Camera, change: &mut Change) {
    change.event.sightings.retain(|sighting| !camera.is_outdated(sighting.seq));
}

/// Hands a change to the courier of its event; whether that one is still on its way.
fn hand_over(courier: &Sender<Change>, change: Change) -> bool {
    match courier.try_send(change) {
        Ok(()) => true,
        // Only an update can be missed: the end is told by dropping the sender as well.
        Err(TrySendError::Full(missed)) => {
            lose(Lost::Part, Reason::LinkFull);
            warn!(event = %missed.event.id, "the archivist is far behind");
            true
        }
        Err(TrySendError::Closed(_)) => false,
    }
}

fn over_with(couriers: &mut HashMap<EventId, Sender<Change>>, id: EventId) {
    couriers.remove(&id);
}

impl Actor for Events {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(CAPACITY);
        ctx.run_interval(TICK, |actor, _| actor.tick());
    }
}

/// Something was seen.
#[derive(Message)]
#[rtype(result = "()")]
struct Sighted(Seen);

/// The node goes down: every event is over.
#[derive(Message)]
#[rtype(result = "()")]
struct Finish;

impl Handler<Finish> for Events {
    type Result = ();

    fn handle(&mut self, _: Finish, _: &mut Self::Context) {
        let changes = self.visits.end_all();
        self.carry_all(changes);
    }
}

/// New settings are in force.
#[derive(Message)]
#[rtype(result = "()")]
struct Reloaded(EventsSettings);

impl Handler<Sighted> for Events {
    type Result = ();

    fn handle(&mut self, Sighted(seen): Sighted, ctx: &mut Self::Context) {
        if let Err(failure) = fault::point(ActorKind::Events, Some(seen.camera.id())) {
            self.sentinel.fail(failure);
            return ctx.stop();
        }
        let changes = self.visits.see(&seen);
        if !changes.is_empty() {
            self.cameras.insert(seen.camera.id().clone(), Arc::clone(&seen.camera));
            self.carry(&seen.camera, changes);
        }
    }
}

impl Handler<Reloaded> for Events {
    type Result = ();

    fn handle(&mut self, Reloaded(settings): Reloaded, _: &mut Self::Context) {
        self.visits.reload(settings);
    }
}

/// The way to the events actor. Clones lead to the same one.
#[derive(Clone)]
pub struct EventsLink {
    mailbox: Mailbox<Events>,
    settings: Arc<Mutex<EventsSettings>>,
}

impl EventsLink {
    /// The way through this mailbox; the next generation is built with `settings`.
    pub fn new(mailbox: Mailbox<Events>, settings: Arc<Mutex<EventsSettings>>) -> Self {
        Self { mailbox, settings }
    }

    /// Tells what was seen. A sighting that finds the mailbox full or the actor restarting is lost; the next
    /// frame brings another, and the mailbox counts it.
    pub fn tell(&self, seen: Seen) {
        match self.mailbox.offer(Sighted(seen)) {
            Offer::Taken | Offer::Full | Offer::Down => {}
        }
    }

    /// Ends every event, because the node goes down.
    pub fn finish(&self) {
        match self.mailbox.offer(Finish) {
            Offer::Taken | Offer::Full | Offer::Down => {}
        }
    }

    /// Puts new settings in force, for this generation and those to come.
    pub fn reload(&self, settings: EventsSettings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings.clone();
        match self.mailbox.offer(Reloaded(settings)) {
            Offer::Taken => {}
            Offer::Full | Offer::Down => {
                warn!("new rules for events hold from the next restart of their actor")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{Event, ManualClock, MonoTime, Sighting, metric};
    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::testing::{Counters, NOON, camera, cameras, cover_all, event, found, frame, plain_frame};

    #[test]
    fn boxes_from_before_the_mask_changed_are_not_told_with_those_after() {
        let clock = ManualClock::new(NOON);
        let door = camera(&cameras(&clock, &[]), "door");
        let sighting = || {
            let (frame, _) = frame(&door, &clock);
            Sighting { wall: frame.wall, seq: frame.seq, detections: vec![found("person", 0.8, None)] }
        };
        let before = sighting();
        cover_all(&door);
        let after = sighting();
        let began = event(&plain_frame(1), 1);
        let event = Event { sightings: vec![before, after.clone()], ..began };
        let mut change = Change { event, at: MonoTime(1), proven: false };
        leave_out_outdated(&door, &mut change);
        assert_eq!(change.event.sightings, [after]);
    }

    #[test]
    fn a_change_that_finds_its_courier_far_behind_is_counted_as_lost() {
        let counters = Counters::default();
        let frame = plain_frame(1);
        let change = || Change { event: event(&frame, 1), at: MonoTime(1), proven: false };
        counters.during(|| {
            let (courier, changes) = channel(1);
            assert!(hand_over(&courier, change()));
            assert!(hand_over(&courier, change()), "the courier is still on its way");
            drop(changes);
            assert!(!hand_over(&courier, change()));
        });
        assert_eq!(counters.get(metric::EVENTS_LOST, &["part", "link_full"]), 1);
    }
}
