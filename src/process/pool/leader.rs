//! Leader and followers: of the threads that wait for something, one does the work that brings it about. So no other
//! thread need be woken for that work, nor wake the one that waits. The pool's own thread, the resident, leads while no
//! other thread waits.
//!
//! ```text
//! free ──────► led ──────► free      a guest leaves once it is woken or all is done, the resident once a thread follows
//!               │ leaves
//!               ▼
//!         the next follower is promoted ──► leads; or has been woken by then, and promotes the next
//!                                           no followers: the resident leads when it is time
//! ```
//!
//! Handling what the leader receives may call user code, which may wait. So this is [done aside](Lead::aside): the
//! leader keeps the lead, but leaves what is driven unlocked. If that code is about to wait, the leader
//! [steps down](Leadership::step_down), and is one of the threads that wait afterwards.
//!
//! No follower is forgotten: a thread that leaves promotes one once the lead is free, and a thread that follows tries
//! once more to lead once it can be promoted.
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
    /// Whether what it waits for has come, or it waits no longer.
    fn is_woken(&self) -> bool;
    /// Sleeps until it is woken or promoted; may return early.
    fn sleep(&self);
    fn promote(&self);
}

/// The lead, which this thread has until it drops this. Then the next follower is promoted; if there is none, `vacate`
/// is called, which has the resident lead when it is time.
pub(crate) struct Lead<'a, D, F: Follower, V: Fn()> {
    leadership: &'a Leadership<D, F>,
    /// `None` once it is closed, or once this thread has stepped down.
    driven: Option<MutexGuard<'a, Option<D>>>,
    vacate: V,
}

impl<D, F: Follower, V: Fn()> Lead<'_, D, F, V> {
    pub(crate) fn driven(&mut self) -> Option<&mut D> {
        self.driven.as_mut()?.as_mut()
    }

    /// Runs `work` while what is driven is unlocked. `work` returns `false` if this thread has stepped down meanwhile.
    pub(crate) fn aside(&mut self, work: impl FnOnce() -> bool) {
        let had_lead = self.driven.take().is_some();
        if work() && had_lead {
            self.driven = Some(self.leadership.driven());
        }
    }

    /// Ends the leadership, as nothing is left to do. Returns what was driven.
    pub(crate) fn close(mut self) -> Option<D> {
        let mut guard = self.driven.take()?;
        let driven = guard.take();
        // Before the unlocking, as it may be opened again as soon as another thread gets the lock.
        self.leadership.leader.store(CLOSED, Ordering::SeqCst);
        drop(guard);
        while let Some(follower) = self.leadership.next_follower() {
            follower.promote();
        }
        driven
    }
}

impl<D, F: Follower, V: Fn()> Drop for Lead<'_, D, F, V> {
    fn drop(&mut self) {
        if self.driven.take().is_some() {
            self.leadership.step_down(&self.vacate);
        }
    }
}

impl<D, F: Follower> Leadership<D, F> {
    pub(crate) fn new() -> Self {
        Self { leader: AtomicU32::new(CLOSED), driven: Mutex::new(None), followers: Mutex::new(VecDeque::new()) }
    }

    pub(crate) fn open(&self, driven: D) {
        *self.driven() = Some(driven);
        self.leader.store(FREE, Ordering::SeqCst);
    }

    /// Waits until this thread is woken: leads meanwhile, or sleeps while another thread leads. `drive` does some work, and
    /// returns whether there is more to come; `disturb` makes the resident check for followers; for `vacate` see
    /// [`Lead`]. Returns early if there is nothing to do.
    pub(crate) fn wait<V: Fn()>(
        &self,
        this: &Arc<F>,
        disturb: impl Fn(),
        mut drive: impl FnMut(&mut Lead<'_, D, F, &V>) -> bool,
        vacate: V,
    ) {
        let mut was_promoted = false;
        while !this.is_woken() {
            match self.try_lead(GUEST).or_else(|_| self.follow(this)) {
                Ok(driven) => {
                    let mut lead = self.lead_by(driven, &vacate);
                    while lead.driven().is_some() && !this.is_woken() {
                        if !drive(&mut lead) {
                            return;
                        }
                    }
                    // A thread that has stepped down waits again.
                    was_promoted = false;
                    continue;
                }
                Err(CLOSED) => return,
                Err(RESIDENT) => disturb(),
                Err(_) => {}
            }
            this.sleep();
            was_promoted = !self.unfollow(this);
        }
        if was_promoted {
            self.promote_next(&vacate);
        }
    }

    /// The lead for the resident, unless a guest has it.
    pub(crate) fn lead<V: Fn()>(&self, vacate: V) -> Option<Lead<'_, D, F, V>> {
        self.try_lead(RESIDENT).ok().map(|driven| self.lead_by(driven, vacate))
    }

    /// Gives up the lead that this thread has.
    pub(crate) fn step_down(&self, vacate: &impl Fn()) {
        self.leader.store(FREE, Ordering::SeqCst);
        self.promote_next(vacate);
    }

    /// Whether any thread follows. One that follows after this has returned `false` finds out who leads, and disturbs
    /// the resident.
    pub(crate) fn has_followers(&self) -> bool {
        !self.followers().is_empty()
    }

    pub(crate) fn is_free(&self) -> bool {
        self.leader.load(Ordering::SeqCst) == FREE
    }

    fn lead_by<'a, V: Fn()>(&'a self, driven: MutexGuard<'a, Option<D>>, vacate: V) -> Lead<'a, D, F, V> {
        Lead { leadership: self, driven: Some(driven), vacate }
    }

    /// Takes the lead; otherwise returns who has it, or `CLOSED`.
    fn try_lead(&self, leader: u32) -> Result<MutexGuard<'_, Option<D>>, u32> {
        self.leader.compare_exchange(FREE, leader, Ordering::SeqCst, Ordering::SeqCst).map(|_| self.driven())
    }

    fn driven(&self) -> MutexGuard<'_, Option<D>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers this thread as a follower, and tries once more to lead.
    fn follow(&self, this: &Arc<F>) -> Result<MutexGuard<'_, Option<D>>, u32> {
        self.followers().push_back(this.clone());
        let again = self.try_lead(GUEST);
        if matches!(again, Ok(_) | Err(CLOSED)) {
            // It may have been promoted as well: it leads, and will promote the next.
            self.unfollow(this);
        }
        again
    }

    /// Unregisters this thread. Returns whether it was still registered, and so was not promoted.
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
