//! Muon for the weight matrices of a small encoder trained from scratch, and AdamW for all other tensors.
//!
//! The step of a matrix is its momentum with all singular values near 1 (Jordan et al. 2024, "Muon: An optimizer for hidden layers
//! in neural networks"). It is scaled to the root mean square of an AdamW step, so that both share a learning rate (Liu et al. 2025,
//! "Muon is Scalable for LLM Training", section 2.2). Dinomaly itself is trained as published, with [`StableAdamW`].

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

use crate::distillation::data_parallel::Workers;
use crate::training::optimizer::{AdamMoments, OptimizerSettings, StableAdamW, update};

/// Decay of the momentum.
const MOMENTUM: f64 = 0.95;
/// Root mean square of a matrix's step at learning rate 1, about that of AdamW's.
const STEP: f64 = 0.2;
/// Decoupled weight decay of matrices, multiplied by the learning rate.
const DECAY: f64 = 0.1;
/// Iterations of [`QUINTIC`].
const ROUNDS: usize = 5;
/// Coefficients of x, x³ and x⁵ in the polynomial that moves singular values of `(0, 1]` towards 1.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// AdamW without AMSGrad, as usual for training from scratch.
const REST: OptimizerSettings =
    OptimizerSettings { betas: (0.9, 0.98), weight_decay: 0.02, eps: 1e-8, amsgrad: false, clip_threshold: 1.0 };

/// The optimiser. Matrices of blocks use only the first moment.
pub struct Muon {
    /// Parameters and their state.
    pub state: StableAdamW,
}

impl Muon {
    /// An optimiser of `parameters` with zero moments.
    ///
    /// # Errors
    /// If the device has not enough memory.
    pub fn new(parameters: Vec<(String, Var)>) -> Result<Self> {
        Ok(Self { state: StableAdamW::new(parameters, REST)? })
    }

    /// One update. `gradient_factor` only applies to AdamW, because Muon's step does not depend on a gradient's length.
    ///
    /// # Errors
    /// If the device fails.
    pub fn step(
        &mut self,
        gradients: &GradStore,
        learning_rate: f64,
        gradient_factor: f64,
        workers: &Workers,
    ) -> Result<()> {
        let updates = workers.map(self.state.parameters.iter_mut().collect(), |(name, var, moments)| {
            let Some(gradient) = gradients.get(var) else { return Ok(()) };
            // Detached, because a gradient may hold its graph.
            let gradient = gradient.detach();
            if name.contains(".blocks.") && var.rank() == 2 {
                turn(var, moments, &gradient, learning_rate)
            } else {
                update(&REST, var, moments, &gradient, gradient_factor, learning_rate)
            }
        });
        updates.into_iter().collect()
    }
}

fn turn(var: &Var, state: &mut AdamMoments, gradient: &Tensor, learning_rate: f64) -> Result<()> {
    state.steps += 1;
    state.mean = ((&state.mean * MOMENTUM)? + gradient)?;
    // Nesterov momentum.
    let direction = orthogonal(&((&state.mean * MOMENTUM)? + gradient)?)?;
    let (rows, columns) = var.dims2()?;
    // An orthogonal matrix has a root mean square of 1 / √max(rows, columns).
    let scale = learning_rate * STEP * (rows.max(columns) as f64).sqrt();
    let decayed = (var.as_tensor().detach() * (1.0 - learning_rate * DECAY))?;
    var.set(&(decayed - (direction * scale)?)?)
}

/// The matrix with the same singular vectors, and singular values of about 1 (0.7 to 1.2).
fn orthogonal(matrix: &Tensor) -> Result<Tensor> {
    let (rows, columns) = matrix.dims2()?;
    let length = f64::from(matrix.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
    let wide = |x: Tensor| if rows > columns { x.t()?.contiguous() } else { Ok(x) };
    let mut x = wide((matrix / (length + 1e-7))?)?;
    for _ in 0..ROUNDS {
        let square = x.matmul(&x.t()?)?;
        let factor = ((&square * QUINTIC[1])? + (square.matmul(&square)? * QUINTIC[2])?)?;
        x = ((&x * QUINTIC[0])? + factor.matmul(&x)?)?;
    }
    wide(x)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn matrix(rows: usize, columns: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * columns).map(|i| ((7 * i * i * i + i) % 101) as f32 - 50.0).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn singular_values_come_near_one_and_singular_vectors_stay() {
        for (rows, columns) in [(6, 20), (20, 6)] {
            let before = matrix(rows, columns);
            let after = orthogonal(&before).unwrap();
            let small = |a: &Tensor, b: &Tensor| {
                let product = if rows < columns { a.matmul(&b.t().unwrap()) } else { a.t().unwrap().matmul(b) };
                product.unwrap().to_vec2::<f32>().unwrap()
            };
            let (gram, mixed) = (small(&after, &after), small(&before, &after));
            for i in 0..6 {
                assert!((0.45..1.5).contains(&gram[i][i]), "{rows}×{columns}: {gram:?}");
                for j in 0..i {
                    assert!(gram[i][j].abs() < 0.4, "{rows}×{columns}: {gram:?}");
                    // U S Uᵀ is symmetric for any S, but not with other singular vectors.
                    assert!((mixed[i][j] - mixed[j][i]).abs() < 1e-3, "{rows}×{columns}: {mixed:?}");
                }
            }
        }
    }

    #[test]
    fn only_matrices_of_blocks_are_turned() {
        let variable = |name: &str| (name.to_owned(), Var::from_tensor(&matrix(8, 8)).unwrap());
        let names = ["encoder.blocks.0.mlp.fc1.weight", "projection.0.weight"];
        let mut muon = Muon::new(names.map(variable).to_vec()).unwrap();
        let [hidden, projection] = [0, 1].map(|i| muon.state.parameters[i].1.clone());
        let target = matrix(8, 16).narrow(1, 3, 8).unwrap();
        let loss = [&hidden, &projection].map(|v| (v.as_tensor() * &target).unwrap().sum_all().unwrap());
        let gradients = (&loss[0] + &loss[1]).unwrap().backward().unwrap();
        muon.step(&gradients, 0.1, 1.0, &Workers::new()).unwrap();
        let moved = |var: &Var, decay: f64| {
            let kept = (matrix(8, 8) * (1.0 - 0.1 * decay)).unwrap();
            ((kept - var.as_tensor()).unwrap() / 0.1).unwrap()
        };
        // The first AdamW step is the gradient's sign; Muon's has a root mean square of about STEP.
        for value in moved(&projection, REST.weight_decay).flatten_all().unwrap().to_vec1::<f32>().unwrap() {
            assert!((value.abs() - 1.0).abs() < 1e-3, "{value}");
        }
        let square = moved(&hidden, DECAY).sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
        assert!((0.7..1.2).contains(&(f64::from(square).sqrt() / STEP)), "{square}");
    }
}
