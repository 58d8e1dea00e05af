// One axis of each photo's anomaly map: axis · xᵀ. Applied twice it covers both axes, and undoes its transposition.

struct Params {
    // Floats of the result, rows and columns of a photo's result, and floats in a row.
    length: u32,
    side: u32,
    columns: u32,
    pitch: u32,
    // Patches along the axis, and floats in a row of its matrix.
    grid: u32,
    axis_pitch: u32,
    // Floats of x between photos, before the first row of patches, and between rows.
    x_photo: u32,
    x_first: u32,
    x_row: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> axis: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.length {
        return;
    }
    let column = id.x % p.pitch;
    let row = id.x / p.pitch % p.side;
    let photo = id.x / p.pitch / p.side;
    var sum = 0.0;
    // Padding is zero.
    if column < p.columns {
        let start = photo * p.x_photo + p.x_first + column * p.x_row;
        for (var i = 0u; i < p.grid; i++) {
            sum += axis[row * p.axis_pitch + i] * x[start + i];
        }
    }
    y[id.x] = sum;
}
