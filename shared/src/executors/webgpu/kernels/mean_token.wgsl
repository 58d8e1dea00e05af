// Mean of each photo's rows from one on, one workgroup per photo and four channels.

struct Params {
    // vec4s of the result.
    length: u32,
    // Rows of a photo, and the first of those that are averaged.
    tokens: u32,
    first: u32,
    // vec4s in a row; the padding is zero and stays zero.
    channels4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

alias Value = vec4<f32>;

fn combine(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return a + b;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group.y * groups.x + group.x;
    if at >= p.length {
        return;
    }
    let start = at / p.channels4 * p.tokens * p.channels4 + at % p.channels4;
    var sum = vec4(0.0);
    for (var token = p.first + lane; token < p.tokens; token += LANES) {
        sum += x[start + token * p.channels4];
    }
    sum = reduce(lane, sum);
    if lane == 0u {
        y[at] = sum / f32(p.tokens - p.first);
    }
}
