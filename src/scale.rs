//! Owns the smaller picture for the ring where the camera has no hardware for it: the mean of the pixels under each pixel.
//! Never allocates but for the first picture that is to be turned. Runs on the capture thread.

use crate::frame::{Layout, Planes, Samples};
use crate::turn::Turn;

/// Columns of the widest picture: what `config` allows.
const PIECE: usize = 8192;

/// Makes pictures smaller. Holds the row of sums, so that a frame costs no allocation.
pub struct Shrink {
    to: Layout,
    sums: Box<[u32]>,
    /// The small picture before it is set upright; empty as long as none is to be.
    lying: Vec<u8>,
}

impl Shrink {
    /// To pictures of this size, not larger than the source's in either direction.
    pub fn new(to: Layout) -> Shrink {
        Shrink { to, sums: vec![0; PIECE].into_boxed_slice(), lying: Vec::new() }
    }

    /// Writes the small picture into `slot`. Each pixel is the rounded mean of the box of whole source pixels that it covers;
    /// where sizes divide evenly that is exact area averaging.
    pub fn run(&mut self, from: &Planes<'_>, slot: &mut [u8]) {
        self.fill(self.to, from, slot);
    }

    /// The same, and turned: of the small picture, which costs least.
    pub fn turned(&mut self, from: &Planes<'_>, turn: Turn, slot: &mut [u8]) {
        if turn.is_none() {
            return self.run(from, slot);
        }
        let to = turn.of(self.to);
        let mut lying = std::mem::take(&mut self.lying);
        lying.resize(to.bytes(), 0);
        self.fill(to, from, &mut lying);
        turn.copy(&Planes::of(to, &lying), slot);
        self.lying = lying;
    }

    fn fill(&mut self, to: Layout, from: &Planes<'_>, slot: &mut [u8]) {
        let (full, half) = ((to.width as usize, to.height as usize), (to.width as usize / 2, to.c_height()));
        let plan = [(to.y(), to.y_stride(), full), (to.u(), to.c_stride(), half), (to.v(), to.c_stride(), half)];
        for (component, (range, pitch, to)) in plan.into_iter().enumerate() {
            self.plane(&from.samples(component), &mut slot[range], pitch, to);
        }
    }

    fn plane(&mut self, from: &Samples<'_>, dst: &mut [u8], pitch: usize, (tw, th): (usize, usize)) {
        let (w, h) = (from.width, from.height);
        for (ty, out) in dst.chunks_mut(pitch).take(th).enumerate() {
            let rows = ty * h / th..((ty + 1) * h / th).max(ty * h / th + 1);
            let sums = &mut self.sums[..w];
            sums.fill(0);
            for row in rows.clone().map(|y| &from.data[y * from.stride..]) {
                if from.step == 1 {
                    for (sum, p) in sums.iter_mut().zip(&row[..w]) {
                        *sum += u32::from(*p);
                    }
                } else {
                    for (sum, p) in sums.iter_mut().zip(row.iter().step_by(from.step)) {
                        *sum += u32::from(*p);
                    }
                }
            }
            for (tx, out) in out[..tw].iter_mut().enumerate() {
                let columns = tx * w / tw..((tx + 1) * w / tw).max(tx * w / tw + 1);
                let n = (columns.len() * rows.len()) as u32;
                *out = ((sums[columns].iter().sum::<u32>() + n / 2) / n) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_averaged() {
        let (big, small) = (Layout::new(16, 8), Layout::new(4, 4));
        let pixels: Vec<u8> = (0..big.bytes()).map(|i| (i * 37 % 251) as u8).collect();
        let mut out = vec![0; small.bytes()];
        Shrink::new(small).run(&Planes::of(big, &pixels), &mut out);
        for y in 0..4 {
            for x in 0..4 {
                let sum: u32 = (0..2)
                    .flat_map(|dy| (0..4).map(move |dx| (dy, dx)))
                    .map(|(dy, dx)| u32::from(pixels[(2 * y + dy) * 16 + 4 * x + dx]))
                    .sum();
                assert_eq!(u32::from(out[y * 4 + x]), (sum + 4) / 8);
            }
        }
    }

    #[test]
    fn a_turned_picture_shrinks_to_the_size_it_has_upright() {
        let (big, small) = (Layout::new(16, 8), Layout::new(4, 8));
        let pixels: Vec<u8> = (0..big.bytes()).map(|i| (i * 37 % 251) as u8).collect();
        let turn = Turn::new(90, false, false);
        let (mut lying, mut expected, mut out) = (vec![0; small.bytes()], vec![0; small.bytes()], vec![0; small.bytes()]);
        Shrink::new(Layout::new(8, 4)).run(&Planes::of(big, &pixels), &mut lying);
        turn.copy(&Planes::of(Layout::new(8, 4), &lying), &mut expected);
        Shrink::new(small).turned(&Planes::of(big, &pixels), turn, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn every_packing_shrinks_to_the_same_picture() {
        use crate::frame::Packing;
        let (big, small) = (Layout::new(16, 8), Layout::new(4, 4));
        let pixels: Vec<u8> = (0..big.bytes()).map(|i| (i * 37 % 251) as u8).collect();
        let own = Planes::of(big, &pixels);
        let mut expected = vec![0; small.bytes()];
        Shrink::new(small).run(&own, &mut expected);
        let uv: Vec<u8> = own.data[1].iter().zip(own.data[2]).flat_map(|(u, v)| [*u, *v]).collect();
        let mut yuyv = Vec::new();
        for y in 0..8 {
            for x in 0..8 {
                // Chroma rows in pairs of the same, so that averaging over them changes nothing.
                let c = y / 2 * 8 + x;
                yuyv.extend([own.data[0][y * 16 + 2 * x], own.data[1][c], own.data[0][y * 16 + 2 * x + 1], own.data[2][c]]);
            }
        }
        let nv12 = Planes { layout: big, packing: Packing::SemiPlanar, data: [own.data[0], &uv, &[]], stride: [16, 16, 0] };
        let yuyv = Planes { layout: big, packing: Packing::Packed, data: [&yuyv, &[], &[]], stride: [32, 0, 0] };
        for other in [nv12, yuyv] {
            let mut out = vec![0; small.bytes()];
            Shrink::new(small).run(&other, &mut out);
            assert_eq!(out, expected, "{:?}", other.packing);
        }
    }

    #[test]
    fn a_flat_picture_stays_flat_at_odd_ratios() {
        let (big, small) = (Layout::new(1022, 766), Layout::new(256, 194));
        let pixels = vec![77; big.bytes()];
        let mut out = vec![0; small.bytes()];
        Shrink::new(small).run(&Planes::of(big, &pixels), &mut out);
        assert!(out.iter().all(|p| *p == 77));
    }
}
