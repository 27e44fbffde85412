//! Foreign code that waits on a thread that others depend on.
//!
//! A few threads call code of the user (wakers, `Deserialize`, `Drop`) and then go on with what others wait for. Where that
//! code waits in turn, it may wait for what its own thread was about to do. So whoever calls it says who
//! [takes over](Relief), and whatever waits in this library calls [`before_waiting`]: a thread that is about to sleep first
//! hands over what it was there for.
//!
//! A poll that is not ready counts as waiting: nobody can tell whether the thread sleeps next.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;

thread_local! {
    /// What this thread is to hand over, of all calls that it is in.
    static DUTIES: RefCell<Vec<Rc<dyn Relief>>> = const { RefCell::new(Vec::new()) };
}

/// What a thread is there for.
pub(crate) trait Relief {
    /// Lets another thread do it. Called on the thread that did, within the foreign code.
    fn hand_over(&self);
}

/// Calls foreign code, within which `duty` may be handed over: then this returns `false`, and the duty is another
/// thread's.
pub(crate) fn on_duty(duty: Rc<dyn Relief>, call: impl FnOnce()) -> bool {
    let push = |duties: &RefCell<Vec<_>>| {
        duties.borrow_mut().push(duty);
        duties.borrow().len()
    };
    let depth = DUTIES.try_with(push);
    call();
    // A thread that is about to end hands nothing over.
    let Ok(depth) = depth else { return true };
    // Handed over are all at once, so those that are there are of the calls around this one, and perhaps of this one.
    DUTIES.with_borrow_mut(|duties| (duties.len() == depth).then(|| duties.pop())).is_some()
}

/// Hands over what this thread is there for, for it is about to wait.
pub(crate) fn before_waiting() {
    let take = |duties: &RefCell<Vec<_>>| {
        // Most threads never have any. No borrow lasts while they are taken.
        let has_any = !duties.borrow().is_empty();
        has_any.then(|| duties.take())
    };
    // A thread that is about to end has no duties.
    let duties = DUTIES.try_with(take).ok().flatten();
    duties.into_iter().flatten().for_each(|duty| duty.hand_over());
}

/// What a poll returns that is not ready.
pub(crate) fn pending<T>() -> Poll<T> {
    before_waiting();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::{Relief, before_waiting, on_duty};
    use std::cell::{Cell, OnceCell};
    use std::rc::Rc;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    #[derive(Default)]
    struct Duty(Cell<u32>);

    impl Relief for Duty {
        fn hand_over(&self) {
            // It may wait itself.
            before_waiting();
            self.0.set(self.0.get() + 1);
        }
    }

    /// Waits when its thread ends.
    struct Last(Sender<bool>);

    impl Drop for Last {
        fn drop(&mut self) {
            let is_left = on_duty(Rc::new(Duty::default()), before_waiting);
            self.0.send(is_left).unwrap();
        }
    }

    thread_local! {
        static LAST: OnceCell<Last> = const { OnceCell::new() };
    }

    #[test]
    fn a_thread_that_is_about_to_end_does_what_it_is_there_for() {
        let (sender, is_left) = channel();
        let ends = move || {
            LAST.with(|last| last.set(Last(sender)).is_ok());
            // What is known of duties is gone before that.
            on_duty(Rc::new(Duty::default()), || ());
        };
        thread::spawn(ends).join().unwrap();
        assert_eq!(is_left.recv(), Ok(true));
    }

    #[test]
    fn all_that_a_thread_is_there_for_is_handed_over_once() {
        let (outer, inner, next) = (Rc::new(Duty::default()), Rc::new(Duty::default()), Rc::new(Duty::default()));
        let is_left = on_duty(outer.clone(), || {
            assert!(on_duty(next.clone(), || ()), "nobody has waited");
            let is_left = on_duty(inner.clone(), || {
                before_waiting();
                before_waiting();
            });
            assert!(!is_left);
            assert!(on_duty(next.clone(), || ()), "it is another one");
        });
        assert!(!is_left);
        assert_eq!([&outer, &inner, &next].map(|duty| duty.0.get()), [1, 1, 0]);
        before_waiting();
        assert_eq!(outer.0.get(), 1, "it is over");
    }
}
