// Photos as rows of normalised values for the patch embedding: a row per patch, ordered by channel, row and column. Values
// come from a table, because division on a GPU rounds differently.

struct Params {
    // vec4s of the result.
    length: u32,
    // Values and vec4s in a row.
    row: u32,
    row4: u32,
    // Side of a patch in pixels, side of a photo in patches and in pixels.
    patch_side: u32,
    grid: u32,
    side: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
// Four bytes per word: red, green, blue of the first pixel, red of the second, ….
@group(0) @binding(2) var<storage, read> rgb: array<u32>;
// Values of all bytes for red, then for green and blue.
@group(0) @binding(3) var<storage, read> values: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.length {
        return;
    }
    let number = id.x / p.row4;
    let photo = number / (p.grid * p.grid);
    let place = number % (p.grid * p.grid);
    // Index of the patch's first pixel among all photos.
    let corner = (photo * p.side + place / p.grid * p.patch_side) * p.side + place % p.grid * p.patch_side;
    var four = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        let at = 4u * (id.x % p.row4) + i;
        // Padding is zero.
        if at < p.row {
            let channel = at / (p.patch_side * p.patch_side);
            let pixel = corner + at / p.patch_side % p.patch_side * p.side + at % p.patch_side;
            let place_of_byte = 3u * pixel + channel;
            let byte = extractBits(rgb[place_of_byte / 4u], 8u * (place_of_byte % 4u), 8u);
            four[i] = values[256u * channel + byte];
        }
    }
    y[id.x] = four;
}
