//! Measures the proxies in rounds, and summarises the samples by medians.
//!
//! A ratio is the median of the ratios within each round, not the ratio of two medians, because a disturbance affects
//! both proxies of the same round.

use anyhow::Context;

use super::Bench;
use super::proxies::{NGINX, Target};
use crate::bench::spread;

/// Samples by setting, then by proxy, then by round.
pub(super) struct Rounds<T> {
    names: Vec<&'static str>,
    by_setting: Vec<Vec<Vec<T>>>,
}

/// Measures every proxy with every setting, in every round.
pub(super) fn measure<S, T: Clone>(
    bench: &Bench<'_>,
    targets: &[Target],
    settings: &[S],
    name: fn(&S) -> &'static str,
    mut sample: impl FnMut(&Target, &S) -> anyhow::Result<T>,
) -> anyhow::Result<Rounds<T>> {
    let count = usize::try_from(bench.options.rounds)?;
    let mut by_setting = vec![vec![Vec::new(); targets.len()]; settings.len()];
    for round in 0..count {
        for (setting, by_target) in settings.iter().zip(&mut by_setting) {
            eprintln!("round {} of {count}: {} …", round + 1, name(setting));
            for offset in 0..targets.len() {
                // Each round starts with a different proxy, so that the order favours none.
                let index = (offset + round) % targets.len();
                let target = &targets[index];
                bench.check_stop()?;
                let figures = sample(target, setting)
                    .with_context(|| format!("{}, {}", target.name, name(setting)))?;
                by_target[index].push(figures);
            }
        }
    }
    Ok(Rounds {
        names: targets.iter().map(|target| target.name).collect(),
        by_setting,
    })
}

/// The samples of one proxy with one setting, and those of nginx.
pub(super) struct Row<'a, T> {
    pub(super) name: &'static str,
    own: &'a [T],
    nginx: &'a [T],
}

impl<T> Rounds<T> {
    /// Returns one item per setting, with a row for each proxy.
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<Row<'_, T>>> {
        self.by_setting.iter().map(|by_target| {
            let named = || self.names.iter().zip(by_target);
            let nginx = named().find(|(name, _)| **name == NGINX);
            let nginx = nginx.map_or(&[][..], |(_, samples)| samples);
            named()
                .map(|(name, own)| Row { name, own, nginx })
                .collect()
        })
    }
}

impl<T> Row<'_, T> {
    /// Returns the median of a figure; `None` if no sample has it.
    pub(super) fn median(&self, figure: fn(&T) -> Option<f64>) -> Option<f64> {
        median(self.own.iter().filter_map(figure).collect())
    }

    /// Returns the median of a figure's ratio to nginx.
    pub(super) fn ratio(&self, figure: fn(&T) -> Option<f64>) -> Option<f64> {
        let pairs = self.own.iter().zip(self.nginx);
        median(
            pairs
                .filter_map(|(own, nginx)| Some(figure(own)? / figure(nginx)?))
                .collect(),
        )
    }

    /// Returns the sum of a figure.
    pub(super) fn sum(&self, figure: fn(&T) -> f64) -> f64 {
        self.own.iter().map(figure).sum()
    }
}

fn median(values: Vec<f64>) -> Option<f64> {
    (!values.is_empty()).then(|| spread(values).median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_computed_within_a_round() {
        let rounds = Rounds {
            names: vec!["ours", NGINX],
            // The third round was disturbed.
            by_setting: vec![vec![vec![1.0, 2.0, 90.0], vec![2.0, 4.0, 45.0]]],
        };
        let rows = rounds.rows().next().unwrap();
        let (ours, nginx) = (&rows[0], &rows[1]);
        assert_eq!(ours.ratio(|sample| Some(*sample)), Some(0.5));
        assert_eq!(ours.median(|sample| Some(*sample)), Some(2.0));
        assert_eq!(nginx.ratio(|sample| Some(*sample)), Some(1.0));
        assert_eq!(ours.ratio(|_| None), None);
    }
}
