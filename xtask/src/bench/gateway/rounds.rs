//! How do the proxies take turns, and how are the figures of many turns summed up?
//!
//! By medians. A ratio is the median of the ratios of each round, not the ratio of two medians: what disturbs a round
//! disturbs both sides of it.

use anyhow::Context;

use super::Bench;
use super::proxies::{NGINX, Target};
use crate::bench::spread;

/// Figures by setting, then by proxy, then by round.
pub(super) struct Turns<T> {
    names: Vec<&'static str>,
    by_setting: Vec<Vec<Vec<T>>>,
}

/// Lets every proxy take a turn with every setting, in every round.
pub(super) fn take<S, T: Clone>(
    bench: &Bench<'_>,
    targets: &[Target],
    settings: &[S],
    name: fn(&S) -> &'static str,
    mut turn: impl FnMut(&Target, &S) -> anyhow::Result<T>,
) -> anyhow::Result<Turns<T>> {
    let rounds = usize::try_from(bench.options.rounds)?;
    let mut by_setting = vec![vec![Vec::new(); targets.len()]; settings.len()];
    for round in 0..rounds {
        for (setting, by_target) in settings.iter().zip(&mut by_setting) {
            eprintln!("round {} of {rounds}: {} …", round + 1, name(setting));
            for place in 0..targets.len() {
                // Nobody is always the first.
                let index = (place + round) % targets.len();
                let target = &targets[index];
                bench.check_stop()?;
                let figures = turn(target, setting)
                    .with_context(|| format!("{}, {}", target.name, name(setting)))?;
                by_target[index].push(figures);
            }
        }
    }
    Ok(Turns {
        names: targets.iter().map(|target| target.name).collect(),
        by_setting,
    })
}

/// The turns of one proxy with one setting, and nginx's.
pub(super) struct Row<'a, T> {
    pub(super) name: &'static str,
    own: &'a [T],
    nginx: &'a [T],
}

impl<T> Turns<T> {
    /// For each setting, a row for each proxy.
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<Row<'_, T>>> {
        self.by_setting.iter().map(|by_target| {
            let named = || self.names.iter().zip(by_target);
            let nginx = named().find(|(name, _)| **name == NGINX);
            let nginx = nginx.map_or(&[][..], |(_, turns)| turns);
            named()
                .map(|(name, own)| Row { name, own, nginx })
                .collect()
        })
    }
}

impl<T> Row<'_, T> {
    /// The median of a figure; `None` if it was never found.
    pub(super) fn median(&self, figure: fn(&T) -> Option<f64>) -> Option<f64> {
        median(self.own.iter().filter_map(figure).collect())
    }

    /// The median of a figure's ratio to nginx.
    pub(super) fn ratio(&self, figure: fn(&T) -> Option<f64>) -> Option<f64> {
        let pairs = self.own.iter().zip(self.nginx);
        median(
            pairs
                .filter_map(|(own, nginx)| Some(figure(own)? / figure(nginx)?))
                .collect(),
        )
    }

    /// The sum of a figure.
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
    fn a_ratio_is_taken_round_by_round() {
        let turns = Turns {
            names: vec!["ours", NGINX],
            // The third round was disturbed.
            by_setting: vec![vec![vec![1.0, 2.0, 90.0], vec![2.0, 4.0, 45.0]]],
        };
        let rows = turns.rows().next().unwrap();
        let (ours, nginx) = (&rows[0], &rows[1]);
        assert_eq!(ours.ratio(|turn| Some(*turn)), Some(0.5));
        assert_eq!(ours.median(|turn| Some(*turn)), Some(2.0));
        assert_eq!(nginx.ratio(|turn| Some(*turn)), Some(1.0));
        assert_eq!(ours.ratio(|_| None), None);
    }
}
