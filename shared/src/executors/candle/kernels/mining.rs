//! Hard-mining cosine loss of one group.

use super::{BLOCK, Launch, WARP};

/// Number of threads of the only block that finds the k-th distance.
const SEARCHERS: usize = 1024;

/// Extents of a group's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    /// Number of photos.
    pub photos: usize,
    /// Number of tokens before a photo's patches, which do not count.
    pub first: usize,
    /// Number of patches per photo.
    pub patches: usize,
    /// Number of channels per patch.
    pub channels: usize,
}

impl Points {
    /// Number of points of the batch.
    pub fn count(self) -> usize {
        self.photos * self.patches
    }

    /// Number of values of `stats`: three sums per point and per photo, and last the k-th largest distance.
    pub fn stats(self) -> usize {
        3 * (self.count() + self.photos) + 1
    }

    /// Number of tokens of the batch.
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

/// The sums of `points` points → the `k`-th largest of their distances (from 1), written to value `at` of the second buffer.
pub fn kth<P>(pointers: [P; 2], at: usize, points: usize, k: usize) -> Launch<P> {
    Launch::new("mining", "kth_distance", 1, SEARCHERS).pointers(pointers).numbers([at, points, k])
}

/// `stats` → the cosine distance of each photo.
pub fn losses<P>(pointers: [P; 2], points: Points) -> Launch<P> {
    Launch::new("mining", "photo_losses", points.photos.div_ceil(BLOCK), BLOCK)
        .pointers(pointers)
        .numbers([points.photos, points.patches])
}

/// `encoded`, `decoded`, `stats` and the losses' gradient → the gradient of `decoded`, multiplied by `factor` at easy points, zero
/// at tokens that do not count.
pub fn grad<P>(pointers: [P; 5], points: Points, factor: f32) -> Launch<P> {
    let Points { photos, first, patches, channels } = points;
    Points::by_warp("mining_grad", points.tokens())
        .pointers(pointers)
        .numbers([photos, first, patches, channels])
        .floats([factor])
}
