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
//! What the leader hears of may call code of the user, which may wait. So it is [done aside](Lead::aside): the leader still
//! has the lead, and what is driven is free. If that code is about to wait, the leader [resigns](Leadership::resign), and
//! is one of those who wait afterwards.
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
    /// Whether what it waits for has come, or it waits no longer.
    fn is_woken(&self) -> bool;
    /// Sleeps until that, or a promotion; perhaps shorter.
    fn sleep(&self);
    fn promote(&self);
}

/// The lead, had by this thread until it is dropped. Then the next follower has it; or else `vacate` is called, which sees to
/// it that the resident leads when it is time.
pub(crate) struct Lead<'a, D, F: Follower, V: Fn()> {
    leadership: &'a Leadership<D, F>,
    /// Nothing once it is closed, or once this thread has resigned.
    driven: Option<MutexGuard<'a, Option<D>>>,
    vacate: V,
}

impl<D, F: Follower, V: Fn()> Lead<'_, D, F, V> {
    pub(crate) fn driven(&mut self) -> Option<&mut D> {
        self.driven.as_mut()?.as_mut()
    }

    /// Does something that leaves alone what is driven. It returns whether this thread has not resigned meanwhile.
    pub(crate) fn aside(&mut self, work: impl FnOnce() -> bool) {
        let had_lead = self.driven.take().is_some();
        if work() && had_lead {
            self.driven = Some(self.leadership.driven());
        }
    }

    /// There is nothing to do any more. Returns what was driven.
    pub(crate) fn close(mut self) -> Option<D> {
        let mut guard = self.driven.take()?;
        let driven = guard.take();
        // First, for it may be opened again as soon as another thread can get at it.
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
            self.leadership.resign(&self.vacate);
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

    /// Waits until this thread is woken: leads meanwhile, or sleeps while another does. `disturb` lets the resident look
    /// whether somebody follows; for `vacate` see [`Lead`]. Returns early where there is nothing to do.
    pub(crate) fn wait<V: Fn()>(
        &self,
        this: &Arc<F>,
        disturb: impl Fn(),
        mut drive: impl FnMut(&mut Lead<'_, D, F, &V>),
        vacate: V,
    ) {
        let mut was_promoted = false;
        while !this.is_woken() {
            match self.try_lead(GUEST).or_else(|_| self.follow(this)) {
                Ok(driven) => {
                    let mut lead = self.lead_by(driven, &vacate);
                    while lead.driven().is_some() && !this.is_woken() {
                        drive(&mut lead);
                    }
                    // Whoever has resigned waits again.
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

    /// Lets go of the lead that this thread has.
    pub(crate) fn resign(&self, vacate: &impl Fn()) {
        self.leader.store(FREE, Ordering::SeqCst);
        self.promote_next(vacate);
    }

    /// Who follows after this has said that nobody does finds who leads, and disturbs the resident.
    pub(crate) fn has_followers(&self) -> bool {
        !self.followers().is_empty()
    }

    pub(crate) fn is_free(&self) -> bool {
        self.leader.load(Ordering::SeqCst) == FREE
    }

    fn lead_by<'a, V: Fn()>(&'a self, driven: MutexGuard<'a, Option<D>>, vacate: V) -> Lead<'a, D, F, V> {
        Lead { leadership: self, driven: Some(driven), vacate }
    }

    /// Or else who leads, or that there is nothing to do.
    fn try_lead(&self, leader: u32) -> Result<MutexGuard<'_, Option<D>>, u32> {
        self.leader.compare_exchange(FREE, leader, Ordering::SeqCst, Ordering::SeqCst).map(|_| self.driven())
    }

    fn driven(&self) -> MutexGuard<'_, Option<D>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets this thread be promoted, and tries once more to lead.
    fn follow(&self, this: &Arc<F>) -> Result<MutexGuard<'_, Option<D>>, u32> {
        self.followers().push_back(this.clone());
        let again = self.try_lead(GUEST);
        if matches!(again, Ok(_) | Err(CLOSED)) {
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
