//! What stands in front of a worker's command: nothing, or a program that starts it somewhere else.

#[cfg(feature = "cluster")]
mod bulk;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::process::error::ProcessPoolError;

/// The variable that [`Launcher::from_env`] reads.
const VARIABLE: &str = "PROGRESS_EXECUTOR_LAUNCHER";

/// The default interval of the heartbeats between a launched worker and its program.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Starts the workers of a [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) somewhere else: through a command such as
/// `srun`, `ssh`, `mpirun`, `docker run` or `nice`, which is put in front of the worker's own.
///
/// The program and its worker communicate through the launcher's standard input and output, so there is no port to open and
/// no secret to keep. Tasks, progress, cancellation and errors are those of a local worker; an error also says where the
/// worker was, and quotes what the launcher last wrote. What the launcher and the worker write to standard error appears on
/// the program's, line by line, marked with the worker that it came from, `[node7/3] warning: ..`, or goes where
/// [`WorkerOutput`](crate::WorkerOutput) says.
///
/// ```
/// use progress_executor::Launcher;
///
/// // The worker's command follows, argument by argument: srun, mpirun, nice, taskset, env, valgrind, docker run ..
/// let slurm = Launcher::command(["srun", "--exact", "-n1", "-Q"]);
/// // It follows as one quoted string: ssh, sh -c
/// let ssh = Launcher::shell(["ssh", "-oBatchMode=yes", "-T", "{host}"]).hosts(["a", "b"]);
/// # let _ = (slurm, ssh);
/// ```
///
/// # Placeholders
///
/// Placeholders are replaced in every argument of the launcher, and in [`program`](Self::program):
///
/// | | |
/// |---|---|
/// | `{index}` | the number of the worker, from 0; a replacement has the same number. 0 in a command that starts many |
/// | `{count}` | the maximum number of workers of the pool; in a command that starts many, how many it is to start |
/// | `{host}` | the next of the [`hosts`](Self::hosts) |
/// | `{attempt}` | how many workers of this index were started before |
/// | `{{`, `}}` | a brace |
///
/// # Life and death
///
/// - A launcher that ends before its worker has answered is started again, with growing pauses; no task fails because of it.
///   After three such failures in a row, and at least one on each of the [hosts](Self::hosts), while no other worker is up, the
///   waiting tasks fail with an error that quotes what the launcher last wrote.
/// - A task has succeeded only if its result has arrived, whatever the launcher reports: some exit with 0 although the worker
///   was killed.
/// - A lost worker costs one task at most: the one that it was running, or that it was sent just after it had ended another.
/// - A worker that is silent for three [heartbeats](Self::heartbeat) is considered lost, and one that hears nothing for as long
///   ends itself. So a program that is stopped for longer than that loses its workers.
/// - To end a worker, the pool closes its input and sends `SIGTERM` to its launcher. The launcher may have a job to end first,
///   and gets `SIGKILL` 20 s later; neither the task nor the worker's place in the pool waits for that. Launchers run in a
///   session of their own, so Ctrl-C reaches only the program, and on Linux they get `SIGTERM` when the program is gone.
/// - [`suspend`](crate::ProcessPoolExecutor::suspend) pauses tasks at their next progress call, since a process on another
///   machine cannot be stopped from here.
///
/// # Environment
///
/// The environment variables and the current directory of the program are sent to the worker, and set before any task runs. A
/// variable that the worker already has keeps its value, unless [`env`](crate::ProcessPoolBuilder::env) sets it. The variables
/// by which Slurm tells a process its node and its step (`SLURMD_NODENAME`, `SLURM_STEP_ID`) are not sent.
/// [`current_dir`](crate::ProcessPoolBuilder::current_dir) chooses another directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a launcher does nothing before a `ProcessPoolBuilder` has it"]
pub struct Launcher {
    form: Form,
    program: Option<PathBuf>,
    hosts: Vec<String>,
    start_timeout: Option<Duration>,
    heartbeat: Duration,
    lifetime: Option<Lifetime>,
    #[cfg(feature = "cluster")]
    listen: Vec<String>,
    #[cfg(feature = "cluster")]
    advertise: Vec<String>,
    #[cfg(feature = "cluster")]
    key_file: Option<PathBuf>,
}

/// How the worker's command follows that of the launcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Form {
    /// There is no launcher.
    #[default]
    Local,
    Command(Vec<String>),
    Shell(Vec<String>),
    /// One launcher starts many workers.
    #[cfg(feature = "cluster")]
    Bulk(Vec<String>),
}

/// For how long workers are given tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) of: Duration,
    pub(crate) margin: Duration,
}

/// What placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) index: usize,
    pub(crate) count: usize,
    pub(crate) host: Option<&'a str>,
    pub(crate) attempt: u32,
}

impl Launcher {
    fn new(form: Form) -> Self {
        Self {
            form,
            program: None,
            hosts: Vec::new(),
            start_timeout: None,
            heartbeat: HEARTBEAT,
            lifetime: None,
            #[cfg(feature = "cluster")]
            listen: Vec::new(),
            #[cfg(feature = "cluster")]
            advertise: Vec::new(),
            #[cfg(feature = "cluster")]
            key_file: None,
        }
    }

    /// No launcher: workers are started on this machine.
    pub(crate) fn local() -> Self {
        Self::new(Form::Local)
    }

    /// A command that takes the worker's command as further arguments.
    ///
    /// For `srun`, `mpirun`, `nice`, `taskset`, `env`, `valgrind`, `docker run`. Use [`shell`](Self::shell) for a command that
    /// passes its arguments to a shell, such as `ssh`.
    ///
    /// An empty command stands for no launcher: workers are started on this machine.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, Launcher, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    ///
    /// fn greet(name: String, _: &Updater) -> TaskResult<String> {
    ///     Ok(format!("{}, {name}", std::env::var("GREETING")?))
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().register(greet).init();
    ///     let launcher = Launcher::command(["env", "GREETING=hello from {index} of {count}"]);
    ///     let executor = ProcessPoolExecutor::builder().max_workers(1).launcher(launcher).build()?;
    ///     assert_eq!(executor.submit(greet, "world".to_string()).wait()?, "hello from 0 of 1, world");
    ///     Ok(())
    /// }
    /// ```
    pub fn command(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Form::of(command, Form::Command))
    }

    /// A command that takes the worker's command as one argument, quoted for a POSIX shell.
    ///
    /// For `ssh`, which joins its arguments for a shell on the other side to parse, and for `sh -c`.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use progress_executor::{ExecutorExt, Launcher, ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    ///
    /// fn double(n: u64, _: &Updater) -> TaskResult<u64> {
    ///     Ok(2 * n)
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     TaskRegistry::new().register(double).init();
    ///     let executor = ProcessPoolExecutor::builder().launcher(Launcher::shell(["sh", "-c"])).build()?;
    ///     assert_eq!(executor.submit(double, 21).wait()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn shell(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Form::of(command, Form::Shell))
    }

    /// The launcher in the environment variable `PROGRESS_EXECUTOR_LAUNCHER`, such as `srun --exact -n1 -Q`. If the variable is
    /// empty or not set, workers are started on this machine, and all other settings of the launcher are ignored.
    ///
    /// The value is [parsed](#impl-FromStr-for-Launcher) like any other text.
    ///
    /// # Errors
    ///
    /// Fails if a quote in the variable does not end, or if it is not UTF-8.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::{Launcher, ProcessPoolExecutor};
    ///
    /// // This program can be moved to a cluster as it is.
    /// let builder = ProcessPoolExecutor::builder().launcher(Launcher::from_env()?);
    /// # let _ = builder;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_env() -> Result<Self, ProcessPoolError> {
        match std::env::var(VARIABLE) {
            Ok(text) => text.parse().map_err(|error: ProcessPoolError| {
                ProcessPoolError::new(format!("`{VARIABLE}` is no launcher")).with_source(error.into())
            }),
            Err(std::env::VarError::NotPresent) => Ok(Self::local()),
            Err(error) => {
                Err(ProcessPoolError::new(format!("`{VARIABLE}` could not be read")).with_source(error.into()))
            }
        }
    }

    /// Where this program is on the worker's side. The default is the same path as here.
    ///
    /// It must be the same build; a different one is an error that names both.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Launcher;
    ///
    /// let launcher = Launcher::shell(["ssh", "-T", "{host}"]).hosts(["a", "b"]).program("/opt/walks/bin/walks");
    /// # let _ = launcher;
    /// ```
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// What `{host}` stands for: the hosts in turn, so that workers are spread evenly over them. A host on which a worker could
    /// not be started is tried again after the others.
    ///
    #[cfg_attr(
        feature = "cluster",
        doc = "A command that starts [many workers](Self::bulk) is started once for each host."
    )]
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Launcher;
    ///
    /// let launcher = Launcher::shell(["ssh", "-oBatchMode=yes", "-T", "{host}"]).hosts(["a", "b", "c"]);
    /// # let _ = launcher;
    /// ```
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hosts = hosts.into_iter().map(Into::into).collect();
        self
    }

    /// How long a worker may take from the start of its launcher until its first message. There is no limit by default, since a
    /// queue may take hours.
    ///
    /// A worker that takes longer is given up like one that could not be started. In the meantime,
    /// [`workers`](crate::ProcessPoolExecutor::workers) shows how many have started, and a pool that waits says so once on
    /// standard error.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Launcher;
    /// use std::time::Duration;
    ///
    /// let launcher = Launcher::command(["srun", "--exact", "-n1", "-Q"]).start_timeout(Duration::from_secs(600));
    /// # let _ = launcher;
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// How often the program and a worker show each other that they are still there: every 5 s by default, at least 10 ms, and at
    /// most a day. Each considers the other lost after three intervals of silence.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Launcher;
    /// use std::time::Duration;
    ///
    /// let launcher = Launcher::command(["srun", "--exact", "-n1", "-Q"]).heartbeat(Duration::from_secs(1));
    /// # let _ = launcher;
    /// ```
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval.clamp(Duration::from_millis(10), Duration::from_secs(24 * 3600));
        self
    }

    /// How long a worker lives, `of`, and how long before its end it gets no more tasks, `margin`.
    ///
    /// If `SLURM_JOB_END_TIME` is set where the worker runs, the worker ends at that time, and `of` is ignored. A worker that has
    /// no more than `margin` left when it starts, or when its initializer has run, is treated like one that could not be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use progress_executor::Launcher;
    /// use std::time::Duration;
    ///
    /// // Each has an hour, and tasks take five minutes at most.
    /// let launcher = Launcher::command(["srun", "--time=60", "-n1", "-Q"])
    ///     .lifetime(Duration::from_secs(3600), Duration::from_secs(300));
    /// # let _ = launcher;
    /// ```
    pub fn lifetime(mut self, of: Duration, margin: Duration) -> Self {
        self.lifetime = Some(Lifetime { of, margin });
        self
    }
}

// For the pool.
impl Launcher {
    pub(crate) fn is_local(&self) -> bool {
        self.form == Form::Local
    }

    /// What is wrong with the launcher, if anything.
    pub(crate) fn defect(&self) -> Option<String> {
        let path = match self.program.as_deref().map(argument_of).transpose() {
            Ok(path) => path,
            Err(defect) => return Some(defect),
        };
        let values = Values { index: 0, count: 1, host: self.host(0), attempt: 0 };
        let defect = self.words().iter().chain(&path).find_map(|word| fill(word, values).err());
        #[cfg(feature = "cluster")]
        let defect = defect.or_else(|| self.defect_of_addresses());
        defect
    }

    /// The host with this number, if there is one.
    pub(crate) fn host(&self, number: usize) -> Option<&str> {
        self.hosts.get(number).map(String::as_str)
    }

    pub(crate) fn host_count(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn start_limit(&self) -> Option<Duration> {
        self.start_timeout
    }

    /// `None` for local workers, which cannot be out of reach.
    pub(crate) fn heartbeat_interval(&self) -> Option<Duration> {
        (!self.is_local()).then_some(self.heartbeat)
    }

    pub(crate) fn worker_lifetime(&self) -> Option<Lifetime> {
        self.lifetime
    }

    /// Where the program is on the worker's side, if that is set.
    pub(crate) fn remote_program(&self, values: Values<'_>) -> Option<String> {
        // That it can be filled was seen to when the pool was built.
        let path = argument_of(self.program.as_ref()?).ok()?;
        Some(fill(&path, values).unwrap_or(path))
    }

    /// The whole command: that of the launcher, followed by the worker's.
    pub(crate) fn command_line(&self, values: Values<'_>, worker: Vec<String>) -> Vec<String> {
        let mut line: Vec<String> = self.filled(values).collect();
        match &self.form {
            Form::Shell(_) => line.push(worker.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")),
            _ => line.extend(worker),
        }
        line
    }

    /// The launcher's part of the command as it would be typed, for messages.
    pub(crate) fn typed(&self, values: Values<'_>) -> String {
        self.filled(values).map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
    }

    fn filled(&self, values: Values<'_>) -> impl Iterator<Item = String> {
        // `build` has checked that all of them can be filled.
        self.words().iter().map(move |word| fill(word, values).unwrap_or_else(|_| word.clone()))
    }

    fn words(&self) -> &[String] {
        match &self.form {
            Form::Local => &[],
            Form::Command(words) | Form::Shell(words) => words,
            #[cfg(feature = "cluster")]
            Form::Bulk(words) => words,
        }
    }
}

/// Parses a line as one would type it, split at white space; `'..'`, `".."` and `\` quote, as in a shell, and nothing else has a
/// special meaning. It becomes a [`command`](Launcher::command), or for `ssh` a [`shell`](Launcher::shell). An empty line stands
/// for no launcher: workers are started on this machine.
///
/// ```
/// use progress_executor::Launcher;
///
/// assert_eq!("srun --exact -n1".parse::<Launcher>()?, Launcher::command(["srun", "--exact", "-n1"]));
/// assert_eq!("ssh -T node7".parse::<Launcher>()?, Launcher::shell(["ssh", "-T", "node7"]));
/// assert!("sh -c 'x".parse::<Launcher>().unwrap_err().to_string().contains("does not end"));
/// # Ok::<(), progress_executor::ProcessPoolError>(())
/// ```
impl FromStr for Launcher {
    type Err = ProcessPoolError;

    fn from_str(line: &str) -> Result<Self, ProcessPoolError> {
        let words = words(line);
        let words =
            words.ok_or_else(|| ProcessPoolError::new(format!("a quote does not end in the launcher `{line}`")))?;
        let is_ssh = words.first().is_some_and(|word| word.rsplit('/').next() == Some("ssh"));
        Ok(if is_ssh { Self::shell(words) } else { Self::command(words) })
    }
}

/// No launcher: workers are started on this machine.
impl Default for Launcher {
    fn default() -> Self {
        Self::local()
    }
}

/// The words of the command, with their placeholders, for messages.
impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}

impl Form {
    fn of(command: impl IntoIterator<Item = impl Into<String>>, form: impl FnOnce(Vec<String>) -> Self) -> Self {
        let words: Vec<String> = command.into_iter().map(Into::into).collect();
        if words.is_empty() { Self::Local } else { form(words) }
    }
}

/// A path as an argument of the command.
pub(crate) fn argument_of(path: &Path) -> Result<String, String> {
    let text =
        path.to_str().ok_or_else(|| format!("the path {path:?} is not UTF-8, as the arguments of a launcher are"));
    text.map(str::to_owned)
}

/// A text with its placeholders replaced.
fn fill(text: &str, values: Values<'_>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            filled.push_str(&from[..1]);
            rest = after;
            continue;
        }
        let name = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let Some((name, after)) = name else {
            return Err(format!(
                "the launcher's argument `{text}` has a brace that stands alone: write `{{{{` or `}}}}` for one"
            ));
        };
        filled.push_str(&value_of(name, values).ok_or_else(|| unknown(name, text))??);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// What a placeholder stands for; `None` where there is no such placeholder.
fn value_of(name: &str, values: Values<'_>) -> Option<Result<String, String>> {
    Some(match name {
        "index" => Ok(values.index.to_string()),
        "count" => Ok(values.count.to_string()),
        "attempt" => Ok(values.attempt.to_string()),
        "host" => {
            let missing =
                || "the launcher has the placeholder `{host}`, and no hosts: name them with `Launcher::hosts`";
            values.host.map(str::to_owned).ok_or_else(|| missing().to_owned())
        }
        _ => return None,
    })
}

fn unknown(name: &str, text: &str) -> String {
    format!(
        "the launcher's argument `{text}` has an unknown placeholder, `{{{name}}}`; there are {{index}}, {{count}}, {{host}} and \
         {{attempt}}, and `{{{{` stands for a brace"
    )
}

/// Quotes a word for a POSIX shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The words of a line, split as by a POSIX shell; `None` if a quote does not end.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        // Before any other character, the backslash stands for itself.
                        '\\' if c == '"' => match chars.next()? {
                            '\n' => {}
                            special @ ('"' | '\\' | '$' | '`') => word.push(special),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            '\\' => match chars.next()? {
                '\n' => {}
                quoted => word.get_or_insert_default().push(quoted),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::{Launcher, Values, fill, quoted, words};

    const VALUES: Values<'_> = Values { index: 3, count: 8, host: Some("a"), attempt: 1 };

    #[test]
    fn placeholders_are_replaced_and_braces_stay() {
        assert_eq!(fill("{index}/{count} on {host}, {attempt}", VALUES).as_deref(), Ok("3/8 on a, 1"));
        assert_eq!(fill("{{index}} {{{index}}} }}{{", VALUES).as_deref(), Ok("{index} {3} }{"));
        assert_eq!(fill("ß{index}ß", VALUES).as_deref(), Ok("ß3ß"));
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_those_that_there_are() {
        let error = fill("--name={node}", VALUES).unwrap_err();
        for part in ["`--name={node}`", "`{node}`", "{index}, {count}, {host} and {attempt}", "`{{`"] {
            assert!(error.contains(part), "{error}");
        }
        for alone in ["{", "}", "a}b", "{index", "{index}}"] {
            assert!(fill(alone, VALUES).unwrap_err().contains("stands alone"), "{alone}");
        }
        assert!(Launcher::command(["ssh", "{host}"]).defect().unwrap().contains("Launcher::hosts"));
        assert_eq!(Launcher::command(["ssh", "{host}"]).hosts(["a"]).defect(), None);
        assert!(Launcher::command(["env"]).program("/opt/{what}").defect().unwrap().contains("{what}"));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_no_argument_can_hold_is_named() {
        use std::os::unix::ffi::OsStrExt;

        let path = std::ffi::OsStr::from_bytes(b"/opt/\xff");
        let defect = Launcher::command(["env"]).program(path).defect().unwrap();
        assert!(defect.contains(r#""/opt/\xFF" is not UTF-8"#), "{defect}");
        #[cfg(feature = "cluster")]
        assert_eq!(Launcher::bulk(["env"]).key_file(path).defect().unwrap(), defect.replace("xFF", "xFF-0"));
    }

    #[test]
    fn a_shell_gets_one_word_that_it_takes_apart_again() {
        let odd = ["plain", "", "two words", "it's", "$HOME", "a\nb", "\\", "ß", "*"];
        let worker: Vec<String> = odd.iter().map(|&word| word.to_owned()).collect();
        let line = Launcher::shell(["ssh", "{host}"]).command_line(VALUES, worker.clone());
        assert_eq!(line[..2], ["ssh", "a"]);
        assert_eq!(words(&line[2]).unwrap(), worker);
        assert_eq!(Launcher::command(["nice"]).command_line(VALUES, worker.clone())[1..], worker);
        assert_eq!(Launcher::command(["sh", "-c", "exec $0", "{host}"]).typed(VALUES), "sh -c 'exec $0' a");
        assert_eq!(quoted("--progress-executor-task=a::b<c>"), "'--progress-executor-task=a::b<c>'");
    }

    #[test]
    fn a_line_is_taken_apart_as_by_a_shell() {
        let parsed = |line: &str| line.parse::<Launcher>().unwrap();
        assert_eq!(parsed("srun --exact  -n1 -Q"), Launcher::command(["srun", "--exact", "-n1", "-Q"]));
        assert_eq!(parsed(r#"env 'A=b c' "D=\"e" f\ g"#), Launcher::command(["env", "A=b c", "D=\"e", "f g"]));
        assert_eq!(parsed("/usr/bin/ssh -T a"), Launcher::shell(["/usr/bin/ssh", "-T", "a"]));
        // Within double quotes, not every backslash quotes.
        assert_eq!(
            parsed(r#"sh -c "printf 'a\n\t' \$0 \\ \`""#),
            Launcher::command(["sh", "-c", r"printf 'a\n\t' $0 \ `"])
        );
        assert_eq!(parsed("a \\\n b\\\nc \"d\\\ne\""), Launcher::command(["a", "bc", "de"]));
        assert!(parsed("  ").is_local());
        for unended in ["sh -c 'x", "\"", "a \\"] {
            assert!(unended.parse::<Launcher>().is_err(), "{unended}");
        }
    }
}
