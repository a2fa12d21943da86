//! `meerkat relay`: files to another client of the desk that the node cannot read, of any size up to its quota. Sealed here
//! with age (X25519), passed on by the node unread, opened here again.

mod line;
mod seal;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use meerkat_wire::desk::{ClientNumber, Sealing};

use super::CliError;
use line::Node;

/// Send files through a node that only the receiver can read
///
/// The node's desk (dialects.desk) passes them on; it sees how long they are, from whom and for which client number, and
/// nothing of what is in them. A receiver makes a key once (keygen) and gives its public half to the senders.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat relay keygen --out me.key
  meerkat relay send --to node:11111 --client 2 --recipient age1... plan.pdf
  meerkat relay receive --to node:22222 --identity me.key --out plan.pdf
  meerkat relay receive --to node:22222 --plain --out old.bin

keygen prints the public half, age1...; with --plain comes a file of an old client, as it was sent.
The port of --to says who asks: the first address of dialects.desk.listen is client 1, and so on.
Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 no file waits.")]
pub struct RelayArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key: the secret half into a file, the public half on the screen
    Keygen {
        /// File for the secret half; must not exist yet
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Seal a file and send it to a client
    Send(SendArgs),
    /// Fetch the oldest file that waits for the client of this port, and open it
    Receive(ReceiveArgs),
}

#[derive(Debug, Args)]
struct SendArgs {
    /// One of the desk's four ports
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Number of the client it is for
    #[arg(long, value_name = "1..4", value_parser = client_number)]
    client: ClientNumber,
    /// Public half of a receiver's key; several can open the file
    #[arg(long, value_name = "age1...", required = true, value_parser = recipient)]
    recipient: Vec<Recipient>,
    /// The file; - reads the standard input
    file: PathBuf,
}

#[derive(Debug, Args)]
struct ReceiveArgs {
    /// The port of the client that the file is for
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// File with the secret half of the key
    #[arg(long, value_name = "FILE", required_unless_present = "plain", conflicts_with = "plain")]
    identity: Option<PathBuf>,
    /// Fetch a file that an old client sent, as it is
    #[arg(long)]
    plain: bool,
    /// Where the file goes; must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs it.
pub(super) fn run(args: RelayArgs) -> Result<(), CliError> {
    match args.action {
        Action::Keygen { out } => keygen(&out)?,
        Action::Send(args) => send(&args)?,
        Action::Receive(args) => {
            if !receive(&args)? {
                eprintln!("meerkat: no file waits");
                return Err(CliError::NotInOrder);
            }
        }
    }
    Ok(())
}

fn keygen(out: &Path) -> anyhow::Result<()> {
    let key = Identity::generate();
    let mut file = private_file(out)?;
    let public = key.to_public();
    // The form of age's own key files.
    let text = format!("# public key: {public}\n{}\n", key.to_string().expose_secret());
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| out.display().to_string())?;
    println!("{public}");
    Ok(())
}

fn send(args: &SendArgs) -> anyhow::Result<()> {
    // Its length has to be said before its first byte; what lies on the disk meanwhile is sealed already.
    let mut sealed = tempfile::tempfile().context("no temporary file")?;
    if args.file.as_os_str() == "-" {
        seal::seal(&args.recipient, std::io::stdin().lock(), &mut sealed)?;
    } else {
        let file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
        seal::seal(&args.recipient, file, &mut sealed)?;
    }
    let bytes = sealed.stream_position().context("the temporary file")?;
    sealed.seek(SeekFrom::Start(0)).context("the temporary file")?;
    Node::connect(&args.to)?.send(args.client, bytes, &mut sealed)?;
    println!("sent: {bytes} bytes for client {}", args.client.get());
    Ok(())
}

/// Whether there was a file.
fn receive(args: &ReceiveArgs) -> anyhow::Result<bool> {
    let identity = args.identity.as_deref().map(identity).transpose()?;
    if args.out.exists() {
        bail!("{} exists already", args.out.display());
    }
    let sealing = if args.plain { Sealing::Plain } else { Sealing::Sealed };
    let mut node = Node::connect(&args.to)?;
    let Some(bytes) = node.receive(sealing)? else { return Ok(false) };
    // Complete and opened before it gets its name; only then the node may forget it.
    let folder = match args.out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut part = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    let coming = node.file(bytes);
    match &identity {
        Some(identity) => seal::open(identity, coming, part.as_file_mut())?,
        None => seal::copy(coming, part.as_file_mut())?,
    };
    part.as_file().sync_all().context("the file cannot be written")?;
    part.persist_noclobber(&args.out).with_context(|| args.out.display().to_string())?;
    if let Err(error) = node.done() {
        eprintln!("meerkat: the file is here, and the node may offer it again: {error:#}");
    }
    println!("received: {}", args.out.display());
    Ok(true)
}

fn client_number(text: &str) -> Result<ClientNumber, String> {
    text.parse().ok().and_then(ClientNumber::new).ok_or_else(|| "a number from 1 to 4".to_owned())
}

fn recipient(text: &str) -> Result<Recipient, String> {
    text.parse().map_err(|reason: &str| format!("not the public half of a key (age1...): {reason}"))
}

/// Reads a key file: the first line that is no comment.
fn identity(path: &Path) -> anyhow::Result<Identity> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let line = line.ok_or_else(|| anyhow!("{}: no key in it", path.display()))?;
    // Its reason is about the form; the key itself is in no message.
    line.parse().map_err(|reason: &str| anyhow!("{}: not a secret key of age: {reason}", path.display()))
}

fn private_file(path: &Path) -> anyhow::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| path.display().to_string())
}
