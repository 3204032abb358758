//! The drop rates as a plot.

use std::error::Error;
use std::path::Path as File;

use plotters::prelude::*;

use crate::Outcome;
use crate::lane::Seat;
use crate::peers::{GATEHOUSE, IPSET, LIMIT, NFTABLES, TRIE};
use crate::report::{Report, Row};
use crate::scene::{Family, Path};

/// Colours that readers with colour blindness can tell apart (Okabe and Ito).
const PEERS: [(&str, RGBColor); 5] = [
    (LIMIT, RGBColor(0, 0, 0)),
    (GATEHOUSE, RGBColor(0, 114, 178)),
    (IPSET, RGBColor(230, 159, 0)),
    (TRIE, RGBColor(213, 94, 0)),
    (NFTABLES, RGBColor(0, 158, 115)),
];

/// Draws the drop rate over the length of the list into `file`, one panel for each family.
pub(crate) fn draw(report: &Report, file: &File) -> Outcome<()> {
    render(report, file).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn render(report: &Report, file: &File) -> Result<(), Box<dyn Error>> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.path == Path::Drop).collect();
    let sizes = || rows.iter().map(|row| f64::from(row.size));
    let (shortest, longest) = (sizes().fold(f64::INFINITY, f64::min), sizes().fold(1.0, f64::max));
    let highest = rows.iter().map(|row| row.mpps(Seat::Shared)).fold(0.1, f64::max);
    let area = SVGBackend::new(file, (960, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, family) in area.split_evenly((1, 2)).iter().zip([Family::V4, Family::V6]) {
        let mut chart = ChartBuilder::on(panel)
            .caption(
                format!("{}: dropped, Mpps on one CPU that also sends", family.name()),
                ("sans-serif", 16),
            )
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(44)
            .build_cartesian_2d((shortest * 0.8..longest * 1.25).log_scale(), 0.0..highest * 1.3)?;
        chart
            .configure_mesh()
            .x_desc("prefixes in the list")
            .x_label_formatter(&|size| format!("{size:.0}"))
            .draw()?;
        for (peer, color) in PEERS {
            let points: Vec<(f64, f64)> = rows
                .iter()
                .filter(|row| row.family == family && row.peer == peer)
                .map(|row| (f64::from(row.size), row.mpps(Seat::Shared)))
                .collect();
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(peer)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).draw()?;
    }
    Ok(area.present()?)
}
