//! Heads without training: the encoder's layers → each token's distance to a memory of good photos.

use crate::Result;
use crate::model::config::{MemoryConfig, MemoryKind};
use crate::model::vit::{Load, load_linear};
use crate::ops::{Linear, Ops, Places, Then};
use crate::tensor::HostTensor;

/// Number of rows of a bank in one tensor. A piece of the widest encoder (1536) fits a shard, and the cosines of a batch of
/// eight photos with it fit a WebGPU buffer.
const BANK_PIECE: usize = 2048;

/// Number of values of subspaces in one tensor, which fits a shard.
const SUBSPACE_PIECE: usize = 1 << 22;

/// Memory of good photos.
#[derive(Clone, Debug)]
pub struct Memory<T> {
    kind: MemoryKind,
    groups: Vec<(Vec<usize>, GroupMemory<T>)>,
    /// Class tokens that a photo's is compared with: of several subspaces, to choose one by `[subspaces, width]`; of photos, to choose
    /// the nearest ones `[photos, width]`.
    class_tokens: Option<T>,
    width: usize,
}

/// Memory of a group of layers.
#[derive(Clone, Debug)]
enum GroupMemory<T> {
    /// A product with a piece gives a token's cosines with its rows.
    Bank(Vec<Linear<T>>),
    /// Rows at their places.
    Placed(PlacedRows<T>),
    /// Matrix `I - PᵀP` and bias `-(I - PᵀP) mean` for each subspace, several in a piece: a product gives what the directions
    /// `P` leave of the token. With each piece the number of its subspaces.
    Subspaces(Vec<(usize, Linear<T>)>),
}

/// Rows of a group of layers at their places on the grid.
#[derive(Clone, Debug)]
pub(crate) struct PlacedRows<T> {
    /// Side of the grid, and half side of the window around a place, in patches.
    pub(crate) grid: usize,
    pub(crate) reach: usize,
    /// Pieces from [`Ops::upload_rows`], each with the number of its first row.
    pub(crate) pieces: Vec<(usize, T)>,
}

impl<T: Clone> PlacedRows<T> {
    /// Distances `[batch, tokens]` of unit vectors to rows of chosen photos around their places.
    ///
    /// # Errors
    /// As [`Ops`].
    pub(crate) fn distances<O: Ops<Tensor = T>>(&self, ops: &O, x: &T, chosen: &T) -> Result<T> {
        let mut nearest = None;
        for (first, rows) in &self.pieces {
            let places = Places { grid: self.grid, reach: self.reach, first: *first };
            nearest = Some(ops.nearest_around(x, rows, chosen, places, nearest.as_ref())?);
        }
        Ok(nearest.expect("a bank has rows"))
    }
}

/// Whether a tensor holds rows at their places, which are uploaded by [`Ops::upload_rows`].
pub(crate) fn is_placed_rows(name: &str) -> bool {
    name.starts_with("memory.") && name.contains(".places.")
}

impl<T: Clone> Memory<T> {
    /// Builds the memory from `memory.GROUP.rows.PIECE.weight [rows, width]`; from `memory.GROUP.places.PIECE.weight [rows, width]`
    /// and `memory.class_tokens [photos, width]`; or from `memory.GROUP.residual.PIECE.weight [subspaces·width, width]`, `….bias`
    /// and, of several subspaces, `memory.prototypes [subspaces, width]`.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(config: &MemoryConfig, load: &mut Load<'_, T>) -> Result<Self> {
        let width = config.encoder.hidden_size;
        let mut group = |group: usize| -> Result<GroupMemory<T>> {
            match config.memory {
                MemoryKind::Bank { rows } => {
                    let pieces = bank_pieces(rows).map(|(piece, _, rows)| {
                        let name = format!("memory.{group}.rows.{piece}.weight");
                        Ok(Linear { weight: load(&name, &[rows, width])?, bias: None })
                    });
                    Ok(GroupMemory::Bank(pieces.collect::<Result<_>>()?))
                }
                MemoryKind::Places { photos, grid, reach, .. } => {
                    let pieces = bank_pieces(photos * grid * grid).map(|(piece, first, rows)| {
                        Ok((first, load(&format!("memory.{group}.places.{piece}.weight"), &[rows, width])?))
                    });
                    Ok(GroupMemory::Placed(PlacedRows { grid, reach, pieces: pieces.collect::<Result<_>>()? }))
                }
                MemoryKind::Subspace { subspaces } => {
                    let pieces = subspace_pieces(subspaces, width).map(|(piece, _, subspaces)| {
                        let name = format!("memory.{group}.residual.{piece}");
                        Ok((subspaces, load_linear(&name, width, subspaces * width, load)?))
                    });
                    Ok(GroupMemory::Subspaces(pieces.collect::<Result<_>>()?))
                }
            }
        };
        let groups = config.groups.iter().enumerate().map(|(i, layers)| Ok((layers.clone(), group(i)?)));
        let groups = groups.collect::<Result<_>>()?;
        let class_tokens = match config.memory {
            MemoryKind::Subspace { subspaces } if subspaces > 1 => {
                Some(load("memory.prototypes", &[subspaces, width])?)
            }
            MemoryKind::Places { photos, .. } => Some(load("memory.class_tokens", &[photos, width])?),
            _ => None,
        };
        Ok(Self { kind: config.memory, groups, class_tokens, width })
    }

    /// Target layers' outputs, each `[batch, tokens, width]` → for each group the distances `[batch, tokens]`.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn distances<O: Ops<Tensor = T>>(&self, ops: &O, layers: &[T]) -> Result<Vec<T>> {
        let units = layers.iter().map(|layer| ops.normalize(layer)).collect::<Result<Vec<_>>>()?;
        let last = &units[units.len() - 1];
        let chosen = match (self.kind, &self.class_tokens) {
            (MemoryKind::Places { nearest, .. }, Some(class_tokens)) => {
                Some(ops.top_rows(last, class_tokens, nearest)?)
            }
            _ => None,
        };
        let group = |(group, memory): &(Vec<usize>, GroupMemory<T>)| match memory {
            GroupMemory::Placed(rows) => {
                let chosen = chosen.as_ref().expect("rows at places have class tokens");
                rows.distances(ops, &unit_mean(ops, &units, group)?, chosen)
            }
            GroupMemory::Bank(pieces) => {
                let x = unit_mean(ops, &units, group)?;
                let mut nearest = None;
                for piece in pieces {
                    let cosines = ops.linear(&x, piece, Then::Store)?;
                    nearest = Some(ops.nearest(&cosines, nearest.as_ref())?);
                }
                Ok(nearest.expect("a bank has rows"))
            }
            GroupMemory::Subspaces(pieces) => {
                let x = mean_of_units(ops, &units, group)?;
                let norms = pieces.iter().map(|(subspaces, residual)| {
                    ops.squared_norms(&ops.linear(&x, residual, Then::Store)?, *subspaces)
                });
                let mut norms = norms.collect::<Result<Vec<_>>>()?;
                let norms = if norms.len() == 1 { norms.remove(0) } else { ops.concatenate(&norms)? };
                match &self.class_tokens {
                    Some(prototypes) => ops.choose(&norms, last, prototypes),
                    None => of_only_subspace(ops, &norms, &x, self.width),
                }
            }
        };
        self.groups.iter().map(group).collect()
    }
}

/// Squared norms `[batch, tokens, 1]` that an only subspace leaves of tokens `x [batch, tokens, width]` → distances `[batch, tokens]`:
/// the choice among one. An executor may store the two shapes differently.
pub(crate) fn of_only_subspace<O: Ops>(ops: &O, norms: &O::Tensor, x: &O::Tensor, width: usize) -> Result<O::Tensor> {
    ops.choose(norms, x, &ops.upload(&HostTensor::f32([1, width], vec![1.0; width])?)?)
}

/// A token's feature for a subspace: the mean of its unit vectors in the group's layers.
pub(crate) fn mean_of_units<O: Ops>(ops: &O, units: &[O::Tensor], group: &[usize]) -> Result<O::Tensor> {
    match group {
        [only] => Ok(units[*only].clone()),
        several => ops.mean(&several.iter().map(|&i| units[i].clone()).collect::<Vec<_>>()),
    }
}

/// A token's feature for a bank: that of a subspace, as a unit vector.
pub(crate) fn unit_mean<O: Ops>(ops: &O, units: &[O::Tensor], group: &[usize]) -> Result<O::Tensor> {
    let mean = mean_of_units(ops, units, group)?;
    if group.len() == 1 { Ok(mean) } else { ops.normalize(&mean) }
}

/// Index, first row and number of rows of each tensor of a bank.
pub(crate) fn bank_pieces(rows: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    pieces(rows, BANK_PIECE)
}

/// Index, first subspace and number of subspaces of each tensor of several subspaces.
pub(crate) fn subspace_pieces(subspaces: usize, width: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    pieces(subspaces, (SUBSPACE_PIECE / (width * width)).max(1))
}

fn pieces(whole: usize, piece: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..whole.div_ceil(piece)).map(move |i| (i, i * piece, piece.min(whole - i * piece)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::reference::{Reference, ReferenceTensor};
    use crate::maps::score::MapBorder;
    use crate::model::config::EncoderConfig;
    use crate::tensor::HostTensor;

    const WIDTH: usize = 4;

    fn config(groups: &[&[usize]], memory: MemoryKind) -> MemoryConfig {
        MemoryConfig {
            encoder: EncoderConfig::tiny(),
            target_layers: vec![1, 4],
            final_norm: false,
            groups: groups.iter().map(|group| group.to_vec()).collect(),
            memory,
            score_share: 0.01,
            map_border: MapBorder::Zero,
        }
    }

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((seed * 31 + i * 17 + i * i * 5) % 97) as f32 / 97.0 - 0.4).collect()
    }

    fn tensor(shape: &[usize], seed: usize) -> ReferenceTensor {
        Reference.upload(&HostTensor::f32(shape.to_vec(), values(shape.iter().product(), seed)).unwrap()).unwrap()
    }

    /// Tensors by name.
    type Loaded = Vec<(String, Vec<f32>)>;

    /// Distances of two layers' outputs with arbitrary tensors of a memory, which are also returned by name.
    fn distances(config: &MemoryConfig, layers: &[ReferenceTensor]) -> (Vec<Vec<f32>>, Loaded) {
        let mut loaded = Vec::new();
        let memory = Memory::load(config, &mut |name, shape| {
            let value = tensor(shape, 7 + loaded.len());
            loaded.push((name.to_owned(), value.values.to_vec()));
            Ok(value)
        });
        let distances = memory.unwrap().distances(&Reference, layers).unwrap();
        (distances.into_iter().map(|d| d.values.to_vec()).collect(), loaded)
    }

    fn unit(row: &[f32]) -> Vec<f64> {
        let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|&v| f64::from(v) / norm).collect()
    }

    fn dot(a: &[f64], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, &b)| a * f64::from(b)).sum()
    }

    #[test]
    fn a_bank_gives_the_distance_to_the_nearest_row() {
        let rows = BANK_PIECE + 3;
        let config = config(&[&[0], &[1]], MemoryKind::Bank { rows });
        let layers = [tensor(&[2, 3, WIDTH], 1), tensor(&[2, 3, WIDTH], 2)];
        let (found, loaded) = distances(&config, &layers);
        let names: Vec<&str> = loaded.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(group, piece)| format!("memory.{group}.rows.{piece}.weight"))
        );
        for (group, (layer, found)) in layers.iter().zip(&found).enumerate() {
            let bank = [&loaded[2 * group].1[..], &loaded[2 * group + 1].1].concat();
            for (token, found) in layer.values.chunks(WIDTH).zip(found) {
                let nearest = bank.chunks(WIDTH).map(|row| 1.0 - dot(&unit(token), row)).fold(f64::MAX, f64::min);
                assert!((f64::from(*found) - nearest).abs() < 1e-6, "{found}, not {nearest}");
            }
        }
    }

    #[test]
    fn places_give_the_nearest_row_around_of_the_nearest_photos() {
        // The first tokens of 730 are class token and register; 27² rows of a photo, so that pieces begin in its middle.
        let (photos, grid, nearest, reach) = (4, 27, 2, 1);
        let config = config(&[&[0], &[1]], MemoryKind::Places { photos, grid, nearest, reach });
        let tokens = grid * grid + 2;
        let layers = [tensor(&[2, tokens, WIDTH], 1), tensor(&[2, tokens, WIDTH], 2)];
        let (found, loaded) = distances(&config, &layers);
        let (_, class_tokens) = loaded.iter().find(|(name, _)| name == "memory.class_tokens").unwrap();
        assert_eq!(loaded[1].0, "memory.0.places.1.weight");
        for (group, (layer, found)) in layers.iter().zip(&found).enumerate() {
            let bank = [&loaded[2 * group].1[..], &loaded[2 * group + 1].1].concat();
            assert_eq!(bank.len(), photos * grid * grid * WIDTH);
            for photo in 0..2 {
                let class_token = unit(&layers[1].values[photo * tokens * WIDTH..][..WIDTH]);
                let mut order: Vec<usize> = (0..photos).collect();
                let cosine = |i: usize| {
                    dot(&class_token, &class_tokens[i * WIDTH..][..WIDTH])
                        / unit_norm(&class_tokens[i * WIDTH..][..WIDTH])
                };
                order.sort_by(|&a, &b| cosine(b).total_cmp(&cosine(a)));
                for patch in 0..grid * grid {
                    let at = photo * tokens + 2 + patch;
                    let token = unit(&layer.values[at * WIDTH..][..WIDTH]);
                    let (row, column) = (patch / grid, patch % grid);
                    let near = (0..grid * grid)
                        .filter(|&other| row.abs_diff(other / grid) <= reach && column.abs_diff(other % grid) <= reach);
                    let rows =
                        near.flat_map(|other| order[..nearest].iter().map(move |photo| photo * grid * grid + other));
                    let distances = rows.map(|row| 1.0 - dot(&token, &bank[row * WIDTH..][..WIDTH]));
                    let expected = distances.fold(2.0, f64::min);
                    assert!((f64::from(found[at]) - expected).abs() < 1e-6, "{}, not {expected}", found[at]);
                }
            }
        }
    }

    #[test]
    fn a_subspace_gives_what_it_leaves_and_the_class_token_chooses() {
        let (one, subspaces) = (values(3 * WIDTH, 5), 3);
        // The second photo's class token is opposite to the first one's, so that another prototype is nearest.
        let opposite = one.iter().map(|v| -v);
        let last = HostTensor::f32([2, 3, WIDTH], one.iter().copied().chain(opposite).collect()).unwrap();
        let layers = [tensor(&[2, 3, WIDTH], 1), Reference.upload(&last).unwrap()];
        let (found, loaded) = distances(&config(&[&[0, 1]], MemoryKind::Subspace { subspaces }), &layers);
        assert_eq!(found.len(), 1, "one group");
        let [(weight_name, weight), (_, bias), (prototypes_name, prototypes)] = &loaded[..] else {
            panic!("{loaded:?}")
        };
        assert_eq!(
            (weight_name.as_str(), prototypes_name.as_str()),
            ("memory.0.residual.0.weight", "memory.prototypes")
        );
        let mut chosen = Vec::new();
        for photo in 0..2 {
            let token =
                |layer: usize, token: usize| unit(&layers[layer].values[(photo * 3 + token) * WIDTH..][..WIDTH]);
            let cosine = |row: &[f32]| dot(&token(1, 0), row) / unit_norm(row);
            let cosines: Vec<f64> = prototypes.chunks(WIDTH).map(cosine).collect();
            let subspace = (0..subspaces).fold(0, |best, i| if cosines[i] > cosines[best] { i } else { best });
            chosen.push(subspace);
            for t in 0..3 {
                let x: Vec<f64> = token(0, t).iter().zip(token(1, t)).map(|(a, b)| (a + b) / 2.0).collect();
                let rows = (0..WIDTH).map(|i| subspace * WIDTH + i);
                let left = rows.map(|row| dot(&x, &weight[row * WIDTH..][..WIDTH]) + f64::from(bias[row]));
                let expected = left.map(|v| v * v).sum::<f64>();
                let found = f64::from(found[0][photo * 3 + t]);
                assert!((found - expected).abs() < 1e-6 * expected.max(1.0), "{found}, not {expected}");
            }
        }
        assert_ne!(chosen[0], chosen[1], "a test of one subspace says nothing about the choice");
    }

    fn unit_norm(row: &[f32]) -> f64 {
        row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn pieces_are_the_whole() {
        assert_eq!(bank_pieces(1).collect::<Vec<_>>(), [(0, 0, 1)]);
        assert_eq!(bank_pieces(2 * BANK_PIECE + 1).last(), Some((2, 2 * BANK_PIECE, 1)));
        assert_eq!(subspace_pieces(4, 1536).collect::<Vec<_>>(), [(0, 0, 1), (1, 1, 1), (2, 2, 1), (3, 3, 1)]);
    }
}
