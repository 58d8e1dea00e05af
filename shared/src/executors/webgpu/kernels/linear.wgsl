// y = then(x · weightᵀ + bias). A workgroup makes a tile of 64 rows × 64 outputs, an invocation 4 × 4 of them. Rows of x
// and of the weight are contiguous along the inputs, so both tiles are staged as they lie in memory and transposed in
// registers. `weights` and `scaled` come from weight_f32.wgsl or weight_int8.wgsl.

struct Params {
    rows: u32,
    outputs: u32,
    // vec4s in a row of x and of the weight.
    inputs4: u32,
    // vec4s in a row of y, the residual, the bias and the scales.
    outputs4: u32,
    // What is done with a sum: 0 stores it, 1 applies GELU, 2 adds the residual.
    then: u32,
    // 1 where there is a bias.
    biased: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;

// Rows or outputs of a tile, vec4s along the inputs of a staged tile, and their odd pitch: neighbours then read from
// different banks of the shared memory.
const TILE = 64u;
const DEPTH = 4u;
const PITCH = 5u;

var<workgroup> left: array<vec4<f32>, 320>;
var<workgroup> right: array<vec4<f32>, 320>;

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

// sum + w · x, where w's columns belong to four consecutive inputs.
fn accumulate(sum: vec4<f32>, w: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return fma(w[3], vec4(x.w), fma(w[2], vec4(x.z), fma(w[1], vec4(x.y), fma(w[0], vec4(x.x), sum))));
}

fn store(row: u32, column: u32, sum: vec4<f32>) {
    if row >= p.rows || column >= p.outputs4 {
        return;
    }
    let at = row * p.outputs4 + column;
    var result = scaled(sum, column);
    if p.biased == 1u {
        result += bias[column];
    }
    if p.then == 1u {
        result = gelu(result);
    } else if p.then == 2u {
        result += residual[at];
    }
    y[at] = result;
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    // What this invocation stages: one vec4 of either tile.
    let staged = index / DEPTH;
    let depth = index % DEPTH;
    let row = group.y * TILE + staged;
    let output = group.x * TILE + staged;
    // Output 4a + b lies in slot 16b + a: the invocations of a row then read neighbouring slots.
    let slot = (staged % 4u) * 16u + staged / 4u;

    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    for (var k = 0u; k < p.inputs4; k += DEPTH) {
        let at = k + depth;
        var l = vec4(0.0);
        var r = vec4(0.0);
        if at < p.inputs4 {
            if row < p.rows {
                l = x[row * p.inputs4 + at];
            }
            if output < p.outputs {
                r = weights(output * p.inputs4 + at);
            }
        }
        left[staged * PITCH + depth] = l;
        right[slot * PITCH + depth] = r;
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            let source = local.x * PITCH + d;
            let w = transpose(mat4x4<f32>(
                right[source], right[source + 16u * PITCH], right[source + 32u * PITCH], right[source + 48u * PITCH]));
            let rows = local.y * 4u * PITCH + d;
            sum0 = accumulate(sum0, w, left[rows]);
            sum1 = accumulate(sum1, w, left[rows + PITCH]);
            sum2 = accumulate(sum2, w, left[rows + 2u * PITCH]);
            sum3 = accumulate(sum3, w, left[rows + 3u * PITCH]);
        }
        workgroupBarrier();
    }
    let first = group.y * TILE + local.y * 4u;
    let column = group.x * 16u + local.x;
    store(first, column, sum0);
    store(first + 1u, column, sum1);
    store(first + 2u, column, sum2);
    store(first + 3u, column, sum3);
}
