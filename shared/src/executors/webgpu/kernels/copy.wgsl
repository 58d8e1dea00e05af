// Copies tokens, from a given one on, to columns of a wider row.

struct Params {
    // Number of values written: tokens of all photos times columns.
    length: u32,
    // Tokens of a photo in the result, and number of tokens dropped before them.
    tokens: u32,
    skipped: u32,
    // Values in a row of x, and columns written; columns beyond the values are zero.
    channels: u32,
    columns: u32,
    // Floats in a row of x and of y, padding included, and the first column written.
    pitch: u32,
    pitch_out: u32,
    start: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.length {
        return;
    }
    let row = id.x / p.columns;
    let column = id.x % p.columns;
    let source = row / p.tokens * (p.tokens + p.skipped) + p.skipped + row % p.tokens;
    var value = 0.0;
    if column < p.channels {
        value = x[source * p.pitch + column];
    }
    y[row * p.pitch_out + p.start + column] = value;
}
