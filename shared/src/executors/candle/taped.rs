//! Backpropagation through the head with a tape of its own.
//!
//! candle's tape records products, reshapes and casts one by one, and starts the gradient of each with zeros to add to. On a GPU that
//! is more memory traffic than all products of a training step. Here a layer is one entry, and a single gradient is not added up. On the
//! processor, in f32, what surrounds a product is done in the product's own pass over memory ([`fused::linear`]).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, TensorId, Var};

use super::{Candle, Mode, fused, single};
use crate::Result;
use crate::ops::{Linear, Neighbours, NoiseAt, Norm, Ops, Places, Then};
use crate::tensor::HostTensor;

/// Executor of the head that records a tape. Its tensors have no graph of candle's; variables among them are parameters.
///
/// Noise anywhere but at the bottleneck's input must multiply each value by a factor that does not depend on it, like dropout,
/// so that its gradient is the same noise on the gradient.
pub struct Taped<'a> {
    ops: Candle<'a>,
    steps: RefCell<Vec<Step<'a>>>,
    /// Results that depend on parameters.
    results: RefCell<HashSet<TensorId>>,
    /// Derivatives of the GELU that results end in, see [`Gradients::slopes`].
    slopes: RefCell<HashMap<TensorId, Tensor>>,
}

/// Entry of the tape: from the gradient of an operation's result to those of its operands.
struct Step<'a> {
    result: TensorId,
    back: Box<Back<'a>>,
}

type Back<'a> = dyn FnOnce(&Tensor, &mut Gradients) -> Result<()> + 'a;

/// Gradients of parameters, and of results that are not processed yet.
struct Gradients {
    found: HashMap<TensorId, Tensor>,
    results: HashSet<TensorId>,
    /// Derivatives of the GELU that results end in. The gradient that is kept for such a result is that of the GELU's argument.
    slopes: HashMap<TensorId, Tensor>,
}

impl Gradients {
    /// Removes and returns the gradient so far.
    fn take(&mut self, of: &Tensor) -> Option<Tensor> {
        self.found.remove(&of.id())
    }

    /// Adds to the gradient of an operand, if it needs one.
    fn add(&mut self, of: &Tensor, gradient: Tensor) -> Result<()> {
        match self.slopes.get(&of.id()) {
            Some(slopes) => self.add_of_argument(of, fused::multiply(&gradient, slopes)?),
            None => self.add_of_argument(of, gradient),
        }
    }

    /// The same with a gradient that is already multiplied by the operand's slopes, if it has any.
    fn add_of_argument(&mut self, of: &Tensor, gradient: Tensor) -> Result<()> {
        if of.is_variable() || self.results.contains(&of.id()) {
            let sum = match self.found.remove(&of.id()) {
                Some(other) if other.dtype() == gradient.dtype() => fused::add(&other, &gradient)?,
                // One is of a product, one of a residual.
                Some(other) => (single(&other)? + single(&gradient)?)?,
                None => gradient,
            };
            self.found.insert(of.id(), sum);
        }
        Ok(())
    }
}

impl<'a> Taped<'a> {
    /// Records what `ops`, an executor for training, computes.
    pub fn new(ops: Candle<'a>) -> Self {
        Self { ops, steps: RefCell::default(), results: RefCell::default(), slopes: RefCell::default() }
    }

    /// Gradients of all parameters, from the gradients of results.
    ///
    /// # Errors
    /// If the device fails.
    pub fn backward(self, of_results: impl IntoIterator<Item = (Tensor, Tensor)>) -> Result<GradStore> {
        let (results, slopes) = (self.results.into_inner(), self.slopes.into_inner());
        let mut gradients = Gradients { found: HashMap::new(), results, slopes };
        for (result, gradient) in of_results {
            gradients.add(&result, gradient)?;
        }
        for Step { result, back } in self.steps.into_inner().into_iter().rev() {
            gradients.slopes.remove(&result);
            if let Some(gradient) = gradients.found.remove(&result) {
                back(&gradient, &mut gradients)?;
            }
        }
        let mut store = GradStore::default();
        for (id, gradient) in gradients.found {
            store.insert_id(id, gradient);
        }
        Ok(store)
    }

    /// Whether a tensor needs a gradient.
    fn follows(&self, x: &Tensor) -> bool {
        x.is_variable() || self.results.borrow().contains(&x.id())
    }

    /// Adds an entry to the tape, if the result depends on parameters.
    fn note(
        &self,
        inputs: &[&Tensor],
        result: Tensor,
        back: impl FnOnce(&Tensor, &mut Gradients) -> Result<()> + 'a,
    ) -> Tensor {
        if inputs.iter().any(|x| self.follows(x)) {
            self.results.borrow_mut().insert(result.id());
            self.steps.borrow_mut().push(Step { result: result.id(), back: Box::new(back) });
        }
        result
    }

    /// A linear layer on the processor, in f32.
    fn linear_there(&self, x: &Tensor, layer: &Linear<Tensor>, then: Then<'_, Tensor>) -> Result<Tensor> {
        let residual = if let Then::Add(residual) = &then { Some((*residual).clone()) } else { None };
        let (weight, bias) = (layer.weight.detach(), layer.bias.as_ref().map(Tensor::detach));
        let fused::Layer { tokens, slopes } = fused::linear(x, &weight, bias.as_ref(), then)?;
        if let Some(slopes) = slopes {
            self.slopes.borrow_mut().insert(tokens.id(), slopes);
        }
        let inputs: Vec<&Tensor> = [x, &layer.weight].into_iter().chain(&layer.bias).chain(&residual).collect();
        let (wanted, layer, x, kept) = (self.follows(x), layer.clone(), x.clone(), residual.clone());
        Ok(self.note(&inputs, tokens, move |gradient, out| {
            if let Some(residual) = kept {
                out.add(&residual, gradient.clone())?;
            }
            let slopes = out.slopes.get(&x.id()).cloned();
            let found = fused::linear_grad(&x, &weight, gradient, slopes.as_ref(), wanted)?;
            if let Some(bias) = &layer.bias {
                out.add(bias, found.bias)?;
            }
            out.add(&layer.weight, found.weight)?;
            match found.x {
                Some(of_x) => out.add_of_argument(&x, of_x),
                None => Ok(()),
            }
        }))
    }

    /// Runs an operation with candle's own backpropagation, for variants of the model.
    fn by_candle(
        &self,
        inputs: &[&Tensor],
        operation: impl FnOnce(&Candle<'a>, &[Tensor]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let leaf = |&x: &&Tensor| -> Result<Tensor> {
            Ok(if self.follows(x) { Var::from_tensor(x)?.into_inner() } else { x.clone() })
        };
        let leaves = inputs.iter().map(leaf).collect::<Result<Vec<_>>>()?;
        let result = operation(&self.ops, &leaves)?;
        let owned: Vec<Tensor> = inputs.iter().map(|&x| x.clone()).collect();
        Ok(self.note(inputs, result.detach(), move |gradient, out| {
            let mut found = (&result * gradient.to_dtype(result.dtype())?)?.sum_all()?.backward()?;
            owned.iter().zip(&leaves).try_for_each(|(x, leaf)| match found.remove(leaf) {
                Some(gradient) => out.add(x, gradient.detach()),
                None => Ok(()),
            })
        }))
    }
}

impl Ops for Taped<'_> {
    type Tensor = Tensor;

    fn upload(&self, tensor: &HostTensor) -> Result<Tensor> {
        self.ops.upload(tensor)
    }

    fn linear(&self, x: &Tensor, layer: &Linear<Tensor>, then: Then<'_, Tensor>) -> Result<Tensor> {
        if x.device().is_cpu() && self.ops.stored == DType::F32 {
            return self.linear_there(x, layer, then);
        }
        let weight = self.ops.factor(&layer.weight.detach())?;
        let rows = self.ops.factor(x)?.flatten_to(1)?;
        let product = rows.matmul(&weight.t()?)?.reshape((x.dim(0)?, x.dim(1)?, weight.dim(0)?))?;
        let bias = layer.bias.as_ref().map(Tensor::detach);
        let (mut residual, mut curved) = (None, None);
        match then {
            Then::Store => {}
            Then::Add(x) => residual = Some(x.clone()),
            Then::Gelu => {
                let none = || Tensor::zeros(weight.dim(0)?, DType::F32, x.device());
                curved = Some((product.clone(), bias.clone().map_or_else(none, Ok)?));
            }
        }
        let result = self.ops.finish(&product, bias.as_ref(), then)?;

        let inputs: Vec<Tensor> =
            [x.clone(), layer.weight.clone()].into_iter().chain(layer.bias.clone()).chain(residual.clone()).collect();
        let (stored, wanted, layer, x) = (self.ops.stored, self.follows(x), layer.clone(), x.clone());
        Ok(self.note(&inputs.iter().collect::<Vec<_>>(), result, move |gradient, out| {
            if let Some(residual) = &residual {
                out.add(residual, gradient.clone())?;
            }
            let gradient = match &curved {
                Some((product, bias)) => fused::add_bias_gelu_grad(product, bias, gradient)?,
                None => gradient.clone(),
            };
            if let Some(bias) = &layer.bias {
                out.add(bias, fused::column_sum(&gradient)?)?;
            }
            let gradient = gradient.to_dtype(stored)?.flatten_to(1)?;
            out.add(&layer.weight, single(&gradient.t()?.matmul(&rows)?)?)?;
            if wanted {
                out.add(&x, gradient.matmul(&weight)?.reshape(x.dims())?)?;
            }
            Ok(())
        }))
    }

    fn layer_norm(&self, x: &Tensor, norm: &Norm<Tensor>) -> Result<Tensor> {
        let Norm { weight, bias, eps } = norm.clone();
        let (x, values) = (x.clone(), single(x)?);
        let result = fused::layer_norm(&values, &weight.detach(), &bias.detach(), eps, self.ops.stored)?;
        let inputs = [x.clone(), weight.clone(), bias.clone()];
        Ok(self.note(&inputs.each_ref(), result, move |gradient, out| {
            let more = out.take(&x);
            let [of_x, of_weight, of_bias] =
                fused::layer_norm_grad(&values, &weight.detach(), gradient, more.as_ref(), eps)?;
            out.add(&x, of_x)?;
            out.add(&weight, of_weight)?;
            out.add(&bias, of_bias)
        }))
    }

    fn attention(
        &self,
        qkv: &Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let inputs: Vec<&Tensor> = [qkv].into_iter().chain(bias).collect();
        self.by_candle(&inputs, |ops, leaves| ops.attention(&leaves[0], heads, hidden, leaves.get(1)))
    }

    fn rotate(&self, qkv: &Tensor, heads: usize, rotation: &Tensor) -> Result<Tensor> {
        self.by_candle(&[qkv], |ops, leaves| ops.rotate(&leaves[0], heads, rotation))
    }

    fn swiglu(&self, x: &Tensor) -> Result<Tensor> {
        self.by_candle(&[x], |ops, leaves| ops.swiglu(&leaves[0]))
    }

    fn linear_attention(&self, qkv: &Tensor, heads: usize, hidden: Option<Neighbours>, eps: f64) -> Result<Tensor> {
        let factor = self.ops.factor(qkv)?;
        let (None, Some(heads)) = (hidden, fused::heads_of(&factor, heads)?) else {
            return self.by_candle(&[qkv], |ops, leaves| ops.linear_attention(&leaves[0], heads, hidden, eps));
        };
        let eps = eps as f32;
        let fused::Mixed { tokens, sums } = fused::linear_attention(&factor, heads, eps)?;
        let qkv = qkv.clone();
        Ok(self.note(&[&qkv.clone()], tokens, move |gradient, out| {
            out.add(&qkv, fused::linear_attention_grad(&factor, &sums, gradient, heads, eps)?)
        }))
    }

    fn recentre(&self, x: &Tensor, eps: Option<f64>) -> Result<Tensor> {
        self.by_candle(&[x], |ops, leaves| ops.recentre(&leaves[0], eps))
    }

    fn depthwise_conv(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        self.by_candle(&[x, weight], |ops, leaves| ops.depthwise_conv(&leaves[0], &leaves[1]))
    }

    fn embed(&self, patches: &Tensor, prefix: &Tensor, positions: &Tensor) -> Result<Tensor> {
        self.by_candle(&[patches, prefix, positions], |ops, leaves| ops.embed(&leaves[0], &leaves[1], &leaves[2]))
    }

    fn drop_tokens(&self, x: &Tensor, first: usize) -> Result<Tensor> {
        self.by_candle(&[x], |ops, leaves| ops.drop_tokens(&leaves[0], first))
    }

    fn mean_token(&self, x: &Tensor, first: usize) -> Result<Tensor> {
        self.by_candle(&[x], |ops, leaves| ops.mean_token(&leaves[0], first))
    }

    fn concatenate(&self, xs: &[Tensor]) -> Result<Tensor> {
        self.by_candle(&xs.iter().collect::<Vec<_>>(), |ops, leaves| ops.concatenate(leaves))
    }

    fn mean(&self, xs: &[Tensor]) -> Result<Tensor> {
        let of_each = xs.to_vec();
        Ok(self.note(&xs.iter().collect::<Vec<_>>(), fused::mean(xs)?, move |gradient, out| {
            let share = (gradient / of_each.len() as f64)?;
            of_each.iter().try_for_each(|x| out.add(x, share.clone()))
        }))
    }

    fn cosine_distance(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.by_candle(&[a, b], |ops, leaves| ops.cosine_distance(&leaves[0], &leaves[1]))
    }

    fn normalize(&self, x: &Tensor) -> Result<Tensor> {
        self.by_candle(&[x], |ops, leaves| ops.normalize(&leaves[0]))
    }

    fn nearest(&self, cosines: &Tensor, so_far: Option<&Tensor>) -> Result<Tensor> {
        let inputs: Vec<&Tensor> = [cosines].into_iter().chain(so_far).collect();
        self.by_candle(&inputs, |ops, leaves| ops.nearest(&leaves[0], leaves.get(1)))
    }

    fn squared_norms(&self, x: &Tensor, parts: usize) -> Result<Tensor> {
        self.by_candle(&[x], |ops, leaves| ops.squared_norms(&leaves[0], parts))
    }

    fn choose(&self, values: &Tensor, x: &Tensor, prototypes: &Tensor) -> Result<Tensor> {
        self.by_candle(&[values, x, prototypes], |ops, leaves| ops.choose(&leaves[0], &leaves[1], &leaves[2]))
    }

    fn top_rows(&self, x: &Tensor, rows: &Tensor, k: usize) -> Result<Tensor> {
        // A choice has no gradient.
        self.ops.top_rows(x, rows, k)
    }

    fn nearest_around(
        &self,
        x: &Tensor,
        rows: &Tensor,
        chosen: &Tensor,
        places: Places,
        so_far: Option<&Tensor>,
    ) -> Result<Tensor> {
        let inputs: Vec<&Tensor> = [x, rows, chosen].into_iter().chain(so_far).collect();
        self.by_candle(&inputs, |ops, leaves| {
            ops.nearest_around(&leaves[0], &leaves[1], &leaves[2], places, leaves.get(3))
        })
    }

    fn bottleneck_noise(&self, x: &Tensor, at: NoiseAt) -> Result<Tensor> {
        let Mode::Train(noise) = self.ops.mode else { return Ok(x.clone()) };
        if at == NoiseAt::Input {
            return self.by_candle(&[x], |ops, leaves| ops.bottleneck_noise(&leaves[0], at));
        }
        let from = x.clone();
        Ok(self.note(&[x], noise(x, at)?, move |gradient, out| out.add(&from, noise(gradient, at)?)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::kernels::Element;
    use super::*;
    use crate::model::config::{Comparison, EncoderConfig, Mixer, ModelConfig};
    use crate::model::dinomaly::{Head, decoded};

    /// Random values between -0.5 and 0.5.
    fn random(seed: u32, shape: &[usize]) -> Tensor {
        let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
        let mut next = || {
            state = (state ^ state << 13) ^ (state ^ state << 13) >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 - 0.5
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Compares the gradient of every parameter with that of candle's tape, relative to its largest value.
    fn compare(config: &ModelConfig, element: Element, tolerance: f32) {
        let mut parameters = Vec::new();
        let head = Head::load(config, &mut |name, shape| {
            let var = Var::from_tensor(&random(parameters.len() as u32, shape))?;
            parameters.push((name.to_owned(), var.clone()));
            Ok(var.into_inner())
        })
        .unwrap();
        let tokens = 9 + config.kept_prefix_tokens();
        let fused = random(1000, &[2, tokens, config.encoder.hidden_size]);
        let noise = |x: &Tensor, at: NoiseAt| {
            let mask = random(2000 + at as u32, x.dims()).ge(-0.2)?.to_dtype(x.dtype())?;
            x * mask
        };
        let ops = || Candle::train(Device::Cpu, &noise).storing(element);

        let candle = ops();
        let by_candle = decoded(&candle, head.forward(&candle, &fused, &mut |_, _| {}).unwrap(), config).unwrap();
        let weights: Vec<Tensor> =
            by_candle.iter().zip(3000..).map(|(group, seed)| random(seed, group.dims())).collect();
        let sum = |(group, weights): (&Tensor, &Tensor)| (single(group).unwrap() * weights).unwrap().sum_all().unwrap();
        let sums = by_candle.iter().zip(&weights).map(sum);
        let expected = sums.reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap();

        let taped = Taped::new(ops());
        let groups = decoded(&taped, head.forward(&taped, &fused, &mut |_, _| {}).unwrap(), config).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        let close = |name: &str, found: &Tensor, expected: &Tensor| {
            let (found, expected) = (flat(found), flat(expected));
            let largest = expected.iter().fold(0f32, |largest, v| largest.max(v.abs()));
            assert!(largest > 0.0 && found.len() == expected.len(), "{name}");
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= tolerance * largest, "{name}: {worst:e} of {largest:e}");
        };
        groups.iter().zip(&by_candle).for_each(|(group, expected)| close("group", group, expected));
        let found = taped.backward(groups.into_iter().zip(weights)).unwrap();
        for (name, var) in &parameters {
            close(name, found.get(var).unwrap(), expected.get(var).unwrap());
        }
    }

    fn published() -> ModelConfig {
        let encoder =
            EncoderConfig { hidden_size: 12, intermediate_size: 20, num_register_tokens: 1, ..EncoderConfig::tiny() };
        ModelConfig::published(encoder).unwrap()
    }

    #[test]
    fn gradients_are_those_of_candles_tape() {
        type Variant = fn(&mut ModelConfig);
        let variants: [Variant; 8] = [
            |_| {},
            |config| config.groups = (0..8).map(|layer| vec![layer]).collect(),
            |config| config.decoder.mixer = Mixer::Softmax,
            |config| {
                (config.decoder.mixer, config.remove_class_token) = (Mixer::Convolution { kernel: 3 }, true);
            },
            |config| config.decoder.neighbour_mask = 3,
            |config| (config.bottleneck_width, config.decoder.attention_eps) = (Some(7), 5.0),
            |config| (config.decoder.neighbour_mask, config.decoder.attention_eps) = (3, 5.0),
            |config| (config.comparison, config.groups) = (Comparison::Concatenated, vec![(0..8).collect()]),
        ];
        for variant in variants {
            let mut config = published();
            variant(&mut config);
            compare(&config, Element::F32, 3e-6);
            // Both round gradients at different places.
            compare(&config, Element::Bf16, 1.0 / 64.0);
        }
    }

    #[test]
    fn gradients_of_comparisons_with_stored_rows_are_candles() {
        type Operation = fn(&dyn Ops<Tensor = Tensor>, &Tensor) -> Result<Tensor>;
        fn around(ops: &dyn Ops<Tensor = Tensor>, x: &Tensor, so_far: Option<&Tensor>) -> Result<Tensor> {
            let places = Places { grid: 2, reach: 1, first: 3 };
            let chosen = Tensor::new(&[[1f32, 0.0], [1.0, 1.0]], x.device())?;
            ops.nearest_around(x, &random(5, &[4, 6]), &chosen, places, so_far)
        }
        let operations: [Operation; 9] = [
            |ops, x| ops.normalize(x),
            |ops, x| ops.nearest(x, None),
            |ops, x| ops.nearest(x, Some(&random(1, &[2, 5]).affine(0.5, 0.8)?)),
            |ops, x| ops.squared_norms(x, 3),
            |ops, x| ops.recentre(x, None),
            |ops, x| ops.recentre(x, Some(1e-8)),
            |ops, x| ops.choose(x, x, &random(2, &[6, 6])),
            |ops, x| around(ops, x, None),
            |ops, x| around(ops, x, Some(&random(1, &[2, 5]).affine(0.5, 0.8)?)),
        ];
        for (i, operation) in operations.into_iter().enumerate() {
            let x = Var::from_tensor(&random(3, &[2, 5, 6])).unwrap();
            let ops = || Candle::train(Device::Cpu, &super::super::no_noise);
            let by_candle = operation(&ops(), &x).unwrap();
            let weights = random(4, by_candle.dims());
            let expected = (&by_candle * &weights).unwrap().sum_all().unwrap().backward().unwrap();
            let taped = Taped::new(ops());
            let result = operation(&taped, &x).unwrap();
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(&result), flat(&by_candle), "operation {i}");
            let found = taped.backward([(result, weights)]).unwrap();
            assert_eq!(flat(found.get(&x).unwrap()), flat(expected.get(&x).unwrap()), "operation {i}");
        }
    }
}
