//! The file of calls: whole lines of JSON, and when it is full, a second one beside it.
//!
//! A line is written by one `write` to a file that is open for appending: after a crash there are whole lines, and at most the last one is
//! missing or cut by the power. It is not waited until the disk has it.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tracing::warn;

use super::entry::CallRecord;

/// The file, and where it goes when it is full.
#[derive(Debug)]
pub struct CallsFile {
    path: PathBuf,
    /// It does not grow beyond this.
    bytes_max: u64,
}

impl CallsFile {
    /// The file at `path`, of at most `bytes_max`; what came before lies beside it as `.1`.
    pub fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self { path, bytes_max }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line.
    ///
    /// # Errors
    /// What the system said. Nothing of the line is in the file then, or a part of it, which the next line does not join.
    pub async fn append(&self, record: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let (mut file, there) = self.open().await?;
        if there > 0 && there + line.len() as u64 > self.bytes_max {
            tokio::fs::rename(&self.path, self.older()).await?;
            file = self.open().await?.0;
        }
        // tokio's file takes as much at once as its buffer holds; a record is far smaller.
        file.write_all(&line).await?;
        file.flush().await
    }

    async fn open(&self) -> io::Result<(File, u64)> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.path).await?;
        let there = file.metadata().await?.len();
        if there > 0 && !ends_a_line(&mut file, there).await? {
            // Power failed within a line, or the disk was full.
            file.write_all(b"\n").await?;
        }
        Ok((file, there))
    }

    fn older(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".1");
        name.into()
    }
}

async fn ends_a_line(file: &mut File, there: u64) -> io::Result<bool> {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    file.seek(io::SeekFrom::Start(there - 1)).await?;
    Ok(file.read_u8().await? == b'\n')
}

/// Shows each record to `each`, and writes it, until nobody hands in any more.
pub async fn write(
    mut records: mpsc::Receiver<CallRecord>,
    file: Option<CallsFile>,
    mut each: impl FnMut(&CallRecord),
) {
    while let Some(record) = records.recv().await {
        each(&record);
        if let Some(file) = &file
            && let Err(error) = file.append(&record).await
        {
            warn!(path = %file.path().display(), %error, "a call's record was not written: [log] calls_file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_file_makes_room_and_only_the_one_before_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        // Room for two lines of ten bytes.
        let file = CallsFile::new(path.clone(), 29);
        for n in 0..5 {
            file.append(&format!("line-0{n}")).await.unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "\"line-04\"\n");
        assert_eq!(read(&folder.path().join("calls.jsonl.1")), "\"line-02\"\n\"line-03\"\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_line_that_was_cut_by_the_power_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        std::fs::write(&path, "1\n\"cut").unwrap();
        let file = CallsFile::new(path.clone(), 1000);
        file.append(&2).await.unwrap();
        file.append(&3).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n\"cut\n2\n3\n");
    }
}
