// Rounds each row of x to int8 with a scale of its own, largest / 127: a workgroup a row. A row of the result is its values,
// four signed bytes a word, then the scale.

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
var<workgroup> scratch: array<vec4<f32>, LANES>;

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
    var largest = vec4(0.0);
    for (var i = lane; i < p.inputs4; i += LANES) {
        largest = max(largest, abs(x[row * p.inputs4 + i]));
    }
    scratch[lane] = largest;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            scratch[lane] = max(scratch[lane], scratch[lane + stride]);
        }
        workgroupBarrier();
    }
    largest = scratch[0];
    // A row of zeros stays one.
    let scale = max(max(max(largest.x, largest.y), max(largest.z, largest.w)), 1e-30) / 127.0;
    for (var i = lane; i < p.inputs4; i += LANES) {
        let value = bitcast<vec4<u32>>(vec4<i32>(round(x[row * p.inputs4 + i] / scale))) & vec4(255u);
        y[row * p.pitch + i] = value.x | (value.y << 8u) | (value.z << 16u) | (value.w << 24u);
    }
    if lane == 0u {
        y[row * p.pitch + p.inputs4] = bitcast<u32>(scale);
    }
}
