// One minus the largest cosine of a row, or the distance so far, if that is smaller; one workgroup per row.

struct Params {
    rows: u32,
    // Cosines of a row, and vec4s in it.
    n: u32,
    n4: u32,
    // Tokens of a photo, and values in a row of the result.
    tokens: u32,
    pitch: u32,
    // Whether there are distances so far.
    resumed: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Bits of f32, all three.
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read> cosines: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> so_far: array<u32>;

alias Value = u32;

fn combine(a: u32, b: u32) -> u32 {
    return max(a, b);
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
    let start = (photo * p.tokens + token) * p.n4;
    var largest = vec4(0u);
    for (var i = lane; i < p.n4; i += LANES) {
        // The padding is no cosine.
        let column = vec4(4u * i) + vec4(0u, 1u, 2u, 3u);
        largest = max(largest, select(vec4(0u), places(cosines[start + i]), column < vec4(p.n)));
    }
    let pair = max(largest.xy, largest.zw);
    let nearest = reduce(lane, max(pair.x, pair.y));
    if lane == 0u {
        y[at] = smaller_distance(nearest, select(INFINITY, so_far[at], p.resumed == 1u));
    }
}
