//! Containers and codecs with FFmpeg: clips, and reading files and addresses.
