//! `meerkat models pull`: brings weights into the models folder, from their official addresses, a mirror or a folder.
//! What arrives is judged by the manifest alone, wherever it comes from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use meerkat_base::Secret;
use meerkat_models::weights::{
    Damage, Depth, FileEntry, FileState, Folder, Incoming, Network, PullLock, WeightsError, check_room,
};
use meerkat_outbound::{
    DownloadError, DownloadLimits, Downloader, OutboundError, OutboundSettings, Partial, SecretUrl,
};
use tokio::runtime::Runtime;

use super::{networks, print};
use crate::cli::CliError;

/// Fetch weights and check them
///
/// Without names: the networks that the node can use. What is here and whole is not fetched again; what was begun is
/// gone on with. Nothing is put in place whose digests are not those of the manifest.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Networks, as `meerkat models list` names them
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Take the files from a folder, or from a mirror's http(s) address, instead of their official addresses
    ///
    /// Below it they lie as in the models folder; in a folder they may also lie side by side.
    #[arg(long, value_name = "DIR|URL")]
    from: Option<String>,
}

/// Fetches what the arguments name.
pub fn run(args: &PullArgs, folder: &Folder, proxy: Option<&Secret>) -> Result<(), CliError> {
    let chosen = match args.names.as_slice() {
        [] => folder.manifest().networks().iter().filter(|network| network.default).collect(),
        names => networks(folder, names)?,
    };
    let source = Source::new(args.from.as_deref(), proxy, DownloadLimits::default())?;
    let mut pull = Pull { folder, source, free_bytes, bar: ProgressBar::hidden(), lines: String::new() };
    let outcome = pull.all(&chosen);
    pull.bar.finish_and_clear();
    print(&pull.lines)?;
    let report = outcome?;
    for problem in &report.problems {
        eprintln!("meerkat: {problem}");
    }
    for network in &report.without_address {
        eprintln!("meerkat: {}", bring(network));
    }
    // Whoever names a network wants that one; whoever names none takes what there is.
    let missed = !args.names.is_empty() && !report.without_address.is_empty();
    if missed || !report.problems.is_empty() { Err(CliError::Reported) } else { Ok(()) }
}

/// What a user does for a network that no official address has.
fn bring(network: &Network) -> String {
    let files: Vec<String> = network
        .files
        .iter()
        .map(|file| {
            let (most, begins) = if file.is_exact() { ("", "") } else { ("at most ", "that begins with ") };
            let (name, bytes, sha256) = (file.file_name(), file.size_bytes, &file.sha256);
            format!("{name} ({most}{bytes} bytes, SHA-256 {begins}{sha256})")
        })
        .collect();
    let reason = match network.files.iter().all(FileEntry::is_exact) {
        true => "no official address of this very file is known",
        false => "only the beginning of its digest is published, so it is fetched from nowhere",
    };
    let advice = network.advice.as_ref().map_or(String::new(), |advice| format!("; {advice}"));
    format!(
        "{name}: {reason}; put {} into a folder and bring it with \
         `meerkat models pull {name} --from DIR` (the project is {}){advice}",
        files.join(" and "),
        network.origin,
        name = network.name,
    )
}

fn free_bytes(folder: &Path) -> anyhow::Result<u64> {
    Ok(meerkat_store::disk::free_bytes(folder)?)
}

/// Where files come from.
enum Source {
    /// Their official addresses.
    Official(Web),
    /// A mirror with the layout of the models folder.
    Mirror(Web, SecretUrl),
    /// A folder.
    Folder(PathBuf),
}

/// What downloading needs.
struct Web {
    downloader: Downloader,
    runtime: Runtime,
}

impl Source {
    fn new(from: Option<&str>, proxy: Option<&Secret>, limits: DownloadLimits) -> Result<Self, CliError> {
        let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        match from {
            None => Ok(Self::Official(Web::new(proxy, limits)?)),
            Some(text) if is_address(text) => {
                let address =
                    SecretUrl::parse(text).map_err(|error| CliError::Usage(format!("--from: {error}")))?;
                Ok(Self::Mirror(Web::new(proxy, limits)?, address))
            }
            Some(text) if Path::new(text).is_dir() => Ok(Self::Folder(text.into())),
            Some(text) => {
                Err(CliError::Usage(format!("--from {text}: neither a folder nor an http(s) address")))
            }
        }
    }
}

impl Web {
    fn new(proxy: Option<&Secret>, limits: DownloadLimits) -> anyhow::Result<Self> {
        let proxy =
            proxy.map(|proxy| SecretUrl::parse(proxy.reveal())).transpose().context("models.proxy")?;
        let settings = OutboundSettings {
            connect_timeout: std::time::Duration::from_secs(15),
            proxy,
            ..Default::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { downloader: Downloader::new(&settings, limits)?, runtime })
    }
}

/// What came of it, beside the networks that are whole now.
#[derive(Default)]
struct Report {
    /// What went wrong, a sentence each.
    problems: Vec<String>,
    /// Networks with a missing file that has no official address, or no whole digest.
    without_address: Vec<&'static Network>,
}

/// Why one file did not come.
#[derive(Debug, thiserror::Error)]
enum NotFetched {
    #[error("no official address")]
    NoAddress,
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("{}: {source}", path.display())]
    Source { path: PathBuf, source: io::Error },
}

struct Pull<'a> {
    folder: &'a Folder,
    source: Source,
    /// Free bytes where a folder lies.
    free_bytes: fn(&Path) -> anyhow::Result<u64>,
    bar: ProgressBar,
    /// What was done, for the user.
    lines: String,
}

impl Pull<'_> {
    /// Brings every network that is not here and whole. An error ends it all; what concerns single files is in the
    /// report.
    fn all(&mut self, chosen: &[&'static Network]) -> anyhow::Result<Report> {
        let mut report = Report::default();
        // Without the lock first: a folder that is complete may be one that nobody may write to.
        if self.wanted(chosen)?.is_empty() {
            chosen.iter().for_each(|network| self.say(network, "already here"));
            return Ok(report);
        }
        let lock = self.folder.lock()?;
        // Again: meanwhile somebody else may have brought them.
        let wanted = self.wanted(chosen)?;
        let missing_bytes = wanted.iter().map(|file| file.size_bytes).sum();
        check_room(self.folder.path(), (self.free_bytes)(self.folder.path())?, missing_bytes)?;
        self.bar = progress_bar(missing_bytes);
        for &network in chosen {
            let files: Vec<&FileEntry> = network.files.iter().filter(|file| wanted.contains(file)).collect();
            if files.is_empty() {
                self.say(network, "already here");
                continue;
            }
            self.bar.set_message(network.name.clone());
            match files.into_iter().try_for_each(|file| self.file(&lock, file)) {
                Ok(()) => self.say(network, "fetched"),
                Err(NotFetched::NoAddress) => report.without_address.push(network),
                Err(NotFetched::Download(DownloadError::Outbound(error @ OutboundError::Connect { .. }))) => {
                    // Everything else from there would fail the same way, and slowly.
                    return Err(self.offline(&error));
                }
                Err(error) => report.problems.push(format!("{}: {error}", network.name)),
            }
        }
        Ok(report)
    }

    /// The files that are not here as they should be.
    fn wanted(&self, chosen: &[&'static Network]) -> Result<Vec<&'static FileEntry>, WeightsError> {
        let mut wanted = Vec::new();
        for file in chosen.iter().flat_map(|network| &network.files) {
            if self.folder.file_state(file, Depth::Digest)? != FileState::Present {
                wanted.push(file);
            }
        }
        Ok(wanted)
    }

    fn say(&mut self, network: &Network, what: &str) {
        self.lines.push_str(&format!("{}: {what}\n", network.name));
    }

    fn offline(&self, error: &OutboundError) -> anyhow::Error {
        let advice = match &self.source {
            Source::Official(_) => {
                "without a way there, fetch the files elsewhere (`meerkat models list --json` has their addresses) \
                 and bring them with --from DIR, or name a mirror with --from URL"
            }
            Source::Mirror(..) | Source::Folder(_) => "is the mirror's address right?",
        };
        anyhow!("{error}; {advice}")
    }

    fn file(&self, lock: &PullLock, file: &FileEntry) -> Result<(), NotFetched> {
        match &self.source {
            Source::Folder(from) => self.copy(lock, file, from),
            // Whoever sends it could send what they like: 32 bits of a digest are soon met.
            Source::Mirror(..) | Source::Official(_) if !file.is_exact() => Err(NotFetched::NoAddress),
            Source::Mirror(web, base) => self.download(lock, file, web, &base.child(&file.path)),
            Source::Official(web) => {
                let address = file.address.as_deref().ok_or(NotFetched::NoAddress)?;
                let address =
                    SecretUrl::parse(address).map_err(|error| WeightsError::Manifest(error.to_string()))?;
                self.download(lock, file, web, &address)
            }
        }
    }

    fn download(
        &self,
        lock: &PullLock,
        file: &FileEntry,
        web: &Web,
        url: &SecretUrl,
    ) -> Result<(), NotFetched> {
        let incoming = Incoming::open(self.folder, lock, file)?;
        let resumed = !incoming.is_empty();
        match self.receive(incoming, file, web, url) {
            // What an earlier run left may have been of another version: once more, from the beginning.
            Err(NotFetched::Weights(WeightsError::Refused { damage: Damage::Digest { .. }, .. }))
                if resumed =>
            {
                self.receive(Incoming::open(self.folder, lock, file)?, file, web, url)
            }
            outcome => outcome,
        }
    }

    fn receive(
        &self,
        incoming: Incoming<'_>,
        file: &FileEntry,
        web: &Web,
        url: &SecretUrl,
    ) -> Result<(), NotFetched> {
        let mut place = Place { incoming, bar: &self.bar, counted_bytes: 0 };
        place.count();
        web.runtime.block_on(web.downloader.fetch(url, file.size_bytes, &mut place))?;
        Ok(place.incoming.finish()?)
    }

    /// Takes a file from where it lies in a mirror of the folder, or from beside all others.
    fn copy(&self, lock: &PullLock, file: &FileEntry, from: &Path) -> Result<(), NotFetched> {
        let nested = from.join(&file.path);
        let path = if nested.exists() { nested } else { from.join(file.file_name()) };
        let failed = |source| NotFetched::Source { path: path.clone(), source };
        // Asked before opening: opening a pipe would wait for somebody to write into it.
        if !std::fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("is no ordinary file")));
        }
        let mut reader = File::open(&path).map_err(failed)?;
        let mut incoming = Incoming::open(self.folder, lock, file)?;
        incoming.restart(None)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            incoming.append(&buffer[..count])?;
            self.bar.inc(count as u64);
        }
        Ok(incoming.finish()?)
    }
}

/// A file on its way in, as the downloader sees it, and as the bar shows it.
struct Place<'a, 'b> {
    incoming: Incoming<'a>,
    bar: &'b ProgressBar,
    /// What this file has put on the bar.
    counted_bytes: u64,
}

impl Place<'_, '_> {
    fn count(&mut self) {
        let arrived_bytes = self.incoming.len();
        let before = self.bar.position().saturating_sub(self.counted_bytes);
        self.bar.set_position(before.saturating_add(arrived_bytes));
        self.counted_bytes = arrived_bytes;
    }
}

impl Partial for Place<'_, '_> {
    fn arrived_bytes(&self) -> u64 {
        self.incoming.len()
    }

    fn tag(&self) -> Option<&str> {
        self.incoming.mark()
    }

    fn restart(&mut self, tag: Option<&str>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.incoming.restart(tag)?;
        self.count();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.incoming.append(bytes)?;
        self.count();
        Ok(())
    }
}

/// A bar on a terminal, and nothing elsewhere.
fn progress_bar(total_bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(total_bytes);
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests;
