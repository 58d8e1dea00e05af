// Tokens of every photo: the prefix rows, then patches + positions.

struct Params {
    // vec4s of the result.
    length: u32,
    prefix: u32,
    patches: u32,
    // vec4s in a row.
    channels4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> patches: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> prefix: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> positions: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.length {
        return;
    }
    let row = id.x / p.channels4;
    let channel = id.x % p.channels4;
    let photo = row / (p.prefix + p.patches);
    let token = row % (p.prefix + p.patches);
    if token < p.prefix {
        y[id.x] = prefix[token * p.channels4 + channel];
    } else {
        let patch_index = token - p.prefix;
        y[id.x] = patches[(photo * p.patches + patch_index) * p.channels4 + channel]
            + positions[patch_index * p.channels4 + channel];
    }
}
