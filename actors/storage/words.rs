//! How a disk that is full or fails is told by words, where libraries leave nothing else of an error.

/// What the system and the database call it.
const OF_THE_DISK: [&str; 8] = [
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Read-only file system",
    "database or disk is full",
    "disk I/O error",
    "attempt to write a readonly database",
    "unable to open database file",
];

/// Whether an error is that of a disk that is full or fails.
pub(crate) fn is_of_the_disk(words: &str) -> bool {
    OF_THE_DISK.iter().any(|known| words.contains(known))
}
