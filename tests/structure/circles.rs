//! Finds the circles among arrows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::reader::{Arrow, Place};

/// From file to file, with the first line that names something there.
pub(crate) type Arrows<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a Place>>;

pub(crate) fn by_file(arrows: &[Arrow]) -> Arrows<'_> {
    let mut by_file = Arrows::new();
    for Arrow { from, to, .. } in arrows {
        let place = by_file.entry(&from.file).or_default().entry(to).or_insert(from);
        if from < *place {
            *place = from;
        }
    }
    by_file
}

/// The shortest circle of each arrow that is part of one; each circle once, short ones first.
pub(crate) fn circles<'a>(arrows: &Arrows<'a>) -> Vec<Vec<&'a Place>> {
    let mut circles = BTreeSet::new();
    for (&from, targets) in arrows {
        for (&to, &place) in targets {
            if let Some(mut circle) = shortest_way(arrows, to, from) {
                circle.insert(0, place);
                // Wherever it was entered, a circle starts at the same file.
                let first = (0..circle.len()).min_by_key(|&at| circle[at]).expect("a circle has an arrow");
                circle.rotate_left(first);
                circles.insert((circle.len(), circle));
            }
        }
    }
    circles.into_iter().map(|(_, circle)| circle).collect()
}

/// The places of a circle, one after the other.
pub(crate) fn told(circle: &[&Place]) -> String {
    let places: Vec<String> = circle.iter().chain(circle.first()).map(ToString::to_string).collect();
    places.join(" -> ")
}

/// The arrows by which one file leads to another.
fn shortest_way<'a>(arrows: &Arrows<'a>, from: &'a str, to: &'a str) -> Option<Vec<&'a Place>> {
    let mut ways = BTreeMap::from([(from, Vec::new())]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        let way = ways[file].clone();
        if file == to {
            return Some(way);
        }
        for (&next, &place) in arrows.get(file).into_iter().flatten() {
            if !ways.contains_key(next) {
                ways.insert(next, [&way[..], &[place]].concat());
                queue.push_back(next);
            }
        }
    }
    None
}

/// The sets of files that all lead to one another.
pub(crate) fn knots<'a>(arrows: &Arrows<'a>) -> Vec<BTreeSet<&'a str>> {
    let leads = |from, to| shortest_way(arrows, from, to).is_some();
    let mut knots: Vec<BTreeSet<&str>> = Vec::new();
    for &file in arrows.keys() {
        if knots.iter().any(|knot| knot.contains(file)) {
            continue;
        }
        let others = arrows.keys().copied().filter(|&other| other != file && leads(file, other) && leads(other, file));
        let knot: BTreeSet<&str> = others.chain([file]).collect();
        if knot.len() > 1 {
            knots.push(knot);
        }
    }
    knots
}
