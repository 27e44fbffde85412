//! What threads of this library share: waiting, timing, counting together, and calling foreign code.

pub(crate) mod block_on;
pub(crate) mod clock;
pub(crate) mod duty;
pub(crate) mod primitives;
pub(crate) mod seqlock;
pub(crate) mod shortage;
pub(crate) mod spin;
pub(crate) mod stripes;
pub(crate) mod timer;
pub(crate) mod unwind;
pub(crate) mod waiter;
pub(crate) mod wakers;
