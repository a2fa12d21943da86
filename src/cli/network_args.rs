//! Which detector a command uses, where that differs from the configuration.

use clap::{Args, ValueEnum};

use crate::settings::{Backend, DetectorSettings, Device, Precision, Settings};

/// Which network, and where.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkArgs {
    /// A network that `meerkat models list` shows, or a file of your own, instead of what the configuration says
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,

    /// Where networks compute: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,

    /// What networks compute in on a GPU: auto, f32 or f16
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,

    /// Pictures in work at once; each takes a detector of its own. Default: detectors.threads of the configuration
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

    /// Leave out what is less certain than this, 0 to 1, instead of what the configuration says
    #[arg(long, value_name = "SCORE", value_parser = parse_score)]
    pub min_score: Option<f32>,
}

/// The word of `--backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendWord {
    /// The network where its weights are, else the classic method
    Auto,
    /// The network
    Candle,
    /// The classic method that is built in
    Classic,
}

impl BackendWord {
    /// As it stands in settings.
    pub fn backend(self) -> Backend {
        match self {
            BackendWord::Auto => Backend::Auto,
            BackendWord::Candle => Backend::Candle,
            BackendWord::Classic => Backend::Classic,
        }
    }
}

fn parse_score(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|score| (0.0..=1.0).contains(score)).ok_or_else(|| "a number from 0 to 1".into())
}

impl NetworkArgs {
    /// Changes what holds for one kind of detectors. Whoever names a network wants that one and no other.
    pub fn apply(&self, settings: &mut Settings, kind: fn(&mut Settings) -> &mut DetectorSettings) {
        self.apply_device(settings);
        let own = kind(settings);
        if let Some(model) = &self.model {
            own.model.clone_from(model);
            if own.backend == Backend::Auto {
                own.backend = Backend::Candle;
            }
        }
        if let Some(min_score) = self.min_score {
            own.min_score = min_score;
        }
    }

    /// Changes where and in what networks compute.
    pub fn apply_device(&self, settings: &mut Settings) {
        if let Some(device) = self.device {
            settings.detectors.device = device;
        }
        if let Some(precision) = self.precision {
            settings.detectors.precision = precision;
        }
    }

    /// Pictures in work at once.
    pub fn threads(&self, settings: &Settings) -> usize {
        self.threads.map_or(settings.detectors.threads, usize::from)
    }
}
