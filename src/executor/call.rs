//! The work of a task: a function with its input.

use std::any::{TypeId, type_name};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::codec::Parcel;
use crate::error::{BoxError, TaskResult};
use crate::run::Work;
use crate::task::Portable;
use crate::updater::Updater;

/// A function with its input.
pub(crate) struct Call<F, I> {
    pub(crate) task: F,
    pub(crate) input: I,
}

impl<F, I, O> Work for Call<F, I>
where
    F: FnOnce(I, &Updater) -> TaskResult<O> + Send + 'static,
    I: Send + 'static,
    O: Send + 'static,
{
    type Output = O;

    fn function() -> &'static str {
        short_name(type_name::<F>())
    }

    fn call(self, updater: &Updater) -> TaskResult<O> {
        (self.task)(self.input, updater)
    }
}

/// A function with an input and an output that can cross to another process.
pub(crate) struct PortableCall<F, I> {
    pub(crate) task: F,
    pub(crate) input: I,
}

impl<F, I, O> Work for PortableCall<F, I>
where
    F: Fn(I, &Updater) -> TaskResult<O> + Send + 'static,
    I: Serialize + Send + 'static,
    O: DeserializeOwned + Send + 'static,
{
    type Output = O;

    fn function() -> &'static str {
        short_name(type_name::<F>())
    }

    fn call(self, updater: &Updater) -> TaskResult<O> {
        (self.task)(self.input, updater)
    }

    fn portable() -> Option<Portable> {
        Some(Portable { type_id: TypeId::of::<F>(), path: type_name::<F>(), captures: size_of::<F>() > 0 })
    }

    fn pack(self) -> Result<Parcel, BoxError> {
        codec::pack(self.input)
    }

    fn unpack(output: Parcel) -> Result<O, BoxError> {
        codec::unpack(output)
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
