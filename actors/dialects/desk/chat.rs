//! The chat of the desk: a text in, an answer out, by rules that may change while the node runs. Knows nothing of
//! connections; what is true of the node comes in through [`Facts`].

mod facts;
mod rules;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use meerkat_wire::desk::cut_text;
use tracing::{info, warn};

pub use facts::{CameraFact, EventFact, Facts, MOST_EVENTS, answer, ctime};
pub use rules::{BuiltIn, Language, Reply, Rules, RulesError, WrongRule};

/// What tells one state of a file from another.
type Stamp = Option<(SystemTime, u64)>;

/// The rules at work, and the file that they come from.
#[derive(Debug, Clone)]
pub struct Chat {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rules: RwLock<Arc<Rules>>,
    file: Mutex<(Option<PathBuf>, Stamp)>,
}

impl Chat {
    /// Rules from this file, or the built-in ones.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn new(file: Option<&Path>) -> Result<Self, RulesError> {
        let (rules, stamp) = match file {
            Some(path) => (read(path)?, stamp(path)),
            None => (Rules::built_in(), None),
        };
        let file = Mutex::new((file.map(Path::to_owned), stamp));
        Ok(Self { shared: Arc::new(Shared { rules: RwLock::new(Arc::new(rules)), file }) })
    }

    /// What the rules say to a text; `None`: it comes back as it is.
    pub fn reply(&self, text: &str) -> Option<Reply> {
        let rules = Arc::clone(&self.shared.rules.read().unwrap_or_else(PoisonError::into_inner));
        rules.reply(text).cloned()
    }

    /// Looks whether the file has changed since it was read last, and takes it over if it has. A file that is wrong or
    /// gone changes nothing, which is logged once per change. Touches the disk.
    pub fn look(&self) {
        let mut file = self.shared.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(path), before) = &mut *file else { return };
        let now = stamp(path);
        if now != *before {
            *before = now;
            let path = path.clone();
            drop(file);
            self.take(&path);
        }
    }

    /// Takes the rules of this file, or the built-in ones, from now on; as [`Chat::look`] where it is the same.
    pub fn use_file(&self, path: Option<&Path>) {
        {
            let mut file = self.shared.file.lock().unwrap_or_else(PoisonError::into_inner);
            if file.0.as_deref() != path {
                // No file has this stamp: the next look reads it.
                *file = (path.map(Path::to_owned), Some((SystemTime::UNIX_EPOCH, u64::MAX)));
                if path.is_none() {
                    *self.shared.rules.write().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(Rules::built_in());
                }
            }
        }
        self.look();
    }

    fn take(&self, path: &Path) {
        match read(path) {
            Ok(rules) => {
                info!(file = %path.display(), rules = rules.len(), "rules of the chat reloaded");
                *self.shared.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
            }
            Err(error) => {
                warn!(file = %path.display(), %error, "rules of the chat not reloaded; the old ones stay in force");
            }
        }
    }
}

/// Answers a text with what is true now.
///
/// # Errors
/// When the node cannot say.
pub fn respond(chat: &Chat, text: &str, facts: &dyn Facts) -> Result<String, String> {
    match chat.reply(text) {
        // Whole: what came in at once goes back at once.
        None => Ok(text.to_owned()),
        Some(Reply::Words(words)) => Ok(words),
        Some(Reply::Made(builtin, language)) => answer(builtin, language, facts).map(|text| cut_text(&text)),
    }
}

fn read(path: &Path) -> Result<Rules, RulesError> {
    let unreadable = |reason: String| RulesError::Unreadable(format!("cannot be read: {reason}"));
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(unreadable("not a file".into()));
    }
    let mut text = String::new();
    let longest = rules::MAX_FILE_BYTES;
    file.take(longest + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > longest {
        return Err(unreadable(format!("longer than {longest} bytes")));
    }
    Rules::parse(&text)
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

#[cfg(test)]
mod tests;
