// Cosines of photos' first tokens with rows, as places in the order of numbers; one invocation per photo and row. Each norm is at
// least 1e-8.

struct Params {
    // Values of the result, padding included.
    length: u32,
    // Rows, and values in a row of the result.
    n: u32,
    pitch: u32,
    // vec4s of a photo's tokens, and in a row.
    photo4: u32,
    channels4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> rows: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let at = id.x;
    if at >= p.length {
        return;
    }
    let row = at % p.pitch;
    if row >= p.n {
        y[at] = 0u;
        return;
    }
    let token = at / p.pitch * p.photo4;
    var sums = vec3(0.0);
    for (var i = 0u; i < p.channels4; i++) {
        let left = x[token + i];
        let right = rows[row * p.channels4 + i];
        sums += vec3(dot(left, right), dot(left, left), dot(right, right));
    }
    let norms = max(sqrt(sums.yz), vec2(1e-8));
    y[at] = place(sums.x / (norms.x * norms.y));
}
