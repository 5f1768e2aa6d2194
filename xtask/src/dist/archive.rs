//! Writes archives whose bytes depend on names, contents and one time alone.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use flate2::{Compression, GzBuilder};

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    path: String,
    content: Vec<u8>,
    is_executable: bool,
}

impl Entry {
    pub(super) fn file(path: String, content: Vec<u8>) -> Self {
        Self {
            path,
            content,
            is_executable: false,
        }
    }

    pub(super) fn executable(path: String, content: Vec<u8>) -> Self {
        Self {
            is_executable: true,
            ..Self::file(path, content)
        }
    }
}

/// Reads all files of a folder, under this path in the archive.
pub(super) fn folder(folder: &Path, prefix: &str) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = match prefix {
            "" => name,
            _ => format!("{prefix}/{name}"),
        };
        if entry.file_type()?.is_dir() {
            entries.extend(self::folder(&entry.path(), &path)?);
        } else {
            entries.push(Entry::file(path, std::fs::read(entry.path())?));
        }
    }
    Ok(entries)
}

/// Writes a tar archive, sorted by path, of files that belong to nobody and have this time.
///
/// `time`: seconds since 1970.
pub(super) fn tar(mut entries: Vec<Entry>, time: u64) -> anyhow::Result<Vec<u8>> {
    entries.sort();
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(entry.content.len())?);
        header.set_mode(if entry.is_executable { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        archive.append_data(&mut header, &entry.path, entry.content.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

/// The same, compressed.
pub(super) fn tar_gz(entries: Vec<Entry>, time: u64) -> anyhow::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    gzip.write_all(&tar(entries, time)?)?;
    Ok(gzip.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_files_does_not_matter() {
        let a = Entry::file("a".to_owned(), b"1".to_vec());
        let b = Entry::executable("b".to_owned(), b"2".to_vec());
        let one = tar_gz(vec![a.clone(), b.clone()], 7).expect("an archive");
        let other = tar_gz(vec![b, a], 7).expect("an archive");
        assert_eq!(one, other);
        let decoder = flate2::read::GzDecoder::new(one.as_slice());
        let mut archive = tar::Archive::new(decoder);
        let seen: Vec<(String, u32, u64, u64)> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                (
                    entry.path().expect("a path").display().to_string(),
                    header.mode().expect("a mode"),
                    header.uid().expect("an owner"),
                    header.mtime().expect("a time"),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [("a".to_owned(), 0o644, 0, 7), ("b".to_owned(), 0o755, 0, 7)]
        );
    }
}
