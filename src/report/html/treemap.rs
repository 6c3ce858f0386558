//! Draws a treemap: the area of each rectangle is proportional to the tenant's size, and its shape is as square as
//! possible.

use super::parts::length;
use maud::{Markup, html};

/// A rectangle in percent of the drawing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// The approximate ratio of width to height of the drawing on a common screen.
const ASPECT: f64 = 3.0;

/// Returns an area for each value. The values must be positive and sorted, the largest first. This is the squarified
/// layout: values are added to a row along the shorter side while its rectangles become more square.
pub(super) fn areas(values: &[f64]) -> Vec<Area> {
    let total: f64 = values.iter().sum();
    let mut free = Area { x: 0.0, y: 0.0, width: 100.0 * ASPECT, height: 100.0 };
    let scale = free.width * free.height / total;
    let mut rest: Vec<f64> = values.iter().map(|value| value * scale).collect();
    let mut areas = Vec::new();
    while !rest.is_empty() {
        let side = free.width.min(free.height);
        let mut taken = 1;
        while taken < rest.len() && worst(&rest[..=taken], side) <= worst(&rest[..taken], side) {
            taken += 1;
        }
        let row: Vec<f64> = rest.drain(..taken).collect();
        areas.extend(place(&row, &mut free));
    }
    areas.into_iter().map(|area| Area { x: area.x / ASPECT, width: area.width / ASPECT, ..area }).collect()
}

/// Returns the ratio of the sides of the least square rectangle in a row.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let ratio = |area: &f64| {
        let ratio = side * side * area / (sum * sum);
        ratio.max(1.0 / ratio)
    };
    row.iter().map(ratio).fold(0.0, f64::max)
}

/// Places a row along the shorter side of the free area.
fn place(row: &[f64], free: &mut Area) -> Vec<Area> {
    let sum: f64 = row.iter().sum();
    let upright = free.height <= free.width;
    let side = if upright { free.height } else { free.width };
    let thickness = sum / side;
    let mut at = 0.0;
    let mut areas = Vec::new();
    for area in row {
        let along = area / thickness;
        areas.push(match upright {
            true => Area { x: free.x, y: free.y + at, width: thickness, height: along },
            false => Area { x: free.x + at, y: free.y, width: along, height: thickness },
        });
        at += along;
    }
    match upright {
        true => (free.x, free.width) = (free.x + thickness, free.width - thickness),
        false => (free.y, free.height) = (free.y + thickness, free.height - thickness),
    }
    areas
}

/// One rectangle of the drawing.
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) size: String,
    pub(super) bytes: u64,
    /// A class of the style.
    pub(super) class: &'static str,
}

/// Draws the cells, the largest first. Only cells with enough room have a text. The table below the drawing contains
/// all texts.
pub(super) fn draw(cells: &[Cell], description: &str) -> Markup {
    let values: Vec<f64> = cells.iter().map(|cell| cell.bytes as f64).collect();
    html! {
        svg class="treemap" role="img" width="100%" height="260" aria-labelledby="treemap-title treemap-text" {
            title id="treemap-title" { "The largest tenants" }
            desc id="treemap-text" { (description) }
            @for (cell, area) in cells.iter().zip(areas(&values)) {
                svg x=(length(area.x)) y=(length(area.y)) width=(length(area.width)) height=(length(area.height)) {
                    title { (cell.name) ": " (cell.size) }
                    rect class={ "cell " (cell.class) } width="100%" height="100%" {}
                    @if let Some(class) = room(&area) {
                        text class=(class) x="8" y="20" { (cell.name) }
                        text class={ "size " (class) } x="8" y="37" { (cell.size) }
                    }
                }
            }
        }
    }
}

/// Returns on which screens a text fits into an area: all, all but the narrowest, or only wide ones.
fn room(area: &Area) -> Option<&'static str> {
    match (area.width, area.height) {
        (_, ..17.0) => None,
        (26.0.., _) => Some("any"),
        (13.0.., _) => Some("medium"),
        (7.0.., _) => Some("wide"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_fill_the_drawing_and_are_as_large_as_their_values() {
        for values in [vec![1.0], vec![5.0, 3.0, 1.0, 1.0], (1..=25).rev().map(f64::from).collect()] {
            let areas = areas(&values);
            let total: f64 = values.iter().sum();
            assert_eq!(areas.len(), values.len());
            for (area, value) in areas.iter().zip(&values) {
                let share = area.width * area.height / 10_000.0;
                assert!((share - value / total).abs() < 1e-9, "{area:?} for {value} of {total}");
                let inside = area.x >= -1e-9 && area.y >= -1e-9;
                assert!(
                    inside && area.x + area.width <= 100.0 + 1e-9 && area.y + area.height <= 100.0 + 1e-9,
                    "{area:?}"
                );
            }
            for (index, one) in areas.iter().enumerate() {
                for other in &areas[index + 1..] {
                    let wide = (one.x + one.width).min(other.x + other.width) - one.x.max(other.x);
                    let high = (one.y + one.height).min(other.y + other.height) - one.y.max(other.y);
                    assert!(wide < 1e-9 || high < 1e-9, "{one:?} and {other:?} overlap");
                }
            }
        }
        assert_eq!(areas(&[]), []);
    }
}
