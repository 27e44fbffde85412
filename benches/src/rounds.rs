//! Side-by-side measurements.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};

use crate::table;

/// Variants that are compared with the first of them.
///
/// Each is measured once per round, so that whatever else the machine does affects all of them alike. Criterion would measure
/// one after the other, so it only receives the times, for its statistics and its comparison with earlier runs.
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
        if table::is_wanted() {
            // Before anything that is measured is started.
            table::pin();
        }
        Self { title, throughput: None, variants: Vec::new() }
    }

    /// Sets how much is done in the time of one sample.
    pub fn throughput(mut self, throughput: Throughput) -> Self {
        self.throughput = Some(throughput);
        self
    }

    /// Adds a variant; `sample` measures it once, in nanoseconds.
    pub fn add(&mut self, name: &'static str, sample: impl FnMut() -> f64 + 'static) {
        self.variants.push(Variant { name, sample: Box::new(sample), nanos: Vec::new() });
    }

    /// Measures, and prints the results.
    pub fn run(mut self, rounds: usize) {
        let machine = table::machine();
        for _ in 0..rounds {
            for variant in &mut self.variants {
                variant.nanos.push((variant.sample)());
            }
        }
        self.print_table();
        if !table::is_wanted() {
            return self.tell_criterion();
        }
        println!("{machine}\n");
        if let Err(error) = table::write(self.title, rounds, &machine, &self.rows()) {
            eprintln!("the page could not be written: {error}");
        }
    }

    fn rows(&self) -> Vec<Row> {
        let base = &self.variants[0].nanos;
        let row = |Variant { name, nanos, .. }: &Variant| {
            let ratios: Vec<f64> = nanos.iter().zip(base).map(|(nanos, base)| nanos / base).collect();
            Row { name, nanos: Quartiles::of(nanos), ratio: median(&ratios) }
        };
        self.variants.iter().map(row).collect()
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

    /// Prints medians, with the middle half of the times. A ratio is the median of the ratios within the rounds, because the
    /// machine stays the same during a round; the least ratio is that of the best times, which are those with the least noise.
    fn print_table(&self) {
        println!("{:<32} {:>12} {:>12} {:>12} {:>8} {:>8}", self.title, "median ns", "from", "to", "ratio", "least");
        let base = least(&self.variants[0].nanos);
        for (Row { name, nanos, ratio }, variant) in self.rows().iter().zip(&self.variants) {
            let (Quartiles { lower, median, upper }, least) = (nanos, least(&variant.nanos) / base);
            println!("{name:<32} {median:>12.2} {lower:>12.2} {upper:>12.2} {ratio:>8.2} {least:>8.2}");
        }
        println!();
    }
}

/// Runs `trip` `count` times, each after a rest, and returns the median time in nanoseconds.
pub fn time_each(count: usize, rest: Duration, mut trip: impl FnMut()) -> f64 {
    let once = |_| {
        thread::sleep(rest);
        let start = Instant::now();
        trip();
        start.elapsed().as_nanos() as f64
    };
    median(&(0..count).map(once).collect::<Vec<_>>())
}

/// The result of one variant.
pub struct Row {
    pub name: &'static str,
    pub nanos: Quartiles,
    /// Relative to the first variant.
    pub ratio: f64,
}

/// The median and the two quartiles of some values.
#[derive(Clone, Copy)]
pub struct Quartiles {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

impl Quartiles {
    fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let at = |quarters: usize| values[(values.len() * quarters / 4).min(values.len() - 1)];
        Self { lower: at(1), median: at(2), upper: at(3) }
    }
}

pub fn median(values: &[f64]) -> f64 {
    Quartiles::of(values).median
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Returns `full`, or a thousandth of it under `cargo test`, which only checks that a benchmark runs.
pub fn amount(full: usize) -> usize {
    if env::args().any(|argument| argument == "--bench") { full } else { full.div_ceil(1000) }
}
