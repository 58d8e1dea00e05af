// Rotary positions: turns queries and keys by the angles of their patch, in each head channel i with channel i + size/2. An
// invocation computes one value.

struct Params {
    // Values of the result, padding included.
    length: u32,
    tokens: u32,
    // Number of tokens before the first patch, which are not turned.
    prefix: u32,
    // Channels of a head.
    size: u32,
    // Channels of queries and keys: 2 · heads · size.
    turned: u32,
    // Floats in a row of qkv and of the rotation, padding included.
    pitch: u32,
    pitch_rotation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
// A row per patch: cosines, then sines.
@group(0) @binding(3) var<storage, read> rotation: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let at = id.x;
    if at >= p.length {
        return;
    }
    let token = (at / p.pitch) % p.tokens;
    let channel = at % p.pitch;
    let value = qkv[at];
    if token < p.prefix || channel >= p.turned {
        y[at] = value;
        return;
    }
    let half = p.size / 2u;
    let place = channel % p.size;
    let angle = (token - p.prefix) * p.pitch_rotation + place % half;
    let cosine = rotation[angle];
    let sine = rotation[angle + half];
    if place < half {
        y[at] = value * cosine - qkv[at + half] * sine;
    } else {
        y[at] = value * cosine + qkv[at - half] * sine;
    }
}
