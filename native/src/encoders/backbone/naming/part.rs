//! Source of one of our tensors, or of a part of it, in a checkpoint.

/// Source of one of our tensors, or of a part of it along the first dimension.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// A tensor of the same block.
    Block(String),
    /// A tensor outside the blocks.
    Outer(String),
    /// The encoder has no such tensor: zeros.
    Zero,
}

/// Alternative parts of a tensor, of which a file has one. The usual one is first.
pub(super) type Ways = Vec<Vec<Part>>;

/// `layer.end` with the end `weight` or `bias`; other tensors have no end.
pub(super) fn split(tensor: &str) -> (&str, &str) {
    tensor.rsplit_once('.').unwrap_or((tensor, ""))
}

/// Each of `ways` as layers of the same block with the end `end`.
pub(super) fn layers(ways: &[&[&str]], end: &str) -> Ways {
    let part = |layer: &&str| Part::Block(format!("{layer}.{end}"));
    ways.iter().map(|way| way.iter().map(part).collect()).collect()
}
