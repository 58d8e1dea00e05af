//! Where a tensor of ours, or a part of it, comes from in a checkpoint.

/// Where one of our tensors, or a part of it along the first dimension, comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// A tensor of the same block.
    Block(String),
    /// A tensor outside of the blocks.
    Outer(String),
    /// The encoder has none: as if it were zero.
    Zero,
}

/// The parts of a tensor, in several ways, of which a file has one: the usual first.
pub(super) type Ways = Vec<Vec<Part>>;

/// `layer.end` with end `weight` or `bias`; the end of other tensors is empty.
pub(super) fn split(tensor: &str) -> (&str, &str) {
    tensor.rsplit_once('.').unwrap_or((tensor, ""))
}

/// Each of `ways` as layers of the same block, which all end in `end`.
pub(super) fn layers(ways: &[&[&str]], end: &str) -> Ways {
    let part = |layer: &&str| Part::Block(format!("{layer}.{end}"));
    ways.iter().map(|way| way.iter().map(part).collect()).collect()
}
