//! `meerkat embed`: the faces of pictures as the numbers by which they are compared, for programs. Compares nothing.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use meerkat_base::{ImageWish, PixelFormat};
use meerkat_models::device::Compute;
use meerkat_models::networks::embedder::FaceEmbedder;
use meerkat_models::networks::error::ModelError;
use meerkat_models::networks::face::{Face, largest_first};
use meerkat_models::networks::finder::FaceFinder;
use meerkat_models::weights::Folder;
use serde::Serialize;

use super::detect::compute;
use super::in_order::in_order;
use super::network_args::NetworkArgs;
use super::settings_args::SettingsArgs;
use super::{CliError, logging, picture_file};
use crate::app::detectors::networks;
use crate::app::models_folder;

/// Turn the faces of pictures into embeddings: 256 numbers by which faces are compared
///
/// Every face that is found is given, however small, blurred or turned; its score says how certain it is a face. The
/// cosine of two embeddings (each has length 1, so the sum of products) is about 0.5 to 0.9 for the same person and
/// -0.2 to 0.35 for strangers. Needs weights (`meerkat models pull`). A broken picture is reported, the others go on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat embed --json face.jpg
  meerkat embed --json --threads 4 album/*.jpg > faces.jsonl

With --json, one line per picture, the largest face first, in pixels of the upright picture;
landmarks are left eye, right eye, nose, left and right corner of the mouth, as seen in the picture:
  {\"source\":\"face.jpg\",\"width\":250,\"height\":250,
   \"faces\":[{\"score\":0.9,\"x\":70.0,\"y\":62.0,\"width\":92.0,\"height\":121.0,
   \"landmarks\":[[98.0,112.0],[139.0,111.0],[120.0,136.0],[102.0,157.0],[138.0,156.0]],
   \"embedding\":[0.01,...]}]}

Exit codes: 0 done, 1 a picture could not be read or weights are missing, 2 wrong arguments or wrong
configuration.")]
pub struct EmbedArgs {
    /// Picture files (JPEG, PNG, WebP, BMP)
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// Print one JSON object per picture
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// The networks of one thread.
struct Tool {
    finder: FaceFinder,
    embedder: FaceEmbedder,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    source: &'a str,
    width: u32,
    height: u32,
    faces: &'a [Embedded],
}

#[derive(Debug, Serialize)]
struct Embedded {
    score: f32,
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    landmarks: [[f32; 2]; 5],
    embedding: Vec<f32>,
}

impl Embedded {
    fn new(face: &Face, embedding: Vec<f32>) -> Self {
        let landmarks = face.points.map(|point| [point.x, point.y]);
        let bbox = face.bbox;
        Self {
            score: face.score,
            x: bbox.x,
            y: bbox.y,
            width: bbox.width,
            height: bbox.height,
            landmarks,
            embedding,
        }
    }
}

/// A picture with its faces.
struct Seen {
    size: (u32, u32),
    faces: Vec<Embedded>,
}

impl Tool {
    fn load(model: &str, folder: &Folder, compute: Compute, min_score: f32) -> Result<Self, ModelError> {
        Ok(Self {
            finder: networks::finder(model, folder, compute, min_score)?,
            embedder: networks::embedder(folder, compute)?,
        })
    }

    fn look(&mut self, path: &Path) -> anyhow::Result<Seen> {
        let bytes = picture_file::read(path)?;
        // All pixels there are: nobody waits for it here.
        let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: u32::MAX };
        let (image, _) = meerkat_vision::decode_image(&bytes, wish)?;
        let mut found = self.finder.find(&image)?;
        largest_first(&mut found);
        let embeddings = self.embedder.embed(&image, &found)?;
        // Points that lie in one place make no face; such a find has no embedding.
        let faces = found.iter().zip(embeddings).filter_map(|(face, own)| Some(Embedded::new(face, own?)));
        Ok(Seen { size: (image.width(), image.height()), faces: faces.collect() })
    }
}

/// Looks at all pictures.
pub fn run(args: &EmbedArgs) -> Result<(), CliError> {
    let mut settings = args.settings.load()?;
    logging::start_quiet()?;
    args.network.apply(&mut settings, |settings| &mut settings.detectors.face);
    let folder = models_folder(&settings);
    let compute = compute(&settings)?;
    let own = &settings.detectors.face;
    let model = networks::finder_name(&own.model, &folder);
    let load = || Tool::load(&model, &folder, compute, own.min_score);
    let mut tools = vec![Some(load().map_err(|error| CliError::Failed(error.into()))?)];
    tools.resize_with(args.network.threads(&settings).min(args.images.len()), || None);
    let look = |tool: &mut Option<Tool>, path: &PathBuf| {
        let tool = match tool {
            Some(tool) => tool,
            None => tool.insert(load()?),
        };
        tool.look(path)
    };
    let look = |tool: &mut Option<Tool>, path| (path, look(tool, path));
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut images, mut failed) = (args.images.iter(), false);
    let done = |(path, seen): (&PathBuf, anyhow::Result<Seen>)| match seen
        .with_context(|| path.display().to_string())
    {
        Ok(seen) => print(&mut out, args.json, path, &seen),
        Err(error) => {
            failed = true;
            eprintln!("meerkat: {error:#}");
            Ok(())
        }
    };
    let written = in_order(tools, &look, || Ok(images.next()), done).and_then(|()| out.flush());
    match written {
        // Whoever reads our output may have seen enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow!(error).context("the result cannot be written").into())
        }
        _ if failed => Err(CliError::Reported),
        _ => Ok(()),
    }
}

fn print(out: &mut impl Write, json: bool, path: &Path, seen: &Seen) -> io::Result<()> {
    let source = &*path.to_string_lossy();
    if json {
        let (width, height) = seen.size;
        serde_json::to_writer(&mut *out, &Line { source, width, height, faces: &seen.faces })?;
        return writeln!(out);
    }
    for Embedded { score, x, y, width, height, embedding, .. } in &seen.faces {
        let values = embedding.len();
        writeln!(
            out,
            "{source}: face {score:.2}, {width:.0}x{height:.0} at {x:.0},{y:.0}: {values} numbers"
        )?;
    }
    Ok(())
}
