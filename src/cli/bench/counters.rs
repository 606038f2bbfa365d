//! The server's own counters, from Prometheus' text format.

use std::collections::BTreeMap;

/// Samples by their name with its labels, such as `turnstile_events_accepted_total{source="tcp"}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters(BTreeMap<String, f64>);

impl Counters {
    /// Reads an exposition; buckets of histograms are left out.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let bucket = name.split('{').next()?.ends_with("_bucket");
            (!bucket).then_some((name.to_owned(), value.parse().ok()?))
        });
        Counters(samples.collect())
    }

    /// The samples, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, &value)| (name.as_str(), value))
    }

    /// The sample with this name and these labels, 0 if there is none.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The sum of the samples of this name, whatever their labels.
    pub fn sum(&self, name: &str) -> f64 {
        self.iter().filter(|(sample, _)| sample.split('{').next() == Some(name)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_summed_over_their_labels() {
        let text =
            "# HELP a x\n# TYPE a counter\na{s=\"x y\"} 2\na{s=\"z\"} 3\nab 1\nh_bucket{le=\"1\"} 9\nh_sum 0.5\nbad\n";
        let counters = Counters::parse(text);
        assert_eq!(counters.iter().count(), 4);
        assert_eq!((counters.sum("a"), counters.get("a{s=\"z\"}"), counters.get("h_sum")), (5.0, 3.0, 0.5));
        assert_eq!((counters.sum("none"), counters.get("none")), (0.0, 0.0));
    }
}
