//! Which shared values workers have.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::codec::references::Image;
use crate::process::pool::terms::WorkerId;

/// The ids of what each worker was sent, and was not told to forget.
#[derive(Debug, Default)]
pub(super) struct Images(HashMap<WorkerId, HashSet<u64>>);

impl Images {
    /// A worker is sent an input that refers to these. Returns those that it does not have yet.
    pub(super) fn send<'a>(&mut self, worker: WorkerId, references: &'a [Arc<Image>]) -> Vec<&'a Arc<Image>> {
        if references.is_empty() {
            return Vec::new();
        }
        let known = self.0.entry(worker).or_default();
        references.iter().filter(|image| known.insert(image.id)).collect()
    }

    /// Returns the workers that are to forget it.
    pub(super) fn forget(&mut self, image: u64) -> Vec<WorkerId> {
        self.0.iter_mut().filter_map(|(&worker, known)| known.remove(&image).then_some(worker)).collect()
    }

    /// A worker is gone.
    pub(super) fn forget_worker(&mut self, worker: WorkerId) {
        self.0.remove(&worker);
    }
}
