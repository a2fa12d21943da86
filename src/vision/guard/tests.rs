//! The guard over drawn planes: what must raise an alarm, and what must not.

use super::*;
use crate::testing::{Canvas, Noise, WIDTH, at, plane_of};

/// The object of these tests: a vase of 16x24 pixels of the plane on the table.
const VASE: (i32, i32) = (84, 62);

fn vase(canvas: Canvas, dx: i32, dy: i32) -> Canvas {
    canvas.block(VASE.0 + dx, VASE.1 + dy, 16, 24, 50.0)
}

/// A figure as tall as most of the picture.
fn figure(canvas: Canvas, x: i32) -> Canvas {
    canvas.block(x, 20, 26, 95, 190.0)
}

struct Watch {
    guard: Guard,
    noise: Noise,
    n: u64,
    alarms: Vec<GuardAlarm>,
}

impl Watch {
    fn new(zone: Option<Rect>) -> Self {
        let guard = Guard::new(GuardSettings { zone, ..GuardSettings::default() });
        Self { guard, noise: Noise::new(9), n: 0, alarms: Vec::new() }
    }

    fn zoned() -> Self {
        Self::new(Some(Rect::new(0.42, 0.38, 0.32, 0.48)))
    }

    fn see(&mut self, canvas: &Canvas) -> GuardReport {
        self.n += 1;
        let report = self.guard.observe(&canvas.plane(&mut self.noise, 2.5), at(self.n)).unwrap();
        self.alarms.extend(report.alarm);
        report
    }

    fn see_for(&mut self, frames: usize, canvas: &Canvas) -> GuardReport {
        (0..frames).map(|_| self.see(canvas)).last().unwrap()
    }

    /// Learns the vase in its place.
    fn settle(&mut self) {
        let report = self.see_for(30, &vase(Canvas::room(), 0, 0));
        assert_eq!(report.state, GuardState::Watching);
        let truth = Rect::new(VASE.0 as f32 * 4.0, VASE.1 as f32 * 4.0, 64.0, 96.0);
        let found = report.object.unwrap();
        assert!(found.iou(&truth) > 0.75, "{found:?} for {truth:?}");
        let middle = report.centroid.unwrap();
        assert!((middle.x - truth.center().x).abs() < 8.0 && (middle.y - truth.center().y).abs() < 8.0);
    }

    /// A figure crosses the picture from left to right, over whatever `scene` paints.
    fn walk_by(&mut self, scene: impl Fn() -> Canvas) {
        for x in (-30..180).step_by(4) {
            self.see(&figure(scene(), x));
        }
    }
}

#[test]
fn noise_raises_nothing() {
    let mut watch = Watch::zoned();
    watch.settle();
    for _ in 0..500 {
        let report = watch.see(&vase(Canvas::room(), 0, 0));
        assert_eq!((report.state, report.displacement_px), (GuardState::Watching, 0.0));
    }
    assert_eq!(watch.alarms, []);
}

#[test]
fn somebody_walking_by_raises_nothing() {
    for zone in [Some(Rect::new(0.42, 0.38, 0.32, 0.48)), None] {
        let mut watch = Watch::new(zone);
        watch.settle();
        for _ in 0..3 {
            watch.walk_by(|| vase(Canvas::room(), 0, 0));
            assert_eq!(watch.see_for(10, &vase(Canvas::room(), 0, 0)).state, GuardState::Watching);
        }
        assert_eq!(watch.alarms, []);
    }
}

#[test]
fn somebody_standing_in_front_is_waited_for() {
    let mut watch = Watch::zoned();
    watch.settle();
    let report = watch.see_for(100, &figure(vase(Canvas::room(), 0, 0), 80));
    assert_eq!(report.state, GuardState::Covered);
    assert_eq!(watch.see_for(10, &vase(Canvas::room(), 0, 0)).state, GuardState::Watching);
    assert_eq!(watch.alarms, []);
}

#[test]
fn light_raises_nothing() {
    let mut watch = Watch::zoned();
    watch.settle();
    for (gain, offset) in [(1.0, 45.0), (0.5, 0.0), (1.25, 0.0), (0.8, -20.0), (1.0, 0.0)] {
        for _ in 0..40 {
            let report = watch.see(&vase(Canvas::room(), 0, 0).lit(gain, offset));
            assert_eq!(report.state, GuardState::Watching, "{gain} {offset}");
        }
    }
    // Lights out and on again.
    watch.see_for(60, &Canvas::room().lit(0.0, 3.0));
    assert_eq!(watch.see_for(20, &vase(Canvas::room(), 0, 0)).state, GuardState::Watching);
    assert_eq!(watch.alarms, []);
}

#[test]
fn carried_away_is_said_once_and_a_new_object_is_guarded() {
    let mut watch = Watch::zoned();
    watch.settle();
    // The figure comes, and takes the vase along from where it stood.
    for x in (-30..180).step_by(4) {
        let scene = if x < VASE.0 { vase(Canvas::room(), 0, 0) } else { Canvas::room() };
        let scene = figure(scene, x);
        watch.see(&if x < VASE.0 { scene } else { vase(scene, x - VASE.0, 0) });
        assert!(watch.alarms.is_empty() || x > VASE.0 + 30, "said while the view was not free: {x}");
    }
    watch.see_for(200, &Canvas::room());
    assert_eq!(watch.alarms, [GuardAlarm::ObjectRemoved]);
    assert_eq!(watch.see(&Canvas::room()).state, GuardState::Gone);
    watch.walk_by(Canvas::room);
    assert_eq!(watch.alarms.len(), 1);

    let report = watch.see_for(90, &vase(Canvas::room(), 0, 0));
    assert_eq!(report.state, GuardState::Watching, "put back");
    watch.see_for(60, &Canvas::room());
    assert_eq!(watch.alarms, [GuardAlarm::ObjectRemoved, GuardAlarm::ObjectRemoved]);
}

#[test]
fn shifted_is_said_once_and_the_new_place_counts() {
    for (dx, dy) in [(6, 0), (-5, 2), (12, 0), (0, -5)] {
        let mut watch = Watch::zoned();
        watch.settle();
        let report = watch.see(&vase(Canvas::room(), dx, dy));
        assert_eq!(report.state, GuardState::Displaced, "{dx} {dy}");
        let expected = f32::hypot(dx as f32, dy as f32) * 4.0;
        assert!((report.displacement_px - expected).abs() < 6.0, "{} for {expected}", report.displacement_px);
        let report = watch.see_for(100, &vase(Canvas::room(), dx, dy));
        assert_eq!(watch.alarms, [GuardAlarm::ObjectMoved], "{dx} {dy}");
        assert_eq!((report.state, report.displacement_px), (GuardState::Watching, 0.0));
        watch.walk_by(|| vase(Canvas::room(), dx, dy));
        watch.see_for(60, &Canvas::room());
        assert_eq!(watch.alarms, [GuardAlarm::ObjectMoved, GuardAlarm::ObjectRemoved], "{dx} {dy}");
    }
}

#[test]
fn a_nudge_below_the_threshold_is_no_alarm() {
    let mut watch = Watch::zoned();
    watch.settle();
    watch.see_for(100, &vase(Canvas::room(), 2, 0));
    assert_eq!(watch.alarms, []);
}

#[test]
fn shifted_during_a_visit_is_said_when_it_is_seen() {
    let mut watch = Watch::zoned();
    watch.settle();
    for x in (-30..180).step_by(4) {
        let dx = if x < 70 { 0 } else { 8 };
        watch.see(&figure(vase(Canvas::room(), dx, 0), x));
    }
    watch.see_for(100, &vase(Canvas::room(), 8, 0));
    assert_eq!(watch.alarms, [GuardAlarm::ObjectMoved]);
}

#[test]
fn furniture_that_is_moved_beside_it_becomes_part_of_the_scene() {
    let mut watch = Watch::zoned();
    watch.settle();
    let furnished = || vase(Canvas::room(), 0, 0).block(103, 50, 14, 30, 200.0);
    watch.see_for(100, &furnished());
    assert_eq!(watch.alarms, []);
    watch.see_for(60, &Canvas::room().block(103, 50, 14, 30, 200.0));
    assert_eq!(watch.alarms, [GuardAlarm::ObjectRemoved]);
}

#[test]
fn an_empty_zone_waits_for_an_object() {
    let mut watch = Watch::zoned();
    let empty = Canvas { levels: vec![120.0; Canvas::room().levels.len()] };
    assert_eq!(watch.see_for(30, &empty).state, GuardState::NoObject);
    let report = watch.see_for(100, &vase(Canvas { levels: empty.levels.clone() }, 0, 0));
    assert_eq!(report.state, GuardState::Watching);
    watch.guard.new_reference();
    assert_eq!(watch.see(&empty).state, GuardState::Learning);
    assert_eq!(watch.alarms, []);
}

#[test]
fn an_unsteady_scene_is_not_learned() {
    let mut watch = Watch::zoned();
    for n in 0..60 {
        let report = watch.see(&figure(vase(Canvas::room(), 0, 0), 60 + n % 20));
        assert_eq!(report.state, GuardState::Learning);
    }
    watch.settle();
}

#[test]
fn odd_planes_do_no_harm() {
    let mut watch = Watch::zoned();
    watch.settle();
    let other = plane_of(80, 60, vec![10; 4800]);
    assert_eq!(watch.guard.observe(&other, at(0)).unwrap().state, GuardState::Learning);
    for n in 0..40 {
        watch.guard.observe(&plane_of(1, 1, vec![n as u8]), at(n)).unwrap();
    }
    assert_eq!(watch.guard.observe(&GrayPlane::new(), at(0)).unwrap().state, GuardState::Learning);
    let mut nowhere = Watch::new(Some(Rect::new(2.0, f32::NAN, -1.0, 9.0)));
    assert_eq!(nowhere.see_for(40, &vase(Canvas::room(), 0, 0)).state, GuardState::NoObject);
    // An object at the very edge of the picture.
    let mut edge = Watch::new(Some(Rect::new(0.0, 0.0, 1.0, 1.0)));
    let corner = || Canvas::room().block(1, 1, 20, 20, 30.0);
    edge.see_for(30, &corner());
    edge.see_for(30, &Canvas::room().block(-6, -4, 20, 20, 30.0));
    assert_eq!(WIDTH, 160);
}
