// Each photo's rows minus its first one, then their layer normalisation without weight and bias if `normalised`; a few lanes
// per row and several rows per workgroup. Passes over the row as in layer_norm.wgsl.

struct Params {
    rows: u32,
    // Rows of a photo.
    tokens: u32,
    channels: u32,
    // vec4s in a row; the padding is zero and stays zero.
    channels4: u32,
    normalised: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

const LANES = 16u;
const ROWS = 4u;
var<workgroup> sums: array<f32, LANES * ROWS>;
var<workgroup> moments: array<vec2<f32>, LANES * ROWS>;

// `value - mean` in channels, zero in the padding.
fn centred(value: vec4<f32>, mean: f32, at: u32) -> vec4<f32> {
    let channel = vec4(4u * at) + vec4(0u, 1u, 2u, 3u);
    return select(vec4(0.0), value - mean, channel < vec4(p.channels));
}

@compute @workgroup_size(LANES, ROWS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = (group.y * groups.x + group.x) * ROWS + local.y;
    let start = row * p.channels4;
    let class_row = row / p.tokens * p.tokens * p.channels4;
    // Lanes beyond the last row skip the loops, but take part in the barriers.
    let end = select(0u, p.channels4, row < p.rows);
    let count = f32(p.channels);
    let first = local.y * LANES;

    var sum = vec4(0.0);
    for (var i = local.x; i < end; i += LANES) {
        sum += x[start + i] - x[class_row + i];
    }
    sums[index] = dot(sum, vec4(1.0));
    workgroupBarrier();
    var mean = 0.0;
    for (var lane = 0u; lane < LANES; lane++) {
        mean += sums[first + lane];
    }
    mean /= count;

    sum = vec4(0.0);
    var squares = vec4(0.0);
    for (var i = local.x; i < end; i += LANES) {
        let rest = centred(x[start + i] - x[class_row + i], mean, i);
        sum += rest;
        squares += rest * rest;
    }
    moments[index] = vec2(dot(sum, vec4(1.0)), dot(squares, vec4(1.0)));
    workgroupBarrier();
    var moment = vec2(0.0);
    for (var lane = 0u; lane < LANES; lane++) {
        moment += moments[first + lane];
    }
    moment /= count;
    var scale = 1.0 / sqrt(max(moment.y - moment.x * moment.x, 0.0) + p.eps);
    if p.normalised == 0u {
        mean = 0.0;
        moment.x = 0.0;
        scale = 1.0;
    }

    for (var i = local.x; i < end; i += LANES) {
        let rest = x[start + i] - x[class_row + i] - mean;
        y[start + i] = centred(rest, moment.x, i) * scale;
    }
}
