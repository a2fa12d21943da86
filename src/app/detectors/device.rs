//! A network that leaves a device which fails, and goes on with the CPU. Knows nothing of pictures.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use meerkat_base::metric;
use meerkat_models::device::DeviceChoice;
use meerkat_models::engine::RunError;
use meerkat_models::networks::error::ModelError;
use metrics::counter;
use tracing::warn;

/// Since when a network has been at its work on the device.
type Busy = Mutex<Option<Instant>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the networks of one kind compute: on the device that was wanted, until it fails; then on the CPU, until the
/// program starts anew.
#[derive(Debug)]
pub(super) struct Placement {
    /// `person` or `face`.
    role: &'static str,
    model: String,
    wanted: DeviceChoice,
    fallen: Mutex<Option<String>>,
    at_work: Mutex<Vec<Weak<Busy>>>,
    /// Work that takes longer than this never ends.
    limit: Duration,
}

impl Placement {
    /// `wanted` is a device of this machine, not `auto`.
    pub fn new(role: &'static str, model: String, wanted: DeviceChoice, limit: Duration) -> Self {
        Self { role, model, wanted, fallen: Mutex::default(), at_work: Mutex::default(), limit }
    }

    /// The network's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Where a network is to be loaded now.
    pub fn device(&self) -> DeviceChoice {
        if lock(&self.fallen).is_some() { DeviceChoice::Cpu } else { self.wanted }
    }

    /// Whether that is another device than the CPU.
    pub fn is_gpu(&self) -> bool {
        matches!(self.device(), DeviceChoice::Cuda(_))
    }

    /// What the operator should know.
    pub fn notice(&self) -> Option<String> {
        let reason = lock(&self.fallen).clone()?;
        Some(format!(
            "{} failed ({reason}): {} computes on the CPU until the node is started anew.",
            self.wanted, self.model
        ))
    }

    fn fall(&self, reason: &str) {
        let mut fallen = lock(&self.fallen);
        if fallen.is_some() || self.wanted == DeviceChoice::Cpu {
            return;
        }
        *fallen = Some(reason.to_owned());
        drop(fallen);
        let (model, device) = (&self.model, self.wanted.to_string());
        warn!(model, device, reason, "the device failed; the work goes on on the CPU");
        counter!(metric::DEVICE_FALLBACKS, "detector" => self.role).increment(1);
    }

    /// A thread that was given up while it waited for the device never comes back.
    fn look_for_hanging(&self) {
        let mut at_work = lock(&self.at_work);
        at_work.retain(|busy| busy.strong_count() > 0);
        let hangs = at_work
            .iter()
            .filter_map(Weak::upgrade)
            .any(|busy| lock(&busy).is_some_and(|since| since.elapsed() >= self.limit));
        drop(at_work);
        if hangs {
            self.fall("it did not answer in time");
        }
    }
}

/// Loads a network on a device.
pub(super) type Load<N> = Arc<dyn Fn(DeviceChoice) -> Result<N, ModelError> + Send + Sync>;

/// A network on the device of its placement.
pub(super) struct OnDevice<N> {
    placement: Arc<Placement>,
    load: Load<N>,
    /// Puts the network of another device in the place of the first, which may have learnt something.
    replace: fn(&mut N, N),
    network: N,
    is_gpu: bool,
    busy: Arc<Busy>,
}

impl<N> OnDevice<N> {
    /// Loads it. A device that does not take it is left for the CPU.
    pub fn load(
        placement: Arc<Placement>,
        load: Load<N>,
        replace: fn(&mut N, N),
    ) -> Result<Self, ModelError> {
        placement.look_for_hanging();
        let mut is_gpu = placement.is_gpu();
        let network = match load(placement.device()) {
            Err(error) if is_gpu => {
                // What is wrong with the network itself is wrong on the CPU too.
                let network = load(DeviceChoice::Cpu)?;
                placement.fall(&error.to_string());
                is_gpu = false;
                network
            }
            loaded => loaded?,
        };
        let busy = Arc::new(Busy::default());
        lock(&placement.at_work).push(Arc::downgrade(&busy));
        Ok(Self { placement, load, replace, network, is_gpu, busy })
    }

    /// The network, for what needs no device.
    pub fn network(&self) -> &N {
        &self.network
    }

    /// The network, for what needs no device.
    pub fn network_mut(&mut self) -> &mut N {
        &mut self.network
    }

    /// Whether it computes elsewhere than on the CPU.
    pub fn is_gpu(&self) -> bool {
        self.is_gpu
    }

    /// Computes. Where the device fails, once more on the CPU.
    pub fn run<R>(&mut self, mut work: impl FnMut(&mut N) -> Result<R, RunError>) -> Result<R, RunError> {
        if !self.is_gpu {
            return work(&mut self.network);
        }
        if self.placement.is_gpu() {
            *lock(&self.busy) = Some(Instant::now());
            let result = work(&mut self.network);
            *lock(&self.busy) = None;
            match result {
                Ok(result) => return Ok(result),
                Err(error) => self.placement.fall(&error.reason),
            }
        }
        let fresh = (self.load)(DeviceChoice::Cpu)
            .map_err(|error| RunError { device: "cpu".to_owned(), reason: error.to_string() })?;
        (self.replace)(&mut self.network, fresh);
        self.is_gpu = false;
        work(&mut self.network)
    }
}

impl<N> Drop for OnDevice<N> {
    fn drop(&mut self) {
        // Only a panic leaves the work undone.
        if lock(&self.busy).is_some() {
            self.placement.fall("it failed in the middle of its work");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// A network that knows where it is and what it has learnt.
    struct Fake {
        device: DeviceChoice,
        learnt: u32,
    }

    fn placement(device: DeviceChoice) -> Arc<Placement> {
        Arc::new(Placement::new("person", "fake".into(), device, Duration::ZERO))
    }

    fn on(placement: &Arc<Placement>) -> OnDevice<Fake> {
        let load: Load<Fake> = Arc::new(|device| Ok(Fake { device, learnt: 0 }));
        OnDevice::load(Arc::clone(placement), load, |old, new| old.device = new.device).unwrap()
    }

    fn works(fake: &mut Fake) -> Result<DeviceChoice, RunError> {
        fake.learnt += 1;
        Ok(fake.device)
    }

    fn fails_on_gpu(fake: &mut Fake) -> Result<DeviceChoice, RunError> {
        match fake.device {
            DeviceChoice::Cpu => works(fake),
            device => Err(RunError { device: device.to_string(), reason: "no power".into() }),
        }
    }

    const GPU: DeviceChoice = DeviceChoice::Cuda(0);

    #[test]
    fn a_device_that_fails_is_left_and_nothing_is_lost() {
        let placement = placement(GPU);
        let (mut first, mut second) = (on(&placement), on(&placement));
        assert_eq!(first.run(works).unwrap(), GPU);
        assert_eq!((placement.notice(), placement.is_gpu()), (None, true));
        assert_eq!(first.run(fails_on_gpu).unwrap(), DeviceChoice::Cpu, "the same work, on the CPU");
        assert_eq!((first.network().learnt, first.is_gpu()), (2, false));
        assert!(placement.notice().unwrap().contains("cuda:0 failed (no power)"));
        assert_eq!(second.run(works).unwrap(), DeviceChoice::Cpu, "the others leave it too");
        assert_eq!(on(&placement).run(works).unwrap(), DeviceChoice::Cpu);
    }

    #[test]
    fn on_the_cpu_an_error_stays_an_error() {
        let placement = placement(DeviceChoice::Cpu);
        let mut network = on(&placement);
        let error = || RunError { device: "cpu".into(), reason: "broken".into() };
        assert!(network.run(|_| Err::<(), _>(error())).is_err());
        assert_eq!(placement.notice(), None);
        // And where both fail.
        let gpu = self::placement(GPU);
        assert!(on(&gpu).run(|_| Err::<(), _>(error())).is_err());
        assert!(!gpu.is_gpu());
    }

    #[test]
    fn panics_and_hanging_threads_count_as_failures_of_the_device() {
        let placement = placement(GPU);
        let mut network = on(&placement);
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _ = network.run(|_| -> Result<(), RunError> { panic!("out of order") });
        }));
        assert!(panicked.is_err() && !placement.is_gpu());

        let placement = self::placement(GPU);
        let mut hanging = on(&placement);
        let mut next = None;
        let own = Arc::clone(&placement);
        hanging
            .run(|_| {
                // What the supervisor does meanwhile.
                next = Some(on(&own).is_gpu());
                Ok(())
            })
            .unwrap();
        assert_eq!((next, placement.is_gpu()), (Some(false), false));
    }

    #[test]
    fn a_device_that_takes_no_network_is_left_at_once() {
        let placement = placement(GPU);
        let missing = || ModelError::Misfit { network: "fake".into(), reason: "finds no memory".into() };
        let load: Load<Fake> = Arc::new(move |device| match device {
            DeviceChoice::Cpu => Ok(Fake { device, learnt: 0 }),
            _ => Err(missing()),
        });
        let network = OnDevice::load(Arc::clone(&placement), load, |old, new| *old = new).unwrap();
        assert!(!network.is_gpu() && !placement.is_gpu());
        let broken: Load<Fake> = Arc::new(move |_| Err(missing()));
        let healthy = self::placement(GPU);
        assert!(OnDevice::load(Arc::clone(&healthy), broken, |old, new| *old = new).is_err());
        assert!(healthy.is_gpu(), "the network is to blame, not the device");
    }
}
