//! Which functions worker processes know: id → how to decode the input, call the function, and encode the output.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::OnceLock;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::codec::{self, Encoded, EncodedCow, references};
use crate::error::TaskResult;
use crate::error::defect::Defect;
use crate::executor::call::short_name;
use crate::process::protocol::wire::Fingerprint;
use crate::process::{build_id, program};
use crate::updater::Updater;

/// The functions that [worker processes](crate::ProcessPoolExecutor) can run.
///
/// A worker is this same program, started again. So a program that uses workers says, as the first thing in its `main`,
/// which functions they must know:
///
/// ```no_run
/// use progress_executor::{TaskRegistry, TaskResult, Updater};
///
/// fn collatz(n: u64, progress: &Updater) -> TaskResult<u64> {
/// #   Ok(n)
/// // …
/// }
/// fn parse<T: std::str::FromStr>(text: String, progress: &Updater) -> TaskResult<Option<T>> {
///     Ok(text.parse().ok())
/// }
///
/// fn main() {
///     TaskRegistry::new().register(collatz).register(parse::<f32>).register_as("resize/v2", resize).init();
///     // In a worker process, `init` serves tasks and never returns: from here on, this is the program.
/// }
/// # fn resize((): (), _: &Updater) -> TaskResult<()> { Ok(()) }
/// ```
///
/// A function is a plain `fn` item, or a closure that captures nothing. Its id is its path, as returned by [`type_name`], or
/// the id that it is registered as. A function that captures something cannot be registered:
///
/// ```compile_fail
/// # use progress_executor::TaskRegistry;
/// let factor = 3;
/// TaskRegistry::new().register(move |n: u64, _: &_| Ok(n * factor));
/// ```
#[derive(Default)]
#[must_use = "functions are not registered before `init` is called"]
pub struct TaskRegistry {
    tasks: BTreeMap<String, Registered>,
    ids: BTreeMap<TypeId, String>,
    pub(crate) defect: Option<String>,
}

struct Registered {
    type_id: TypeId,
    call: Box<dyn Call>,
}

/// A registered function, with its types erased.
pub(crate) trait Call: Send + Sync {
    /// The function's short name, for people.
    fn name(&self) -> &'static str;
    fn call(&self, input: EncodedCow<'_>, progress: &Updater) -> TaskResult<Encoded>;
}

struct Function<F, I, O> {
    /// The name that is shown for each of its tasks.
    name: &'static str,
    task: F,
    types: PhantomData<fn(I) -> O>,
}

impl<F, I, O> Call for Function<F, I, O>
where
    F: Fn(I, &Updater) -> TaskResult<O> + Send + Sync,
    I: DeserializeOwned + 'static,
    O: Serialize + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&self, input: EncodedCow<'_>, progress: &Updater) -> TaskResult<Encoded> {
        let input = references::decode_input(input).map_err(Defect::Input)?;
        let output = (self.task)(input, progress)?;
        Ok(codec::encode(output).map_err(Defect::Output)?)
    }
}

/// How long an id may be, in bytes. Linux, which allows the least, takes arguments of 128 KiB.
const LONGEST_ID: usize = 64 * 1024;

/// How much of a wrong id is shown, in characters.
const SHOWN_ID: usize = 60;

/// Why no process can be started with an argument that contains this id.
fn fault_of(id: &str) -> Option<&'static str> {
    if id.contains('\0') {
        Some("has a NUL character")
    } else if id.len() > LONGEST_ID {
        Some("begins like this and is longer than 64 KiB")
    } else {
        None
    }
}

/// The registry that `init` has made known to this process.
pub(crate) static REGISTRY: OnceLock<TaskRegistry> = OnceLock::new();
pub(crate) static DEFECT: OnceLock<String> = OnceLock::new();

impl TaskRegistry {
    /// A registry without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function; its id is its path.
    ///
    /// Generic functions are registered once for each type that they are used with: `register(parse::<f32>)`.
    #[track_caller]
    pub fn register<F, I, O>(self, task: F) -> Self
    where
        F: Fn(I, &Updater) -> TaskResult<O> + Send + Sync + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        self.register_as(type_name::<F>(), task)
    }

    /// Adds a function under a given id, which stays the same when the function is moved or renamed.
    ///
    /// The id becomes an argument of the workers: it must contain no NUL characters, and have at most 64 KiB.
    ///
    /// Adding a function again has no effect other than that workers know it by a second id. No two functions can have the same
    /// id; that is an error of [`ProcessPoolExecutor::new`](crate::ProcessPoolExecutor::new), which says where it is:
    ///
    /// ```standalone_crate
    /// # use progress_executor::{ProcessPoolExecutor, TaskRegistry, TaskResult, Updater};
    /// # fn resize((): (), _: &Updater) -> TaskResult<()> { Ok(()) }
    /// # fn rotate((): (), _: &Updater) -> TaskResult<()> { Ok(()) }
    /// TaskRegistry::new().register_as("image/v2", resize).register_as("image/v2", rotate).init();
    /// let error = ProcessPoolExecutor::new(2).unwrap_err().to_string();
    /// assert!(error.ends_with("rotate, is registered as `image/v2`"));
    /// ```
    #[track_caller]
    pub fn register_as<F, I, O>(mut self, id: impl Into<String>, task: F) -> Self
    where
        F: Fn(I, &Updater) -> TaskResult<O> + Send + Sync + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "a function that captures something cannot be registered: pass what it needs as its input"
            );
        }
        let (id, type_id) = (id.into(), TypeId::of::<F>());
        let place = Location::caller();
        let path = type_name::<F>();
        if let Some(fault) = fault_of(&id) {
            let id: String = id.chars().take(SHOWN_ID).collect();
            self.defect.get_or_insert_with(|| {
                format!(
                    "{place}: {path} is registered as {id:?}, which {fault}: the id of a task is an argument of its worker"
                )
            });
            return self;
        }
        if self.tasks.get(&id).is_some_and(|registered| registered.type_id != type_id) {
            self.defect.get_or_insert_with(|| format!("{place}: a second function, {path}, is registered as `{id}`"));
            return self;
        }
        self.ids.entry(type_id).or_insert_with(|| id.clone());
        let call = Box::new(Function { name: short_name(type_name::<F>()), task, types: PhantomData });
        self.tasks.insert(id, Registered { type_id, call });
        self
    }

    /// The registry of this process, if there is one.
    pub(crate) fn of_this_process() -> Option<&'static Self> {
        REGISTRY.get()
    }

    /// What is wrong with the registry of this process.
    pub(crate) fn defect() -> Option<&'static str> {
        DEFECT.get().map(String::as_str)
    }

    pub(crate) fn id(&self, function: TypeId) -> Option<&str> {
        self.ids.get(&function).map(String::as_str)
    }

    pub(crate) fn function(&self, id: &str) -> Option<&dyn Call> {
        self.tasks.get(id).map(|registered| &*registered.call)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }
}

/// The id of some registered function, if there is any: a worker that is started ahead of need has no task to be named after.
pub(crate) fn any_function() -> &'static str {
    TaskRegistry::of_this_process().and_then(|registry| registry.ids().next()).unwrap_or_default()
}

/// Distinguishes this program, with these tasks, from others on the same machine.
pub(crate) fn fingerprint(registry: Option<&TaskRegistry>) -> Fingerprint {
    // 0 stands for an unknown program.
    Fingerprint { binary: binaries().next().unwrap_or(0), tasks: tasks_of(registry) }
}

/// Whether a worker on the same machine that reports this fingerprint runs this program. If both run inside another program,
/// such as valgrind, that may be what the worker reports.
pub(crate) fn is_this_program(binary: u64) -> bool {
    binaries().any(|ours| ours == binary)
}

fn binaries() -> impl Iterator<Item = u64> {
    program::identities().map(|identity| hash((env!("CARGO_PKG_VERSION"), identity)))
}

/// Distinguishes this program, with these tasks, from others on any machine.
pub(crate) fn portable_fingerprint(registry: Option<&TaskRegistry>) -> io::Result<Fingerprint> {
    Ok(Fingerprint { binary: build_id::of_this_process()?, tasks: tasks_of(registry) })
}

pub(crate) fn tasks_of(registry: Option<&TaskRegistry>) -> u64 {
    registry.map_or(0, |registry| hash(registry.ids().collect::<Vec<_>>()))
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    // 0 stands for an unknown value.
    hasher.finish().max(1)
}

impl fmt::Debug for TaskRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.tasks.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_ID, TaskRegistry};
    use crate::error::TaskResult;
    use crate::updater::Updater;

    fn answer((): (), _: &Updater) -> TaskResult<u32> {
        Ok(42)
    }

    fn defect(id: &str) -> Option<String> {
        TaskRegistry::new().register_as(id, answer).defect
    }

    #[test]
    fn an_id_that_no_argument_can_hold_is_a_defect_that_says_so() {
        let nul = defect("a\0b").unwrap();
        assert!(nul.contains(file!()) && nul.contains("::answer is registered as \"a\\0b\", which has a NUL"), "{nul}");
        let long = defect(&"ß".repeat(LONGEST_ID / 2 + 1)).unwrap();
        assert!(long.contains("longer than 64 KiB") && long.contains("ßß") && long.len() < 500, "{long}");
        for id in ["", " ", "a\nb", "--help", "--progress-executor-task=x", "日本 語", &"x".repeat(LONGEST_ID)] {
            assert_eq!(defect(id), None);
        }
    }

    #[test]
    fn the_first_defect_is_told() {
        let registry = TaskRegistry::new().register_as("a\0", answer).register_as("b\0", answer);
        assert!(registry.defect.unwrap().contains("\"a\\0\""));
    }
}
