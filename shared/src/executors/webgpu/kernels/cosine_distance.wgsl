// Cosine distance of two rows of channels, one workgroup per row; each norm is at least 1e-8.

struct Params {
    rows: u32,
    // vec4s in a row of a and b.
    channels4: u32,
    // Tokens of a photo, and floats in a row of the result.
    tokens: u32,
    pitch: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;

const LANES = 64u;
var<workgroup> scratch: array<vec3<f32>, LANES>;

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
    let photo = at / p.pitch;
    let token = at % p.pitch;
    if token >= p.tokens {
        y[at] = 0.0;
        return;
    }
    let start = (photo * p.tokens + token) * p.channels4;
    var sums = vec3(0.0);
    for (var i = lane; i < p.channels4; i += LANES) {
        let left = a[start + i];
        let right = b[start + i];
        sums += vec3(dot(left, right), dot(left, left), dot(right, right));
    }
    scratch[lane] = sums;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            scratch[lane] += scratch[lane + stride];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let norms = max(sqrt(scratch[0].yz), vec2(1e-8));
        y[at] = 1.0 - scratch[0].x / (norms.x * norms.y);
    }
}
