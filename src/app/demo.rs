//! `meerkat demo`: a node with a drawn camera, in a temporary folder, without any configuration.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use meerkat_base::{CameraId, Mode, Shutdown};
use meerkat_vision::encode_jpeg;
use meerkat_vision::synthetic::Scene;
use meerkat_wire::frame;
use tempfile::TempDir;
use tracing::{info, warn};

use super::{App, SettingsSource, Signals, prepare_process};
use crate::settings::{Settings, SettingsErrors};

/// What may be chosen.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Port of the HTTP side on 127.0.0.1; 0 takes a free one.
    pub http_port: u16,
    /// Port for cameras on 127.0.0.1; 0 takes a free one.
    pub frame_port: u16,
    /// Stops by itself after this long.
    pub stop_after: Option<Duration>,
}

/// Tries to remove the folder of a demo that still works in it.
const REMOVALS: usize = 5;

/// The settings of a demo that keeps everything in this folder.
fn settings(options: &DemoOptions, data: &TempDir) -> Result<Settings, SettingsErrors> {
    let scene = Scene::new(640, 480);
    let zone = scene.zone();
    let zone = format!("{},{},{},{}", zone.x, zone.y, zone.width, zone.height);
    let overrides = [
        ("DATA_DIR", data.path().to_string_lossy().into_owned()),
        ("FRAME__LISTEN", format!("127.0.0.1:{}", options.frame_port)),
        ("HTTP__LISTEN", format!("127.0.0.1:{}", options.http_port)),
        ("STORAGE__FREE_FLOOR_BYTES", "268435456".to_owned()),
        ("EVENTS__PERSON__COOLDOWN_SECS", "5".to_owned()),
        // The drawn people have what this method looks for; networks know real ones too well.
        ("DETECTORS__PERSON__BACKEND", "classic".to_owned()),
        ("CAMERAS__YARD__NAME", "Yard (guard)".to_owned()),
        ("CAMERAS__YARD__ZONE", zone),
        ("CAMERAS__GATE__NAME", "Gate (people)".to_owned()),
    ];
    let overrides = overrides.into_iter().map(|(key, value)| (format!("MEERKAT__{key}"), value)).collect();
    SettingsSource { files: Vec::new(), overrides }.load()
}

/// Runs until a signal comes. The data folder is removed at the end.
pub fn demo(options: &DemoOptions) -> anyhow::Result<()> {
    prepare_process();
    meerkat_actors::in_system(async {
        // Before there is a folder: from here on signals wait until somebody asks for them.
        let mut signals = Signals::new()?;
        let data =
            tempfile::Builder::new().prefix("meerkat-demo-").tempdir().context("a temporary folder")?;
        let app = App::start(settings(options, &data)?).await?;
        let frames = app.node().addresses().first().map(|(address, _)| *address).context("no listener")?;
        println!(
            "Meerkat demo: two drawn cameras, `yard` guards an object (mode 3), `gate` looks for people (mode 4)."
        );
        println!("  page     http://{}/", app.http_address());
        println!("  status   http://{}/api/v1/status", app.http_address());
        println!("  metrics  http://{}/metrics", app.http_address());
        println!("  cameras  {frames}   (try: meerkat push --to {frames} --mode 1 picture.jpg)");
        println!("  data     {}   (removed at the end)", data.path().display());
        println!("The object is carried away after about half a minute. Ctrl-C stops the demo.");
        let hang_up = Shutdown::new();
        for (id, mode) in [("yard", Mode::Guard), ("gate", Mode::People)] {
            drawn_camera(frames, id, mode, hang_up.clone())?;
        }
        let limit = async {
            match options.stop_after {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = signals.interrupt.recv() => {}
            _ = signals.terminate.recv() => {}
            () = app.ending.notified() => {}
            () = limit => {}
        }
        hang_up.trigger();
        info!("the demo stops");
        super::stop_or_leave(signals, app, || remove(&data)).await
    })
}

/// Removes the folder under a node that is still at work: what it writes meanwhile is in the way.
fn remove(data: &TempDir) {
    for _ in 0..REMOVALS {
        if std::fs::remove_dir_all(data.path()).is_ok() {
            return;
        }
    }
}

/// Time between two frames of a drawn camera.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// A camera as a small board would be: its own thread, one connection, one frame after the other.
fn drawn_camera(to: SocketAddr, id: &'static str, mode: Mode, hang_up: Shutdown) -> anyhow::Result<()> {
    let camera = CameraId::parse(id)?;
    std::thread::Builder::new().name(format!("camera-{id}")).spawn(move || {
        if let Err(error) = send_drawn(to, &camera, mode, &hang_up)
            && !hang_up.is_triggered()
        {
            warn!(camera = %camera, error = format!("{error:#}"), "the drawn camera stopped");
        }
    })?;
    Ok(())
}

fn send_drawn(to: SocketAddr, camera: &CameraId, mode: Mode, hang_up: &Shutdown) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    let mut ask = |bytes: &[u8]| -> anyhow::Result<()> {
        stream.write_all(bytes)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        ensure!(answer == [frame::Answer::Accepted.byte()], "the node refused");
        Ok(())
    };
    ask(&frame::hello(camera, None)?)?;
    ask(&frame::mode(mode))?;
    let scene = Scene::new(640, 480);
    let mut due = Instant::now();
    let mut message = Vec::new();
    for number in 0.. {
        if hang_up.is_triggered() {
            return Ok(());
        }
        message.clear();
        frame::frame(&encode_jpeg(&scene.frame(number)?, 85)?, &mut message);
        ask(&message)?;
        due += FRAME_INTERVAL;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
