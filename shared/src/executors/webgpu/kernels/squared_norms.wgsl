// Sum of squares of each part of a row, one workgroup per part.

struct Params {
    rows: u32,
    // Channels of a part, and floats in a row of x.
    width: u32,
    pitch: u32,
    // Parts of a row, and floats in a row of the result.
    parts: u32,
    pitch_out: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;

alias Value = f32;

fn combine(a: f32, b: f32) -> f32 {
    return a + b;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Values of the result, padding included, which is zero.
    let at = group.y * groups.x + group.x;
    if at >= p.rows {
        return;
    }
    let row = at / p.pitch_out;
    let part = at % p.pitch_out;
    if part >= p.parts {
        y[at] = 0.0;
        return;
    }
    let start = row * p.pitch + part * p.width;
    var sum = 0.0;
    for (var i = lane; i < p.width; i += LANES) {
        sum += x[start + i] * x[start + i];
    }
    sum = reduce(lane, sum);
    if lane == 0u {
        y[at] = sum;
    }
}
