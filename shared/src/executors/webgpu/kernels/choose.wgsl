// Values of the prototype whose cosine with a photo's first token is largest, the first one of equal ones; one workgroup per photo.

struct Params {
    // Tokens of a photo, and values in a row of the result.
    tokens: u32,
    pitch: u32,
    // Prototypes, and values in a row of them.
    n: u32,
    pitch_n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Bits of f32, both.
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
// Places of the cosines, in their order.
@group(0) @binding(3) var<storage, read> cosines: array<u32>;

// Place of a cosine, and the prototype.
alias Value = vec2<u32>;

fn combine(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let photo = group.x;
    var best = vec2(0u);
    for (var prototype = lane; prototype < p.n; prototype += LANES) {
        let cosine = cosines[photo * p.pitch_n + prototype];
        if cosine > best.x {
            best = vec2(cosine, prototype);
        }
    }
    best = reduce(lane, best);
    // The padding of the result is zero.
    for (var i = lane; i < p.pitch; i += LANES) {
        var value = 0u;
        if i < p.tokens {
            value = NAN;
            if best.x != LAST {
                value = values[(photo * p.tokens + i) * p.pitch_n + best.y];
            }
        }
        y[photo * p.pitch + i] = value;
    }
}
