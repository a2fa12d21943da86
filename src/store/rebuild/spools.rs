//! What spools tell a database that is made anew: events whose clip is not made yet, and recordings that were set aside.

use super::Gatherer;
use crate::clips::ClipRow;
use crate::error::Result;
use crate::files::PART_PREFIX;
use crate::sidecar;
use crate::spool::{SET_ASIDE, SpoolKind, SpoolMeta, SpoolReader};

impl Gatherer<'_, '_> {
    /// Events whose clip is not made yet: the spool knows them, and the next start makes the clip. And those of which
    /// none could be made.
    pub(super) fn spools(&mut self) -> Result<()> {
        if !self.root.has("spool") {
            return Ok(());
        }
        for entry in self.root.sub("spool")?.entries()? {
            if entry.is_folder && entry.name == SET_ASIDE {
                self.set_aside()?;
            }
            if !entry.is_folder || entry.name == SET_ASIDE || entry.name.starts_with(PART_PREFIX) {
                continue;
            }
            let path = self.root.path().join("spool").join(&entry.name);
            let Ok(reader) = SpoolReader::open(&path) else { continue };
            if let Some(meta) = reader.meta() {
                self.event_of_spool(meta)?;
            }
        }
        Ok(())
    }

    fn event_of_spool(&mut self, meta: &SpoolMeta) -> Result<()> {
        match sidecar::facts_from_note(&meta.camera, &meta.settings) {
            Some(facts) if matches!(meta.kind, SpoolKind::Clip { .. }) => self.event(&meta.camera, &facts),
            _ => Ok(()),
        }
    }

    /// Recordings of which no file could be made: what their sidecar says, where somebody had them kept, else what they
    /// say themselves.
    fn set_aside(&mut self) -> Result<()> {
        for entry in self.root.sub("spool")?.sub(SET_ASIDE)?.entries()? {
            if !entry.is_folder || entry.name.starts_with(PART_PREFIX) {
                continue;
            }
            let path = format!("spool/{SET_ASIDE}/{}", entry.name);
            let keep = match sidecar::read_in(self.root, &path) {
                Ok(Some(found)) => {
                    self.known_clip(&found, true)?;
                    continue;
                }
                Ok(None) => false,
                Err(error) => {
                    self.rebuilt.unreadable += 1;
                    tracing::warn!(%error, "the sidecar of a spool is left out");
                    true
                }
            };
            let folder = self.root.path().join(&path);
            let reader = SpoolReader::open(&folder).ok();
            let meta = reader.as_ref().and_then(|reader| reader.meta());
            if let Some(meta) = meta {
                self.event_of_spool(meta)?;
            }
            let bytes = std::fs::symlink_metadata(folder.join("frames")).map_or(0, |m| m.len());
            if let Some(row) = ClipRow::of_set_aside(path, meta, bytes) {
                self.add_clip(&row, keep)?;
            }
        }
        Ok(())
    }
}
