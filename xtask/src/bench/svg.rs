//! Plots as inline SVG. Colours are classes (`c0`, `c1`, …) that the page's style defines.

use std::fmt::Write;

use super::escape::escape;

/// A bar with its range.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) label: String,
    /// The colour's number.
    pub(super) color: usize,
    pub(super) value: f64,
    /// How much of the value, at its end, is of another kind than the rest, and paler.
    pub(super) paler: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// The value in words.
    pub(super) text: String,
}

/// A line of latencies.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    pub(super) label: String,
    pub(super) color: usize,
    /// Share of the answers in percent, and their time in µs, both rising.
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const LABELS: f64 = 190.0;
/// Room to the right of the longest bar for its text.
const TEXTS: f64 = 130.0;
const ROW: f64 = 30.0;

/// Horizontal bars from zero, each with a line from its smallest to its largest value.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let height = ROW * bars.len() as f64 + 4.0;
    let most = bars.iter().fold(0.0, |most: f64, bar| most.max(bar.max));
    let scale = if most > 0.0 {
        (WIDTH - LABELS - TEXTS) / most
    } else {
        0.0
    };
    let mut svg = open(title, height);
    for (index, bar) in bars.iter().enumerate() {
        let top = ROW * index as f64 + 4.0;
        let middle = top + ROW / 2.0 - 2.0;
        let at = |value: f64| LABELS + value.max(0.0) * scale;
        let _ = write!(
            svg,
            "<g><title>{label}: {text} (from {min:.1} to {max:.1})</title>\
             <text class=\"label\" x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>\
             <rect class=\"c{color}\" x=\"{LABELS}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{bar_height}\" rx=\"2\"/>",
            label = escape(&bar.label),
            text = escape(&bar.text),
            min = bar.min,
            max = bar.max,
            x = LABELS - 8.0,
            y = middle + 4.5,
            color = bar.color,
            width = (at(bar.value) - LABELS).max(1.0),
            bar_height = ROW - 8.0,
        );
        if bar.paler > 0.0 {
            let (left, right) = (at(bar.value - bar.paler), at(bar.value));
            let _ = write!(
                svg,
                "<rect class=\"paler\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{}\" rx=\"2\"/>",
                right - left,
                ROW - 8.0
            );
        }
        if bar.max > bar.min {
            let (left, right) = (at(bar.min), at(bar.max));
            let (low, high) = (middle - 5.0, middle + 5.0);
            let _ = write!(
                svg,
                "<path class=\"range\" d=\"M{left:.1} {low:.1}V{high:.1}M{left:.1} {middle:.1}H{right:.1}M{right:.1} {low:.1}V{high:.1}\"/>"
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            at(bar.max) + 8.0,
            middle + 4.5,
            escape(&bar.text)
        );
    }
    svg + "</svg>\n"
}

const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
const HEIGHT: f64 = 380.0;
/// The marks of the horizontal axis.
const SHARES: [f64; 7] = [1.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99];

/// Latency over the share of answers. Both axes are logarithmic; the horizontal one in what remains to 100 %,
/// so that the tail has as much room as the middle.
pub(super) fn curves(title: &str, curves: &[Curve]) -> String {
    let times = || curves.iter().flat_map(|curve| &curve.points).map(|p| p.1);
    let least = times().fold(f64::INFINITY, f64::min).max(0.1);
    let most = times().fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let (bottom, top) = (least.log10().floor(), most.log10().ceil());
    let decades = (top - bottom).max(1.0);
    let y = |time: f64| {
        HEIGHT - BOTTOM - (time.log10().max(bottom) - bottom) / decades * (HEIGHT - TOP - BOTTOM)
    };
    let end = remaining(SHARES[SHARES.len() - 1]);
    let x = |share: f64| LEFT + remaining(share) / end * (WIDTH - LEFT - RIGHT);

    let mut svg = open(title, HEIGHT);
    for decade in 0..=decades as i32 {
        let time = 10f64.powf(bottom + f64::from(decade));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text x=\"{x}\" y=\"{base:.1}\" text-anchor=\"end\">{label}</text>",
            y = y(time),
            right = WIDTH - RIGHT,
            x = LEFT - 8.0,
            base = y(time) + 4.5,
            label = time_label(time),
        );
    }
    for share in SHARES {
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {TOP}V{low}\"/><text x=\"{x:.1}\" y=\"{base}\" text-anchor=\"middle\">{share}</text>",
            x = x(share),
            low = HEIGHT - BOTTOM,
            base = HEIGHT - BOTTOM + 18.0,
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">share of the answers, %</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0
    );
    for curve in curves {
        let points: Vec<_> = curve
            .points
            .iter()
            .map(|(share, time)| format!("{:.1},{:.1}", x(*share), y(*time)))
            .collect();
        let _ = write!(
            svg,
            "<polyline class=\"l{}\" points=\"{}\"><title>{}</title></polyline>",
            curve.color,
            points.join(" "),
            escape(&curve.label)
        );
    }
    svg + "</svg>\n"
}

/// Decades between a share and the whole: 90 → 1, 99 → 2.
fn remaining(share: f64) -> f64 {
    -((100.0 - share) / 100.0).log10()
}

fn time_label(micros: f64) -> String {
    if micros >= 1e6 {
        format!("{} s", micros / 1e6)
    } else if micros >= 1000.0 {
        format!("{} ms", micros / 1000.0)
    } else {
        format!("{} µs", (micros * 10.0).round() / 10.0)
    }
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        Bar {
            label: label.to_owned(),
            color: 0,
            value,
            paler: 0.0,
            min: value * 0.9,
            max: value * 1.1,
            text: format!("{value}"),
        }
    }

    #[test]
    fn bars_are_drawn_to_scale_and_labels_escaped() {
        let svg = bars("a & b", &[bar("x < y", 50.0), bar("z", 100.0)]);
        let width =
            |value: f64| format!("width=\"{:.1}\"", value * (WIDTH - LABELS - TEXTS) / 110.0);
        assert!(
            svg.contains(&width(50.0)) && svg.contains(&width(100.0)),
            "{svg}"
        );
        assert!(svg.contains("x &lt; y") && svg.contains("aria-label=\"a &amp; b\""));
        assert!(!svg.contains("NaN"));
        assert!(!bars("nothing", &[bar("zero", 0.0)]).contains("NaN"));
    }

    #[test]
    fn a_bar_of_two_kinds_is_drawn_to_scale() {
        let of_two = Bar {
            paler: 25.0,
            ..bar("a", 100.0)
        };
        let svg = bars("stacked", &[of_two, bar("b", 100.0)]);
        let scale = (WIDTH - LABELS - TEXTS) / 110.0;
        let (x, width) = (LABELS + 75.0 * scale, 25.0 * scale);
        let paler = format!("<rect class=\"paler\" x=\"{x:.1}\" y=\"4.0\" width=\"{width:.1}\"");
        assert!(svg.contains(&paler), "{svg}");
        assert_eq!(svg.matches("paler").count(), 1);
    }

    #[test]
    fn curves_stay_in_their_frame() {
        let curve = Curve {
            label: "a".to_owned(),
            color: 1,
            points: vec![(1.0, 5.0), (50.0, 20.0), (99.99, 4321.0)],
        };
        let svg = curves("latency", &[curve]);
        let points = svg.split("points=\"").nth(1).unwrap();
        let points = points.split('"').next().unwrap();
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&x), "{point}");
            assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y), "{point}");
        }
        // The lowest decade is as high as the others.
        assert!(
            svg.contains(&format!("M{LEFT} {:.1}H", HEIGHT - BOTTOM)),
            "{svg}"
        );
        assert_eq!(curves("nothing", &[]), "");
    }

    #[test]
    fn labels_of_times() {
        assert_eq!(time_label(10f64.powf(0.0)), "1 µs");
        assert_eq!(time_label(10f64.powf(3.0)), "1 ms");
        // Five digits would not fit beside the axis.
        assert_eq!(time_label(10f64.powf(7.0)), "10 s");
        assert!((remaining(99.0) - 2.0).abs() < 1e-9);
    }
}
