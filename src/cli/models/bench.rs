//! `meerkat models bench`: what the networks take on this machine. Looks at no picture: what numbers go in makes no
//! difference to the time.

use std::io::Write as _;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;
use meerkat_models::networks::catalog;
use meerkat_models::networks::network::Network;
use meerkat_models::weights::Folder;
use serde::Serialize;

use crate::cli::CliError;
use crate::cli::detect::compute;
use crate::settings::{Device, Precision, Settings};

/// Measure the networks: time per picture, time to load, memory
///
/// Without names: every network that is here and has an input of fixed size. A run is one call with --batch pictures,
/// on each of --threads threads at once, each of which has a network of its own. The first few runs are not counted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat models bench
  meerkat models bench yolox-nano --threads 1 --runs 100 --json
  meerkat models bench person-detection-retail-0013 --layers
  meerkat models bench --device cuda:0 --batch 32

With --json, one array; times are per picture, pictures_per_second is of all threads together:
  [{\"model\":\"yolox-nano\",\"device\":\"cpu\",\"threads\":1,\"batch\":1,\"runs\":30,\"median_ms\":7.1,
    \"min_ms\":6.9,\"pictures_per_second\":140.2,\"load_ms\":21.0,\"memory_bytes\":9461760}]
memory_bytes is the working memory of one network without its weights, 0 where the device does not
say.")]
pub struct BenchArgs {
    /// Networks, or files of your own
    #[arg(value_name = "NAME|PATH")]
    names: Vec<String>,

    /// Threads, each with a network of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,

    /// Where networks compute, instead of what the configuration says: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,

    /// What they compute in on a GPU, instead of what the configuration says: auto, f32 or f16
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,

    /// Pictures at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,

    /// Runs that are counted, on each thread
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,

    /// Print one JSON array
    #[arg(long)]
    json: bool,

    /// Show what each step of the networks takes, on the CPU
    #[arg(long, conflicts_with_all = ["json", "batch", "threads", "runs"])]
    layers: bool,
}

/// Runs before it counts: memory is touched, clocks are up.
const WARM_UP: u32 = 3;

/// What a network took.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    model: String,
    device: String,
    threads: u16,
    batch: u16,
    runs: u32,
    median_ms: f64,
    min_ms: f64,
    pictures_per_second: f64,
    load_ms: f64,
    memory_bytes: usize,
}

/// Measures.
pub fn run(args: &BenchArgs, settings: &Settings, folder: &Folder) -> Result<(), CliError> {
    let mut settings = settings.clone();
    settings.detectors.device = args.device.unwrap_or(settings.detectors.device);
    settings.detectors.precision = args.precision.unwrap_or(settings.detectors.precision);
    let compute = compute(&settings)?;
    let names: Vec<String> = if args.names.is_empty() { present(folder) } else { args.names.clone() };
    if names.is_empty() {
        let path = folder.path().display();
        return Err(anyhow!("{path} holds no weights (`meerkat models pull` fetches them)").into());
    }
    let mut all = Vec::new();
    for name in &names {
        let load = || {
            let began = Instant::now();
            let network = catalog::load(name, folder, compute, None)?;
            anyhow::Ok((network, began.elapsed()))
        };
        if args.layers {
            let (network, _) = load()?;
            print(&layers(name, network))?;
            continue;
        }
        let mut networks = Vec::new();
        for _ in 0..args.threads {
            networks.push(load()?);
        }
        let measured = measure(name, networks, args).with_context(|| name.clone())?;
        if !args.json {
            print(&line(&measured))?;
        }
        all.push(measured);
    }
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&all).context("the result cannot be written")?))?;
    }
    Ok(())
}

/// Networks whose weights are here and whose input has one size.
fn present(folder: &Folder) -> Vec<String> {
    let fixed = catalog::ALL.iter().filter(|entry| entry.size_step == 1);
    fixed.filter(|entry| folder.locate(entry.name).is_ok()).map(|entry| entry.name.to_owned()).collect()
}

/// Numbers as pixels have them, the same every time.
fn pixels(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as f32
    };
    (0..len).map(|_| next()).collect()
}

/// Runs one network as often as it is to be, and says how long each run took.
fn times(network: &mut Network, args: &BenchArgs, start: &Barrier) -> anyhow::Result<Vec<Duration>> {
    let (width, height) = network.size();
    let input = pixels(usize::from(args.batch) * 3 * width * height);
    let mut once = || {
        let began = Instant::now();
        network.engine().run(usize::from(args.batch), &mut |planes| planes.copy_from_slice(&input))?;
        anyhow::Ok(began.elapsed())
    };
    // A network that fails must not keep the others waiting.
    let warm: anyhow::Result<Vec<_>> = (0..WARM_UP).map(|_| once()).collect();
    start.wait();
    warm?;
    (0..args.runs).map(|_| once()).collect()
}

fn measure(name: &str, networks: Vec<(Network, Duration)>, args: &BenchArgs) -> anyhow::Result<Measured> {
    let load_ms = networks.iter().map(|(_, took)| took.as_secs_f64() * 1e3).fold(f64::INFINITY, f64::min);
    let start = Barrier::new(networks.len() + 1);
    let (mut device, mut memory_bytes, mut all) = (String::new(), 0, Vec::new());
    let mut took = Duration::ZERO;
    std::thread::scope(|scope| {
        let start = &start;
        let running: Vec<_> = networks
            .into_iter()
            .map(|(mut network, _)| scope.spawn(move || (times(&mut network, args, start), network)))
            .collect();
        start.wait();
        let began = Instant::now();
        for thread in running {
            let (times, mut network) = thread.join().map_err(|_| anyhow!("the measurement panicked"))?;
            all.extend(times?);
            (device, memory_bytes) = (network.info().device, network.engine().memory_bytes());
        }
        took = began.elapsed();
        anyhow::Ok(())
    })?;
    all.sort();
    let batch = f64::from(args.batch);
    let per_picture = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3 / batch);
    Ok(Measured {
        model: name.to_owned(),
        device,
        threads: args.threads,
        batch: args.batch,
        runs: args.runs,
        median_ms: per_picture(all.get(all.len() / 2)),
        min_ms: per_picture(all.first()),
        pictures_per_second: all.len() as f64 * batch / took.as_secs_f64().max(1e-9),
        load_ms,
        memory_bytes,
    })
}

fn line(m: &Measured) -> String {
    format!(
        "{:<36} {:<7} {:>9.3} ms (least {:.3}), {:>8.1} pictures/s, loaded in {:.0} ms, {:.1} MB\n",
        m.model,
        m.device,
        m.median_ms,
        m.min_ms,
        m.pictures_per_second,
        m.load_ms,
        m.memory_bytes as f64 / 1e6
    )
}

/// A table of steps: the best of some runs of each.
fn layers(name: &str, mut network: Network) -> String {
    let engine = network.engine();
    let mut steps = engine.profile();
    for _ in 0..10 {
        for (step, again) in steps.iter_mut().zip(engine.profile()) {
            step.took = step.took.min(again.took);
        }
    }
    if steps.is_empty() {
        return format!("{name}: no steps are measured on {}\n", engine.device());
    }
    let rate = |flops: u64, took: Duration| flops as f64 / took.as_secs_f64().max(1e-9) / 1e9;
    let mut text = format!("{name}\n{:>9} {:>8}  step\n", "us", "GFLOP/s");
    for step in &steps {
        let micros = step.took.as_secs_f64() * 1e6;
        let rate = rate(step.flops, step.took);
        text.push_str(&format!("{micros:>9.1} {rate:>8.1}  {} ({})\n", step.what, step.name));
    }
    let took: Duration = steps.iter().map(|step| step.took).sum();
    let flops = steps.iter().map(|step| step.flops).sum();
    text.push_str(&format!("{:>9.1} {:>8.1}  all\n", took.as_secs_f64() * 1e6, rate(flops, took)));
    text
}

/// Prints at once: the next network may take a while.
fn print(text: &str) -> anyhow::Result<()> {
    super::print(text)?;
    // A reader who has seen enough is no failure.
    let _ = std::io::stdout().flush();
    Ok(())
}
