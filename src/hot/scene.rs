//! Owns whether the scene has moved: compares the structure of a frame, tile by tile, with that of an earlier one. A change of light
//! is none: brightness and contrast of a tile are taken out, and what showed nothing before or shows nothing now does not count, but
//! it is what the next look is compared with.
//! Arithmetic on luma it is handed. Any thread.

use super::ground::Luma;

/// Cells of a tile, across and down.
const TILE: usize = 8;
/// About how many cells lie across a frame, and how many samples one has at least across.
const CELLS: usize = 128;
const CELL: usize = 4;
/// Tiles whose structure is alike to less than this (correlation) show something else. Where nothing moves, noise leaves 0.75.
const ALIKE: f32 = 0.5;
/// The scene has moved as a whole where so many tiles can be compared, and this share of them shows something else.
const TILES: usize = 8;
const MOVED: f32 = 0.6;
/// Sectors of the frame, across and down.
const SECTORS: usize = 4;
/// Something moves somewhere where so many tiles show something else.
const STIRRED: usize = 3;
/// Structure that counts: standard deviation of the cells of a tile (code values), at least, and in deviations of the noise. Below the
/// first there may be what an encoder does to noise.
const LEAST: f32 = 2.2;
const CLEAR: f32 = 2.0;

/// What a look at a frame found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Nothing that matters.
    None,
    /// Something, in this share of the sectors that show any structure.
    Part(f32),
    /// The scene as a whole.
    Whole,
}

/// The structure of one tile: deviations of its cells' means from the plane through them, and their sum of squares.
#[derive(Debug, Clone, Copy)]
struct Tile {
    cells: [f32; TILE * TILE],
    energy: f32,
}

/// The earlier frame.
#[derive(Debug, Default)]
pub struct Scene {
    cell: (usize, usize),
    across: usize,
    tiles: Vec<Tile>,
    now: Vec<Tile>,
    /// Of each tile: both frames show structure, which can be compared; it is another one.
    judged: Vec<(bool, bool)>,
    begun: bool,
}

impl Scene {
    /// For frames of this size. Allocates; the looks do not.
    pub fn new(width: usize, height: usize) -> Scene {
        let cell = ((width / CELLS).max(CELL), (height * 4 / 3 / CELLS).max(CELL));
        let (across, down) = (width / (cell.0 * TILE), height / (cell.1 * TILE));
        let empty = Tile { cells: [0.0; TILE * TILE], energy: 0.0 };
        let n = across * down;
        Scene { cell, across, tiles: vec![empty; n], now: vec![empty; n], judged: vec![(false, false); n], begun: false }
    }

    /// The next frame is the first one again.
    pub fn restart(&mut self) {
        self.begun = false;
    }

    /// Compares the frame with the earlier one, whose place it takes where it shows something else, and where one of them shows
    /// nothing: after a black frame there would be nothing to compare for ever. `noise`: as [`Luma::noise`] says.
    pub fn look(&mut self, luma: &Luma<'_>, noise: f32) -> Change {
        for k in 0..self.now.len() {
            self.now[k] = self.measure(luma, k % self.across, k / self.across);
        }
        if !self.begun {
            self.begun = true;
            std::mem::swap(&mut self.tiles, &mut self.now);
            return Change::None;
        }
        // Noise left in a cell's mean; the smaller of two samples varies less than either.
        let left = 0.85 * noise / ((self.cell.0 * self.cell.1) as f32).sqrt();
        let least = LEAST.max(CLEAR * left).powi(2) * (TILE * TILE) as f32;
        let (mut seen, mut other) = (0, 0);
        for ((judged, a), b) in self.judged.iter_mut().zip(&self.tiles).zip(&self.now) {
            let both = a.energy > least && b.energy > least;
            let alike: f32 = a.cells.iter().zip(&b.cells).map(|(a, b)| a * b).sum();
            let differs = both && alike < ALIKE * (a.energy * b.energy).sqrt();
            *judged = (both, differs);
            seen += usize::from(both);
            other += usize::from(differs);
        }
        if seen >= TILES && other as f32 >= MOVED * seen as f32 {
            std::mem::swap(&mut self.tiles, &mut self.now);
            return Change::Whole;
        }
        let stirred = other >= STIRRED;
        for (((both, differs), tile), now) in self.judged.iter().zip(&mut self.tiles).zip(&self.now) {
            if !both || (stirred && *differs) {
                *tile = *now;
            }
        }
        if stirred { Change::Part(self.spread()) } else { Change::None }
    }

    /// The share of the sectors with any structure in which some of it is another.
    fn spread(&self) -> f32 {
        let (across, down) = (self.across, self.tiles.len() / self.across.max(1));
        let mut sectors = [(false, false); SECTORS * SECTORS];
        for (k, (both, differs)) in self.judged.iter().enumerate() {
            let sector = &mut sectors[k / across * SECTORS / down * SECTORS + k % across * SECTORS / across];
            *sector = (sector.0 | both, sector.1 | differs);
        }
        let count = |which: fn(&(bool, bool)) -> bool| sectors.iter().filter(|s| which(s)).count() as f32;
        count(|s| s.1) / count(|s| s.0).max(1.0)
    }

    /// The structure of the tile in this column and row. A cell is the mean of the smaller of every two neighbours, in which a hot pixel
    /// does not show: it would make everything look alike.
    fn measure(&self, luma: &Luma<'_>, column: usize, row: usize) -> Tile {
        let (w, h) = self.cell;
        let mut cells = [0.0; TILE * TILE];
        for (k, cell) in cells.iter_mut().enumerate() {
            let x = (column * TILE + k % TILE) * w;
            let y = (row * TILE + k / TILE) * h;
            let mut sum = 0u32;
            for line in luma.data[y * luma.stride..].chunks(luma.stride).take(h) {
                let line = &line[x..(x + w + 1).min(luma.width)];
                sum += line.iter().zip(&line[1..]).map(|(a, b)| u32::from(*a.min(b))).sum::<u32>();
            }
            *cell = sum as f32 / (w * h) as f32;
        }
        flatten(&mut cells);
        Tile { energy: cells.iter().map(|c| c * c).sum(), cells }
    }
}

/// Takes the plane through the cells out of them: what is left of a sky or a wall is nothing.
fn flatten(cells: &mut [f32; TILE * TILE]) {
    let middle = (TILE as f32 - 1.0) / 2.0;
    let place = |k: usize| ((k % TILE) as f32 - middle, (k / TILE) as f32 - middle);
    let n = (TILE * TILE) as f32;
    // The sum of squares of the places along one side, for all cells.
    let spread: f32 = (0..TILE * TILE).map(|k| place(k).0.powi(2)).sum();
    let mean = cells.iter().sum::<f32>() / n;
    let (mut across, mut down) = (0.0, 0.0);
    for (k, cell) in cells.iter().enumerate() {
        across += cell * place(k).0;
        down += cell * place(k).1;
    }
    for (k, cell) in cells.iter_mut().enumerate() {
        *cell -= mean + (across * place(k).0 + down * place(k).1) / spread;
    }
}
