//! Readers and writers that count bytes.

use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};

use crate::updater::Updater;

/// A reader that counts the bytes read as progress, made by [`Updater::reader`].
///
/// # Errors
///
/// Besides the reader's own errors: once cancellation was requested, an error that wraps
/// [`Cancelled`](crate::Cancelled). Its kind is not [`Interrupted`](io::ErrorKind::Interrupted), which [`io::copy`] and
/// others would retry for ever. After that error, a task that returns a value still ends as cancelled, with the value
/// as its [partial result](crate::TaskError::into_partial).
///
/// # Examples
///
/// ```
/// use std::io::{BufRead, BufReader};
///
/// # let executor = progress_executor::SyncExecutor::new();
/// let mut task = executor.spawn(|progress| {
///     let mut lines = Vec::new();
///     for line in BufReader::new(progress.reader("one\ntwo\n".as_bytes())).lines() {
///         lines.push(line?); // `?` ends the task here when it was cancelled
///     }
///     Ok(lines)
/// });
/// assert_eq!(smol::block_on(&mut task)?, ["one", "two"]);
/// assert_eq!(task.progress().n, 8);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Debug)]
pub struct ProgressReader<'a, R> {
    updater: &'a Updater,
    inner: R,
}

/// A writer that counts the bytes written as progress, made by [`Updater::writer`].
///
/// # Errors
///
/// Besides the writer's own errors: once cancellation was requested, an error that wraps
/// [`Cancelled`](crate::Cancelled), as with [`ProgressReader`]. Flushing is not refused, so that what was written
/// before can be completed.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// # let executor = progress_executor::SyncExecutor::new();
/// let mut task = executor.spawn(|progress| {
///     let mut out = progress.writer(Vec::new());
///     out.write_all(b"one\ntwo\n")?;
///     Ok(out.into_inner())
/// });
/// assert_eq!(smol::block_on(&mut task)?, b"one\ntwo\n");
/// assert_eq!(task.progress().n, 8);
/// # Ok::<(), progress_executor::TaskError>(())
/// ```
#[derive(Debug)]
pub struct ProgressWriter<'a, W> {
    updater: &'a Updater,
    inner: W,
}

impl Updater {
    /// Counts the bytes that are read, on top of what was counted before.
    ///
    /// Once cancellation was requested, reading returns an error, and the task ends as cancelled, whether it passes the
    /// error on or returns a value, which is [kept](crate::TaskError::into_partial). See [`ProgressReader`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, Read};
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let input = io::repeat(b'x').take(1 << 20);
    ///     progress.set_total(1 << 20);
    ///     Ok(io::copy(&mut progress.reader(input), &mut io::sink())?)
    /// });
    /// assert_eq!(task.wait()?, 1 << 20);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn reader<R: Read>(&self, reader: R) -> ProgressReader<'_, R> {
        ProgressReader { updater: self, inner: reader }
    }

    /// Counts the bytes that are written, on top of what was counted before; see [`ProgressWriter`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let mut out = progress.writer(Vec::new());
    ///     for line in 0..100 {
    ///         writeln!(out, "{line}")?;
    ///     }
    ///     Ok(out.into_inner())
    /// });
    /// assert_eq!(task.wait()?.len(), 290);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn writer<W: Write>(&self, writer: W) -> ProgressWriter<'_, W> {
        ProgressWriter { updater: self, inner: writer }
    }
}

fn check(updater: &Updater) -> io::Result<()> {
    Ok(updater.check().map_err(|cancelled| updater.cut_short(cancelled))?)
}

/// Checks for cancellation, transfers, and counts: in this order, so that no bytes that were transferred are lost.
fn counted(updater: &Updater, transfer: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
    check(updater)?;
    let bytes = transfer()?;
    updater.count(bytes as u64);
    Ok(bytes)
}

impl<R> ProgressReader<'_, R> {
    /// The underlying reader.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// The underlying reader. What is read from it directly is not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut task = executor.spawn(|progress| {
    ///     let mut reader = progress.reader("#!words".as_bytes());
    ///     reader.get_mut().read_exact(&mut [0; 2])?; // not counted
    ///     Ok(std::io::read_to_string(&mut reader)?)
    /// });
    /// assert_eq!(smol::block_on(&mut task)?, "words");
    /// assert_eq!(task.progress().n, 5);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// The underlying reader. What is read from it directly is not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let mut head = [0; 5];
    ///     let mut reader = progress.reader("words and more".as_bytes());
    ///     reader.read_exact(&mut head)?;
    ///     Ok(reader.into_inner())
    /// });
    /// assert_eq!(task.wait()?, b" and more");
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for ProgressReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        counted(self.updater, || self.inner.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        counted(self.updater, || self.inner.read_vectored(buffers))
    }
}

impl<R: BufRead> BufRead for ProgressReader<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        check(self.updater)?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
        self.updater.count(bytes as u64);
    }
}

/// Seeking does not change the count, which is of the bytes that were read. Refused once cancellation was requested,
/// like reading.
impl<R: Seek> Seek for ProgressReader<'_, R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        check(self.updater)?;
        self.inner.seek(position)
    }
}

impl<W> ProgressWriter<'_, W> {
    /// The underlying writer.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// The underlying writer. What is written to it directly is not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let mut task = executor.spawn(|progress| {
    ///     let mut out = progress.writer(Vec::new());
    ///     out.get_mut().write_all(b"#!")?; // not counted
    ///     out.write_all(b"words")?;
    ///     Ok(out.into_inner())
    /// });
    /// assert_eq!(smol::block_on(&mut task)?, b"#!words");
    /// assert_eq!(task.progress().n, 5);
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    /// The underlying writer. What is written to it directly is not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// # let executor = progress_executor::SyncExecutor::new();
    /// let task = executor.spawn(|progress| {
    ///     let mut out = progress.writer(Vec::new());
    ///     std::io::copy(&mut "words".as_bytes(), &mut out)?;
    ///     Ok(out.into_inner())
    /// });
    /// assert_eq!(task.wait()?, b"words");
    /// # Ok::<(), progress_executor::TaskError>(())
    /// ```
    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Write for ProgressWriter<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        counted(self.updater, || self.inner.write(buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        counted(self.updater, || self.inner.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Seeking does not change the count, which is of the bytes that were written. Never refused, like flushing.
impl<W: Seek> Seek for ProgressWriter<'_, W> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
