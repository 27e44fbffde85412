//! The work of a task: a function with its input.

use std::any::{TypeId, type_name};
use std::marker::PhantomData;

#[cfg(feature = "processes")]
use serde::Serialize;
#[cfg(feature = "processes")]
use serde::de::DeserializeOwned;

#[cfg(feature = "processes")]
use crate::codec;
use crate::codec::Encoded;
use crate::error::{BoxError, TaskResult};
use crate::run::{STAYS, Work};
use crate::task::RemoteFn;
use crate::updater::Updater;

/// A function with its input. `C` says whether both can cross to another process.
pub(crate) struct Call<F, I, C> {
    task: F,
    input: I,
    crossing: PhantomData<fn() -> C>,
}

impl<F, I> Call<F, I, Stays> {
    /// A call that stays in this process.
    pub(crate) fn new(task: F, input: I) -> Self {
        Self { task, input, crossing: PhantomData }
    }
}

impl<F, I> Call<F, I, Crosses> {
    /// A call that may be made in another process.
    pub(crate) fn remote(task: F, input: I) -> Self {
        Self { task, input, crossing: PhantomData }
    }
}

impl<F, I, O, C> Work for Call<F, I, C>
where
    F: FnOnce(I, &Updater) -> TaskResult<O> + Send + 'static,
    I: Send + 'static,
    O: Send + 'static,
    C: Crossing<I, O>,
{
    type Output = O;

    fn function() -> &'static str {
        short_name(type_name::<F>())
    }

    fn call(self, updater: &Updater) -> TaskResult<O> {
        (self.task)(self.input, updater)
    }

    fn remote_fn() -> Option<RemoteFn> {
        C::CROSSES.then(|| RemoteFn {
            type_id: TypeId::of::<F>(),
            path: type_name::<F>(),
            captures: size_of::<F>() > 0,
        })
    }

    fn encode(self) -> Result<Encoded, BoxError> {
        C::encode(self.input)
    }

    fn decode(output: Encoded) -> Result<O, BoxError> {
        C::decode(output)
    }
}

/// How an input crosses to another process, and an output comes back.
pub(crate) trait Crossing<I, O>: 'static {
    const CROSSES: bool;

    fn encode(input: I) -> Result<Encoded, BoxError>;
    fn decode(output: Encoded) -> Result<O, BoxError>;
}

/// Not at all: they may be of any type.
pub(crate) enum Stays {}

/// Through serde.
#[cfg(feature = "processes")]
pub(crate) enum Crosses {}

/// Without processes nothing crosses.
#[cfg(not(feature = "processes"))]
pub(crate) type Crosses = Stays;

impl<I, O> Crossing<I, O> for Stays {
    const CROSSES: bool = false;

    fn encode(_input: I) -> Result<Encoded, BoxError> {
        Err(STAYS.into())
    }

    fn decode(_output: Encoded) -> Result<O, BoxError> {
        Err(STAYS.into())
    }
}

#[cfg(feature = "processes")]
impl<I, O> Crossing<I, O> for Crosses
where
    I: Serialize + 'static,
    O: DeserializeOwned + 'static,
{
    const CROSSES: bool = true;

    fn encode(input: I) -> Result<Encoded, BoxError> {
        codec::encode(input)
    }

    fn decode(output: Encoded) -> Result<O, BoxError> {
        codec::decode(output)
    }
}

/// A function without an input.
pub(crate) struct Spawn<F>(pub(crate) F);

impl<F, O> Work for Spawn<F>
where
    F: FnOnce(&Updater) -> TaskResult<O> + Send + 'static,
    O: Send + 'static,
{
    type Output = O;

    fn function() -> &'static str {
        short_name(type_name::<F>())
    }

    fn call(self, updater: &Updater) -> TaskResult<O> {
        (self.0)(updater)
    }
}

/// The path of a function without what leads to it: `collatz`, `parse<f32>`, `main::{{closure}}`.
pub(crate) fn short_name(path: &'static str) -> &'static str {
    let function = path.find('<').map_or(path, |generics| &path[..generics]);
    let named = function.find("::{{closure}}").map_or(function, |closure| &function[..closure]);
    match named.rfind("::") {
        Some(separator) => &path[separator + 2..],
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn short_names_keep_what_identifies_a_function() {
        assert_eq!(short_name("collatz"), "collatz");
        assert_eq!(short_name("app::jobs::collatz"), "collatz");
        assert_eq!(short_name("app::parse<alloc::string::String>"), "parse<alloc::string::String>");
        assert_eq!(short_name("app::main::{{closure}}"), "main::{{closure}}");
        assert_eq!(short_name("app::main::{{closure}}::{{closure}}"), "main::{{closure}}::{{closure}}");
    }
}
