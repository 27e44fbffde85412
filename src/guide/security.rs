//! Who may talk to a program and its workers, how their messages are treated, and what others on the network can see.
//!
//! # In short
//!
//! | workers | port | who can be one | what others see |
//! |---|---|---|---|
//! | on this machine | none | whom the program starts | nothing |
//! | [`Launcher::command`] and [`Launcher::shell`] | none | who holds the launcher's standard input and output | what the launcher shows them: nothing for `ssh`, everything for `srun` |
#![cfg_attr(
    feature = "cluster",
    doc = "| [`Launcher::bulk`](crate::Launcher::bulk) | one, while the pool lives | who knows the key of the launch | that there are connections, when, and how much is sent |"
)]
//!
//! A worker runs functions that its own program has registered, under the account that started it. No code is sent; the
//! program chooses the function and the input. So whoever can impersonate the program can do whatever these functions can
//! do, and whoever can impersonate a worker controls the outcomes of the tasks that it is given.
//!
//! # How messages are treated
//!
//! Each side assumes that the other may be broken or replaced. Frames are decoded without `unsafe` and without trusting any
//! length: memory is allocated as bytes arrive, up to [`max_frame_bytes`](crate::ProcessPoolBuilder::max_frame_bytes). A
//! malformed or unexpected message ends the worker and fails the one task that it was running. Values are decoded by `serde`
//! into the types of the functions; nesting that is too deep is an error. What your own `Deserialize` does with its data is
//! its responsibility.
//!
//! A program becomes a worker by its arguments. So whoever may choose all arguments of a program that runs under another account,
//! as a rule of `sudo` may allow, can do anything there: call the registered functions with any input, and, with the arguments of a
//! launched worker, choose its environment, such as `LD_PRELOAD`. Let such a rule name the arguments.
//!
//! Another build of the program is refused before it gets a task, since the same bytes might mean something else there.
//!
//! # Standard input and output
//!
//! This crate does not encrypt what passes through a launcher's standard input and output: that is up to the launcher. `ssh`
//! does. `srun` sends everything unencrypted through the network of the cluster, the environment of the program included; its
//! credentials keep other users from joining in, but not from listening, if the network lets them. Arguments, which every
//! user of a machine can see, contain the path of the program and the name of a function, never a value or a variable.
#![cfg_attr(feature = "cluster", doc = include_str!("security_connections.md"))]
//!
//! # What is not protected
//!
//! - Whoever can read the memory of the program or of a worker, such as the same user or an administrator, can read keys,
//!   inputs and outputs there.
//! - Files are protected by their own permissions, including those whose paths are inputs.
//! - A task can do whatever its function does. To isolate tasks from each other or from the machine, have the launcher use
//!   containers or separate accounts.
//!
//! [`Launcher::command`]: crate::Launcher::command
//! [`Launcher::shell`]: crate::Launcher::shell
