//! Prometheus's text format, version 0.0.4.

use std::fmt::{Display, Write};

use super::histogram::Snapshot;
use super::names::{Kind, Metric};

/// A scrape's text; each metric is written once, with all its samples.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The samples of one metric.
pub(crate) struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins a metric.
    pub(crate) fn metric(&mut self, metric: &Metric) -> Samples<'_> {
        let Metric { name, kind, help } = metric;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Samples {
            text: &mut self.text,
            name,
        }
    }

    /// A metric with one sample and no labels.
    pub(crate) fn single(&mut self, metric: &Metric, value: impl Display) {
        self.metric(metric).sample(&[], value);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

impl Samples<'_> {
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.write("", labels, None, value)
    }

    /// A histogram's samples; `unit` is what a value of 1 is in the metric's unit.
    pub(crate) fn histogram<const N: usize>(
        &mut self,
        labels: &[(&str, &str)],
        seen: &Snapshot<N>,
        unit: f64,
    ) -> &mut Self {
        let mut total = 0;
        for (bound, count) in seen.bounds.iter().zip(&seen.counts) {
            total += count;
            let bound = (*bound as f64 * unit).to_string();
            self.write("_bucket", labels, Some(&bound), total);
        }
        self.write("_bucket", labels, Some("+Inf"), seen.count());
        self.write("_sum", labels, None, seen.sum as f64 * unit);
        self.write("_count", labels, None, seen.count())
    }

    fn write(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) -> &mut Self {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        for (n, (name, value)) in labels.iter().copied().chain(bound).enumerate() {
            self.text.push(if n == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if bound.is_some() || !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::Histogram;

    #[test]
    fn samples_have_escaped_labels() {
        let metric = Metric {
            name: "x_total",
            kind: Kind::Counter,
            help: "Some.",
        };
        let mut exposition = Exposition::default();
        exposition
            .metric(&metric)
            .sample(&[("a", "b\"\\\nc"), ("d", "")], 7);
        exposition.single(&metric, 0.5);
        assert_eq!(
            exposition.finish(),
            "# HELP x_total Some.\n# TYPE x_total counter\nx_total{a=\"b\\\"\\\\\\nc\",d=\"\"} 7\n\
             # HELP x_total Some.\n# TYPE x_total counter\nx_total 0.5\n"
        );
    }

    #[test]
    fn histograms_are_cumulative() {
        let metric = Metric {
            name: "t_seconds",
            kind: Kind::Histogram,
            help: "Time.",
        };
        let histogram = Histogram::new(&[500, 1_000]);
        for value in [100, 600, 600, 2_000] {
            histogram.observe(value, 1);
        }
        let mut exposition = Exposition::default();
        exposition
            .metric(&metric)
            .histogram(&[], &histogram.snapshot(), 1e-3);
        assert_eq!(
            exposition.finish(),
            "# HELP t_seconds Time.\n# TYPE t_seconds histogram\nt_seconds_bucket{le=\"0.5\"} 1\n\
             t_seconds_bucket{le=\"1\"} 3\nt_seconds_bucket{le=\"+Inf\"} 4\nt_seconds_sum 3.3000000000000003\n\
             t_seconds_count 4\n"
        );
    }
}
