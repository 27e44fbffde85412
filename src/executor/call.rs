//! The work of a task: a function with its input.

use std::any::type_name;
use std::marker::PhantomData;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::codec::{self, Encoded, EncodedCow};
use crate::error::{BoxError, TaskResult};
use crate::run::{Work, stays};
use crate::task::RemoteFn;
use crate::updater::Updater;

/// A function with its input. `C` says whether both can cross to another process.
pub(crate) struct Call<F, I, C> {
    task: F,
    input: I,
    crossing: PhantomData<fn() -> C>,
}

impl<F, I, C> Call<F, I, C> {
    pub(crate) fn new(task: F, input: I) -> Self {
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
        C::CROSSES.then(RemoteFn::of::<F>)
    }

    fn encode(self) -> Result<Encoded, BoxError> {
        C::encode(self.input)
    }

    fn decode(mut output: Encoded) -> Result<O, BoxError> {
        C::decode(output.lend())
    }
}

/// How an input crosses to another process, and an output comes back.
pub(crate) trait Crossing<I, O>: 'static {
    const CROSSES: bool;

    fn encode(input: I) -> Result<Encoded, BoxError>;
    fn decode(output: EncodedCow<'_>) -> Result<O, BoxError>;
    /// Appends an encoded input. If that fails, the caller cuts off what was written of it.
    fn append(input: I, to: &mut Vec<u8>) -> Result<(), BoxError>;
}

/// Neither crosses, so they may be of any type.
pub(crate) enum Stays {}

/// Both cross by way of serde.
pub(crate) enum Crosses {}

impl<I, O> Crossing<I, O> for Stays {
    const CROSSES: bool = false;

    fn encode(_input: I) -> Result<Encoded, BoxError> {
        Err(stays())
    }

    fn decode(_output: EncodedCow<'_>) -> Result<O, BoxError> {
        Err(stays())
    }

    fn append(_input: I, _to: &mut Vec<u8>) -> Result<(), BoxError> {
        Err(stays())
    }
}

impl<I, O> Crossing<I, O> for Crosses
where
    I: Serialize + 'static,
    O: DeserializeOwned + 'static,
{
    const CROSSES: bool = true;

    fn encode(input: I) -> Result<Encoded, BoxError> {
        codec::encode(input)
    }

    fn decode(output: EncodedCow<'_>) -> Result<O, BoxError> {
        codec::decode(output)
    }

    fn append(input: I, to: &mut Vec<u8>) -> Result<(), BoxError> {
        codec::items::append(input, to)
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

/// The short name of a function that has this [`type_name`]: the end of its path, such as `collatz` or `parse<f32>`. A
/// closure is named after the function that contains it, and a function pointer by its parameters.
pub(crate) fn short_name(path: &'static str) -> &'static str {
    if let Some(signature) = pointer_signature(path) {
        return signature;
    }
    let path = path.trim_start_matches('&');
    let mut name = path;
    let (mut depth, mut previous) = (0_usize, ' ');
    for (at, next) in path.char_indices() {
        match next {
            '<' | '(' | '[' => depth += 1,
            '>' if previous != '-' => depth = depth.saturating_sub(1),
            ')' | ']' => depth = depth.saturating_sub(1),
            ':' if previous == ':' && depth == 0 => {
                let rest = &path[at + 1..];
                if rest.starts_with(CLOSURE) {
                    return &name[..name.len() - rest.len() - "::".len()];
                }
                name = rest;
            }
            _ => {}
        }
        previous = next;
    }
    name
}

pub(crate) const CLOSURE: &str = "{{closure}}";

/// The signature of a function pointer without its return type: `fn(u64, &Updater)`.
pub(crate) fn pointer_signature(path: &'static str) -> Option<&'static str> {
    let start = if path.starts_with("for<") { path.find("> ")? + 2 } else { 0 };
    let signature = &path[start..];
    let is_pointer = ["fn(", "unsafe fn(", "extern "].iter().any(|start| signature.starts_with(start));
    is_pointer.then(|| signature.split(" -> ").next().unwrap_or(signature))
}

#[cfg(test)]
mod tests {
    use super::{pointer_signature, short_name};

    #[test]
    fn short_names_keep_what_identifies_a_function() {
        assert_eq!(short_name("collatz"), "collatz");
        assert_eq!(short_name("app::jobs::collatz"), "collatz");
        assert_eq!(short_name("app::parse<alloc::string::String>"), "parse<alloc::string::String>");
        assert_eq!(short_name("<app::Job as app::Run>::run"), "run");
        assert_eq!(short_name("<app::Job as app::Run<app::Fast>>::run<u8>"), "run<u8>");
    }

    #[test]
    fn a_closure_is_named_after_the_function_that_it_stands_in() {
        assert_eq!(short_name("app::main::{{closure}}"), "main");
        assert_eq!(short_name("app::main::{{closure}}::{{closure}}"), "main");
        assert_eq!(short_name("app::run<app::Fast>::{{closure}}"), "run<app::Fast>");
        assert_eq!(short_name("<app::Job as app::Run>::run::{{closure}}"), "run");
        assert_eq!(short_name("{{closure}}"), "{{closure}}");
    }

    #[test]
    fn a_function_pointer_is_named_by_what_it_takes() {
        let path = "for<'a> fn(u64, &'a app::Updater) -> core::result::Result<u64, alloc::boxed::Box<dyn app::Error>>";
        assert_eq!(short_name(path), "fn(u64, &'a app::Updater)");
        assert_eq!(short_name("fn(app::Input<u8>) -> bool"), "fn(app::Input<u8>)");
        assert_eq!(short_name("&app::collatz"), "collatz");
        assert_eq!(
            short_name("alloc::boxed::Box<dyn core::ops::function::Fn(u64) -> app::Out>"),
            "Box<dyn core::ops::function::Fn(u64) -> app::Out>"
        );
        assert_eq!(pointer_signature("app::fn_like"), None);
    }
}
