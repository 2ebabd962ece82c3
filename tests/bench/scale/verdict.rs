//! What was found, beside what it is to be.

/// One figure with its goal.
#[derive(Debug)]
struct Line {
    what: String,
    found: f64,
    unit: &'static str,
    goal: f64,
}

/// All figures that have goals.
#[derive(Debug, Default)]
pub(crate) struct Verdict(Vec<Line>);

impl Verdict {
    /// A figure that must not be above its goal.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, found: f64, unit: &'static str, goal: f64) {
        self.0.push(Line { what: what.into(), found, unit, goal });
    }

    /// Prints all of them. True when every goal is reached.
    pub(crate) fn print(&self) -> bool {
        println!();
        for Line { what, found, unit, goal } in &self.0 {
            let reached = if found <= goal { "reached" } else { "MISSED" };
            println!("{what:<58} {found:>9.2} {unit:<4} goal {goal:>8.2}  {reached}");
        }
        self.0.iter().all(|line| line.found <= line.goal)
    }
}

/// The value below which so many hundredths lie. Sorts them.
pub(crate) fn percentile(all: &mut [f64], percent: usize) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len().saturating_sub(1) * percent / 100).copied().unwrap_or(f64::NAN)
}

/// The one in the middle. Sorts them.
pub(crate) fn median(all: &mut [f64]) -> f64 {
    percentile(all, 50)
}
