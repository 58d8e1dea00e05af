// Values of the prototype whose cosine with a photo's first token is largest, the first one of equal ones; one workgroup per photo,
// and in it a prototype per lane. Each norm is at least 1e-8.

struct Params {
    // Tokens of a photo, and values in a row of the result.
    tokens: u32,
    pitch: u32,
    // Prototypes, and values in a row of them.
    n: u32,
    pitch_n: u32,
    // vec4s in a row of x and of the prototypes.
    channels4: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Bits of f32, both.
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> prototypes: array<vec4<f32>>;

const LANES = 64u;
const SIGN = 0x80000000u;
const INFINITY = 0x7f800000u;
const NAN = 0x7fc00000u;
// Place of a NaN, after all numbers. Before all of them is zero.
const LAST = 0xffffffffu;
// Place of the largest cosine, and the prototype.
var<workgroup> scratch: array<vec2<u32>, LANES>;

// Place of a number among all, in their order: whole numbers are compared, because comparisons of numbers may lose a NaN.
fn place(number: f32) -> u32 {
    let bits = bitcast<u32>(number);
    let size = bits & ~SIGN;
    return select(select(SIGN + size, SIGN - size, bits >= SIGN), LAST, size > INFINITY);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let photo = group.x;
    let token = photo * p.tokens * p.channels4;
    var best = vec2(0u);
    for (var prototype = lane; prototype < p.n; prototype += LANES) {
        var sums = vec3(0.0);
        for (var i = 0u; i < p.channels4; i++) {
            let left = x[token + i];
            let right = prototypes[prototype * p.channels4 + i];
            sums += vec3(dot(left, right), dot(left, left), dot(right, right));
        }
        let norms = max(sqrt(sums.yz), vec2(1e-8));
        let cosine = place(sums.x / (norms.x * norms.y));
        if cosine > best.x {
            best = vec2(cosine, prototype);
        }
    }
    scratch[lane] = best;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            let own = scratch[lane];
            let other = scratch[lane + stride];
            if other.x > own.x || (other.x == own.x && other.y < own.y) {
                scratch[lane] = other;
            }
        }
        workgroupBarrier();
    }
    best = scratch[0];
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
