//! Stored bytes over time as SVG: a line for each machine, and one for all together.

use cairn::units::human_bytes;
use cairn::{Error, Kind, Time};
use plotters::prelude::*;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Size of the picture in pixels.
const SIZE: (u32, u32) = (1200, 700);
/// Steps of a line at most: more are not seen.
const STEPS: usize = 1200;
/// Machines that are named beside the lines at most.
const NAMED: usize = 20;
const DAY: f64 = 86_400.0;
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(23, 190, 207),
];

/// A line: what was added, and when, in seconds since 1970 and bytes, in any order.
pub struct Line {
    /// Whose it is.
    pub name: String,
    /// When, and how much.
    pub added: Vec<(i64, u64)>,
}

impl Line {
    /// The corners of the line from the beginning of time to its end, in days and bytes: level between two points, up at each.
    fn corners(&self, [begin, end]: [i64; 2]) -> Vec<(f64, f64)> {
        let mut added = self.added.clone();
        added.sort_unstable();
        let span = end.saturating_sub(begin).max(1).unsigned_abs();
        let column = |time: i64| {
            let since = u128::from(time.saturating_sub(begin).unsigned_abs());
            since * STEPS as u128 / u128::from(span)
        };
        let (mut sum, mut corners) = (0u64, vec![(days(begin), 0.0)]);
        let mut items = added.iter().peekable();
        while let Some((time, bytes)) = items.next() {
            let before = sum;
            sum = sum.saturating_add(*bytes);
            // What falls into one column is one step.
            while let Some((_, more)) = items.next_if(|(next, _)| column(*next) == column(*time)) {
                sum = sum.saturating_add(*more);
            }
            corners.push((days(*time), before as f64));
            corners.push((days(*time), sum as f64));
        }
        corners.push((days(end), sum as f64));
        corners
    }
}

fn days(seconds: i64) -> f64 {
    seconds as f64 / DAY
}

/// The chart; `lines` are the machines'.
pub fn draw(lines: &[Line]) -> Result<String, Error> {
    let mut picture = String::new();
    paint(lines, &mut picture)
        .map_err(|error| Error::new(Kind::Io, format!("the chart cannot be drawn: {error}")))?;
    Ok(picture)
}

fn paint(lines: &[Line], picture: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let total = Line {
        name: "all together".to_string(),
        added: lines
            .iter()
            .flat_map(|line| line.added.iter().copied())
            .collect(),
    };
    let times = || total.added.iter().map(|(time, _)| *time);
    let begin = times().min().unwrap_or(0);
    let end = times().max().unwrap_or(0);
    let end = end.max(begin.saturating_add(3600));
    let sum = total
        .added
        .iter()
        .fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let top = (sum as f64 * 1.05).max(1.0);

    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Stored by backups, added up", ("sans-serif", 22))
        .margin(20)
        .x_label_area_size(40)
        .y_label_area_size(90)
        .build_cartesian_2d(days(begin)..days(end), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_labels(8)
        .x_label_formatter(&|day| date(*day))
        .y_label_formatter(&|bytes| human_bytes(*bytes as u64))
        .draw()?;
    let coloured = lines.iter().zip(COLOURS.iter().cycle());
    for (line, colour) in coloured {
        let style = colour.stroke_width(2);
        let drawn = chart.draw_series(LineSeries::new(line.corners([begin, end]), style))?;
        if lines.len() <= NAMED {
            drawn
                .label(&line.name)
                .legend(move |(x, y)| key(x, y, style));
        }
    }
    let style = BLACK.stroke_width(3);
    chart
        .draw_series(LineSeries::new(total.corners([begin, end]), style))?
        .label(&total.name)
        .legend(move |(x, y)| key(x, y, style));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    Ok(())
}

/// The line beside a name.
fn key(x: i32, y: i32, style: ShapeStyle) -> PathElement<(i32, i32)> {
    PathElement::new(vec![(x, y), (x + 16, y)], style)
}

fn date(days: f64) -> String {
    let time = Time::from_seconds((days * DAY) as i64).rfc3339();
    time.get(..10).unwrap_or(&time).to_string()
}

/// Writes the chart to a file, which must not be there unless `force` is given.
pub fn write(path: &Path, picture: &str, force: bool) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(path).map_err(|e| {
        let error = Error::io("cannot make the file of the chart", path, e);
        if error.kind() == Kind::Exists {
            error.advise("give another name, or --force to replace it")
        } else {
            error
        }
    })?;
    file.write_all(picture.as_bytes())
        .map_err(|e| Error::io("cannot write the chart", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_up_in_steps() {
        let line = Line {
            name: "m".to_string(),
            added: vec![(2 * 86_400, 30), (86_400, 10)],
        };
        let corners = line.corners([0, 3 * 86_400]);
        let expected = [
            (0.0, 0.0),
            (1.0, 0.0),
            (1.0, 10.0),
            (2.0, 10.0),
            (2.0, 40.0),
            (3.0, 40.0),
        ];
        assert_eq!(corners, expected);
    }

    #[test]
    fn many_points_make_no_more_steps_than_are_seen() {
        let line = Line {
            name: "m".to_string(),
            added: (0..100_000).map(|n| (n * 60, 1)).collect(),
        };
        let corners = line.corners([0, 100_000 * 60]);
        assert!(corners.len() <= 2 * STEPS + 4, "{}", corners.len());
        assert_eq!(corners.last().unwrap().1, 100_000.0);
        assert!(corners.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
    }

    #[test]
    fn nothing_is_a_chart_too() {
        assert!(draw(&[]).unwrap().ends_with("</svg>\n"));
    }
}
