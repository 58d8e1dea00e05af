// SwiGLU: silu(a) · b with the halves a and b of each row. An invocation computes one value.

struct Params {
    // Values of the result, padding included.
    length: u32,
    // Channels of the result.
    channels: u32,
    // Floats in a row of x and of the result, padding included.
    pitch: u32,
    pitch_out: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.length {
        return;
    }
    let channel = id.x % p.pitch_out;
    if channel >= p.channels {
        y[id.x] = 0.0;
        return;
    }
    let at = id.x / p.pitch_out * p.pitch + channel;
    // Beyond 80 the exponential would overflow; silu is zero long before.
    let gate = x[at] / (1.0 + exp(min(-x[at], 80.0)));
    y[id.x] = gate * x[at + p.channels];
}
