// One for the k rows whose cosines with a photo's first token are largest, earlier ones of equal ones first; one invocation per photo
// and row, which counts the rows before it.

struct Params {
    // Values of the result, padding included.
    length: u32,
    // Rows, and values in a row of the result and of the cosines.
    n: u32,
    pitch: u32,
    k: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Bits of f32.
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
// Places of the cosines, in their order.
@group(0) @binding(2) var<storage, read> cosines: array<u32>;

const ONE = 0x3f800000u;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let at = id.x;
    if at >= p.length {
        return;
    }
    let row = at % p.pitch;
    let first = at - row;
    let own = cosines[at];
    var before = 0u;
    var last = 0u;
    for (var i = 0u; i < p.n; i++) {
        let other = cosines[first + i];
        last = max(last, other);
        before += u32(other > own || (other == own && i < row));
    }
    var value = select(0u, ONE, before < p.k);
    if last == LAST {
        value = NAN;
    }
    // The padding is zero.
    y[at] = select(0u, value, row < p.n);
}
