// One minus the largest cosine of a token with rows of chosen photos at places around its own, or the distance so far, if that is
// smaller; one workgroup per token, and in it a row per lane. The complete source appends the weight, which defines how rows are
// stored (`weights`, `scaled`).

struct Params {
    rows: u32,
    // Tokens of a photo, and values in a row of the result.
    tokens: u32,
    pitch: u32,
    // Side of the grid, and half side of the window around a patch.
    grid: u32,
    reach: u32,
    // Number of the first row in the whole bank, and of rows.
    first: u32,
    n: u32,
    // vec4s in a row of x and of the bank.
    inputs4: u32,
    // vec4s of a row of the bank that share a scale, if it is int4.
    group4: u32,
    // Values in a row of the chosen photos.
    pitch_photos: u32,
    // Whether there are distances so far.
    resumed: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Bits of f32.
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> chosen: array<f32>;
// Bits of f32.
@group(0) @binding(4) var<storage, read> so_far: array<u32>;

alias Right = vec4<f32>;
alias Sum = vec4<f32>;
alias Value = u32;
// The largest distance.
const TWO = 0x40000000u;

fn combine(a: u32, b: u32) -> u32 {
    return max(a, b);
}

// Place of a token's cosine with a row of the piece, times the weight of its photo.
fn cosine(token: u32, row: u32, weight: f32) -> u32 {
    var sum = 0.0;
    for (var i = 0u; i < p.inputs4; i++) {
        sum += dot(x[token * p.inputs4 + i], weights(row, i));
    }
    // The scales of four rows, of which one is this row's.
    var cosines = scaled(vec4(sum), 0u, row / 4u);
    return place(weight * cosines[row % 4u]);
}

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
        y[at] = 0u;
        return;
    }
    let patches = p.grid * p.grid;
    let prefix = p.tokens - patches;
    var largest = 0u;
    if token >= prefix {
        // Numbers of the photos that the piece has rows of.
        let begin = p.first / patches;
        let end = (p.first + p.n + patches - 1u) / patches;
        let side = 2u * p.reach + 1u;
        let row = (token - prefix) / p.grid;
        let column = (token - prefix) % p.grid;
        for (var i = lane; i < (end - begin) * side * side; i += LANES) {
            let other = begin + i / (side * side);
            let weight = chosen[photo * p.pitch_photos + other];
            // What lies before the grid or the piece is a huge number.
            let down = row + i / side % side - p.reach;
            let right = column + i % side - p.reach;
            let near = other * patches + down * p.grid + right - p.first;
            let is_chosen = (bitcast<u32>(weight) & ~SIGN) != 0u;
            if is_chosen && down < p.grid && right < p.grid && near < p.n {
                largest = max(largest, cosine(photo * p.tokens + token, near, weight));
            }
        }
    }
    let nearest = reduce(lane, max(largest, place(-1.0)));
    if lane == 0u {
        y[at] = smaller_distance(nearest, select(TWO, so_far[at], p.resumed == 1u));
    }
}
