//! A chart in an SVG: axes, lines with points, goals. No scripts, nothing from outside.

use std::fmt::Write as _;

pub(super) const INK: &str = "#1f2933";
pub(super) const FAINT: &str = "#616e7c";
pub(super) const GOAL: &str = "#b42318";
pub(super) const BLUE: &str = "#2f6fd0";
pub(super) const ORANGE: &str = "#d98207";
pub(super) const GREEN: &str = "#23845a";
pub(super) const PAPER: &str = "#fdfdfc";

/// Room for the title above, and the names of the axes to the left and below.
const ABOVE: f64 = 66.0;
const LEFT: f64 = 46.0;
const BELOW: f64 = 48.0;

/// A point of a line.
#[derive(Debug, Clone, Default)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Words beside it.
    pub(super) label: String,
    /// Drawn larger: the one that is configured.
    pub(super) marked: bool,
}

/// A line through points, from left to right.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) colour: &'static str,
    pub(super) points: Vec<Point>,
}

/// Values, and what each of them means.
type Goals = Vec<(f64, &'static str)>;

/// A chart and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x_name: &'static str,
    pub(super) y_name: &'static str,
    pub(super) lines: Vec<Line>,
    /// Greatest value at least shown on each axis.
    pub(super) reach: (f64, f64),
    /// Names of whole places on the x axis in place of numbers.
    pub(super) places: Vec<String>,
    /// Dashed lines: at an x, and at a y, with what they mean.
    pub(super) goals: (Goals, Goals),
}

/// Draws a chart into a rectangle.
pub(super) fn draw(svg: &mut String, chart: &Chart, at: (f64, f64), size: (f64, f64)) {
    let (left, right) = (at.0 + LEFT, at.0 + size.0 - 12.0);
    let (top, bottom) = (at.1 + ABOVE, at.1 + size.1 - BELOW);
    let points = || chart.lines.iter().flat_map(|line| &line.points).filter(|point| finite(point));
    let x_axis = if chart.places.is_empty() {
        Axis::new(points().map(|point| point.x).fold(chart.reach.0, f64::max), left, right)
    } else {
        Axis { step: 1.0, most: chart.reach.0, from: left, to: right }
    };
    let y_axis = Axis::new(points().map(|point| point.y).fold(chart.reach.1, f64::max), bottom, top);
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"14\" font-weight=\"600\">{}</text>",
        at.0 + 8.0,
        at.1 + 16.0,
        chart.title
    );
    grid(svg, chart, (&x_axis, &y_axis), (left, right, top, bottom));
    for (value, words) in &chart.goals.0 {
        let x = x_axis.at(*value);
        dashed(svg, (x, top), (x, bottom));
        text(svg, (x + 4.0, top + 10.0), "start", GOAL, words);
    }
    for (value, words) in &chart.goals.1 {
        let y = y_axis.at(*value);
        dashed(svg, (left, y), (right, y));
        text(svg, (left + 6.0, y - 4.0), "start", GOAL, words);
    }
    let mut name_x = at.0 + 8.0;
    for line in &chart.lines {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{}\"/>",
            name_x + 4.0,
            at.1 + 30.0,
            line.colour
        );
        text(svg, (name_x + 12.0, at.1 + 34.0), "start", INK, line.name);
        name_x += 26.0 + line.name.chars().count() as f64 * 6.0;
        draw_line(svg, line, &x_axis, &y_axis);
    }
}

fn draw_line(svg: &mut String, line: &Line, x_axis: &Axis, y_axis: &Axis) {
    let points = || line.points.iter().filter(|point| finite(point));
    let path: Vec<String> =
        points().map(|point| format!("{:.1},{:.1}", x_axis.at(point.x), y_axis.at(point.y))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
        path.join(" "),
        line.colour
    );
    for point in points() {
        let (x, y) = (x_axis.at(point.x), y_axis.at(point.y));
        let radius = if point.marked { 6.0 } else { 3.0 };
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\" stroke=\"{PAPER}\"/>",
            line.colour
        );
        text(svg, (x, y - 8.0), "middle", if point.marked { INK } else { FAINT }, &point.label);
    }
}

fn grid(svg: &mut String, chart: &Chart, (x_axis, y_axis): (&Axis, &Axis), edges: (f64, f64, f64, f64)) {
    let (left, right, top, bottom) = edges;
    for value in y_axis.ticks() {
        let y = y_axis.at(value);
        let _ =
            writeln!(svg, "<line x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#e4e7eb\"/>");
        text(svg, (left - 6.0, y + 4.0), "end", FAINT, &value.to_string());
    }
    if chart.places.is_empty() {
        for value in x_axis.ticks() {
            text(svg, (x_axis.at(value), bottom + 15.0), "middle", FAINT, &value.to_string());
        }
    }
    // Many names stand on two lines by turns.
    let lines = if chart.places.len() > 8 { 2 } else { 1 };
    for (place, name) in chart.places.iter().enumerate() {
        let y = bottom + 13.0 + 11.0 * (place % lines) as f64;
        text(svg, (x_axis.at(place as f64 + 1.0), y), "middle", FAINT, name);
    }
    text(svg, (right, bottom + 37.0), "end", FAINT, chart.x_name);
    text(svg, (left - 38.0, top - 14.0), "start", FAINT, chart.y_name);
}

fn finite(point: &Point) -> bool {
    point.x.is_finite() && point.y.is_finite()
}

fn dashed(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{GOAL}\" stroke-dasharray=\"5 4\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// Words with a halo, so that a line behind them does not hide them.
pub(super) fn text(svg: &mut String, at: (f64, f64), anchor: &str, colour: &str, words: &str) {
    if words.is_empty() {
        return;
    }
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\" stroke=\"{PAPER}\" stroke-width=\"3\" \
         paint-order=\"stroke\">{escaped}</text>",
        at.0, at.1
    );
}

/// An axis from 0 to a round value.
struct Axis {
    step: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(most: f64, from: f64, to: f64) -> Self {
        let most = most.max(1.0);
        let step = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0, 200.0, 250.0, 500.0, 1000.0, 2000.0]
            .into_iter()
            .find(|step| most / step <= 8.0)
            .unwrap_or_else(|| (most / 8_000.0).ceil() * 1000.0);
        Self { step, most: (most / step).ceil() * step, from, to }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=(self.most / self.step).round() as u32).map(|tick| f64::from(tick) * self.step)
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value / self.most).clamp(0.0, 1.0)
    }
}
