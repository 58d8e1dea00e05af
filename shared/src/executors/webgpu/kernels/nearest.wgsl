// One minus the largest cosine of a row, or the distance so far, if that is smaller; one workgroup per row. Numbers are compared
// by whole numbers of the same order, because `max` of numbers may lose a NaN.

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

const LANES = 64u;
const SIGN = 0x80000000u;
const INFINITY = 0x7f800000u;
const NAN = 0x7fc00000u;
// Place of a NaN, after all numbers. Before all of them is zero.
const LAST = 0xffffffffu;
var<workgroup> scratch: array<u32, LANES>;

// Places of numbers, in their order, from their bits.
fn places(bits: vec4<u32>) -> vec4<u32> {
    let size = bits & vec4(~SIGN);
    let place = select(vec4(SIGN) + size, vec4(SIGN) - size, bits >= vec4(SIGN));
    return select(place, vec4(LAST), size > vec4(INFINITY));
}

fn number_at(place: u32) -> f32 {
    return bitcast<f32>(select(SIGN | (SIGN - place), place - SIGN, place >= SIGN));
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
    scratch[lane] = max(pair.x, pair.y);
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            scratch[lane] = max(scratch[lane], scratch[lane + stride]);
        }
        workgroupBarrier();
    }
    if lane == 0u {
        var found = NAN;
        if scratch[0] != LAST {
            let distance = 1.0 - number_at(scratch[0]);
            found = bitcast<u32>(distance);
            if p.resumed == 1u {
                let before = so_far[at];
                let spoilt = (before & ~SIGN) > INFINITY;
                if spoilt || bitcast<f32>(before) < distance {
                    found = before;
                }
            }
        }
        y[at] = found;
    }
}
