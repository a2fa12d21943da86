//! The rows of what was recorded, asked of whoever has the data folder: the node that runs in it, or the database.

use anyhow::Context;
use meerkat_store::ClipRow;
use meerkat_store::inventory::ClipQuery;
use meerkat_store::verify::Rows;
use serde::de::DeserializeOwned;

use super::super::running_node::{RunningNode, escaped};
use super::super::stored::{Stored, rows};
use crate::app::rows::SentFile;

impl Stored<'_> {
    /// The newest clips, videos and segments, newest first.
    pub(super) fn newest_clips(&mut self, query: &ClipQuery) -> anyhow::Result<Vec<ClipRow>> {
        self.ask(|node| Ok(clips(node, &newest_question(query))?.0), |store| store.newest_clips(query))
    }

    /// Every row of the file at a path: one for each event that it shows.
    pub(super) fn clips_at(&mut self, path: &str) -> anyhow::Result<Vec<ClipRow>> {
        self.ask(|node| Ok(clips(node, &path_question(path))?.0), |store| store.clips_at(path))
    }
}

/// Rows, and where the next page begins.
type Page<T> = (Vec<T>, Option<u64>);

impl Rows for &mut Stored<'_> {
    type Error = anyhow::Error;

    fn clips_after(&mut self, after: u64) -> anyhow::Result<Page<ClipRow>> {
        self.ask(
            |node| clips(node, &format!("after={after}")),
            |mut store| Rows::clips_after(&mut store, after),
        )
    }

    fn has_clip(&mut self, path: &str) -> anyhow::Result<bool> {
        self.ask(
            |node| Ok(!clips(node, &path_question(path))?.0.is_empty()),
            |store| Ok(store.clip_at(path)?.is_some()),
        )
    }

    fn snapshots_after(&mut self, after: u64) -> anyhow::Result<Page<String>> {
        self.ask(
            |node| snapshots(node, &format!("after={after}")),
            |mut store| Rows::snapshots_after(&mut store, after),
        )
    }

    fn has_snapshot(&mut self, path: &str) -> anyhow::Result<bool> {
        self.ask(
            |node| Ok(!snapshots(node, &path_question(path))?.0.is_empty()),
            |store| store.has_snapshot(path),
        )
    }
}

fn clips(node: &RunningNode, question: &str) -> anyhow::Result<Page<ClipRow>> {
    let (sent, next) = page::<SentFile>(node, &format!("store/clips?{question}"), "clips")?;
    let found = sent.into_iter().map(SentFile::row).collect::<anyhow::Result<_>>()?;
    Ok((found, next))
}

fn snapshots(node: &RunningNode, question: &str) -> anyhow::Result<Page<String>> {
    page(node, &format!("store/snapshots?{question}"), "snapshots")
}

fn page<T: DeserializeOwned>(node: &RunningNode, below: &str, name: &str) -> anyhow::Result<Page<T>> {
    let mut answer = node.get(below)?;
    let found = rows(&mut answer, name)?;
    let next = answer["next"].as_str().map(str::parse::<u64>).transpose();
    Ok((found, next.context("the place of the next page")?))
}

fn path_question(path: &str) -> String {
    format!("path={}", escaped(path))
}

/// The query as the interface of a node takes it.
fn newest_question(query: &ClipQuery) -> String {
    let mut question = format!("limit={}", query.limit);
    if let Some(camera) = &query.camera {
        question.push_str(&format!("&camera={}", escaped(camera.as_str())));
    }
    if let Some(kind) = query.kind {
        question.push_str(&format!("&kind={}", kind.as_str()));
    }
    question
}

#[cfg(test)]
mod tests {
    use meerkat_base::CameraId;
    use meerkat_store::CaptureKind;

    use super::*;

    #[test]
    fn questions_say_which_clips() {
        let check = |query: &ClipQuery, expected: &str| assert_eq!(newest_question(query), expected);
        check(&ClipQuery { limit: 7, ..ClipQuery::default() }, "limit=7");
        let camera = CameraId::from_shown("fe80::1~2").unwrap();
        let query = ClipQuery { camera: Some(camera), kind: Some(CaptureKind::Segment), limit: 500 };
        check(&query, "limit=500&camera=fe80%3A%3A1~2&kind=segment");
        assert_eq!(path_question("capture/a b&c.mp4"), "path=capture/a%20b%26c.mp4");
    }
}
