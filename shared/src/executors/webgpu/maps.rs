//! Anomaly maps computed on the GPU, so that only they are read back.

use super::WebGpu;
use super::gpu::fault;
use super::kernel::Kernel;
use super::ops::words;
use super::tensor::{GpuTensor, padded_row};
use crate::maps::score::{AnomalyMap, MAP_SIDE, MapLayout};
use crate::ops::{Ops, Read};
use crate::tensor::HostTensor;
use crate::{Error, Result};

impl Read for WebGpu {
    async fn read_back(&self, tensors: &[&GpuTensor]) -> Result<Vec<Vec<f32>>> {
        self.read_all(tensors).await
    }

    async fn read_maps(
        &self,
        groups: &[GpuTensor],
        beside: Option<&GpuTensor>,
        photos: usize,
        layout: &MapLayout,
    ) -> Result<(Vec<AnomalyMap>, Vec<f32>)> {
        let maps = self.maps(groups, photos, layout)?;
        let mut read = self.read_all(&std::iter::once(&maps).chain(beside).collect::<Vec<_>>()).await?;
        let values = read.remove(0);
        if values.iter().all(|value| value.is_finite()) {
            let maps = values.chunks_exact(MAP_SIDE * MAP_SIDE);
            let maps = maps.map(|map| AnomalyMap::square(MAP_SIDE, map.to_vec())).collect();
            return Ok((maps, read.pop().unwrap_or_default()));
        }
        // One distance that is not finite spoils a whole map. The host finds out which one it is.
        layout.maps(&self.read_all(&groups.iter().collect::<Vec<_>>()).await?, photos)?;
        Err(fault("a map of finite distances is not finite: use an executor on the processor"))
    }
}

impl WebGpu {
    /// Records the computation of maps `[photos, MAP_SIDE, MAP_SIDE]` from every group's distances `[photos, tokens]`.
    fn maps(&self, groups: &[GpuTensor], photos: usize, layout: &MapLayout) -> Result<GpuTensor> {
        let &MapLayout { prefix, grid, input_side, .. } = layout;
        if grid == 0 || input_side == 0 {
            return Err(Error::config(format!("a map of {grid}² patches and {input_side}² pixels is empty")));
        }
        let tokens = layout.tokens();
        let distances = self.mean(groups)?;
        distances.expect("distances", &[photos, tokens])?;
        let axis = self.axis(layout)?;
        let across = self.along_axis(&distances, photos, [grid, padded_row(tokens), prefix, grid], &axis)?;
        let pitch = padded_row(grid);
        self.along_axis(&across, photos, [MAP_SIDE, MAP_SIDE * pitch, 0, pitch], &axis)
    }

    /// `axis · xᵀ` of each photo. `x_layout` is the number of rows of `x`, and in floats its distance between photos, the offset of
    /// the first row and the distance between rows.
    fn along_axis(&self, x: &GpuTensor, photos: usize, x_layout: [usize; 4], axis: &GpuTensor) -> Result<GpuTensor> {
        let [rows, photo, first, row] = x_layout;
        let [side, grid] = axis.matrix("map axis")?;
        let length = photos * side * padded_row(rows);
        self.dispatch(
            Kernel::MapAxis,
            words([length, side, rows, padded_row(rows), grid, padded_row(grid), photo, first, row])?,
            vec![photos, side, rows],
            &[x.buffer("distances")?, axis.buffer("map axis")?],
            [length.div_ceil(256), 1, 1],
        )
    }

    fn axis(&self, layout: &MapLayout) -> Result<GpuTensor> {
        if let Some(axis) = self.axes.borrow().get(layout) {
            return Ok(axis.clone());
        }
        let axis = self.upload(&HostTensor::f32([MAP_SIDE, layout.grid], layout.axis())?)?;
        self.axes.borrow_mut().insert(*layout, axis.clone());
        Ok(axis)
    }
}
