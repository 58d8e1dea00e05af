//! The operations of a model in those of ONNX.
//!
//! Softmax, layer normalisation and the error function are written the way in which runtimes recognise them and compute them at once.

use dinomaly_core::ops::{
    Linear, Neighbours, Norm, Ops, Places, RelativeBias, Then, around_extents, choose_extents, conv_extents, head_size,
    mean_token_extents, nearest_extents, part_width, rotation_prefix, top_extents,
};
use dinomaly_core::tensor::{Data, HostTensor};
use dinomaly_core::{Error, Result};

use super::graph::{Argument, Storage, Value};
use super::proto::DataType;
use super::recorder::{Recorder, expect, rows};

/// Smallest norm of a row, as in `torch.cosine_similarity`.
const SMALLEST_NORM: f32 = 1e-8;

impl Ops for Recorder {
    type Tensor = Value;

    fn upload(&self, tensor: &HostTensor) -> Result<Value> {
        Ok(self.tensor(tensor))
    }

    /// All formats become single precision, but int8 where it is computed with: runtimes that find weights in int8 round the inputs, too,
    /// unasked (`findings/onnxruntime-int8-weights.sh`).
    fn upload_weight(&self, weight: &HostTensor) -> Result<Value> {
        let [outputs, inputs] = weight.shape[..] else {
            return Err(Error::config(format!("the weight of a linear layer has the shape {:?}", weight.shape)));
        };
        let (name, shape) = (self.next_name(), [inputs, outputs]);
        let (stored, storage) = match &weight.data {
            Data::Int8 { values, scales } if self.int8 => {
                let raw = transposed(values, inputs).into_iter().map(i8::cast_unsigned).collect();
                let stored = self.stored(&name, DataType::Int8, &shape, raw);
                let raw = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
                let scales = self.stored(&format!("{name}.scales"), DataType::Float, &[outputs], raw);
                (stored, Storage::Int8 { scales: scales.name })
            }
            _ => {
                let values = transposed(&weight.to_f32(), inputs);
                let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (self.stored(&name, DataType::Float, &shape, raw), Storage::Transposed)
            }
        };
        Ok(Value { shape: vec![outputs, inputs], storage, ..stored })
    }

    fn linear(&self, x: &Value, layer: &Linear<Value>, then: Then<'_, Value>) -> Result<Value> {
        let [batch, tokens, inputs] = rows("linear input", x)?;
        let outputs = layer.weight.shape[0];
        expect("linear weight", &layer.weight, &[outputs, inputs])?;
        let shape = [batch, tokens, outputs];
        let mut y = match &layer.weight.storage {
            Storage::Int8 { scales } => self.product_in_int8(x, &layer.weight, scales),
            Storage::Transposed => self.node("MatMul", &[x, &layer.weight], &[], shape),
            Storage::Plain => self.product(x, &self.transpose(&layer.weight, &[1, 0])),
        };
        if let Some(bias) = &layer.bias {
            expect("linear bias", bias, &[outputs])?;
            y = self.both("Add", &y, bias);
        }
        Ok(match then {
            Then::Store => y,
            Then::Gelu => self.gelu(&y),
            Then::Add(residual) => {
                expect("linear residual", residual, &shape)?;
                self.both("Add", &y, residual)
            }
        })
    }

    fn layer_norm(&self, x: &Value, norm: &Norm<Value>) -> Result<Value> {
        let [_, _, channels] = rows("layer norm input", x)?;
        expect("layer norm weight", &norm.weight, &[channels])?;
        expect("layer norm bias", &norm.bias, &[channels])?;
        Ok(self.normalised(x, &norm.weight, &norm.bias, norm.eps))
    }

    fn attention(&self, qkv: &Value, heads: usize, hidden: Option<Neighbours>, bias: Option<&Value>) -> Result<Value> {
        let [_, tokens, _] = rows("qkv", qkv)?;
        let ([q, k, v], size) = self.heads(qkv, heads)?;
        let q = self.both("Mul", &q, &self.number((size as f32).powf(-0.5)));
        let mut logits = self.product(&q, &self.transpose(&k, &[0, 1, 3, 2]));
        if let Some(bias) = bias {
            let grid = RelativeBias::grid(&bias.shape, heads, tokens)?;
            let pairs = (0..tokens * tokens).map(|i| RelativeBias::entry(grid, i / tokens, i % tokens) as i64);
            let pairs = self.integers(&[tokens, tokens], &pairs.collect::<Vec<_>>());
            logits = self.both("Add", &logits, &self.gather(bias, &pairs, 1));
        }
        let mut weights = self.node("Softmax", &[&logits], &[("axis", Argument::Int(3))], logits.shape.clone());
        if let Some(hidden) = hidden {
            weights = self.both("Mul", &weights, &self.seen(hidden, tokens)?);
        }
        Ok(self.joined(&self.product(&weights, &v)))
    }

    fn linear_attention(&self, qkv: &Value, heads: usize, hidden: Option<Neighbours>, eps: f64) -> Result<Value> {
        let [batch, tokens, _] = rows("qkv", qkv)?;
        let ([q, k, v], size) = self.heads(qkv, heads)?;
        let [q, k] = [q, k].map(|x| {
            let elu = self.each("Elu", &x);
            self.both("Add", &elu, &self.number(1.0))
        });
        let keys = self.transpose(&k, &[0, 1, 3, 2]);
        let (sums, normaliser) = match hidden {
            None => {
                let total = self.reduce("ReduceSum", &k, 2);
                let sums = self.product(&q, &self.product(&keys, &v));
                (sums, self.product(&q, &self.reshape(&total, [batch, heads, size, 1])))
            }
            // Each query has keys of its own, so that their sum cannot be shared.
            Some(hidden) => {
                let weights = self.both("Mul", &self.product(&q, &keys), &self.seen(hidden, tokens)?);
                (self.product(&weights, &v), self.reduce("ReduceSum", &weights, 3))
            }
        };
        let normaliser = if eps == 0.0 { normaliser } else { self.both("Add", &normaliser, &self.number(eps as f32)) };
        Ok(self.joined(&self.both("Div", &sums, &normaliser)))
    }

    fn rotate(&self, qkv: &Value, heads: usize, rotation: &Value) -> Result<Value> {
        let [batch, tokens, packed] = rows("qkv", qkv)?;
        let prefix = rotation_prefix(tokens, packed, heads, &rotation.shape)?;
        let half = rotation.shape[1] / 2;
        // Cosine 1 and sine 0 for values, and for tokens before the first patch.
        let of_all = |x: &Value, unturned: f32| {
            let patches = self.reshape(&self.padded(x, 0, [prefix, 0], unturned), [tokens, 1, half]);
            let values = self.numbers(&[tokens, 1, half], &vec![unturned; tokens * half]);
            let all = self.concat(&[&patches, &patches, &values], 1);
            self.reshape(&all, [tokens, 3, 1, half])
        };
        let [cosines, sines] = self.split(rotation, 1);
        let (cosines, sines) = (of_all(&cosines, 1.0), of_all(&sines, 0.0));
        let halves = self.reshape(qkv, [batch, tokens, 3, heads, 2 * half]);
        let [a, b] = self.split(&halves, 4);
        let product = |x: &Value, by: &Value| self.both("Mul", x, by);
        let first = self.both("Sub", &product(&a, &cosines), &product(&b, &sines));
        let second = self.both("Add", &product(&b, &cosines), &product(&a, &sines));
        Ok(self.reshape(&self.concat(&[&first, &second], 4), [batch, tokens, packed]))
    }

    fn swiglu(&self, x: &Value) -> Result<Value> {
        rows("SwiGLU input", x)?;
        let [gates, values] = self.split(x, 2);
        let silu = self.both("Mul", &gates, &self.each("Sigmoid", &gates));
        Ok(self.both("Mul", &silu, &values))
    }

    fn recentre(&self, x: &Value, eps: Option<f64>) -> Result<Value> {
        let [_, _, channels] = rows("tokens to recentre", x)?;
        let recentred = self.both("Sub", x, &self.slice(x, 1, 0, 1));
        Ok(match eps {
            None => recentred,
            Some(eps) => {
                let [ones, zeros] = [1.0, 0.0].map(|value| self.numbers(&[channels], &vec![value; channels]));
                self.normalised(&recentred, &ones, &zeros, eps)
            }
        })
    }

    fn depthwise_conv(&self, x: &Value, weight: &Value) -> Result<Value> {
        let [batch, tokens, channels] = rows("convolution input", x)?;
        let (grid, side) = conv_extents(tokens, channels, &weight.shape)?;
        let picture = self.reshape(&self.transpose(x, &[0, 2, 1]), [batch, channels, grid, grid]);
        let side = side as i64;
        let arguments = [
            ("group", Argument::Int(channels as i64)),
            ("kernel_shape", Argument::Ints(vec![side; 2])),
            ("pads", Argument::Ints(vec![side / 2; 4])),
        ];
        let y = self.node("Conv", &[&picture, weight], &arguments, picture.shape.clone());
        Ok(self.transpose(&self.reshape(&y, [batch, channels, tokens]), &[0, 2, 1]))
    }

    fn embed(&self, patches: &Value, prefix: &Value, positions: &Value) -> Result<Value> {
        let [_, tokens, channels] = rows("patch embeddings", patches)?;
        expect("positions", positions, &[tokens, channels])?;
        let before = prefix.shape[0];
        expect("prefix tokens", prefix, &[before, channels])?;
        let table = self.concat(&[prefix, positions], 0);
        Ok(self.both("Add", &self.padded(patches, 1, [before, 0], 0.0), &table))
    }

    fn drop_tokens(&self, x: &Value, first: usize) -> Result<Value> {
        let [_, tokens, _] = rows("tokens", x)?;
        Ok(self.slice(x, 1, first, tokens))
    }

    fn mean_token(&self, x: &Value, first: usize) -> Result<Value> {
        let [_, tokens, _] = mean_token_extents(&x.shape, first)?;
        Ok(self.reduce("ReduceMean", &self.slice(x, 1, first, tokens), 1))
    }

    fn concatenate(&self, xs: &[Value]) -> Result<Value> {
        let first = xs.first().ok_or_else(|| Error::config("no tensors to concatenate"))?;
        rows("tokens", first)?;
        xs.iter().try_for_each(|x| expect("concatenation operand", x, &first.shape))?;
        Ok(self.concat(&xs.iter().collect::<Vec<_>>(), 2))
    }

    fn mean(&self, xs: &[Value]) -> Result<Value> {
        let (first, others) = xs.split_first().ok_or_else(|| Error::config("no tensors to average"))?;
        others.iter().try_for_each(|x| expect("mean operand", x, &first.shape))?;
        let sum = others.iter().fold(first.clone(), |sum, x| self.both("Add", &sum, x));
        Ok(if others.is_empty() { sum } else { self.both("Mul", &sum, &self.number(1.0 / xs.len() as f32)) })
    }

    fn cosine_distance(&self, a: &Value, b: &Value) -> Result<Value> {
        rows("cosine operand", a)?;
        expect("cosine operand", b, &a.shape)?;
        let dot = self.reduce("ReduceSum", &self.both("Mul", a, b), 2);
        let norms = self.both("Mul", &self.norm(a), &self.norm(b));
        Ok(self.distance(&self.both("Div", &dot, &norms), None))
    }

    fn normalize(&self, x: &Value) -> Result<Value> {
        rows("rows to normalise", x)?;
        Ok(self.both("Div", x, &self.norm(x)))
    }

    fn nearest(&self, cosines: &Value, so_far: Option<&Value>) -> Result<Value> {
        nearest_extents(&cosines.shape, so_far.map(|found| &found.shape[..]))?;
        Ok(self.distance(&self.reduce("ReduceMax", cosines, 2), so_far))
    }

    fn squared_norms(&self, x: &Value, parts: usize) -> Result<Value> {
        let [batch, tokens, channels] = rows("parts", x)?;
        let width = part_width(channels, parts)?;
        let split = self.reshape(x, [batch, tokens, parts, width]);
        let sums = self.reduce("ReduceSum", &self.both("Mul", &split, &split), 3);
        Ok(self.reshape(&sums, [batch, tokens, parts]))
    }

    fn choose(&self, values: &Value, x: &Value, prototypes: &Value) -> Result<Value> {
        let [batch, tokens, n, _] = choose_extents(&values.shape, &x.shape, &prototypes.shape)?;
        if n == 1 {
            return Ok(self.reshape(values, [batch, tokens]));
        }
        let cosines = self.class_cosines(x, prototypes);
        // Of equal ones the first, which not every runtime's ArgMax gives.
        let [_, nearest] = self.largest(&cosines, 1);
        let numbers = self.line(&(0..n).collect::<Vec<_>>());
        let is_nearest = self.node("Equal", &[&nearest, &numbers], &[], [batch, 1, n]);
        let chosen = self.both("Mul", values, &self.cast(&is_nearest, DataType::Float));
        Ok(self.reshape(&self.reduce("ReduceSum", &chosen, 2), [batch, tokens]))
    }

    fn top_rows(&self, x: &Value, rows: &Value, k: usize) -> Result<Value> {
        let [batch, n, _] = top_extents(&x.shape, &rows.shape)?;
        let cosines = self.reshape(&self.class_cosines(x, rows), [batch, n]);
        let [_, indices] = self.largest(&cosines, k.min(n));
        let (depth, ends) = (self.line(&[n]), self.numbers(&[2], &[0.0, 1.0]));
        let each = self.node("OneHot", &[&indices, &depth, &ends], &[], [batch, k.min(n), n]);
        Ok(self.reshape(&self.reduce("ReduceSum", &each, 1), [batch, n]))
    }

    /// Compares all pairs, and hides those of other places and photos: ONNX has no product of neighbourhoods.
    fn nearest_around(
        &self,
        x: &Value,
        rows: &Value,
        chosen: &Value,
        places: Places,
        so_far: Option<&Value>,
    ) -> Result<Value> {
        let so_far_shape = so_far.map(|found| &found.shape[..]);
        let [batch, tokens, n, _] = around_extents(&x.shape, &rows.shape, &chosen.shape, places, so_far_shape)?;
        let patches = places.patches();
        let near = |a: usize, b: usize| {
            let rows = (a / places.grid).abs_diff(b / places.grid);
            let columns = (a % places.grid).abs_diff(b % places.grid);
            f32::from(u8::from(rows.max(columns) <= places.reach))
        };
        let near = (0..patches * patches).map(|i| near(i / patches, i % patches)).collect::<Vec<_>>();
        let all = places.first..places.first + n;
        let place = self.line(&all.clone().map(|row| row % patches).collect::<Vec<_>>());
        let photo = self.line(&all.map(|row| row / patches).collect::<Vec<_>>());
        let of_places = self.gather(&self.numbers(&[patches, patches], &near), &place, 1);
        let of_photos = self.reshape(&self.gather(chosen, &photo, 1), [batch, 1, n]);
        let cosines = self.product(&self.slice(x, 1, tokens - patches, tokens), &self.transpose(rows, &[1, 0]));
        // Hidden pairs get the cosine -1, whose distance is the largest.
        let above = self.both("Add", &cosines, &self.number(1.0));
        let above = self.both("Mul", &self.both("Mul", &above, &of_photos), &of_places);
        let largest = self.both("Sub", &self.reduce("ReduceMax", &above, 2), &self.number(1.0));
        let distances = self.distance(&largest, None);
        let distances = self.padded(&distances, 1, [tokens - patches, 0], 2.0);
        Ok(match so_far {
            None => distances,
            Some(found) => self.both("Min", &distances, found),
        })
    }
}

impl Recorder {
    /// Queries, keys and values `[batch, heads, tokens, size]`, and the size of a head.
    fn heads(&self, qkv: &Value, heads: usize) -> Result<([Value; 3], usize)> {
        let [batch, tokens, packed] = rows("qkv", qkv)?;
        let size = head_size(packed, heads)?;
        let all = self.transpose(&self.reshape(qkv, [batch, tokens, 3 * heads, size]), &[0, 2, 1, 3]);
        Ok((self.split(&all, 1), size))
    }

    /// `[batch, heads, tokens, size]` → `[batch, tokens, heads·size]`.
    fn joined(&self, x: &Value) -> Value {
        let [batch, heads, tokens, size] = x.shape[..] else { unreachable!("heads have four axes") };
        self.reshape(&self.transpose(x, &[0, 2, 1, 3]), [batch, tokens, heads * size])
    }

    /// 0 where a key is hidden from a query, 1 elsewhere: `[queries, keys]`.
    fn seen(&self, hidden: Neighbours, tokens: usize) -> Result<Value> {
        let grid = hidden.grid(tokens)?;
        let seen = |i| f32::from(u8::from(!hidden.hides(grid, i / tokens, i % tokens)));
        Ok(self.numbers(&[tokens, tokens], &(0..tokens * tokens).map(seen).collect::<Vec<_>>()))
    }

    /// Product with a weight in int8, of an input that is rounded to 256 steps between its smallest and largest value, as
    /// ONNX Runtime's dynamic quantization does.
    fn product_in_int8(&self, x: &Value, weight: &Value, scales: &str) -> Value {
        let one = Vec::new();
        let shapes = [x.shape.clone(), one.clone(), one];
        let [bytes, scale, zero] = &self.nodes("DynamicQuantizeLinear", &[x], &[], &shapes)[..] else {
            unreachable!("three results were asked for")
        };
        let shape = [x.shape[0], x.shape[1], weight.shape[0]];
        let sums = self.node("MatMulInteger", &[bytes, weight, zero], &[], shape);
        let scales = Value { name: scales.into(), shape: vec![weight.shape[0]], storage: Storage::Plain };
        let scales = self.both("Mul", &scales, scale);
        self.both("Mul", &self.cast(&sums, DataType::Float), &scales)
    }

    /// GELU with the exact error function.
    fn gelu(&self, x: &Value) -> Value {
        if self.opset >= 20 {
            return self.each("Gelu", x);
        }
        let erf = self.each("Erf", &self.both("Div", x, &self.number(std::f32::consts::SQRT_2)));
        let twice = self.both("Mul", x, &self.both("Add", &erf, &self.number(1.0)));
        self.both("Mul", &twice, &self.number(0.5))
    }

    fn normalised(&self, x: &Value, weight: &Value, bias: &Value, eps: f64) -> Value {
        let arguments = [("axis", Argument::Int(-1)), ("epsilon", Argument::Float(eps as f32))];
        self.node("LayerNormalization", &[x, weight, bias], &arguments, x.shape.clone())
    }

    /// Euclidean norm along the last axis, which stays with one entry.
    fn norm(&self, x: &Value) -> Value {
        let squares = self.reduce("ReduceSum", &self.both("Mul", x, x), x.shape.len() - 1);
        self.both("Max", &self.each("Sqrt", &squares), &self.number(SMALLEST_NORM))
    }

    /// Cosines `[batch, 1, n]` of the class token with `n` rows.
    fn class_cosines(&self, x: &Value, rows: &Value) -> Value {
        let class_token = self.slice(x, 1, 0, 1);
        let [x, rows] = [&class_token, rows].map(|x| self.both("Div", x, &self.norm(x)));
        self.product(&x, &self.transpose(&rows, &[1, 0]))
    }

    /// Distance of cosines `[batch, tokens, 1]`, `[batch, tokens]`, or that so far if it is smaller.
    fn distance(&self, cosines: &Value, so_far: Option<&Value>) -> Value {
        let cosines = self.reshape(cosines, &cosines.shape[..2]);
        let distance = self.both("Add", &self.each("Neg", &cosines), &self.number(1.0));
        match so_far {
            None => distance,
            Some(found) => self.both("Min", &distance, found),
        }
    }
}

/// `[rows, columns]` → `[columns, rows]`.
fn transposed<T: Copy>(values: &[T], columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}
