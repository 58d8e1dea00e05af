//! The hard-mining cosine loss of one group.

use super::{BLOCK, Launch, WARP};

/// Threads of the one block that looks for the k-th distance.
const SEARCHERS: usize = 1024;

/// Extents of a group's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    /// Photos of the batch.
    pub photos: usize,
    /// Tokens before a photo's patches, which do not count.
    pub first: usize,
    /// Patches of a photo.
    pub patches: usize,
    /// Channels of a patch.
    pub channels: usize,
}

impl Points {
    /// Points of the batch.
    pub fn count(self) -> usize {
        self.photos * self.patches
    }

    /// Values of `stats`: three sums of every point and of every photo, and the k-th largest distance, which is the last.
    pub fn stats(self) -> usize {
        3 * (self.count() + self.photos) + 1
    }

    /// Tokens of the batch.
    pub fn tokens(self) -> usize {
        self.photos * (self.first + self.patches)
    }

    fn by_warp<P>(kernel: &str, warps: usize) -> Launch<P> {
        Launch::new("mining", kernel, (warps * WARP).div_ceil(BLOCK), BLOCK)
    }
}

/// `encoded`, `decoded` → `stats`, for the `k`-th largest distance (from 1).
pub fn stats<P: Copy>([encoded, decoded, stats]: [P; 3], points: Points, k: usize) -> [Launch<P>; 3] {
    let Points { photos, first, patches, channels } = points;
    [
        Points::by_warp("point_sums", points.count()).pointers([encoded, decoded, stats]).numbers([
            points.count(),
            first,
            patches,
            channels,
        ]),
        Launch::new("mining", "photo_sums", photos, BLOCK).pointers([stats]).numbers([photos, patches]),
        kth([stats, stats], points.stats() - 1, points.count(), k),
    ]
}

/// The sums of `points` points → the `k`-th largest of their distances (from 1), which becomes value `at` of the second.
pub fn kth<P>(pointers: [P; 2], at: usize, points: usize, k: usize) -> Launch<P> {
    Launch::new("mining", "kth_distance", 1, SEARCHERS).pointers(pointers).numbers([at, points, k])
}

/// `stats` → one minus the cosine of each photo.
pub fn losses<P>(pointers: [P; 2], points: Points) -> Launch<P> {
    Launch::new("mining", "photo_losses", points.photos.div_ceil(BLOCK), BLOCK)
        .pointers(pointers)
        .numbers([points.photos, points.patches])
}

/// `encoded`, `decoded`, `stats` and the losses' gradient → the gradient of `decoded`, multiplied by `factor` at easy points and zero at tokens
/// that do not count.
pub fn grad<P>(pointers: [P; 5], points: Points, factor: f32) -> Launch<P> {
    let Points { photos, first, patches, channels } = points;
    Points::by_warp("mining_grad", points.tokens())
        .pointers(pointers)
        .numbers([photos, first, patches, channels])
        .floats([factor])
}
