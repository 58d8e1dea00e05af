// Depthwise convolution of a square grid of patches, zero padding. An invocation computes four channels of a patch.

struct Params {
    // vec4s of the result.
    length: u32,
    grid: u32,
    channels: u32,
    // vec4s in a row of x and y.
    channels4: u32,
    // Side of the kernels, and floats in one of their rows, padding included.
    side: u32,
    pitch: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> kernels: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.length {
        return;
    }
    let channel4 = id.x % p.channels4;
    let token = id.x / p.channels4;
    let row = token / p.grid % p.grid;
    let column = token % p.grid;
    let photo = token / (p.grid * p.grid) * p.grid * p.grid;
    // Beyond the last channel the padding of x is zero, so that any kernel value will do.
    let channels = min(vec4(4u * channel4) + vec4(0u, 1u, 2u, 3u), vec4(p.channels - 1u));
    let reach = p.side / 2u;
    var sum = vec4(0.0);
    for (var dy = 0u; dy < p.side; dy++) {
        for (var dx = 0u; dx < p.side; dx++) {
            // Across the border the unsigned difference wraps around, far beyond the grid.
            let from_row = row + dy - reach;
            let from_column = column + dx - reach;
            if from_row < p.grid && from_column < p.grid {
                let at = (channels * p.side + dy) * p.pitch + dx;
                let weight = vec4(kernels[at.x], kernels[at.y], kernels[at.z], kernels[at.w]);
                sum = fma(weight, x[(photo + from_row * p.grid + from_column) * p.channels4 + channel4], sum);
            }
        }
    }
    y[id.x] = sum;
}
