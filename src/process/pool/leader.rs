//! Leader and followers: of the threads that wait for something, one does what has to be done for it to come about. So
//! it comes without another thread, which would have to be woken, and to wake it. A thread of its own, the resident, leads
//! while nobody waits.
//!
//! ```text
//! free ──────► led ──────► free      a guest leaves once it is woken, the resident once somebody follows
//!               │ leaves
//!               ▼
//!         the next follower is promoted ──► leads; or has been woken by then, and promotes the next
//!                                           nobody follows: the resident is to come when it is time
//! ```
//!
//! No follower is forgotten: whoever leaves promotes one when the lead is free, and whoever follows tries once more to lead
//! when it can be promoted.
//!
//! The pattern is the one of Schmidt et al., "Leader/Followers" (2000).

use std::collections::VecDeque;
use std::sync::PoisonError;

use crate::sync::primitives::{Arc, AtomicU32, Mutex, MutexGuard, Ordering};

/// Before it is opened, and after it is closed.
const CLOSED: u32 = 0;
const FREE: u32 = 1;
const RESIDENT: u32 = 2;
const GUEST: u32 = 3;

/// Who leads, who follows, and what the leader drives.
#[derive(Debug)]
pub(crate) struct Leadership<D, F> {
    leader: AtomicU32,
    /// Locked by the leader.
    driven: Mutex<Option<D>>,
    followers: Mutex<VecDeque<Arc<F>>>,
}

/// A thread that waits.
pub(crate) trait Follower {
    /// Whether what it waits for has come.
    fn is_woken(&self) -> bool;
    /// Sleeps until that, or a promotion; perhaps shorter.
    fn sleep(&self);
    fn promote(&self);
}

/// The lead, had by this thread.
pub(crate) struct Lead<'a, D>(MutexGuard<'a, Option<D>>);

impl<D> Lead<'_, D> {
    /// There, unless it was closed.
    pub(crate) fn driven(&mut self) -> Option<&mut D> {
        self.0.as_mut()
    }
}

enum Try<'a, D> {
    Lead(Lead<'a, D>),
    /// Another thread leads: this one.
    Busy(u32),
    /// There is nothing to do.
    Closed,
}

impl<D, F: Follower> Leadership<D, F> {
    pub(crate) fn new() -> Self {
        Self { driven: Mutex::new(None), leader: AtomicU32::new(FREE), followers: Mutex::new(VecDeque::new()) }
    }

    pub(crate) fn open(&self, driven: D) {
        *self.driven() = Some(driven);
        self.leader.store(FREE, Ordering::SeqCst);
    }

    /// Waits until this thread is woken: leads meanwhile, or sleeps while another does. `disturb` lets the resident look
    /// whether somebody follows; `vacate` is called when nobody leads any more. Returns early where there is nothing to do.
    pub(crate) fn wait(&self, this: &Arc<F>, disturb: impl Fn(), mut drive: impl FnMut(&mut D), vacate: impl Fn()) {
        while !this.is_woken() {
            let lead = match self.try_lead(GUEST) {
                Try::Busy(_) => self.follow(this),
                lead => lead,
            };
            match lead {
                Try::Lead(mut lead) => {
                    if let Some(driven) = lead.driven() {
                        while !this.is_woken() {
                            drive(driven);
                        }
                    }
                    return self.leave(lead, vacate);
                }
                Try::Closed => return,
                Try::Busy(RESIDENT) => disturb(),
                Try::Busy(_) => {}
            }
            this.sleep();
            let was_promoted = !self.unfollow(this);
            if was_promoted && this.is_woken() {
                self.promote_next(&vacate);
            }
        }
    }

    /// The lead for the resident, unless a guest has it.
    pub(crate) fn lead(&self) -> Option<Lead<'_, D>> {
        match self.try_lead(RESIDENT) {
            Try::Lead(lead) => Some(lead),
            Try::Busy(_) | Try::Closed => None,
        }
    }

    /// Whoever follows later sees who leads, if that was so before this was called.
    pub(crate) fn has_followers(&self) -> bool {
        !self.followers().is_empty()
    }

    pub(crate) fn is_free(&self) -> bool {
        self.leader.load(Ordering::SeqCst) == FREE
    }

    /// Lets the next follower lead; or else `vacate` sees to it that the resident does when it is time.
    pub(crate) fn leave(&self, lead: Lead<'_, D>, vacate: impl Fn()) {
        drop(lead);
        self.leader.store(FREE, Ordering::SeqCst);
        self.promote_next(&vacate);
    }

    /// There is nothing to do any more. Returns what was driven.
    pub(crate) fn close(&self, mut lead: Lead<'_, D>) -> Option<D> {
        let driven = lead.0.take();
        drop(lead);
        self.leader.store(CLOSED, Ordering::SeqCst);
        while let Some(follower) = self.next_follower() {
            follower.promote();
        }
        driven
    }

    fn try_lead(&self, leader: u32) -> Try<'_, D> {
        match self.leader.compare_exchange(FREE, leader, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Try::Lead(Lead(self.driven())),
            Err(CLOSED) => Try::Closed,
            Err(other) => Try::Busy(other),
        }
    }

    fn driven(&self) -> MutexGuard<'_, Option<D>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, this: &Arc<F>) -> Try<'_, D> {
        self.followers().push_back(this.clone());
        let again = self.try_lead(GUEST);
        if !matches!(again, Try::Busy(_)) {
            // It may have been promoted as well: it leads, and will promote the next.
            self.unfollow(this);
        }
        again
    }

    /// Returns whether it followed, and was not promoted.
    fn unfollow(&self, this: &Arc<F>) -> bool {
        let mut followers = self.followers();
        let place = followers.iter().position(|other| Arc::ptr_eq(other, this));
        place.and_then(|place| followers.remove(place)).is_some()
    }

    fn promote_next(&self, vacate: &impl Fn()) {
        match self.next_follower() {
            Some(follower) => follower.promote(),
            None => vacate(),
        }
    }

    fn next_follower(&self) -> Option<Arc<F>> {
        self.followers().pop_front()
    }

    fn followers(&self) -> MutexGuard<'_, VecDeque<Arc<F>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
