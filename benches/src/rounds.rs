//! Measuring side by side.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};

/// Variants that are compared with the first of them.
///
/// All of them are measured once per round, so that whatever else the machine does hits them alike. Criterion would
/// measure one after the other; so it is handed the times, for its statistics and its comparison with earlier runs.
pub struct Rounds {
    title: &'static str,
    throughput: Option<Throughput>,
    variants: Vec<Variant>,
}

struct Variant {
    name: &'static str,
    sample: Box<dyn FnMut() -> f64>,
    nanos: Vec<f64>,
}

impl Rounds {
    pub fn new(title: &'static str) -> Self {
        Self { title, throughput: None, variants: Vec::new() }
    }

    /// What is done in the time that a sample tells.
    pub fn throughput(mut self, throughput: Throughput) -> Self {
        self.throughput = Some(throughput);
        self
    }

    /// Adds a variant; `sample` measures it once, in nanoseconds.
    pub fn add(&mut self, name: &'static str, sample: impl FnMut() -> f64 + 'static) {
        self.variants.push(Variant { name, sample: Box::new(sample), nanos: Vec::new() });
    }

    /// Measures, and prints what came of it.
    pub fn run(mut self, rounds: usize) {
        for _ in 0..rounds {
            for variant in &mut self.variants {
                variant.nanos.push((variant.sample)());
            }
        }
        self.tell_criterion();
        self.print_table();
    }

    fn tell_criterion(&self) {
        let mut criterion =
            Criterion::default().configure_from_args().warm_up_time(Duration::from_nanos(1)).nresamples(10_000);
        let mut group = criterion.benchmark_group(self.title);
        if let Some(throughput) = &self.throughput {
            group.throughput(throughput.clone());
        }
        for Variant { name, nanos, .. } in &self.variants {
            let mut samples = nanos.iter().cycle();
            let mut replay = |iterations: u64| {
                let nanos = samples.next().expect("every variant was measured");
                Duration::from_secs_f64(nanos * iterations as f64 / 1e9)
            };
            group.sampling_mode(SamplingMode::Flat).sample_size(nanos.len().max(10));
            group.bench_function(*name, |bencher| bencher.iter_custom(&mut replay));
        }
        group.finish();
    }

    /// The ratios are medians of what each round has shown, for a round is short enough for the machine to be the same;
    /// the least ratio is that of the best times, when nothing else disturbed.
    fn print_table(&self) {
        println!("{:<32} {:>12} {:>8} {:>8}", self.title, "median ns", "ratio", "least");
        let base = &self.variants[0].nanos;
        for Variant { name, nanos, .. } in &self.variants {
            let ratios: Vec<f64> = nanos.iter().zip(base).map(|(nanos, base)| nanos / base).collect();
            let least_ratio = least(nanos) / least(base);
            println!("{name:<32} {:>12.2} {:>8.2} {least_ratio:>8.2}", median(nanos), median(&ratios));
        }
        println!();
    }
}

/// The median of so many times that `trip` takes, in nanoseconds, each of them after a rest.
pub fn time_each(count: usize, rest: Duration, mut trip: impl FnMut()) -> f64 {
    let once = |_| {
        thread::sleep(rest);
        let start = Instant::now();
        trip();
        start.elapsed().as_nanos() as f64
    };
    median(&(0..count).map(once).collect::<Vec<_>>())
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// `full`, or next to nothing where `cargo test` only wants to see that a benchmark runs.
pub fn amount(full: usize) -> usize {
    if env::args().any(|argument| argument == "--bench") { full } else { full.div_ceil(1000) }
}
