// Rounds each row of x to int8, over the range of its values and zero, one workgroup per row. A row of the result is its values,
// four signed bytes per word, then scale and zero point.

struct Params {
    rows: u32,
    // vec4s in a row of x.
    inputs4: u32,
    // Words in a row of y.
    pitch: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

const LANES = 64u;
// Negated smallest values, and largest values.
var<workgroup> scratch: array<array<vec4<f32>, 2>, LANES>;

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
    var below = vec4(0.0);
    var above = vec4(0.0);
    for (var i = lane; i < p.inputs4; i += LANES) {
        let values = x[row * p.inputs4 + i];
        below = max(below, -values);
        above = max(above, values);
    }
    scratch[lane] = array(below, above);
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            let other = scratch[lane + stride];
            scratch[lane] = array(max(scratch[lane][0], other[0]), max(scratch[lane][1], other[1]));
        }
        workgroupBarrier();
    }
    let smallest = -most(scratch[0][0]);
    // A row of zeros stays a row of zeros.
    let step = max(most(scratch[0][1]) - smallest, 1e-30) / 255.0;
    let zero = round(-128.0 - smallest / step);
    for (var i = lane; i < p.inputs4; i += LANES) {
        let bytes = clamp(round(x[row * p.inputs4 + i] / step) + zero, vec4(-128.0), vec4(127.0));
        let value = bitcast<vec4<u32>>(vec4<i32>(bytes)) & vec4(255u);
        y[row * p.pitch + i] = value.x | (value.y << 8u) | (value.z << 16u) | (value.w << 24u);
    }
    if lane == 0u {
        y[row * p.pitch + p.inputs4] = bitcast<u32>(step);
        y[row * p.pitch + p.inputs4 + 1u] = bitcast<u32>(i32(zero));
    }
}

fn most(values: vec4<f32>) -> f32 {
    return max(max(values.x, values.y), max(values.z, values.w));
}
