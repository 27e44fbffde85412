//! Foreign code that waits, on a thread that others depend on.
//!
//! A few threads call code of the user (wakers, `Deserialize`, `Drop`) and then go on with what others wait for. If
//! that code waits in turn, it may wait for what its own thread was about to do. So the caller says what its
//! [duty](Duty) is, and everything that waits in this library calls [`before_waiting`]: a thread that is about to sleep
//! first hands over its duties.
//!
//! A poll that is not ready counts as waiting, since the thread may sleep next.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;

thread_local! {
    /// The duties of this thread, for all the calls that it is inside.
    static DUTIES: RefCell<Vec<Rc<dyn Duty>>> = const { RefCell::new(Vec::new()) };
}

/// A duty of a thread: work that others depend on.
pub(crate) trait Duty {
    /// Has another thread do it. Called on the thread whose duty it is, within the foreign code.
    fn hand_over(&self);
}

/// Calls foreign code, during which `duty` may be handed over: then this returns `false`, and the duty is another thread's.
pub(crate) fn on_duty(duty: Rc<dyn Duty>, call: impl FnOnce()) -> bool {
    let push = |duties: &RefCell<Vec<_>>| {
        duties.borrow_mut().push(duty);
        duties.borrow().len()
    };
    let depth = DUTIES.try_with(push);
    call();
    // A thread that is about to end hands nothing over.
    let Ok(depth) = depth else { return true };
    // All are handed over at once, so those left belong to the calls around this one and, perhaps, to this one.
    DUTIES.with_borrow_mut(|duties| (duties.len() == depth).then(|| duties.pop())).is_some()
}

/// Hands over the duties of this thread, which is about to wait.
pub(crate) fn before_waiting() {
    let take = |duties: &RefCell<Vec<_>>| {
        // Most threads never have any. The borrow is over before they are taken.
        let has_any = !duties.borrow().is_empty();
        has_any.then(|| duties.take())
    };
    // A thread that is about to end has no duties.
    let duties = DUTIES.try_with(take).ok().flatten();
    duties.into_iter().flatten().for_each(|duty| duty.hand_over());
}

/// What a poll that is not ready returns.
pub(crate) fn pending<T>() -> Poll<T> {
    before_waiting();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::{Duty, before_waiting, on_duty};
    use std::cell::{Cell, OnceCell};
    use std::rc::Rc;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    #[derive(Default)]
    struct Counted(Cell<u32>);

    impl Duty for Counted {
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
            let is_left = on_duty(Rc::new(Counted::default()), before_waiting);
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
            // `DUTIES` is dropped before that.
            on_duty(Rc::new(Counted::default()), || ());
        };
        thread::spawn(ends).join().unwrap();
        assert_eq!(is_left.recv(), Ok(true));
    }

    #[test]
    fn all_that_a_thread_is_there_for_is_handed_over_once() {
        let (outer, inner, next) =
            (Rc::new(Counted::default()), Rc::new(Counted::default()), Rc::new(Counted::default()));
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
