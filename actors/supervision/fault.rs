//! A hook by which a test makes any actor panic, fail or hang. Without the feature `fault-injection` it is nothing.

use meerkat_base::CameraId;
use meerkat_store::StoreError;
use meerkat_store::fault::{self as disk_fault, DiskOp};

use super::{ActorKind, Failure};

/// Called once by every actor for each piece of work it takes up.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn point(_kind: ActorKind, _camera: Option<&CameraId>) -> Result<(), Failure> {
    Ok(())
}

/// Called by the archivist before each piece of work: the disk may be planned to refuse it.
pub fn database() -> Result<(), StoreError> {
    disk_fault::point(DiskOp::Database).map_err(|source| StoreError::Io { path: "meerkat.db".into(), source })
}

/// Takes orders for faults from the standard input, where a test asks for that. Does nothing without the feature.
#[cfg(not(feature = "fault-injection"))]
pub fn take_orders() {}

#[cfg(feature = "fault-injection")]
pub use injected::{Fault, Injection, inject, point, take_orders};

#[cfg(feature = "fault-injection")]
mod injected {
    use super::*;
    use std::sync::{Arc, Condvar, Mutex, PoisonError};

    /// What is to go wrong.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Fault {
        /// The actor panics.
        Panic,
        /// The actor returns an error.
        Error,
        /// The actor's thread stands still until the [`Injection`] is dropped.
        Hang,
    }

    struct Planned {
        kind: ActorKind,
        camera: Option<CameraId>,
        fault: Fault,
        left: u32,
        gate: Arc<Gate>,
    }

    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
    }

    static PLANNED: Mutex<Vec<Planned>> = Mutex::new(Vec::new());

    /// A fault that is planned; dropping it cancels what has not happened and frees threads that hang in it.
    pub struct Injection {
        gate: Arc<Gate>,
    }

    /// Plans a fault for the next `times` pieces of work of an actor (of any camera when `camera` is `None`).
    pub fn inject(kind: ActorKind, camera: Option<CameraId>, fault: Fault, times: u32) -> Injection {
        let gate = Arc::new(Gate::default());
        let planned = Planned { kind, camera, fault, left: times, gate: Arc::clone(&gate) };
        PLANNED.lock().unwrap_or_else(PoisonError::into_inner).push(planned);
        Injection { gate }
    }

    impl Injection {
        /// Whether all planned faults have happened.
        pub fn is_spent(&self) -> bool {
            let planned = PLANNED.lock().unwrap_or_else(PoisonError::into_inner);
            !planned.iter().any(|p| Arc::ptr_eq(&p.gate, &self.gate))
        }
    }

    impl Drop for Injection {
        fn drop(&mut self) {
            let mut planned = PLANNED.lock().unwrap_or_else(PoisonError::into_inner);
            planned.retain(|p| !Arc::ptr_eq(&p.gate, &self.gate));
            *self.gate.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.gate.opened.notify_all();
        }
    }

    /// With `MEERKAT_FAULTS=stdin` in the environment: reads lines `<kind> <camera or -> <panic|error|hang> <times>`
    /// and plans those faults; `disk <open|write|sync|rename|database|commit> <enospc|eio|erofs> <times>` plans what the disk
    /// answers; `release` cancels all of them and frees what hangs. Says `order taken` once an order holds: a test waits
    /// for that before it does anything that is to meet the fault.
    pub fn take_orders() {
        if std::env::var_os("MEERKAT_FAULTS").is_none_or(|value| value != "stdin") {
            return;
        }
        std::thread::spawn(|| {
            let mut planned = Vec::new();
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if line.trim() == "release" {
                    planned.clear();
                    disk_fault::cancel();
                } else if let Some((op, errno, times)) = parse_disk(&line) {
                    disk_fault::plan(op, errno, times);
                } else if let Some((kind, camera, fault, times)) = parse(&line) {
                    planned.push(inject(kind, camera, fault, times));
                } else {
                    tracing::error!(line, "not an order for a fault");
                    continue;
                }
                tracing::info!(line, "order taken");
            }
        });
    }

    fn parse_disk(line: &str) -> Option<(DiskOp, i32, u32)> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &["disk", op, error, times] = words.as_slice() else { return None };
        let op = match op {
            "open" => DiskOp::Open,
            "write" => DiskOp::Write,
            "sync" => DiskOp::Sync,
            "rename" => DiskOp::Rename,
            "database" => DiskOp::Database,
            "commit" => DiskOp::Commit,
            _ => return None,
        };
        // As Linux numbers them.
        let errno = match error {
            "enospc" => 28,
            "eio" => 5,
            "erofs" => 30,
            _ => return None,
        };
        Some((op, errno, times.parse().ok()?))
    }

    fn parse(line: &str) -> Option<(ActorKind, Option<CameraId>, Fault, u32)> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[kind, camera, fault, times] = words.as_slice() else { return None };
        let kind = ActorKind::ALL.into_iter().find(|k| k.as_str() == kind)?;
        let camera = if camera == "-" { None } else { Some(CameraId::from_shown(camera).ok()?) };
        let fault = match fault {
            "panic" => Fault::Panic,
            "error" => Fault::Error,
            "hang" => Fault::Hang,
            _ => return None,
        };
        Some((kind, camera, fault, times.parse().ok()?))
    }

    /// Called once by every actor for each piece of work it takes up.
    pub fn point(kind: ActorKind, camera: Option<&CameraId>) -> Result<(), Failure> {
        let (fault, gate) = {
            let mut planned = PLANNED.lock().unwrap_or_else(PoisonError::into_inner);
            let found = planned
                .iter()
                .position(|p| p.kind == kind && (p.camera.is_none() || p.camera.as_ref() == camera));
            let Some(index) = found else { return Ok(()) };
            let entry = &mut planned[index];
            entry.left = entry.left.saturating_sub(1);
            let happening = (entry.fault, Arc::clone(&entry.gate));
            if entry.left == 0 {
                planned.remove(index);
            }
            happening
        };
        match fault {
            Fault::Panic => panic!("injected panic in {kind}"),
            Fault::Error => Err(Failure::error(format!("injected error in {kind}"))),
            Fault::Hang => {
                let mut open = gate.open.lock().unwrap_or_else(PoisonError::into_inner);
                while !*open {
                    open = gate.opened.wait(open).unwrap_or_else(PoisonError::into_inner);
                }
                Ok(())
            }
        }
    }
}
