// Linear layer y = then(x · weightᵀ + bias): the common part of all variants. The complete source appends the operands, which
// define storage and product of x and weight (`Left`, `Right`, `Sum`, `inputs`, `weights`, `multiply`, `scaled`), and a tile,
// which defines what an invocation computes and where it keeps its operands.

struct Params {
    rows: u32,
    outputs: u32,
    // vec4s in a row of x and of the weight.
    inputs4: u32,
    // vec4s in a row of y, the residual, the bias and the scales.
    outputs4: u32,
    // Last step: 0 none, 1 GELU, 2 addition of the residual.
    then: u32,
    // 1 if there is a bias.
    biased: u32,
    // Words in a row of x, if x is int8.
    pitch: u32,
    // vec4s of a row of the weight that share a scale, if it is int4.
    group4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<vec4<f32>>;

// x·Φ(x) with the exact normal distribution function Φ, to the rounding of f32. Minimax polynomials: odd in Φ - 1/2 near
// zero (error 2e-9), ln Φ(-|x|) in the tails (2.4e-7, of a tail that is below 0.11).
fn gelu(x: vec4<f32>) -> vec4<f32> {
    let s = x * x;
    let odd = 0.39894226 + s * (-0.06648999 + s * (0.0099715 + s * (-0.0011827096 + s * (0.00011032747 + s * -6.644862e-6))));
    let u = min(abs(x), vec4(7.0));
    let log_tail = -0.6931441 + u * (-0.79828024 + u * (-0.31701612 + u * (-0.038193688 + u * (0.006319722
        + u * (-0.0007722892 + u * (6.452968e-5 + u * (-3.2598286e-6 + u * 7.458917e-8)))))));
    let tail = exp(log_tail);
    let far = select(1.0 - tail, tail, x < vec4(0.0));
    return x * select(far, 0.5 + x * odd, abs(x) <= vec4(1.25));
}

// Stores four outputs of a row. Padding stays zero, although the tile computes values for it.
fn finish(row: u32, column: u32, sum: Sum) {
    if row >= p.rows || column >= p.outputs4 {
        return;
    }
    let at = row * p.outputs4 + column;
    var result = scaled(sum, row, column);
    if p.biased == 1u {
        result += bias[column];
    }
    if p.then == 1u {
        result = gelu(result);
    } else if p.then == 2u {
        result += residual[at];
    }
    let output = vec4(4u * column) + vec4(0u, 1u, 2u, 3u);
    y[at] = select(vec4(0.0), result, output < vec4(p.outputs));
}
