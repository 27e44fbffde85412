//! Who may speak to a program and its workers, what is made of what they say, and what somebody on the network sees.
//!
//! # In short
//!
//! | workers | port | who may be one | what others see |
//! |---|---|---|---|
//! | on this machine | none | who was started by the program | nothing |
//! | [`Launcher::command`] and [`Launcher::shell`] | none | who has the launcher's standard input and output | what the launcher lets them see: nothing for `ssh`, all for `srun` |
#![cfg_attr(
    feature = "cluster",
    doc = "| [`Launcher::bulk`](crate::Launcher::bulk) | one, while the pool lives | who knows the key of the launch | that there are connections, when, and how much is said |"
)]
//!
//! A worker runs the functions that its own program has registered, under the account that has started it, and nothing else:
//! no code is sent. Which of them, and with which input, is what the program says. So whoever can act as the program has all
//! that these functions can do, and whoever can act as a worker decides about the outcomes of the tasks that it is given.
//!
//! # What is made of what is said
//!
//! Both sides take each other for a program that may be broken or replaced, not for a friend. Frames are decoded by code
//! without `unsafe`, which has no length that it trusts: memory is taken as bytes arrive, and no more than
//! [`max_frame_bytes`](crate::ProcessPoolBuilder::max_frame_bytes). A message that is none, or comes out of turn, ends its
//! worker, and is the error of the one task that this was running. Values are decoded by `serde` into the types that the
//! functions have; what nests too deep is an error. What a `Deserialize` of your own does with what it is given is up to it.
//!
//! Another build of the program is refused before it is given a task, since the same bytes might mean something else there.
//!
//! # Standard input and output
//!
//! Over a launcher's standard input and output nothing is encrypted by this crate: that is up to the launcher. `ssh` does so.
//! `srun` sends what it carries through the network of the cluster as it is, including the environment of the program; its own
//! credentials keep other users from joining, and not from listening, if they can do that at all. Arguments, which every
//! user of a machine can see, hold the path of the program and the name of a function, and never a value or a variable.
#![cfg_attr(feature = "cluster", doc = include_str!("security_connections.md"))]
//!
//! # What is not kept from whom
//!
//! - Whoever can read the memory of the program or of a worker, such as the same user or an administrator, reads keys, inputs
//!   and outputs there.
//! - What goes through files, such as inputs that are paths, is up to the permissions of those.
//! - A task can do whatever its function does. To keep tasks from each other, or from the machine, takes containers, or
//!   accounts, that the launcher provides.
//!
//! [`Launcher::command`]: crate::Launcher::command
//! [`Launcher::shell`]: crate::Launcher::shell
