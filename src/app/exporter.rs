//! The metrics recorder of the process and its text form.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use meerkat_base::metric;
use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// How often histograms are drained when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder, once per process.
pub(super) fn install() -> anyhow::Result<PrometheusHandle> {
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), metric::DURATION_BUCKETS)
        .context("the buckets of the histograms")?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).ok().context("a metrics recorder is installed already")?;
    metric::describe_all();
    gauge!(metric::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "commit" => super::COMMIT).set(1.0);
    let upkeep = handle.clone();
    std::thread::Builder::new()
        .name("metrics-upkeep".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkeep.run_upkeep();
            }
        })
        .context("the thread of the metrics")?;
    Ok(HANDLE.get_or_init(|| handle).clone())
}
