//! Writes the lines of a child to the gateway's log, each with the child's name in front.
//!
//! Standard output and standard error of a child are one pipe, so their order is kept. Each line is written with one call,
//! so that lines of several processes do not mix. A line that is longer than [`MAX_LINE`] is written in pieces.
//!
//! When the gateway has ended, its guards read the pipe instead.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// The last lines of a child.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// Returns the lines, the oldest first.
    pub(super) fn read(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }

    fn push(&self, line: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(line).trim_end().to_owned());
    }
}

/// Copies everything that is written to the pipe, until the last process that has it open has ended.
///
/// # Errors
///
/// If the pipe cannot be read by the runtime.
pub(super) fn copy(
    output: OwnedFd,
    name: &'static str,
    last: LastLines,
) -> std::io::Result<JoinHandle<()>> {
    let mut pipe = pipe::Receiver::from_owned_fd(output)?;
    Ok(tokio::spawn(async move {
        let mut lines = Lines::default();
        let mut piece = vec![0; PIECE];
        loop {
            let length = match pipe.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            lines.add(piece.get(..length).unwrap_or_default(), |line| {
                last.push(line);
                write(name, line);
            });
        }
        lines.end(|line| {
            last.push(line);
            write(name, line);
        });
    }))
}

/// Returns another read end of the pipe that is this process's standard output, `None` if it is no pipe or cannot be opened.
/// While it exists, whoever writes to the pipe gets no error.
pub(super) fn reader() -> Option<pipe::Receiver> {
    pipe::OpenOptions::new().open_receiver(STANDARD_OUTPUT).ok()
}

/// Reads all that is written to the pipe, so that nobody waits because it is full.
pub(super) async fn discard(mut output: pipe::Receiver) {
    let mut piece = vec![0; PIECE];
    while output.read(&mut piece).await.is_ok_and(|length| length > 0) {}
}

/// Divides bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Lines {
    fn add(&mut self, piece: &[u8], mut put: impl FnMut(&[u8])) {
        for part in piece.split_inclusive(|octet| *octet == b'\n') {
            self.rest.extend_from_slice(part);
            if self.rest.ends_with(b"\n") || self.rest.len() >= MAX_LINE {
                put(self.rest.strip_suffix(b"\n").unwrap_or(&self.rest));
                self.rest.clear();
            }
        }
    }

    fn end(&mut self, put: impl FnOnce(&[u8])) {
        if !self.rest.is_empty() {
            put(&self.rest);
            self.rest.clear();
        }
    }
}

fn write(name: &str, line: &[u8]) {
    let text = [b"[", name.as_bytes(), b"] ", line, b"\n"].concat();
    // There is no other place to report that the log cannot be written.
    let _ = std::io::stderr().lock().write_all(&text);
}

/// Opened again, a write end of a pipe becomes a read end (proc(5)).
const STANDARD_OUTPUT: &str = "/proc/self/fd/1";

/// Maximum length of a line in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Number of bytes that are read at a time.
const PIECE: usize = 16 * 1024;

/// Number of lines that are kept.
const KEPT: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in pieces {
            lines.add(piece, |line| all.push(line.to_vec()));
        }
        lines.end(|line| all.push(line.to_vec()));
        let text = |line: Vec<u8>| String::from_utf8(line).expect("UTF-8");
        all.into_iter().map(text).collect()
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        for (pieces, expected) in [
            (&[&b"a\nb\n"[..]][..], &["a", "b"][..]),
            (&[b"a", b"b\nc", b"\n"], &["ab", "c"]),
            (&[b"a\n\nb"], &["a", "", "b"]),
            (&[b"no end"], &["no end"]),
            (&[], &[]),
        ] {
            assert_eq!(lines(pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let piece = [b'x'; PIECE];
        let all = lines(&[&piece[..]; 9]);
        let lengths: Vec<usize> = all.iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE, MAX_LINE, PIECE]);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let last = LastLines::default();
        for number in 0..KEPT + 3 {
            last.push(format!("{number}\r").as_bytes());
        }
        let kept = last.read();
        assert_eq!((kept.len(), kept[0].as_str()), (KEPT, "3"));
    }
}
