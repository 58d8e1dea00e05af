// Layer normalisation, a workgroup a row. Three passes over the row, which stays in the cache: its mean, the mean and the
// variance of what remains (the first mean's own rounding is thus taken out), the result.

struct Params {
    rows: u32,
    channels: u32,
    // vec4s in a row; what pads the last one is zero and stays zero.
    channels4: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;

const LANES = 64u;
var<workgroup> scratch: array<vec2<f32>, LANES>;

// The sum over the workgroup, for every invocation.
fn reduce(lane: u32, value: vec2<f32>) -> vec2<f32> {
    scratch[lane] = value;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            scratch[lane] += scratch[lane + stride];
        }
        workgroupBarrier();
    }
    let sum = scratch[0];
    workgroupBarrier();
    return sum;
}

// `value` less `mean` in the channels that exist, zero in the padding.
fn centred(value: vec4<f32>, mean: f32, at: u32) -> vec4<f32> {
    let channel = vec4(4u * at) + vec4(0u, 1u, 2u, 3u);
    return select(vec4(0.0), value - mean, channel < vec4(p.channels));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let start = row * p.channels4;
    let count = f32(p.channels);

    var sum = vec4(0.0);
    for (var i = lane; i < p.channels4; i += LANES) {
        sum += x[start + i];
    }
    let mean = reduce(lane, vec2(dot(sum, vec4(1.0)), 0.0)).x / count;

    sum = vec4(0.0);
    var squares = vec4(0.0);
    for (var i = lane; i < p.channels4; i += LANES) {
        let rest = centred(x[start + i], mean, i);
        sum += rest;
        squares += rest * rest;
    }
    let moments = reduce(lane, vec2(dot(sum, vec4(1.0)), dot(squares, vec4(1.0)))) / count;
    let variance = max(moments.y - moments.x * moments.x, 0.0);
    let scale = 1.0 / sqrt(variance + p.eps);

    for (var i = lane; i < p.channels4; i += LANES) {
        let rest = centred(x[start + i], mean, i) - moments.x;
        y[start + i] = rest * scale * weight[i] + bias[i];
    }
}
