//! The order in which the modules of a folder stand on one another.

use std::collections::{BTreeMap, BTreeSet};

/// What stands below each module of a folder.
#[derive(Debug, Default)]
pub(crate) struct Order {
    below: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Order {
    /// Reads `a | b < c`: `c` stands above `a` and `b`, and above all that these stand above.
    pub(crate) fn parse(chains: &[&'static str]) -> Self {
        let mut order = Self::default();
        for chain in chains {
            let floors: Vec<Vec<&str>> =
                chain.split('<').map(|floor| floor.split('|').map(str::trim).collect()).collect();
            for name in floors.iter().flatten() {
                order.below.entry(name).or_default();
            }
            for pair in floors.windows(2) {
                for upper in &pair[1] {
                    order.below.entry(upper).or_default().extend(&pair[0]);
                }
            }
        }
        order.close();
        order
    }

    /// Adds what stands below indirectly.
    fn close(&mut self) {
        for _ in 0..self.below.len() {
            let before = self.below.clone();
            for lower in self.below.values_mut() {
                let deeper: Vec<&str> = lower.iter().flat_map(|name| &before[name]).copied().collect();
                lower.extend(deeper);
            }
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.below.contains_key(name)
    }

    pub(crate) fn is_above(&self, upper: &str, lower: &str) -> bool {
        self.below.get(upper).is_some_and(|names| names.contains(lower))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.below.keys().copied()
    }
}

#[test]
fn an_order_is_transitive() {
    let order = Order::parse(&["a | b < c < d", "c < e"]);
    for (upper, lower) in [("c", "a"), ("c", "b"), ("d", "c"), ("d", "a"), ("e", "c"), ("e", "b")] {
        assert!(order.is_above(upper, lower), "{upper} above {lower}");
        assert!(!order.is_above(lower, upper), "{lower} above {upper}");
    }
    for (one, other) in [("a", "b"), ("d", "e"), ("a", "a"), ("a", "unknown")] {
        assert!(!order.is_above(one, other) && !order.is_above(other, one), "{one}, {other}");
    }
}
